/* glibc.c -- the C library's malloc. */
#include "../driver/backend.h"

#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdlib.h>

const char backend_name[] = "glibc";
const enum sharing backend_sharing = SHARING_THREADS;

int backend_open(const char *path, const struct needs *needs) {
    (void)path;
    (void)needs;
    return 0;
}

void backend_close(void) {
}

void *backend_alloc(size_t size) {
    return malloc(size);
}

void backend_free(void *block) {
    free(block);
}

bool backend_flush(void) {
    return false; /* empties its thread cache only when the thread ends */
}

void backend_purge(void) {
    (void)malloc_trim(0);
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE;
}

const char *backend_version(void) {
    return gnu_get_libc_version();
}
