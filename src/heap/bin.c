/* bin.c -- equal regions cut from runs, one bin per arena and size class.
 *
 * Holds:  regions of a run == bits set + live + cached in tcaches                     (audited)
 *         free_regions == bits set
 *         a run is in exactly one place: current, in the non-full tree, or full and unlinked
 *         no run has all of its regions: when the last one comes back, it goes to its arena
 * Lock:   bin->lock (rank BIN). Calls nothing that locks while it is held. A section commits before
 *         the journal has less than SECTION_ROOM entries left
 * Killed: anywhere: the journal takes it back; a run being adopted or released is in the thread's
 * hand
 * Not here: where runs come from (arena.c), who wants regions (tcache.c).
 */
#include "heap/bin.h"

#include <errno.h>

#include "heap/arena.h"
#include "heap/misuse.h"
#include "heap/run.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define SECTION_ROOM 176u /* a tree operation, 2 x 16 page entries, and what goes with them */

struct tree bin_tree(const sharena_t *heap, struct bin *bin) {
    return (struct tree){(char *)heap_run(heap, 0), sizeof(struct run), &bin->nonfull};
}

struct run *bin_find_run(const sharena_t *heap, const void *ptr, uint32_t *page, uint32_t *index) {
    uint32_t at = page_of(heap, ptr);
    uint32_t first = at - (shared_get(heap_page_kind(heap, at)) & KIND_DISTANCE);
    struct run *run = heap_run(heap, first);
    uint32_t size_class = shared_get(&run->size_class);
    if (shared_get(&run->state) != RUN_BIN || size_class >= SIZE_CLASSES_SMALL) {
        return NULL;
    }
    const struct run_shape *shape = sizeclass_run_shape(size_class);
    uint64_t offset = heap_offset(heap, ptr) - ((uint64_t)first << LG_PAGE);
    uint32_t region = (uint32_t)(offset * shape->inverse >> 32);
    if (region >= shape->regions || (uint64_t)region * shape->region_bytes != offset) {
        return NULL;
    }
    *page = first;
    if (index != NULL) {
        *index = region;
    }
    return run;
}

/* Of a statistic that no rule needs: a kill before the commit leaves it one too high. */
static void count_one(shared_u64 *counter) {
    shared_store(counter, shared_get(counter) + 1);
}

/* ---- taking ---- */

/* Makes the lowest non-full run current; 0 if there is none. */
static uint32_t next_current(sharena_t *heap, struct thread_slot *self, struct bin *bin) {
    struct tree tree = bin_tree(heap, bin);
    uint32_t page = tree_fit(tree, 0);
    if (page != 0) {
        tree_remove(self, tree, page);
        journal_set(self, &bin->current, page);
        journal_set(self, &heap_run(heap, page)->extra, BIN_CURRENT);
        count_one(&bin->runs_again);
    }
    return page;
}

