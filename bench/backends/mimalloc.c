/* mimalloc.c -- mimalloc, by its own names. */
#include "../driver/backend.h"

#include <stdio.h>

#include <mimalloc.h>

const char backend_name[] = "mimalloc";
const enum sharing backend_sharing = SHARING_THREADS;

int backend_open(const char *path, const struct needs *needs) {
    (void)path;
    (void)needs;
    return 0;
}

void backend_close(void) {
}

void *backend_alloc(size_t size) {
    return mi_malloc(size);
}

void backend_free(void *block) {
    mi_free(block);
}

bool backend_flush(void) {
    mi_collect(false);
    return true;
}

void backend_purge(void) {
    mi_collect(true);
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE;
}

const char *backend_version(void) {
    static char text[32];
    int version = mi_version();
    (void)snprintf(text, sizeof(text), "%d.%d.%d", version / 100, version / 10 % 10, version % 10);
    return text;
}
