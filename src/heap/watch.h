/* watch.h -- what the configuration asks to be done at each call (junk, quarantine).
 *
 * Where it asks for nothing, these calls do nothing: a thread whose calls are not watched has the
 * hint of the heap, once it has entered it (heap.h).
 */
#ifndef SHARENA_HEAP_WATCH_H
#define SHARENA_HEAP_WATCH_H

#include "heap/geometry.h"
#include "ipc/thread.h"

/* Whether the calling thread, which has entered the heap, is watched there. */
static inline int watch_is_on(const sharena_t *heap) {
    return thread_record->hint_heap != heap;
}

/* Before a block of that class is freed or resized: 1, or 0 if it is found in a cache or a
 * quarantine, which is reported, and the call must be dropped. */
int watch_look(sharena_t *heap, struct thread_slot *self, const void *block, uint32_t size_class);

static inline int watch_is_live(sharena_t *heap, struct thread_slot *self, const void *block,
                                uint32_t size_class) {
    return LIKELY(!watch_is_on(heap)) || watch_look(heap, self, block, size_class);
}

/* What is freed goes into the quarantine, with its pattern: 1; 0 if it does not wait there. Ends
 * the pending step. */
int watch_keep(sharena_t *heap, struct thread_slot *self, void *block, uint32_t size_class);

static inline int watch_kept(sharena_t *heap, struct thread_slot *self, void *block,
                             uint32_t size_class) {
    return UNLIKELY(watch_is_on(heap)) && watch_keep(heap, self, block, size_class);
}

/* Bytes [from, to) of the block are free from now on, and nobody's yet. */
void watch_fill_freed(const sharena_t *heap, void *block, size_t from, size_t to);

static inline void watch_freed(const sharena_t *heap, void *block, size_t from, size_t to) {
    if (UNLIKELY(watch_is_on(heap))) {
        watch_fill_freed(heap, block, from, to);
    }
}

#endif
