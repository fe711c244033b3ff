/* test_bin.c -- regions of a class: taken in order, given back once, and their runs come and go. */
#include "heap/bin.h"

#include "heap/arena.h"
#include "heap/large.h"
#include "heap/publish.h"
#include "heap/tcache.h"
#include "heap_parts.h"

#define CLASS_8 0u     /* 7 pages, thousands of regions: its bitmap needs several run entries */
#define CLASS_4096 28u /* few regions a run */

static sharena_t *heap;
static struct thread_slot *self;

static int open_bin(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    return error;
}

#define with_bin(f) cmocka_unit_test_setup_teardown(f, open_bin, heap_fixture_close)

static struct bin *bin_of(uint32_t arena, uint32_t size_class) {
    return &heap_arena(heap, arena)->bins[size_class];
}

static struct tcache_stack *stack_for(uint32_t size_class) {
    return &slot_tcache(self)->stacks[size_class + 1];
}

static uint32_t cached(uint32_t size_class) {
    return stack_count(stack_for(size_class));
}

static void flush(uint32_t size_class) {
    bin_flush(heap, self, size_class, cached(size_class));
    assert_int_equal(cached(size_class), 0);
    assert_true(journal_is_empty(self));
}

/* One region past the cache, and back. */
static void *take_one(uint32_t arena, uint32_t size_class) {
    void *block = bin_take_one(heap, self, arena, size_class);
    if (block != NULL) {
        assert_int_equal(shared_get(&self->pending.kind), PENDING_MALLOC);
        assert_ptr_equal(shared_get(&self->pending.block), block);
        publish_end(self);
    }
    return block;
}

static void give_one(void *block) {
    publish_begin(self, PENDING_FREE, NULL, block);
    bin_give_one(heap, self, block);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    publish_end(self);
}

static struct run *run_of(const void *block) {
    uint32_t page;
    struct run *run = bin_find_run(heap, block, &page, NULL);
    assert_non_null(run);
    assert_ptr_equal(run, heap_run(heap, page));
    return run;
}

static uint32_t place_of(const void *block) {
    return shared_get(&run_of(block)->extra);
}

static uint32_t page_of_run(const void *block) {
    uint32_t page = 0;
    assert_non_null(bin_find_run(heap, block, &page, NULL));
    return page;
}

/* ---- taking ---- */

static void test_a_fill_pops_in_ascending_order(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        uint32_t want = sizeclass_stack_entries(i) / 2;
        const struct run_shape *shape = sizeclass_run_shape(i);
        uint32_t got = bin_fill(heap, self, 0, i, want);
        assert_in_range(got, shape->regions < want ? shape->regions : want, want);
        assert_int_equal(cached(i), got);
        assert_ptr_equal(shared_get(&stack_for(i)->base), shared_get(&stack_for(i)->bottom));
        char *first = tcache_pop(stack_for(i));
        char *before = first;
        for (uint32_t j = 1; j < got; j++) {
            char *block = tcache_pop(stack_for(i));
            assert_true(page_of_run(block) != page_of_run(before) ||
                        block == before + shape->region_bytes);
            before = block;
        }
        assert_int_equal(shared_get(&bin_of(0, i)->regions_taken), got);
        /* put back by hand: they stand in the storage still */
        shared_store(&stack_for(i)->top, (shared_ptr *)shared_get(&stack_for(i)->bottom) + got);
        flush(i);
        assert_int_equal(shared_get(&bin_of(0, i)->regions_given), got);
    }
}

static uint32_t bits_of(struct run *run, uint32_t regions) {
    uint32_t bits = 0;
    for (uint32_t bit = 0; bit < regions; bit += 64) {
        bits += (uint32_t)__builtin_popcountll(shared_get(run_bitmap_word(run, bit)));
    }
    return bits;
}

