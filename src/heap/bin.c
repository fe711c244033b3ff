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
#include <string.h>

#include "heap/arena.h"
#include "heap/misuse.h"
#include "heap/run.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define SECTION_ROOM 184u /* a tree operation, 2 x 16 page entries, and what goes with them */
#define GIVEN_WORDS 8u    /* of a bitmap, most entries for the regions that go back together */
#define LG_BUCKETS_MIN 7
#define LG_BUCKETS_MAX 10
#define LG_ARENA_BUCKETS 4

struct tree bin_tree(const sharena_t *heap, struct bin *bin) {
    return (struct tree){(char *)heap_run(heap, 0), sizeof(struct run), &bin->nonfull};
}

static uint32_t bin_arena(const sharena_t *heap, const struct bin *bin) {
    return (uint32_t)((heap_offset(heap, bin) - ARENAS_OFFSET) / ARENA_STRIDE);
}

/* The run that the page of a region of some bin is in. */
static struct run *region_run(const sharena_t *heap, const void *ptr) {
    uint32_t page = page_of(heap, ptr);
    return heap_run(heap, page - (shared_get(heap_page_kind(heap, page)) & KIND_DISTANCE));
}

/* Whether ptr is the start of a region of the run of that shape at page `first`; which one. */
static int is_region(const sharena_t *heap, const struct run_shape *shape, uint32_t first,
                     const void *ptr, uint32_t *index) {
    uint64_t offset = heap_offset(heap, ptr) - ((uint64_t)first << LG_PAGE);
    *index = (uint32_t)(offset * shape->inverse >> 32);
    return offset < (uint64_t)shape->regions * shape->region_bytes &&
           (uint64_t)*index * shape->region_bytes == offset;
}

