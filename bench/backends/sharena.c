/* sharena.c -- this library, through the shared object, with its defaults. */
#include <sharena/sharena.h>

#include "../driver/backend.h"

#include <stdio.h>

const char backend_name[] = "sharena";
const enum sharing backend_sharing = SHARING_PROCESSES;

static sharena_t *heap;

int backend_open(const char *path, const struct needs *needs) {
    (void)needs; /* nobody has to guess a size */
    if (sharena_open(path, NULL, &heap) != 0) {
        (void)fprintf(stderr, "bench: %s\n", sharena_errormsg());
        return -1;
    }
    return 0;
}

void backend_close(void) {
    (void)sharena_close(heap);
}

void *backend_alloc(size_t size) {
    return sharena_malloc(heap, size);
}

void backend_free(void *block) {
    sharena_free(heap, block);
}

bool backend_flush(void) {
    return sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0) == 0;
}

void backend_purge(void) {
    (void)sharena_purge(heap);
}

bool backend_reap(void) {
    (void)sharena_reap(heap);
    return true;
}

enum check backend_check(void) {
    if (sharena_check(heap, NULL) != 0) {
        (void)fprintf(stderr, "bench: %s\n", sharena_errormsg());
        return CHECK_DAMAGED;
    }
    return CHECK_CLEAN;
}

const char *backend_version(void) {
    return SHARENA_VERSION;
}
