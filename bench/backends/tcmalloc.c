/* tcmalloc.c -- gperftools' tcmalloc_minimal (the allocator alone), by its own names. */
#include "../driver/backend.h"

#include <stdio.h>

#include <gperftools/malloc_extension_c.h>
#include <gperftools/tcmalloc.h>

const char backend_name[] = "tcmalloc";
const enum sharing backend_sharing = SHARING_THREADS;

int backend_open(const char *path, const struct needs *needs) {
    (void)path;
    (void)needs;
    return 0;
}

void backend_close(void) {
}

void *backend_alloc(size_t size) {
    return tc_malloc(size);
}

void backend_free(void *block) {
    tc_free(block);
}

bool backend_flush(void) {
    MallocExtension_MarkThreadTemporarilyIdle();
    return true;
}

void backend_purge(void) {
    (void)backend_flush();
    MallocExtension_ReleaseFreeMemory();
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE;
}

const char *backend_version(void) {
    static char text[32];
    const char *patch;
    int major;
    int minor;
    (void)tc_version(&major, &minor, &patch);
    (void)snprintf(text, sizeof(text), "%d.%d%s", major, minor, patch);
    return text;
}