/* Takes up to `want` regions of one run, lowest first; how many. */
static uint32_t take_from_run(sharena_t *heap, struct thread_slot *self, uint32_t page, void **out,
                              uint32_t want) {
    struct run *run = heap_run(heap, page);
    const struct run_shape *shape = sizeclass_run_shape(shared_get(&run->size_class));
    char *start = page_address(heap, page);
    uint32_t got = 0;
    for (uint32_t bit = 0; bit < shape->regions && got < want; bit += 64) {
        shared_u64 *word = run_bitmap_word(run, bit);
        uint64_t bits = shared_get(word);
        if (bits == 0) {
            continue;
        }
        while (bits != 0 && got < want) {
            uint32_t index = bit + (uint32_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            out[got++] = start + (uint64_t)index * shape->region_bytes;
        }
        journal_set(self, word, bits);
    }
    journal_set(self, &run->free_regions, (uint16_t)(shared_get(&run->free_regions) - got));
    return got;
}

/* The part of a section that takes regions from the bin; the caller journals who owns them now. */
static uint32_t take_regions(sharena_t *heap, struct thread_slot *self, struct bin *bin, void **out,
                             uint32_t want) {
    uint32_t got = 0;
    while (got < want && journal_has_room(self, SECTION_ROOM)) {
        uint32_t page = shared_get(&bin->current);
        if (page == 0 && (page = next_current(heap, self, bin)) == 0) {
            break;
        }
        struct run *run = heap_run(heap, page);
        got += take_from_run(heap, self, page, out + got, want - got);
        if (shared_get(&run->free_regions) == 0) {
            journal_set(self, &run->extra, BIN_FULL);
            journal_set(self, &bin->current, 0u);
        }
    }
    journal_set(self, &bin->regions_taken, shared_get(&bin->regions_taken) + got);
    return got;
}

/* ---- runs on their way in and out ---- */

/* The run in the hand gets its bitmap; nobody reads it before the run is adopted. */
static void prepare_bitmap(sharena_t *heap, struct thread_slot *self, uint32_t size_class) {
    struct run *run = heap_run(heap, shared_get(&self->hand.first));
    uint32_t regions = sizeclass_run_shape(size_class)->regions;
    for (uint32_t bit = 0; bit < regions; bit += 64) {
        uint64_t bits = regions - bit >= 64 ? UINT64_MAX : (1ull << (regions - bit)) - 1;
        shared_store(run_bitmap_word(run, bit), bits);
    }
}

/* Section: the run in the hand becomes the bin's, which has no other with free regions. */
static void adopt(sharena_t *heap, struct thread_slot *self, struct bin *bin, uint32_t size_class) {
    const struct run_shape *shape = sizeclass_run_shape(size_class);
    uint32_t first = shared_get(&self->hand.first);
    struct run *run = heap_run(heap, first);
    for (uint32_t i = 0; i < shape->pages; i++) {
        journal_set(self, heap_page_map(heap) + first + i,
                    (uint16_t)((size_class + 1) * sizeof(struct tcache_stack)));
        journal_set(self, heap_page_kind(heap, first + i), (uint16_t)i);
    }
    journal_set(self, &run->state, RUN_BIN);
    journal_set(self, &run->size_class, (uint16_t)size_class);
    journal_set(self, &run->free_regions, (uint16_t)shape->regions);
    journal_set(self, &bin->runs, shared_get(&bin->runs) + 1);
    count_one(&bin->runs_made);
    journal_set(self, &run->extra, BIN_CURRENT);
    journal_set(self, &bin->current, first);
    journal_set(self, &self->hand.kind, HAND_EMPTY);
}

/* Section: a run without live regions, in no place, goes into the hand. */
static void release(sharena_t *heap, struct thread_slot *self, struct bin *bin, uint32_t page) {
    struct run *run = heap_run(heap, page);
    uint32_t pages = shared_get(&run->size);
    for (uint32_t i = 0; i < pages; i++) {
        journal_set(self, heap_page_map(heap) + page + i, 0);
    }
    run_mark_used(heap, self, page, pages, RUN_HAND);
    journal_set(self, &bin->runs, shared_get(&bin->runs) - 1);
    journal_set(self, &self->hand.kind, HAND_RUN);
    journal_set(self, &self->hand.arena, shared_get(&run->arena));
    journal_set(self, &self->hand.first, page);
    journal_set(self, &self->hand.count, pages);
    journal_set(self, &self->hand.flags, HAND_DIRTY);
}

static int fetch_run(sharena_t *heap, struct thread_slot *self, uint32_t arena,
                     uint32_t size_class) {
    int error = arena_take(heap, self, arena, sizeclass_run_shape(size_class)->pages, 1);
    if (error == 0) {
        prepare_bitmap(heap, self, size_class);
    }
    return error;
}

static void reverse(void **items, uint32_t count) {
    for (uint32_t i = 0; i < count / 2; i++) {
        void *item = items[i];
        items[i] = items[count - 1 - i];
        items[count - 1 - i] = item;
    }
}

/* Section: [start, start + got) of the storage, which nobody owned, becomes the stack. */
static void own_in_stack(struct thread_slot *self, struct tcache_stack *stack, void **start,
                         uint32_t got) {
    reverse(start, got);
    journal_set(self, &stack->bottom, start);
    journal_set(self, &stack->top, start + got);
}

static void own_in_flight(struct thread_slot *self, void *block) {
    journal_set(self, &self->pending.block, block);
    journal_set(self, &self->pending.kind, PENDING_MALLOC);
}

enum taker { FOR_STACK, IN_FLIGHT };

/* Takes regions for the stack, or one in flight. A run is adopted in the section that takes from
 * it, and only if the bin has nothing else: others may have freed regions since it was fetched. */
static uint32_t take(sharena_t *heap, struct thread_slot *self, struct bin *bin,
                     uint32_t size_class, enum taker taker, void **out, uint32_t want) {
    uint32_t arena = (uint32_t)((heap_offset(heap, bin) - ARENAS_OFFSET) / ARENA_STRIDE);
    for (;;) {
        lock_acquire(heap, self, &bin->lock);
        uint32_t got = take_regions(heap, self, bin, out, want);
        if (got == 0 && shared_get(&self->hand.kind) == HAND_RUN) {
            adopt(heap, self, bin, size_class);
            got = take_regions(heap, self, bin, out, want);
        }
        if (got != 0 && taker == FOR_STACK) {
            own_in_stack(self, &slot_tcache(self)->stacks[size_class + 1], out, got);
            count_one(&bin->fills);
        } else if (got != 0) {
            own_in_flight(self, out[0]);
        }
        journal_commit(self);
        lock_release(heap, self, &bin->lock);
        if (shared_get(&self->hand.kind) == HAND_RUN) {
            arena_give(heap, self);
        }
        if (got != 0 || fetch_run(heap, self, arena, size_class) != 0) {
            return got;
        }
    }
}

uint32_t bin_fill(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t size_class,
                  uint32_t want) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[size_class + 1];
    void **start = (void **)&tcache->storage[sizeclass_stack_first(size_class)];
    ASSERT(shared_get(&stack->top) == shared_get(&stack->bottom));
    struct bin *bin = &heap_arena(heap, arena)->bins[size_class];
    uint32_t got = take(heap, self, bin, size_class, FOR_STACK, start, want);
    shared_store(&stack->base, shared_get(&stack->bottom)); /* ours alone, and only a hint */
    return got;
}