static void test_the_bitmap_word_by_word(void **state) {
    (void)state;
    const struct run_shape *shape = sizeclass_run_shape(CLASS_8);
    assert_int_equal(bin_fill(heap, self, 0, CLASS_8, 100), 100);
    struct run *run = run_of(shared_get((shared_ptr *)shared_get(&stack_for(CLASS_8)->bottom)));
    assert_int_equal(shared_get(run_bitmap_word(run, 0)), 0);
    assert_int_equal(shared_get(run_bitmap_word(run, 64)), UINT64_MAX << 36);
    assert_int_equal(shared_get(run_bitmap_word(run, 128)), UINT64_MAX);
    assert_int_equal(shared_get(&run->free_regions), shape->regions - 100);
    assert_int_equal(bits_of(run, shape->regions), shape->regions - 100);
    bin_flush(heap, self, CLASS_8, 50); /* the oldest: the highest addresses */
    assert_int_equal(shared_get(run_bitmap_word(run, 0)), UINT64_MAX << 50);
    assert_int_equal(shared_get(run_bitmap_word(run, 64)), UINT64_MAX);
    flush(CLASS_8);
    assert_int_equal(bits_of(run, shape->regions), shape->regions);
    assert_int_equal(shared_get(&run->free_regions), shape->regions);
}

static void take_all(uint32_t size_class, void **blocks, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = take_one(0, size_class);
        assert_non_null(blocks[i]);
    }
}

static void give_all(void **blocks, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        give_one(blocks[i]);
    }
}

static int compare_pointers(const void *a, const void *b) {
    uintptr_t left = (uintptr_t) * (void *const *)a;
    uintptr_t right = (uintptr_t) * (void *const *)b;
    return left < right ? -1 : left > right;
}

/* Every region of several runs, once. */
static void test_every_region_is_given_out_once(void **state) {
    (void)state;
    static void *blocks[3 * REGIONS_MAX];
    static void *sorted[3 * REGIONS_MAX];
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct run_shape *shape = sizeclass_run_shape(i);
        uint32_t count = 2 * shape->regions + 1;
        take_all(i, blocks, count);
        memcpy(sorted, blocks, count * sizeof(blocks[0]));
        qsort(sorted, count, sizeof(sorted[0]), compare_pointers);
        for (uint32_t j = 0; j < count; j++) {
            memset(blocks[j], (int)j, shape->region_bytes);
            assert_true(j == 0 || (char *)sorted[j] - (char *)sorted[j - 1] >=
                                      (ptrdiff_t)shape->region_bytes);
        }
        assert_int_equal(shared_get(&bin_of(0, i)->runs), 3);
        struct books books = books_now();
        assert_int_equal(books.report.blocks_live, count);
        assert_int_equal(books.report.bytes_live, (uint64_t)count * shape->region_bytes);
        give_all(blocks, count);
        assert_int_equal(books_now().report.blocks_live, 0);
    }
}

/* ---- which run a pointer is of ---- */

static void test_find_run_knows_every_region(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct run_shape *shape = sizeclass_run_shape(i);
        void *block = take_one(0, i);
        char *start = page_address(heap, page_of_run(block));
        for (uint32_t j = 0; j < shape->pages * PAGE_BYTES; j++) {
            uint32_t page = 0;
            uint32_t index = 0;
            struct run *run = bin_find_run(heap, start + j, &page, &index);
            int is_region =
                j % shape->region_bytes == 0 && j / shape->region_bytes < shape->regions;
            assert_int_equal(run != NULL, is_region);
            if (is_region) {
                assert_int_equal(index, j / shape->region_bytes);
                assert_ptr_equal(page_address(heap, page), start);
            }
        }
        give_one(block);
    }
}

static void test_find_run_of_what_is_no_region(void **state) {
    (void)state;
    uint32_t page;
    int zero;
    void *large = large_alloc(heap, self, 0, SIZE_CLASSES_SMALL, 1, 0, &zero);
    publish_end(self);
    assert_non_null(large);
    assert_null(bin_find_run(heap, large, &page, NULL));
    large_free(heap, self, large, NULL);
    assert_null(bin_find_run(heap, large, &page, NULL));
}

/* ---- where runs are ---- */

