/* backing.c -- which pages have storage, and how many may.
 *
 * Holds:  state.backed_pages == pages of dirty and used runs, of pool.chunk.backed, of huge blocks
 *         + hand.charged of all slots + metadata that was charged with `data_bytes`      (audited)
 * Lock:   POOL, for the count alone; none while the kernel works. At most 3 journal entries
 * Killed: charged but not backed, backed but not used, punched but not discounted: hand.charged
 *         says so, and the reaper settles it
 * Not here: whose pages they are (arena.c, chunk.c, huge.c).
 */
#include "heap/backing.h"

#include <errno.h>

#include "heap/hooks.h"
#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"
#include "ipc/mapping.h"

static int charge(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count) {
    struct heap_state *state = heap_state(heap);
    uint64_t limit_pages = heap_superblock(heap)->limit_bytes / PAGE_BYTES;
    int error = 0;
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    uint64_t backed = shared_get(&state->backed_pages);
    if (limit_pages != 0 && backed + count > limit_pages) {
        error = ENOMEM;
    } else {
        journal_set(self, &state->backed_pages, backed + count);
        journal_set(self, &self->hand.charged_first, first);
        journal_set(self, &self->hand.charged, count);
        journal_commit(self);
    }
    lock_release(heap, self, &heap_pool(heap)->lock);
    if (error != 0) {
        return error_set(ENOMEM,
                         "the limit of this heap is reached: %llu of %llu bytes are backed, "
                         "%llu more were needed: free blocks, or make a heap with a higher limit",
                         (unsigned long long)backed * PAGE_BYTES,
                         (unsigned long long)limit_pages * PAGE_BYTES,
                         (unsigned long long)count * PAGE_BYTES);
    }
    return 0;
}

static void discharge(sharena_t *heap, struct thread_slot *self) {
    struct heap_state *state = heap_state(heap);
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    uint64_t count = shared_get(&self->hand.charged);
    CHECK(shared_get(&state->backed_pages) >= count);
    journal_set(self, &state->backed_pages, shared_get(&state->backed_pages) - count);
    journal_set(self, &self->hand.charged, 0u);
    journal_set(self, &self->hand.flags, 0u); /* HAND_RUN: its pages are clean now */
    journal_commit(self);
    lock_release(heap, self, &heap_pool(heap)->lock);
}

/* Whose hooks are asked; those of no arena for tables. */
static uint32_t arena_for(const sharena_t *heap, const struct thread_slot *self, uint32_t page) {
    if (chunk_of_page(page) < first_chunk(heap)) {
        return ARENAS_MAX;
    }
    return shared_get(&self->hand.kind) == HAND_RUN ? shared_get(&self->hand.arena)
                                                    : shared_get(&self->arena) - 1;
}

int backing_add(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count) {
    ASSERT(shared_get(&self->hand.charged) == 0);
    int error = charge(heap, self, first, count);
    if (error != 0) {
        return error;
    }
    error = hooks_back(heap, arena_for(heap, self, first), (uint64_t)first << LG_PAGE,
                       (uint64_t)count << LG_PAGE);
    if (error != 0) {
        discharge(heap, self);
    }
    return error;
}

/* Section: what was charged to be punched stays. */
static void keep(sharena_t *heap, struct thread_slot *self) {
    struct shared_lock *lock = &heap_pool(heap)->lock;
    lock_acquire(heap, self, lock);
    if (shared_get(&self->hand.kind) == HAND_SPAN) {
        struct chunk *chunk = heap_chunk(heap, shared_get(&self->hand.first));
        journal_set(self, &chunk->backed,
                    shared_get(&chunk->backed) + shared_get(&self->hand.charged));
    }
    journal_set(self, &self->hand.charged, 0u);
    journal_commit(self);
    lock_release(heap, self, lock);
}

int backing_remove(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count) {
    struct shared_lock *lock = &heap_pool(heap)->lock;
    ASSERT(shared_get(&self->hand.charged) == 0);
    lock_acquire(heap, self, lock); /* whoever holds all locks sees them counted once */
    journal_set(self, &self->hand.charged_first, first);
    journal_set(self, &self->hand.charged, count);
    if (shared_get(&self->hand.kind) == HAND_SPAN) {
        uint32_t chunk = shared_get(&self->hand.first);
        journal_set(self, &heap_chunk(heap, chunk)->backed, first - first_page_of_chunk(chunk));
    }
    journal_commit(self); /* from here on they will be punched, by us or by the reaper */
    lock_release(heap, self, lock);
    int is_gone = hooks_purge(heap, arena_for(heap, self, first), (uint64_t)first << LG_PAGE,
                              (uint64_t)count << LG_PAGE);
    if (is_gone) {
        discharge(heap, self);
    } else {
        keep(heap, self);
    }
    return is_gone;
}

void backing_settle(sharena_t *heap, struct thread_slot *self) {
    uint32_t count = shared_get(&self->hand.charged);
    if (count != 0) {
        uint64_t first = shared_get(&self->hand.charged_first);
        /* A file system that cannot punch keeps the pages; they are not zero then, so stop. */
        CHECK(mapping_punch(heap, first << LG_PAGE, (uint64_t)count << LG_PAGE) == 0);
        discharge(heap, self);
    }
}

int backing_add_metadata(sharena_t *heap, const void *from, const void *to) {
    uint64_t begin = heap_offset(heap, from) / PAGE_BYTES * PAGE_BYTES;
    uint64_t end = round_up(heap_offset(heap, to), PAGE_BYTES);
    if (mapping_back(heap, begin, end - begin, 0) != 0) {
        return error_set(ENOMEM,
                         "the file system has no room for %llu bytes of metadata of this "
                         "heap: free space there",
                         (unsigned long long)(end - begin));
    }
    return 0;
}
