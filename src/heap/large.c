/* large.c -- large blocks: a run of their own, below one chunk.
 *
 * Holds:  run.state == RUN_LARGE, run.size == pages of its class (one more with an offset),
 *         page_map of its first page names the class, or that the block is sampled, and
 *         of its other pages is 0                                                     (audited)
 * Lock:   the arena's (rank ARENA). At most three tree operations a section
 * Killed: anywhere: sections are undone; new pages are in the hand; a finished block that did not
 *         reach its caller is in the pending step
 * Not here: which sizes are large (sizeclass.c), caching (tcache.c).
 */
#include "heap/large.h"

#include "heap/arena.h"
#include "heap/misuse.h"
#include "heap/prof_samples.h"
#include "heap/run.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define LINE_BYTES 64u

/* A line of the page, different from block to block; any spread will do. */
static uint32_t spread_offset(uint32_t page) {
    uint32_t hash = page * 0x9e3779b1u;
    return (hash >> 16) % (PAGE_BYTES / LINE_BYTES) * LINE_BYTES;
}

static void count_used(struct thread_slot *self, struct arena *arena, uint32_t more,
                       uint32_t less) {
    journal_set(self, &arena->pages_used, shared_get(&arena->pages_used) + more - less);
}

void large_count_taken(struct thread_slot *self, struct block_count *counts, uint32_t size_class) {
    shared_u64 *taken = &counts[size_class - SIZE_CLASSES_SMALL].taken;
    journal_set(self, taken, shared_get(taken) + 1);
}

void large_count_given(struct thread_slot *self, struct block_count *counts, uint32_t size_class) {
    shared_u64 *given = &counts[size_class - SIZE_CLASSES_SMALL].given;
    journal_set(self, given, shared_get(given) + 1);
}

/* Section: the run in the hand becomes a block in flight. */
static void *hand_to_block(sharena_t *heap, struct thread_slot *self, uint32_t size_class,
                           uint32_t offset) {
    uint32_t page = shared_get(&self->hand.first);
    struct run *run = heap_run(heap, page);
    char *block = (char *)page_address(heap, page) + offset;
    run_mark_used(heap, self, page, shared_get(&self->hand.count), RUN_LARGE);
    journal_set(self, &run->size_class, (uint16_t)size_class);
    journal_set(self, &run->extra, offset);
    prof_enter_block(heap, self, block, stack_offset_of(size_class), &run->left);
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_set(self, &self->pending.block, block);
    journal_set(self, &self->pending.kind, PENDING_MALLOC);
    return block;
}

void *large_alloc(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t size_class,
                  uint32_t align, int oblivious, int *zero) {
    struct arena *arena = heap_arena(heap, index);
    uint32_t pages = large_pages(size_class);
    int shift = oblivious && align == 1 && pages < CHUNK_PAGES;
    if (arena_take(heap, self, index, pages + (shift ? 1 : 0), align) != 0) {
        return NULL;
    }
    *zero = (shared_get(&self->hand.flags) & HAND_ZERO) != 0;
    lock_acquire(heap, self, &arena->lock);
    uint32_t offset = shift ? spread_offset(shared_get(&self->hand.first)) : 0;
    void *block = hand_to_block(heap, self, size_class, offset);
    large_count_taken(self, arena->large, size_class);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    return block;
}

int large_is_block(const sharena_t *heap, const void *ptr) {
    uint32_t page = page_of(heap, ptr);
    if (shared_get(heap_page_map(heap) + page) == 0 ||
        shared_get(&heap_chunk(heap, chunk_of_page(page))->state) != CHUNK_ARENA) {
        return 0;
    }
    const struct run *run = heap_run(heap, page);
    return shared_get(&run->state) == RUN_LARGE &&
           (const char *)page_address(heap, page) + shared_get(&run->extra) == (const char *)ptr;
}

void large_drop(sharena_t *heap, struct thread_slot *self, struct tcache_stack *stack, void *ptr) {
    large_end_owner(self, stack);
    journal_commit(self);
    misuse_in_slot(heap, self, SHARENA_MISUSE_NOT_A_BLOCK, ptr,
                   "free of a pointer that is not a live large or huge block");
}