static void test_current_full_nonfull(void **state) {
    (void)state;
    const struct run_shape *shape = sizeclass_run_shape(CLASS_4096);
    struct bin *bin = bin_of(0, CLASS_4096);
    void *blocks[64];
    uint32_t count = 3 * shape->regions;
    assert_true(count <= 64);
    take_all(CLASS_4096, blocks, shape->regions - 1);
    assert_int_equal(place_of(blocks[0]), BIN_CURRENT);
    assert_int_equal(shared_get(&bin->current), page_of_run(blocks[0]));
    take_all(CLASS_4096, blocks + shape->regions - 1, 1);
    assert_int_equal(place_of(blocks[0]), BIN_FULL);
    assert_int_equal(shared_get(&bin->current), 0);
    take_all(CLASS_4096, blocks + shape->regions, count - shape->regions);
    assert_int_equal(shared_get(&bin->runs), 3);
    assert_int_equal(tree_audit(bin_tree(heap, bin)), 0); /* full ones are in no place */
    uint32_t second = shape->regions;
    give_one(blocks[second]);
    assert_int_equal(place_of(blocks[second]), BIN_NONFULL);
    give_one(blocks[0]);
    assert_int_equal(place_of(blocks[0]), BIN_NONFULL);
    assert_int_equal(tree_audit(bin_tree(heap, bin)), 2);
    uint32_t page = page_of_run(blocks[0]);
    assert_true(page < page_of_run(blocks[second]));
    assert_ptr_equal(take_one(0, CLASS_4096), blocks[0]); /* the lowest run that has one */
    assert_int_equal(place_of(blocks[0]), BIN_FULL);
    assert_int_equal(tree_audit(bin_tree(heap, bin)), 1);
    assert_ptr_equal(take_one(0, CLASS_4096), blocks[second]);
    (void)books_now();
    give_all(blocks, count);
}

/* The lowest non-full run becomes current when there is none, and stays it until it is full. */
static void test_the_current_run_stays_current(void **state) {
    (void)state;
    uint32_t regions = sizeclass_run_shape(CLASS_4096)->regions;
    struct bin *bin = bin_of(0, CLASS_4096);
    void *blocks[64];
    take_all(CLASS_4096, blocks, 2 * regions);
    for (uint32_t i = 0; i < 2; i++) {
        give_one(blocks[regions + i]);
    }
    assert_ptr_equal(take_one(0, CLASS_4096), blocks[regions]);
    assert_int_equal(shared_get(&bin->current), page_of_run(blocks[regions]));
    give_one(blocks[0]); /* lower, but the other one is current */
    assert_ptr_equal(take_one(0, CLASS_4096), blocks[regions + 1]);
    assert_ptr_equal(take_one(0, CLASS_4096), blocks[0]);
    give_all(blocks, 2 * regions);
}

static void test_empty_runs_leave(void **state) {
    (void)state;
    uint32_t regions = sizeclass_run_shape(CLASS_4096)->regions;
    uint32_t pages = sizeclass_run_shape(CLASS_4096)->pages;
    struct bin *bin = bin_of(0, CLASS_4096);
    void *blocks[64];
    take_all(CLASS_4096, blocks, 2 * regions + 1);
    uint32_t first = page_of_run(blocks[0]);
    assert_int_not_equal(shared_get(&bin->current), 0);
    give_all(blocks, regions); /* the first run */
    assert_int_equal(shared_get(&bin->runs), 2);
    for (uint32_t i = 0; i < pages; i++) {
        assert_int_equal(shared_get(heap_page_map(heap) + first + i), 0);
    }
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    give_one(blocks[2 * regions]); /* the current one */
    assert_int_equal(shared_get(&bin->runs), 1);
    assert_int_equal(shared_get(&bin->current), 0);
    give_all(blocks + regions, regions);
    assert_int_equal(shared_get(&bin->runs), 0);
    assert_int_equal(tree_audit(bin_tree(heap, bin)), 0);
    assert_int_equal(shared_get(&heap_arena(heap, 0)->pages_used), 0);
}

/* A run was fetched, but meanwhile somebody freed a region: that one is taken, and the run goes
 * back. */
