/* heap.h -- attaching: of processes to heaps (open, close), of threads to heaps (enter). */
#ifndef SHARENA_HEAP_HEAP_H
#define SHARENA_HEAP_HEAP_H

#include "heap/geometry.h"
#include "ipc/registry.h"
#include "ipc/thread.h"

/* The calling thread's slot in the heap, taken if it has none yet; the thread's hint leads to it
 * from now on. NULL with errno and error_set: EINVAL (not attached), EROFS, EPERM, EUSERS, ENOMEM.
 * Begins every slow path: also notices that this process is a new child, and reaps if a dead owner
 * was met, or nobody has since the heap was opened. */
struct thread_slot *heap_enter(sharena_t *heap);

/* The same, but reaps nobody: for a check, which looks before it follows what the dead owned. */
struct thread_slot *heap_join(sharena_t *heap);

/* The attachment of a heap; NULL with errno and error_set if it is not attached. */
struct attachment *heap_attachment(const sharena_t *heap);

/* Free memory goes back to the file system: the thread's cache, all arenas, the pool; dead slots
 * first. */
void heap_purge(sharena_t *heap, struct thread_slot *self);

/* Arenas that may be made, by the configuration. */
uint32_t heap_narenas(const struct conf *conf);

/* A number that changes with the layout of every struct in the file. */
uint64_t heap_fingerprint(void);

#endif