void large_free(sharena_t *heap, struct thread_slot *self, void *ptr, struct tcache_stack *stack) {
    if (!large_is_block(heap, ptr)) {
        large_drop(heap, self, stack, ptr);
        return;
    }
    uint32_t page = page_of(heap, ptr);
    struct run *run = heap_run(heap, page);
    struct arena *arena = heap_arena(heap, shared_get(&run->arena));
    lock_acquire(heap, self, &arena->lock);
    int is_live = large_is_block(heap, ptr); /* a racing double free */
    int emptied = 0;
    if (is_live) {
        uint32_t pages = shared_get(&run->size);
        prof_remove_block(heap, self, page, &run->left);
        emptied = run_insert_free(heap, self, arena, page, pages, 1, 0);
        count_used(self, arena, 0, pages);
        large_count_given(self, arena->large, shared_get(&run->size_class));
        large_end_owner(self, stack);
        journal_commit(self);
    }
    lock_release(heap, self, &arena->lock);
    prof_give(heap, self);
    if (!is_live) {
        large_drop(heap, self, stack, ptr);
    }
    if (emptied) {
        arena_release_chunk(heap, self, arena_index(heap, arena), chunk_of_page(page));
    }
}

/* Section: the block at `page` has `pages` pages and that class from now on. */
static void become(sharena_t *heap, struct thread_slot *self, uint32_t page, uint32_t pages,
                   uint32_t size_class) {
    struct run *run = heap_run(heap, page);
    struct arena *arena = heap_arena(heap, shared_get(&run->arena));
    large_count_given(self, arena->large, shared_get(&run->size_class));
    large_count_taken(self, arena->large, size_class);
    run_mark_used(heap, self, page, pages, RUN_LARGE);
    journal_set(self, &run->size_class, (uint16_t)size_class);
    journal_set(self, heap_page_map(heap) + page, stack_offset_of(size_class));
}

static int shrink(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
                  uint32_t pages, uint32_t size_class) {
    lock_acquire(heap, self, &arena->lock);
    uint32_t excess = shared_get(&heap_run(heap, page)->size) - pages;
    become(heap, self, page, pages, size_class);
    if (excess != 0) {
        int emptied = run_insert_free(heap, self, arena, page + pages, excess, 1, 0);
        CHECK(!emptied);
        count_used(self, arena, 0, excess);
    }
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    return 1;
}

enum grow_result { GROWN, IN_HAND, NO_ROOM };

/* Takes what is missing from the free run behind the block: at once if it is backed, else by the
 * hand. */
static enum grow_result grow_section(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                                     uint32_t page, uint32_t pages, uint32_t size_class) {
    uint32_t size = shared_get(&heap_run(heap, page)->size);
    uint32_t next = page + size;
    uint32_t missing = pages - size;
    if (run_free_at(heap, next) < missing) {
        return NO_ROOM;
    }
    int dirty = run_is_dirty(heap_run(heap, next));
    (void)run_carve(heap, self, arena, next, next, missing, RUN_HAND);
    count_used(self, arena, missing, 0);
    if (dirty) {
        become(heap, self, page, pages, size_class);
        return GROWN;
    }
    journal_set(self, &self->hand.kind, HAND_RUN);
    journal_set(self, &self->hand.arena, arena_index(heap, arena));
    journal_set(self, &self->hand.first, next);
    journal_set(self, &self->hand.count, missing);
    journal_set(self, &self->hand.flags, 0u);
    return IN_HAND;
}

static int grow(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
                uint32_t pages, uint32_t size_class) {
    lock_acquire(heap, self, &arena->lock);
    enum grow_result result = grow_section(heap, self, arena, page, pages, size_class);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    if (result != IN_HAND) {
        return result == GROWN;
    }
    if (arena_back_hand(heap, self) != 0) {
        arena_give(heap, self);
        return 0;
    }
    lock_acquire(heap, self, &arena->lock);
    become(heap, self, page, pages, size_class);
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    return 1;
}

int large_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class) {
    uint32_t page = page_of(heap, ptr);
    const struct run *run = heap_run(heap, page);
    struct arena *arena = heap_arena(heap, shared_get(&run->arena));
    uint32_t pages = large_pages(size_class) + (shared_get(&run->extra) != 0 ? 1 : 0);
    uint32_t size = shared_get(&run->size); /* ours: the block is live, and its owner is calling */
    return pages <= size ? shrink(heap, self, arena, page, pages, size_class)
                         : grow(heap, self, arena, page, pages, size_class);
}