static void test_a_run_that_is_not_needed_goes_back(void **state) {
    (void)state;
    uint32_t regions = sizeclass_run_shape(CLASS_4096)->regions;
    struct bin *bin = bin_of(0, CLASS_4096);
    void *blocks[64];
    take_all(CLASS_4096, blocks, regions + 1);
    assert_int_equal(arena_take(heap, self, 0, sizeclass_run_shape(CLASS_4096)->pages, 1), 0);
    assert_int_equal(shared_get(&self->hand.kind), HAND_RUN);
    void *block = take_one(0, CLASS_4096);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_int_equal(shared_get(&bin->runs), 2);
    (void)books_now();
    give_one(block);
    give_all(blocks, regions + 1);
}

/* A run of one region more than fits in a word, or with one region only in its last word. */
static void test_full_run_at_once(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        uint32_t regions = sizeclass_run_shape(i)->regions;
        if (regions > sizeclass_stack_entries(i)) {
            continue;
        }
        assert_int_equal(bin_fill(heap, self, 0, i, regions), regions);
        assert_int_equal(shared_get(&bin_of(0, i)->current), 0);
        assert_int_equal(shared_get(&bin_of(0, i)->runs), 1);
        flush(i);
        assert_int_equal(shared_get(&bin_of(0, i)->runs), 0); /* it was not the current one */
    }
}

/* ---- flushing ---- */

#define MIXED 60u

/* The cache holds blocks of several arenas, in any order, and some of it stays. */
static void test_a_flush_sorts_by_arena(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(arena_bind(heap, self, i), 0);
    }
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t given = 0;
        assert_int_equal(cached(CLASS_4096), 0);
        tcache_flush(heap, self);
        shared_ptr *first = shared_get(&stack_for(CLASS_4096)->bottom);
        for (uint32_t i = 0; i < MIXED; i++) {
            void *block = take_one((uint32_t)(clean_random(&seed) % 4), CLASS_4096);
            shared_store(&first[i], block);
        }
        shared_store(&stack_for(CLASS_4096)->top, first + MIXED);
        for (uint32_t i = 0; i < 4; i++) {
            given += shared_get(&bin_of(i, CLASS_4096)->regions_given);
        }
        uint32_t part = (uint32_t)(clean_random(&seed) % MIXED) + 1;
        void *newest = shared_get(&first[MIXED - 1]);
        bin_flush(heap, self, CLASS_4096, part);
        assert_int_equal(cached(CLASS_4096), MIXED - part);
        assert_true(part == MIXED || shared_get(&first[MIXED - 1]) == newest);
        for (uint32_t i = 0; i < 4; i++) {
            given -= shared_get(&bin_of(i, CLASS_4096)->regions_given);
        }
        assert_int_equal(0 - given, part);
        assert_int_equal(books_now().report.blocks_cached, MIXED - part);
        flush(CLASS_4096);
        assert_int_equal(books_now().report.blocks_cached, 0);
        assert_int_equal(books_now().report.blocks_live, 0);
    }
}

/* All but one are of one arena. */
static void test_a_flush_of_nearly_all(void **state) {
    (void)state;
    uint32_t count = sizeclass_stack_entries(1) - 1;
    assert_int_equal(arena_bind(heap, self, 1), 0);
    shared_ptr *first = shared_get(&stack_for(1)->bottom);
    for (uint32_t i = 0; i < count; i++) {
        void *block = take_one(i == 1, 1);
        shared_store(&first[i], block);
    }
    shared_store(&stack_for(1)->top, first + count);
    bin_flush(heap, self, 1, count - 1);
    assert_int_equal(cached(1), 1);
    assert_int_equal(shared_get(&bin_of(1, 1)->regions_given), 1);
    assert_int_equal(shared_get(&bin_of(0, 1)->regions_given), count - 2);
    flush(1);
}

