/* consumer.c -- the smallest user: open, allocate, name, find, free, close, remove. */
#include <sharena/sharena.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what) {
    fprintf(stderr, "consumer: %s: %s\n", what, sharena_errormsg());
    return 1;
}

int main(void) {
    char path[64];
    snprintf(path, sizeof(path), "/dev/shm/sharena-consumer.%d", (int)getpid());

    sharena_t *heap;
    if (sharena_open(path, NULL, &heap) != 0) {
        return fail("open");
    }
    char *text = sharena_malloc(heap, 64);
    if (text == NULL) {
        return fail("malloc");
    }
    strcpy(text, "hello");
    if (sharena_root_set(heap, "text", text) != 0) {
        return fail("root_set");
    }
    if (sharena_root_get(heap, "text") != text || sharena_heap_of(text) != heap) {
        return fail("root_get");
    }
    sharena_free(heap, text);
    if (sharena_close(heap) != 0) {
        return fail("close");
    }
    if (sharena_unlink(path) != 0) {
        return fail("unlink");
    }
    return 0;
}