void *bin_take_one(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t size_class) {
    void *block;
    struct bin *bin = &heap_arena(heap, arena)->bins[size_class];
    return take(heap, self, bin, size_class, IN_FLIGHT, &block, 1) != 0 ? block : NULL;
}

/* ---- giving ---- */

enum give_result { GIVEN, EMPTIED, BAD_POINTER, DOUBLE_FREE };

static struct bin *bin_of(const sharena_t *heap, const struct run *run) {
    return &heap_arena(heap, shared_get(&run->arena))->bins[shared_get(&run->size_class)];
}

/* Section: one region goes back. EMPTIED: its run went into the hand. */
static enum give_result give_region(sharena_t *heap, struct thread_slot *self, struct bin *bin,
                                    void *ptr) {
    uint32_t page;
    uint32_t index;
    struct run *run = bin_find_run(heap, ptr, &page, &index);
    if (run == NULL || bin_of(heap, run) != bin) {
        return BAD_POINTER; /* or one that was freed before, and its run is another bin's by now */
    }
    shared_u64 *word = run_bitmap_word(run, index);
    uint64_t bits = shared_get(word);
    uint64_t bit = 1ull << index % 64;
    if ((bits & bit) != 0) {
        return DOUBLE_FREE;
    }
    uint32_t free_regions = shared_get(&run->free_regions) + 1u;
    journal_set(self, word, bits | bit);
    journal_set(self, &run->free_regions, (uint16_t)free_regions);
    uint32_t place = shared_get(&run->extra);
    if (free_regions == sizeclass_run_shape(shared_get(&run->size_class))->regions) {
        if (place == BIN_NONFULL) {
            tree_remove(self, bin_tree(heap, bin), page);
        } else if (place == BIN_CURRENT) {
            journal_set(self, &bin->current, 0u);
        }
        release(heap, self, bin, page);
        return EMPTIED;
    }
    if (place == BIN_FULL) {
        journal_set(self, &run->extra, BIN_NONFULL);
        tree_insert(self, bin_tree(heap, bin), page);
    }
    return GIVEN;
}

static int is_bad(enum give_result result) {
    return result == BAD_POINTER || result == DOUBLE_FREE;
}

/* A bad pointer was dropped: it is nobody's any more, and no lock is held. */
static COLD void report(const sharena_t *heap, const struct thread_slot *self, const void *ptr,
                        enum give_result result) {
    if (result == DOUBLE_FREE) {
        misuse_in_slot(heap, self, SHARENA_MISUSE_DOUBLE_FREE, ptr, "double free of a small block");
    } else {
        misuse_in_slot(heap, self, SHARENA_MISUSE_NOT_A_BLOCK, ptr,
                       "free of a pointer that is not the start of a block");
    }
}

#define NO_ARENA UINT32_MAX

/* The arena that a cached region belongs to; NO_ARENA: it is none. */
static uint32_t arena_of(const sharena_t *heap, const void *ptr) {
    uint32_t page;
    const struct run *run = bin_find_run(heap, ptr, &page, NULL);
    return run != NULL ? shared_get(&run->arena) : NO_ARENA;
}

