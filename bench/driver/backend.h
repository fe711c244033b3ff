/* backend.h -- what the driver needs of an allocator; each backends/NAME.c implements it.
 *
 * A program is the driver and one backend. The calls are never inlined into the driver (there is no
 * link-time optimisation), so that each allocator is charged one function call per operation. A
 * backend adds nothing to what its own library does.
 */
#ifndef BENCH_BACKEND_H
#define BENCH_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum sharing {
    SHARING_THREADS,   /* a private allocator: the workers are threads */
    SHARING_FILE,      /* a heap in a file for one process: the workers are threads */
    SHARING_PROCESSES, /* a heap in a file for many: each worker is a process that opens it */
    SHARING_BARE,      /* no allocator, but shared memory: workers as with SHARING_PROCESSES */
};

/* At most so much is live at once: for those who must be told, or who reserve it. */
struct needs {
    size_t blocks;
    size_t bytes;
};

extern const char backend_name[];
extern const enum sharing backend_sharing;

/* Makes the heap, or attaches to the one that is there. 0, or -1 after a message on stderr. Does
 * nothing for a private allocator, of which a process has one. */
int backend_open(const char *path, const struct needs *needs);
void backend_close(void);

void *backend_alloc(size_t size); /* NULL: no memory */
void backend_free(void *block);

/* Empties the calling thread's cache. false: it has none, or no way to. */
bool backend_flush(void);

/* Gives free memory back to the system, as far as the allocator can. */
void backend_purge(void);

/* Takes back what dead processes held. false: no such thing. */
bool backend_reap(void);

enum check { CHECK_CLEAN, CHECK_DAMAGED, CHECK_NONE /* has no such thing */ };
enum check backend_check(void);

/* Of the library in use, as far as it says. */
const char *backend_version(void);

#ifdef __cplusplus
}
#endif

#endif