/* Every region is of another run: each needs journal entries, and its run leaves. */
static void test_a_flush_of_many_runs(void **state) {
    (void)state;
    static void *blocks[16 * 256];
    uint32_t regions = sizeclass_run_shape(9)->regions; /* 160 bytes */
    uint32_t runs = 20;
    assert_true(runs * regions <= sizeof(blocks) / sizeof(blocks[0]));
    take_all(9, blocks, runs * regions);
    shared_ptr *first = shared_get(&stack_for(9)->bottom);
    for (uint32_t i = 0; i < runs; i++) { /* full runs become non-full ... */
        shared_store(&first[i], blocks[i * regions + i % regions]);
        blocks[i * regions + i % regions] = NULL;
    }
    shared_store(&stack_for(9)->top, first + runs);
    flush(9);
    assert_int_equal(tree_audit(bin_tree(heap, bin_of(0, 9))), runs);
    for (uint32_t i = 0; i < runs; i++) {
        for (uint32_t j = 0; j < regions; j++) {
            if (blocks[i * regions + j] != NULL && j != 3) {
                give_one(blocks[i * regions + j]);
            }
        }
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < runs; i++) { /* ... and with the last of each they leave */
        if (blocks[i * regions + 3] != NULL) {
            shared_store(&first[left++], blocks[i * regions + 3]);
        }
    }
    shared_store(&stack_for(9)->bottom, first);
    shared_store(&stack_for(9)->top, first + left);
    flush(9);
    assert_int_equal(shared_get(&bin_of(0, 9)->runs), 0);
}

#define SPREAD 240u

/* However mixed they are, each bin is locked once; what one run gets, it gets at once. */
static void test_a_flush_locks_each_bin_once(void **state) {
    (void)state;
    static void *blocks[SPREAD];
    uint32_t class_64 = sizeclass_of(64);
    uint32_t acquired[2];
    uint64_t seed = 3;
    assert_int_equal(arena_bind(heap, self, 1), 0);
    void *kept[2] = {take_one(0, class_64), take_one(1, class_64)}; /* so that no run is empty */
    for (uint32_t i = 0; i < SPREAD; i++) {
        blocks[i] = take_one(i < SPREAD - 50 ? i % 2 : 1, class_64);
    }
    tcache_flush(heap, self);
    shared_ptr *first = shared_get(&stack_for(class_64)->bottom);
    uint32_t count = 0;
    for (uint32_t i = SPREAD; i > 0; i--) { /* in random order, but one of each run stays out */
        uint32_t other = (uint32_t)(clean_random(&seed) % i);
        void *block = blocks[other];
        blocks[other] = blocks[i - 1];
        blocks[i - 1] = NULL;
        if (((uintptr_t)block & (PAGE_BYTES - 1)) != 0) {
            shared_store(&first[count++], block);
        } else {
            blocks[i - 1] = block;
        }
    }
    shared_store(&stack_for(class_64)->top, first + count);
    for (uint32_t i = 0; i < 2; i++) {
        acquired[i] = (uint32_t)shared_get(&bin_of(i, class_64)->flushes);
    }
    flush(class_64);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(shared_get(&bin_of(i, class_64)->flushes), acquired[i] + 1);
    }
    for (uint32_t i = 0; i < SPREAD; i++) {
        if (blocks[i] != NULL) {
            give_one(blocks[i]);
        }
    }
    give_one(kept[0]);
    give_one(kept[1]);
}

/* ---- no more memory ---- */

static void test_no_memory_for_a_run(void **state) {
    (void)state;
    void *block = take_one(0, 1);
    struct books before = books_now();
    uint32_t pages = sizeclass_run_shape(CLASS_4096)->pages;
    arena_purge(heap, self, 0);
    before = books_now();
    allow_pages(pages - 1);
    assert_refused((int)bin_fill(heap, self, 0, CLASS_4096, 8), 0, "limit");
    assert_int_equal(cached(CLASS_4096), 0);
    assert_refused(take_one(0, CLASS_4096) != NULL, 0, "limit");
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    assert_books_are(&before);
    void *other = take_one(0, 1); /* of the run that is there */
    assert_non_null(other);
    allow_pages(pages);
    assert_true(bin_fill(heap, self, 0, CLASS_4096, 8) >= 1);
    allow_all();
    flush(CLASS_4096);
    give_one(other);
    give_one(block);
}

/* What there is counts, even if it is less than what was wanted. */
static void test_a_fill_may_be_partial(void **state) {
    (void)state;
    uint32_t regions = sizeclass_run_shape(CLASS_4096)->regions;
    void *blocks[64];
    take_all(CLASS_4096, blocks, regions - 1);
    allow_pages(0);
    assert_int_equal(bin_fill(heap, self, 0, CLASS_4096, 8), 1);
    assert_int_equal(cached(CLASS_4096), 1);
    allow_all();
    flush(CLASS_4096);
    give_all(blocks, regions - 1);
}