/* Swaps the regions of `arena` to the front, in journaled steps of the thread's own
 * slot; how many. */
static uint32_t group(sharena_t *heap, struct thread_slot *self, shared_ptr *items, uint32_t count,
                      uint32_t arena) {
    uint32_t front = 0;
    for (uint32_t i = 0; i < count; i++) {
        void *item = shared_get(&items[i]);
        if (arena_of(heap, item) != arena) {
            continue;
        }
        if (i != front) {
            if (!journal_has_room(self, 2)) {
                journal_commit(self);
            }
            journal_set(self, &items[i], shared_get(&items[front]));
            journal_set(self, &items[front], item);
        }
        front++;
    }
    journal_commit(self);
    return front;
}

/* The end of a section that gave items[0..given), `counted` of which were counted before. */
static void commit_given(struct thread_slot *self, struct tcache_stack *stack, struct bin *bin,
                         shared_ptr *items, uint32_t given, uint32_t counted) {
    journal_set(self, &bin->regions_given, shared_get(&bin->regions_given) + given - counted);
    journal_set(self, &stack->bottom, &items[given]);
    journal_commit(self);
}

/* Gives items[0..count) to their one bin until all are given, a run is in the hand, or one was bad,
 * which is dropped; how many. */
static uint32_t flush_some(sharena_t *heap, struct thread_slot *self, struct tcache_stack *stack,
                           struct bin *bin, shared_ptr *items, uint32_t count) {
    uint32_t given = 0;
    uint32_t counted = 0;
    enum give_result result = GIVEN;
    lock_acquire(heap, self, &bin->lock);
    count_one(&bin->flushes);
    while (given < count && result == GIVEN) {
        if (!journal_has_room(self, SECTION_ROOM)) {
            commit_given(self, stack, bin, items, given, counted);
            counted = given;
        }
        result = give_region(heap, self, bin, shared_get(&items[given]));
        counted += (uint32_t)is_bad(result); /* dropped, not given */
        given++;
    }
    commit_given(self, stack, bin, items, given, counted);
    lock_release(heap, self, &bin->lock);
    if (result == EMPTIED) {
        arena_give(heap, self);
    } else if (UNLIKELY(is_bad(result))) {
        report(heap, self, shared_get(&items[given - 1]), result);
    }
    return given;
}

/* Flushes the regions of one arena, that of the oldest, among the `count` oldest; how many. */
static uint32_t flush_arena(sharena_t *heap, struct thread_slot *self, struct tcache_stack *stack,
                            uint32_t size_class, uint32_t count) {
    shared_ptr *items = shared_get(&stack->bottom);
    void *oldest = shared_get(&items[0]);
    uint32_t arena = arena_of(heap, oldest);
    if (UNLIKELY(arena == NO_ARENA)) {
        journal_set(self, &stack->bottom, &items[1]);
        journal_commit(self);
        report(heap, self, oldest, BAD_POINTER);
        return 1;
    }
    struct bin *bin = &heap_arena(heap, arena)->bins[size_class];
    uint32_t grouped = group(heap, self, items, count, arena);
    for (uint32_t done = 0; done < grouped;) {
        done += flush_some(heap, self, stack, bin, items + done, grouped - done);
    }
    return grouped;
}

void bin_flush(sharena_t *heap, struct thread_slot *self, uint32_t size_class, uint32_t count) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[size_class + 1];
    while (count > 0) {
        count -= flush_arena(heap, self, stack, size_class, count);
    }
}

void bin_give_one(sharena_t *heap, struct thread_slot *self, void *ptr) {
    uint32_t page;
    const struct run *run = bin_find_run(heap, ptr, &page, NULL);
    if (run == NULL) {
        journal_set(self, &self->pending.kind, PENDING_NONE);
        journal_commit(self);
        report(heap, self, ptr, BAD_POINTER);
        return;
    }
    struct bin *bin = bin_of(heap, run);
    lock_acquire(heap, self, &bin->lock);
    enum give_result result = give_region(heap, self, bin, ptr);
    if (!is_bad(result)) {
        journal_set(self, &bin->regions_given, shared_get(&bin->regions_given) + 1);
    }
    journal_set(self, &self->pending.kind, PENDING_NONE);
    journal_commit(self);
    lock_release(heap, self, &bin->lock);
    if (result == EMPTIED) {
        arena_give(heap, self);
    } else if (UNLIKELY(is_bad(result))) {
        report(heap, self, ptr, result);
    }
}
