/* jemalloc.c -- jemalloc, as the malloc of the program. */
#include "../driver/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jemalloc/jemalloc.h>

const char backend_name[] = "jemalloc";
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
    return mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) == 0;
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

void backend_purge(void) {
    (void)backend_flush();
    (void)mallctl("arena." TEXT(MALLCTL_ARENAS_ALL) ".purge", NULL, NULL, NULL, 0);
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE;
}

/* "5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c", without the commit. */
const char *backend_version(void) {
    static char text[32];
    const char *version = "?";
    size_t length = sizeof(const char *);
    (void)mallctl("version", &version, &length, NULL, 0);
    (void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(version, "-"), version);
    return text;
}