/* ---- misuse ---- */

struct misdeed {
    char *block;
    size_t offset;
};

static int give_twice(void *arg) {
    const struct misdeed *misdeed = arg;
    struct thread_slot *own = fixture_self();
    bin_give_one(heap, own, misdeed->block);
    bin_give_one(heap, own, misdeed->block);
    return 0;
}

static int give_at_offset(void *arg) {
    const struct misdeed *misdeed = arg;
    bin_give_one(heap, fixture_self(), misdeed->block + misdeed->offset);
    return 0;
}

/* What waits in the cache is looked at when it leaves it. */
static int flush_stack(struct thread_slot *own, void *first, void *second) {
    struct tcache_stack *stack = &slot_tcache(own)->stacks[1 + 1];
    shared_ptr *top = shared_get(&stack->top);
    shared_store(&top[0], first);
    shared_store(&top[1], second);
    shared_store(&stack->top, top + 2);
    bin_flush(heap, own, 1, 2);
    return 0;
}

static int flush_twice(void *arg) {
    const struct misdeed *misdeed = arg;
    return flush_stack(fixture_self(), misdeed->block, misdeed->block);
}

static int flush_at_offset(void *arg) {
    const struct misdeed *misdeed = arg;
    return flush_stack(fixture_self(), misdeed->block + misdeed->offset, misdeed->block);
}

static void test_a_double_free_is_caught(void **state) {
    (void)state;
    struct misdeed misdeed = {take_one(0, 1), 0};
    void *other = take_one(0, 1); /* keeps the run alive */
    struct books before = books_now();
    child_stops(give_twice, &misdeed, "double free of a small block");
    (void)sharena_reap(heap);
    assert_int_equal(books_now().report.blocks_live, before.report.blocks_live - 1);
    misdeed.block = take_one(0, 1);
    uint32_t free_regions = shared_get(&run_of(other)->free_regions);
    child_stops(flush_twice, &misdeed, "double free of a small block");
    assert_int_equal(shared_get(&run_of(other)->free_regions), free_regions + 1); /* the first */
    (void)sharena_reap(heap);
    assert_int_equal(books_now().report.blocks_live, before.report.blocks_live - 1);
    give_one(other);
}

static void test_interior_pointers_are_caught(void **state) {
    (void)state;
    struct misdeed misdeed = {take_one(0, 1), 8};
    struct books before = books_now();
    child_stops(give_at_offset, &misdeed, "not the start of a block");
    (void)sharena_reap(heap);
    assert_books_are(&before);
    misdeed.offset = 1;
    child_stops(flush_at_offset, &misdeed, "not the start of a block");
    (void)sharena_reap(heap); /* the block itself was given rightly, the other one is dropped */
    assert_int_equal(books_now().report.blocks_live, before.report.blocks_live - 1);
    assert_int_equal(books_now().report.blocks_cached, 0);
}

/* ---- misuse that a hook lets pass ---- */

static struct sharena_misuse reported[8];
static unsigned reports;

static int go_on(const struct sharena_misuse *what, void *arg) {
    (void)arg;
    reported[reports++ % 8] = *what;
    return 0;
}

static void assert_reported(unsigned which, int kind, const void *ptr) {
    assert_true(which < reports);
    assert_int_equal(reported[which].kind, kind);
    assert_ptr_equal(reported[which].ptr, ptr);
}

