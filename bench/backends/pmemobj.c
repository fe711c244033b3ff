/* pmemobj.c -- libpmemobj: a pool in a file, for one process at a time; atomic allocations.
 *
 * The file on tmpfs is treated as persistent memory, so that it is flushed by cache lines and
 * not by msync(), which is how the library is meant to be used. A pool's size is fixed and
 * allocated.
 */
#include "../driver/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <libpmemobj.h>

const char backend_name[] = "pmemobj";
const enum sharing backend_sharing = SHARING_FILE;

#define LAYOUT "bench"
#define CLASS_BYTES_MIN 128 /* of the library's smallest allocation class */

static PMEMobjpool *pool;

int backend_open(const char *path, const struct needs *needs) {
    size_t bytes = needs->bytes + needs->bytes / 2 + CLASS_BYTES_MIN * needs->blocks + (64u << 20);
    (void)setenv("PMEM_IS_PMEM_FORCE", "1", 0);
    pool = pmemobj_create(path, LAYOUT, bytes, 0600);
    if (pool == NULL && errno == EEXIST) {
        pool = pmemobj_open(path, LAYOUT);
    }
    if (pool == NULL) {
        (void)fprintf(stderr, "bench: %s: %s\n", path, pmemobj_errormsg());
        return -1;
    }
    return 0;
}

void backend_close(void) {
    pmemobj_close(pool);
}

void *backend_alloc(size_t size) {
    PMEMoid id;
    return pmemobj_alloc(pool, &id, size, 0, NULL, NULL) == 0 ? pmemobj_direct(id) : NULL;
}

void backend_free(void *block) {
    PMEMoid id = pmemobj_oid(block);
    pmemobj_free(&id);
}

bool backend_flush(void) {
    return false;
}

void backend_purge(void) {
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE; /* pmemobj_check() wants a pool that is closed, and walks no blocks */
}

const char *backend_version(void) {
    return PMEMOBJ_PACKAGE_VERSION; /* set by the build: the header knows only the interface's */
}
