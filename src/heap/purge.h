/* purge.h -- who gives free memory back, and when: whoever comes by, a little of it each time. */
#ifndef SHARENA_HEAP_PURGE_H
#define SHARENA_HEAP_PURGE_H

#include "heap/geometry.h"
#include "ipc/registry.h"

/* For each slow path, no lock held and the hand empty: gives back what is due in the arena of the
 * thread and in the chunk pool; every now and then it is looked at what has become due, there and
 * in one of the other arenas, in turns. Keeps errno. */
void purge_tick(struct attachment *attachment, struct thread_slot *self);

/* At the end of a path that frees, for those who want that memory to go at once. Keeps errno. */
void purge_after_free(sharena_t *heap, struct thread_slot *self);

/* For who has the time, or is asked to: all that is due in an arena, or in the pool. */
#define PURGE_POOL UINT32_MAX
void purge_due(struct attachment *attachment, struct thread_slot *self, uint32_t arena_or_pool);

#endif