/* What is bad is left out, wherever it stands; all else is given, and counted. */
static void test_a_flush_goes_on_behind_what_is_bad(void **state) {
    (void)state;
    struct bin *bin = bin_of(0, 1);
    shared_ptr *top = shared_get(&stack_for(1)->top);
    struct books before = books_now();
    uint64_t given = shared_get(&bin->regions_given);
    char *blocks[4];
    for (unsigned i = 0; i < 4; i++) {
        blocks[i] = take_one(0, 1);
    }
    char *const flushed[] = {blocks[0] + 1, blocks[0], blocks[1],     blocks[0],
                             blocks[2],     blocks[1], blocks[2] + 3, blocks[3]};
    for (unsigned i = 0; i < 8; i++) {
        shared_store(&top[i], flushed[i]);
    }
    shared_store(&stack_for(1)->top, top + 8);
    reports = 0;
    assert_int_equal(sharena_set_misuse_hook(heap, go_on, NULL), 0);
    bin_flush(heap, self, 1, 8);
    assert_int_equal(sharena_set_misuse_hook(heap, NULL, NULL), 0);
    assert_int_equal(reports, 4);
    assert_reported(0, SHARENA_MISUSE_NOT_A_BLOCK, blocks[0] + 1);
    assert_true(journal_is_empty(self));
    assert_int_equal(shared_get(&bin->regions_given), given + 4);
    assert_int_equal(cached(1), 0);
    assert_int_equal(books_now().report.blocks_live, before.report.blocks_live);
}

static void test_one_that_is_bad_is_left(void **state) {
    (void)state;
    char *block = take_one(0, 1);
    void *other = take_one(0, 1);
    give_one(block);
    struct books before = books_now();
    uint64_t given = shared_get(&bin_of(0, 1)->regions_given);
    reports = 0;
    assert_int_equal(sharena_set_misuse_hook(heap, go_on, NULL), 0);
    publish_begin(self, PENDING_FREE, NULL, block);
    bin_give_one(heap, self, block);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    publish_begin(self, PENDING_FREE, NULL, block + 8);
    bin_give_one(heap, self, block + 8);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_int_equal(sharena_set_misuse_hook(heap, NULL, NULL), 0);
    assert_int_equal(reports, 2);
    assert_reported(0, SHARENA_MISUSE_DOUBLE_FREE, block);
    assert_reported(1, SHARENA_MISUSE_NOT_A_BLOCK, block + 8);
    assert_int_equal(shared_get(&bin_of(0, 1)->regions_given), given);
    assert_books_are(&before);
    give_one(other);
}

/* A stale pointer in the cache of one class, to where a block of another class has begun since. The
 * owner of that block must not lose it, and no bin may get a run of another. */
static int flush_stale(void *arg) {
    const struct misdeed *misdeed = arg;
    return flush_stack(fixture_self(), misdeed->block, misdeed->block);
}

static void test_a_stale_pointer_to_a_block_of_another_class_is_caught(void **state) {
    (void)state;
    uint32_t regions = sizeclass_run_shape(CLASS_4096)->regions;
    void *blocks[64];
    take_all(CLASS_4096, blocks, regions);
    for (uint32_t i = 0; i < 2; i++) { /* its run is full, and then it is not */
        struct misdeed misdeed = {blocks[0], 0};
        struct books before = books_now();
        child_stops(flush_stale, &misdeed, "not the start of a block");
        (void)sharena_reap(heap);
        assert_books_are(&before);
        assert_int_equal(tree_audit(bin_tree(heap, bin_of(0, 1))), 0);
        give_one(blocks[1 + i]);
    }
    give_one(blocks[0]);
    give_all(blocks + 3, regions - 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bin(test_a_fill_pops_in_ascending_order),
        with_bin(test_the_bitmap_word_by_word),
        with_bin(test_every_region_is_given_out_once),
        with_bin(test_find_run_knows_every_region),
        with_bin(test_find_run_of_what_is_no_region),
        with_bin(test_current_full_nonfull),
        with_bin(test_the_current_run_stays_current),
        with_bin(test_empty_runs_leave),
        with_bin(test_a_run_that_is_not_needed_goes_back),
        with_bin(test_full_run_at_once),
        with_bin(test_a_flush_sorts_by_arena),
        with_bin(test_a_flush_of_nearly_all),
        with_bin(test_a_flush_locks_each_bin_once),
        with_bin(test_a_flush_of_many_runs),
        with_bin(test_no_memory_for_a_run),
        with_bin(test_a_fill_may_be_partial),
        with_bin(test_a_double_free_is_caught),
        with_bin(test_a_flush_goes_on_behind_what_is_bad),
        with_bin(test_one_that_is_bad_is_left),
        with_bin(test_interior_pointers_are_caught),
        with_bin(test_a_stale_pointer_to_a_block_of_another_class_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