struct run *bin_find_run(const sharena_t *heap, const void *ptr, uint32_t *page, uint32_t *index) {
    struct run *run = region_run(heap, ptr);
    uint32_t size_class = shared_get(&run->size_class);
    uint32_t region;
    if (shared_get(&run->state) != RUN_BIN || size_class >= SIZE_CLASSES_SMALL) {
        return NULL;
    }
    *page = (uint32_t)(run - heap_run(heap, 0));
    if (!is_region(heap, sizeclass_run_shape(size_class), *page, ptr, &region)) {
        return NULL;
    }
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
    uint32_t arena = bin_arena(heap, bin);
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
    void **start = shared_get(&tcache->first[size_class + 1]);
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

/* Of a pointer that did not go to the bin. */
static int is_of_other_arena(const sharena_t *heap, const struct bin *bin, const void *ptr) {
    uint32_t page;
    const struct run *run = bin_find_run(heap, ptr, &page, NULL);
    uint32_t arena = bin_arena(heap, bin);
    return run != NULL && shared_get(&run->arena) != arena &&
           &heap_arena(heap, arena)->bins[shared_get(&run->size_class)] == bin;
}

/* Section: the run has `given` free regions more. EMPTIED: all, so it went into the hand. */
static enum give_result count_free(sharena_t *heap, struct thread_slot *self, struct bin *bin,
                                   uint32_t page, uint32_t given) {
    struct run *run = heap_run(heap, page);
    uint32_t free_regions = shared_get(&run->free_regions) + given;
    uint32_t place = shared_get(&run->extra);
    journal_set(self, &run->free_regions, (uint16_t)free_regions);
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

/* Section: the first of the regions goes back, and with it those that follow and are of the same
 * run, up to some that are elsewhere in its bitmap; *given of them. What is wrong with another than
 * the first will be found when it is the first. */
static enum give_result give_regions(sharena_t *heap, struct thread_slot *self, struct bin *bin,
                                     void *const *ptrs, uint32_t count, uint32_t *given) {
    uint32_t page;
    uint32_t index;
    struct run *run = bin_find_run(heap, ptrs[0], &page, &index);
    if (run == NULL || bin_of(heap, run) != bin) {
        return BAD_POINTER; /* or one that was freed before, and its run is another bin's by now */
    }
    const struct run_shape *shape = sizeclass_run_shape(shared_get(&run->size_class));
    shared_u64 *word = run_bitmap_word(run, index);
    uint64_t bits = shared_get(word);
    uint32_t words = 1;
    uint32_t done = 0;
    for (; (bits & 1ull << index % 64) == 0; word = run_bitmap_word(run, index)) {
        bits |= 1ull << index % 64;
        done++;
        if (done == count || !is_region(heap, shape, page, ptrs[done], &index)) {
            break;
        }
        if (run_bitmap_word(run, index) != word) {
            if (++words > GIVEN_WORDS) {
                break;
            }
            journal_set(self, word, bits);
            bits = shared_get(run_bitmap_word(run, index));
        }
    }
    journal_set(self, word, bits);
    if (done == 0) {
        return DOUBLE_FREE;
    }
    *given = done;
    return count_free(heap, self, bin, page, done);
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

/* The end of a section that gave items[0..given), `counted` of which were counted before. */
static void commit_given(struct thread_slot *self, struct bin *bin, shared_ptr *items,
                         uint32_t given, uint32_t counted) {
    journal_set(self, &bin->regions_given, shared_get(&bin->regions_given) + given - counted);
    journal_set(self, &slot_tcache(self)->stacks[TCACHE_FLUSHING].bottom, &items[given]);
    journal_commit(self);
}

/* Gives items[0..count) to the bin, until one is of another arena, a run is in the hand, or one
 * was bad, which is dropped. */
static void give_some(sharena_t *heap, struct thread_slot *self, struct bin *bin, shared_ptr *items,
                      uint32_t count) {
    const void *bad = NULL;
    uint32_t given = 0;
    uint32_t counted = 0;
    enum give_result result = GIVEN;
    lock_acquire(heap, self, &bin->lock);
    count_one(&bin->flushes);
    while (given < count && result == GIVEN) {
        if (!journal_has_room(self, SECTION_ROOM)) {
            commit_given(self, bin, items, given, counted);
            counted = given;
        }
        uint32_t more = 1;
        result = give_regions(heap, self, bin, (void **)&items[given], count - given, &more);
        if (UNLIKELY(is_bad(result))) {
            if (is_of_other_arena(heap, bin, shared_get(&items[given]))) {
                break;
            }
            bad = shared_get(&items[given]);
            counted++; /* dropped, not given */
        }
        given += more;
    }
    commit_given(self, bin, items, given, counted);
    lock_release(heap, self, &bin->lock);
    if (result == EMPTIED) {
        arena_give(heap, self);
    } else if (UNLIKELY(bad != NULL)) {
        report(heap, self, bad, result);
    }
}

void bin_flush_rest(sharena_t *heap, struct thread_slot *self) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[TCACHE_FLUSHING];
    while (shared_get(&stack->bottom) != shared_get(&stack->top)) {
        shared_ptr *items = shared_get(&stack->bottom);
        void *oldest = shared_get(&items[0]);
        uint32_t arena = arena_of(heap, oldest);
        if (UNLIKELY(arena == NO_ARENA)) {
            journal_set(self, &stack->bottom, &items[1]);
            journal_commit(self);
            report(heap, self, oldest, BAD_POINTER);
        } else {
            give_some(heap, self,
                      &heap_arena(heap, arena)->bins[shared_get(&tcache->flushing_class)], items,
                      (uint32_t)((shared_ptr *)shared_get(&stack->top) - items));
        }
    }
}

/* An order that has the regions of one arena together, and in it those of one run: near enough, by
 * 2^(lg_arenas + lg_runs) buckets, which several may share. */
struct order {
    const sharena_t *heap;
    uint32_t lg_arenas;
    uint32_t lg_runs;
};

static uint16_t bucket_of(const struct order *order, const void *ptr) {
    const struct run *run = region_run(order->heap, ptr);
    uint32_t bucket = (uint32_t)(run - heap_run(order->heap, 0)) & ((1u << order->lg_runs) - 1);
    if (order->lg_arenas != 0) {
        uint32_t arena = shared_get(&run->arena) & ((1u << order->lg_arenas) - 1);
        bucket |= arena << order->lg_runs;
    }
    return (uint16_t)bucket;
}

static struct order order_for(const sharena_t *heap, const shared_ptr *items, uint32_t count) {
    uint32_t lg_buckets = count < 256 ? LG_BUCKETS_MIN : LG_BUCKETS_MAX;
    uint32_t arena = shared_get(&region_run(heap, shared_get(&items[0]))->arena);
    for (uint32_t i = 1; i < count; i++) {
        if (shared_get(&region_run(heap, shared_get(&items[i]))->arena) != arena) {
            return (struct order){heap, LG_ARENA_BUCKETS, lg_buckets - LG_ARENA_BUCKETS};
        }
    }
    return (struct order){heap, 0, lg_buckets};
}

/* Copies them to `to`, which nobody owns, in order: a counting sort. The bucket of a bad pointer
 * may change meanwhile, so it is looked up once. */
static void sort_regions(const sharena_t *heap, const shared_ptr *from, uint32_t count,
                         shared_ptr *to) {
    uint16_t next[1u << LG_BUCKETS_MAX];
    uint16_t bucket[FLUSH_ENTRIES];
    struct order order = order_for(heap, from, count);
    uint32_t buckets = 1u << (order.lg_arenas + order.lg_runs);
    memset(next, 0, buckets * sizeof(next[0]));
    for (uint32_t i = 0; i < count; i++) {
        bucket[i] = bucket_of(&order, shared_get(&from[i]));
        next[bucket[i]]++;
    }
    for (uint32_t i = 0, before = 0; i < buckets; i++) {
        uint32_t here = next[i];
        next[i] = (uint16_t)before;
        before += here;
    }
    for (uint32_t i = 0; i < count; i++) {
        shared_store(&to[next[bucket[i]]++], shared_get(&from[i])); /* a check may be looking */
    }
}

/* The `count` oldest go over to the stack TCACHE_FLUSHING, sorted; it is empty. */
static void begin_flush(sharena_t *heap, struct thread_slot *self, uint32_t size_class,
                        uint32_t count) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *from = &tcache->stacks[size_class + 1];
    struct tcache_stack *to = &tcache->stacks[TCACHE_FLUSHING];
    shared_ptr *oldest = shared_get(&from->bottom);
    shared_ptr *first = shared_get(&tcache->first[TCACHE_FLUSHING]);
    ASSERT(shared_get(&to->top) == shared_get(&to->bottom));
    sort_regions(heap, oldest, count, first);
    shared_order();
    journal_set(self, &tcache->flushing_class, size_class);
    journal_set(self, &to->bottom, first);
    journal_set(self, &to->top, first + count);
    journal_set(self, &from->bottom, oldest + count);
    journal_commit(self);
}

void bin_flush(sharena_t *heap, struct thread_slot *self, uint32_t size_class, uint32_t count) {
    bin_flush_rest(heap, self); /* nothing, unless somebody jumped out of a misuse */
    while (count > 0) {
        uint32_t some = count < FLUSH_ENTRIES ? count : FLUSH_ENTRIES;
        begin_flush(heap, self, size_class, some);
        bin_flush_rest(heap, self);
        count -= some;
    }
}

void bin_give_one(sharena_t *heap, struct thread_slot *self, void *ptr) {
    uint32_t page;
    uint32_t given;
    const struct run *run = bin_find_run(heap, ptr, &page, NULL);
    if (run == NULL) {
        journal_set(self, &self->pending.kind, PENDING_NONE);
        journal_commit(self);
        report(heap, self, ptr, BAD_POINTER);
        return;
    }
    struct bin *bin = bin_of(heap, run);
    lock_acquire(heap, self, &bin->lock);
    enum give_result result = give_regions(heap, self, bin, &ptr, 1, &given);
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
