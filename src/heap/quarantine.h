/* quarantine.h -- freed blocks of a thread that wait before they go back.
 *
 *     storage, a ring      | ... | head: oldest ... newest | tail ... |
 *
 *     push       entry at tail = block; tail + 1                          a journaled step
 *     release    pending = FREE, oldest block; head + 1                   a journaled step
 *                into the cache, or back to its owner; pending ends       (publish.h)
 *
 * The slot owns what is in [head, tail); a block on its way out is in the pending step. So a kill
 * loses nothing: a reaper drains what is left.
 */
#ifndef SHARENA_HEAP_QUARANTINE_H
#define SHARENA_HEAP_QUARANTINE_H

#include "heap/geometry.h"
#include "ipc/conf.h"

/* Backs the thread's quarantine, if the configuration wants one. If it cannot be had, none is
 * used. */
void quarantine_open(sharena_t *heap, struct thread_slot *self, const struct conf *conf);

/* Whether blocks wait there that have that stack of the cache (by the page map). */
int quarantine_takes(struct thread_slot *self, const struct conf *conf, uint32_t stack);

/* Releases the oldest blocks until there is room for one of that many bytes. */
void quarantine_make_room(sharena_t *heap, struct thread_slot *self, const struct conf *conf,
                          size_t bytes);

/* The live block becomes the quarantine's, which has room for it. */
void quarantine_push(struct thread_slot *self, void *block, size_t bytes);

/* Releases everything: what the calling thread had freed, or a dead one's. */
void quarantine_drain(sharena_t *heap, struct thread_slot *self);

/* How many blocks are there: at most QUARANTINE_ENTRIES, or what the file says is damaged. */
static inline uint32_t quarantine_count(struct thread_slot *slot) {
    const struct quarantine *quarantine = slot_quarantine(slot);
    uint32_t head = shared_get(&quarantine->head); /* first: both only grow */
    return shared_get_acquire(&quarantine->tail) - head;
}

/* Entry i, from the oldest. */
static inline void *quarantine_entry(struct thread_slot *slot, uint32_t i) {
    uint32_t at = shared_get(&slot_quarantine(slot)->head) + i;
    return shared_get(&slot_quarantine_storage(slot)[at % QUARANTINE_ENTRIES]);
}

/* Whether what the file says about it can be. */
static inline int quarantine_is_sound(struct thread_slot *slot) {
    uint32_t count = quarantine_count(slot);
    return count == 0 ||
           (count <= QUARANTINE_ENTRIES && shared_get(&slot_quarantine(slot)->is_backed) == 1);
}

/* How many entries are that block: at most one, where all is well. */
static inline uint32_t quarantine_has(struct thread_slot *slot, const void *block) {
    uint32_t count = quarantine_is_sound(slot) ? quarantine_count(slot) : 0;
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += quarantine_entry(slot, i) == block;
    }
    return found;
}

#endif
