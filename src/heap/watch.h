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

/* Bytes [from, to) of the block are free from now on, and nobody's yet. */
void watch_fill_freed(const sharena_t *heap, void *block, size_t from, size_t to);

static inline void watch_freed(const sharena_t *heap, void *block, size_t from, size_t to) {
    if (UNLIKELY(watch_is_on(heap))) {
        watch_fill_freed(heap, block, from, to);
    }
}

#endif
