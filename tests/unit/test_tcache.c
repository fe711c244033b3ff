/* ctest: inprocess */
/* test_tcache.c -- a thread's stacks: what they hold, what they give up, and nothing is lost. */
#include "heap/tcache.h"

#include <pthread.h>

#include "heap/bin.h"
#include "heap/census.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "heap/publish.h"
#include "heap_parts.h"

#define CLASS_64 4u
#define CLASS_16K SIZE_CLASSES_SMALL
#define GC_TICKS 64u

static sharena_t *heap;
static struct thread_slot *self;
static struct tcache *tcache;
static struct conf conf; /* of the test */

static int open_cache(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    tcache = slot_tcache(self);
    conf = fixture_attachment()->conf;
    return error;
}

#define with_cache(f) cmocka_unit_test_setup_teardown(f, open_cache, heap_fixture_close)

static struct tcache_stack *stack_for(uint32_t size_class) {
    return &tcache->stacks[size_class + 1];
}

static uint32_t count_of(uint32_t size_class) {
    return stack_count(stack_for(size_class));
}

static uint32_t capacity_of(uint32_t size_class) {
    return stack_capacity(tcache, size_class + 1);
}

static shared_ptr *storage_of(uint32_t size_class) {
    return &tcache->storage[sizeclass_stack_first(size_class)];
}

static void *pop(uint32_t size_class) {
    assert_true(count_of(size_class) > 0);
    return tcache_pop(stack_for(size_class));
}

/* The fast path of free. */
static void push(uint32_t size_class, void *block) {
    struct tcache_stack *stack = stack_for(size_class);
    shared_ptr *top = shared_get(&stack->top);
    assert_true(top != (shared_ptr *)shared_get(&stack->full));
    shared_store(top, block);
    shared_store(&stack->top, top + 1);
}

/* The stack has room for that many: it runs dry and full until it has, and is empty then. */
static void grow_to(uint32_t size_class, uint32_t capacity) {
    void *blocks[64];
    assert_true(capacity < 64);
    while (capacity_of(size_class) < capacity) {
        uint32_t before = capacity_of(size_class);
        for (uint32_t i = 0; i <= before; i++) {
            blocks[i] = sharena_malloc(heap, sizeclass_bytes(size_class));
        }
        for (uint32_t i = 0; i <= before; i++) {
            sharena_free(heap, blocks[i]);
        }
        tcache_flush(heap, self);
        assert_true(capacity_of(size_class) > before);
    }
}

/* A block past the cache, and back: the GC does not see it. */
static void *take(uint32_t size_class) {
    uint64_t dirty;
    int zero;
    void *block = size_class < SIZE_CLASSES_SMALL ? bin_take_one(heap, self, 0, size_class)
                  : size_class < SIZE_CLASSES_LARGE_END
                      ? large_alloc(heap, self, 0, size_class, 1, 0, &zero)
                      : huge_alloc(heap, self, size_class, 1, &dirty);
    assert_non_null(block);
    publish_end(self);
    return block;
}

static void give(void *block) {
    publish_begin(self, PENDING_FREE, NULL, block);
    publish_give_back(heap, self, block);
    publish_end(self);
}

static void reopen(void) {
    tcache_flush(heap, self);
    tcache_open(heap, self, &conf);
}

/* ---- capacity ---- */

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static void assert_capacities(void) {
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        uint32_t expected = 0; /* large classes begin with none */
        if (i < SIZE_CLASSES_SMALL) {
            expected = 2 * sizeclass_run_shape(i)->regions;
            expected =
                expected < conf.tcache_nslots_small_min ? conf.tcache_nslots_small_min : expected;
            expected = min_u32(expected, conf.tcache_nslots_small_max);
        }
        expected = min_u32(expected, sizeclass_stack_entries(i));
        if (!conf.tcache || sizeclass_bytes(i) > (size_t)1 << conf.lg_tcache_max) {
            expected = 0;
        }
        assert_int_equal(capacity_of(i), expected);
        assert_int_equal(count_of(i), 0);
        assert_ptr_equal(shared_get(&stack_for(i)->base), shared_get(&stack_for(i)->bottom));
        assert_ptr_equal(shared_get(&stack_for(i)->bottom), storage_of(i));
    }
    const struct tcache_stack *none = &tcache->stacks[0];
    const struct tcache_stack *uncached = &tcache->stacks[TCACHE_UNCACHED];
    assert_ptr_equal(shared_get(&none->top), shared_get(&none->base));
    assert_ptr_equal(shared_get(&none->top), shared_get(&none->full));
    assert_ptr_equal(shared_get(&uncached->top), shared_get(&uncached->base));
    assert_ptr_equal(shared_get(&uncached->top), shared_get(&uncached->full));
    assert_int_equal(stack_capacity(tcache, 0), 0);
    assert_int_equal(stack_capacity(tcache, TCACHE_UNCACHED), 0);
}

static void test_capacity_by_the_configuration(void **state) {
    (void)state;
    const struct {
        uint32_t lg_max, small_min, small_max, large;
    } table[] = {{15, 20, 200, 20}, {12, 1, 1, 1},       {22, 4096, 4096, 4096}, {14, 50, 60, 3},
                 {22, 60, 50, 8},   {13, 1, 4096, 4096}, {17, 3, 7, 2}};
    assert_capacities(); /* as it was opened */
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        conf.lg_tcache_max = table[i].lg_max;
        conf.tcache_nslots_small_min = table[i].small_min;
        conf.tcache_nslots_small_max = table[i].small_max;
        conf.tcache_nslots_large = table[i].large;
        reopen();
        assert_capacities();
    }
    conf.tcache = 0;
    reopen();
    assert_capacities();
}

static void test_disable_and_enable(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        sharena_free(heap, sharena_malloc(heap, 100u << i));
    }
    assert_true(books_now().report.blocks_cached > 0);
    tcache_enable(heap, self, &conf, 0);
    assert_int_equal(books_now().report.blocks_cached, 0);
    conf.tcache = 0;
    assert_capacities();
    void *block = sharena_malloc(heap, 100); /* goes past the cache now */
    assert_non_null(block);
    sharena_free(heap, block);
    assert_int_equal(books_now().report.blocks_cached, 0);
    assert_int_equal(books_now().report.blocks_live, 0);
    tcache_enable(heap, self, &conf, 1);
    conf.tcache = 1;
    assert_capacities();
    sharena_free(heap, sharena_malloc(heap, 100));
    assert_true(books_now().report.blocks_cached > 0);
}

/* ---- filling ---- */

static void test_a_refill_takes_a_part_of_the_capacity(void **state) {
    (void)state;
    conf.tcache_bytes = 0;
    reopen();
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        uint32_t capacity = capacity_of(i);
        for (uint32_t lg = 1; lg <= 3; lg++) {
            uint32_t want = capacity >> lg != 0 ? capacity >> lg : 1;
            shared_store(&tcache->lg_divisor[i + 1], lg);
            assert_int_equal(tcache_refill(heap, self, i), 1);
            assert_in_range(count_of(i), 1, want);
            assert_true(count_of(i) == want || sizeclass_run_shape(i)->regions < want);
            assert_int_equal(shared_get(&tcache->low_water[i + 1]), 1);
            tcache_flush(heap, self);
        }
    }
}

static void test_large_classes_are_not_filled(void **state) {
    (void)state;
    grow_to(CLASS_16K, 4);
    assert_int_equal(tcache_refill(heap, self, CLASS_16K), 0);
    assert_int_equal(count_of(CLASS_16K), 0);
    assert_int_equal(tcache_refill(heap, self, SIZE_CLASSES_CACHED - 1), 0); /* not cached */
    tcache_enable(heap, self, &conf, 0);
    assert_int_equal(tcache_refill(heap, self, 0), 0);
}

static void test_a_refill_without_memory(void **state) {
    (void)state;
    void *block = take(SIZE_CLASSES_SMALL - 6);
    allow_pages(0);
    sharena_purge(heap);
    allow_pages(0);
    (void)error_set(0, "%s", "");
    assert_int_equal(tcache_refill(heap, self, SIZE_CLASSES_SMALL - 1), -1);
    assert_says("limit");
    assert_int_equal(count_of(SIZE_CLASSES_SMALL - 1), 0);
    allow_all();
    sharena_free(heap, block);
}

/* ---- making room ---- */

/* The oldest half goes, what is left keeps its order below the new block. */
static void test_a_full_stack_gives_its_older_half_back(void **state) {
    (void)state;
    const uint32_t capacities[] = {1, 2, 3, 20, 21, 200};
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        void *blocks[201];
        conf.tcache_nslots_small_min = 1;
        conf.tcache_nslots_small_max = capacities[i];
        conf.tcache_bytes = 0;
        reopen();
        uint32_t capacity = capacity_of(CLASS_64);
        assert_int_equal(capacity, min_u32(capacities[i], 128));
        for (uint32_t j = 0; j <= capacity; j++) {
            blocks[j] = take(CLASS_64);
        }
        for (uint32_t j = 0; j < capacity; j++) {
            push(CLASS_64, blocks[j]);
        }
        uint32_t flushed = (capacity + 1) / 2;
        assert_int_equal(tcache_push_slow(heap, self, CLASS_64 + 1, blocks[capacity]), 1);
        assert_int_equal(count_of(CLASS_64), capacity - flushed + 1);
        assert_int_equal(books_now().report.blocks_cached, capacity - flushed + 1);
        assert_int_equal(books_now().report.blocks_live, 0);
        assert_ptr_equal(shared_get(&stack_for(CLASS_64)->bottom), storage_of(CLASS_64));
        for (uint32_t j = capacity; j >= flushed && j <= capacity; j--) {
            void *block = pop(CLASS_64);
            assert_ptr_equal(block, blocks[j]);
            give(block);
        }
        assert_int_equal(count_of(CLASS_64), 0);
    }
}

/* The stack lies in the upper part of its storage: it moves down, and nothing is lost. */
static void test_compaction_keeps_all_blocks(void **state) {
    (void)state;
    uint32_t capacity = capacity_of(CLASS_64);
    assert_true(capacity >= 16);
    for (uint32_t gone = capacity / 2; gone < capacity; gone++) {
        void *before[256];
        void *after[256];
        for (uint32_t i = 0; i < capacity; i++) {
            push(CLASS_64, take(CLASS_64));
        }
        /* from the bottom, as a flush that was killed before it could move the rest has left it */
        for (uint32_t i = 0; i < gone; i++) {
            void *oldest = shared_get((shared_ptr *)shared_get(&stack_for(CLASS_64)->bottom));
            shared_store(&stack_for(CLASS_64)->bottom,
                         (shared_ptr *)shared_get(&stack_for(CLASS_64)->bottom) + 1);
            give(oldest);
        }
        uint32_t left = capacity - gone;
        memcpy(before, shared_get(&stack_for(CLASS_64)->bottom), left * sizeof(before[0]));
        before[left] = take(CLASS_64);
        assert_int_equal(tcache_push_slow(heap, self, CLASS_64 + 1, before[left]), 1);
        assert_int_equal(count_of(CLASS_64), left + 1);
        assert_ptr_equal(shared_get(&stack_for(CLASS_64)->bottom), storage_of(CLASS_64));
        assert_ptr_equal(shared_get(&stack_for(CLASS_64)->base), storage_of(CLASS_64));
        memcpy(after, storage_of(CLASS_64), (left + 1) * sizeof(after[0]));
        assert_memory_equal(before, after, (left + 1) * sizeof(after[0]));
        tcache_flush(heap, self);
        assert_int_equal(books_now().report.blocks_live, 0);
    }
}

/* What is unused is too small to move into: the older half goes first. */
static void test_a_stack_that_cannot_move_yet(void **state) {
    (void)state;
    conf.tcache_bytes = 0;
    reopen();
    uint32_t capacity = capacity_of(CLASS_64);
    for (uint32_t i = 0; i < capacity; i++) {
        push(CLASS_64, take(CLASS_64));
    }
    bin_flush(heap, self, CLASS_64, 3);
    assert_ptr_equal(shared_get(&stack_for(CLASS_64)->bottom), storage_of(CLASS_64) + 3);
    void *newest = take(CLASS_64);
    assert_int_equal(tcache_push_slow(heap, self, CLASS_64 + 1, newest), 1);
    assert_int_equal(count_of(CLASS_64), (capacity - 3) - (capacity - 2) / 2 + 1);
    assert_ptr_equal(shared_get(&stack_for(CLASS_64)->bottom), storage_of(CLASS_64));
    assert_ptr_equal(pop(CLASS_64), newest);
    give(newest);
}

static void test_classes_without_a_cache_take_nothing(void **state) {
    (void)state;
    void *block = take(SIZE_CLASSES_CACHED + 3);
    assert_int_equal(tcache_push_slow(heap, self, TCACHE_UNCACHED, block), 0);
    assert_int_equal(tcache_push_slow(heap, self, 0, block), 0);
    assert_int_equal(tcache_push_slow(heap, self, SIZE_CLASSES_CACHED, block), 0);
    sharena_free(heap, block);
}

static void test_flush_gives_all_classes_back(void **state) {
    (void)state;
    conf.tcache_bytes = 1u << 30;
    reopen();
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        grow_to(i, sizeclass_grown_entries(i) < 3 ? 2 : 3);
    }
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        for (uint32_t j = 0; j < 2; j++) {
            push(i, take(i));
        }
    }
    struct books books = books_now();
    assert_int_equal(books.report.blocks_cached, 2 * SIZE_CLASSES_CACHED);
    assert_int_equal(books.report.blocks_live, 0);
    tcache_flush(heap, self);
    books = books_now();
    assert_int_equal(books.report.blocks_cached, 0);
    assert_int_equal(books.report.blocks_live, 0);
    assert_int_equal(books.report.pages_dirty + heap_arena(heap, 0)->pages_used.value_,
                     books.report.pages_backed);
}

/* One step for that class: the GC looks at one class after the other. */
static void gc_round_to(uint32_t size_class) {
    do {
        for (uint32_t i = 0; i < GC_TICKS; i++) {
            tcache_tick(heap, self);
        }
    } while (shared_get(&tcache->gc_class) != size_class + 1);
}

/* ---- growing ---- */

static void *room[20000];

/* Takes that many blocks out of the cache, and frees them into it. */
static void breathe(uint32_t size_class, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        room[i] = sharena_malloc(heap, sizeclass_bytes(size_class));
        assert_non_null(room[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        sharena_free(heap, room[i]);
    }
}

static int is_moved(uint32_t size_class) {
    struct stack_home home = tcache_home(heap, self, size_class + 1, 1);
    return shared_get(&tcache->first[size_class + 1]) == (void *)home.first;
}

static void assert_budget(void) {
    uint64_t grown = 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        const shared_ptr *first = shared_get(&tcache->first[i + 1]);
        grown +=
            (uint64_t)(capacity_of(i) - shared_get(&tcache->least[i + 1])) * sizeclass_bytes(i);
        assert_ptr_equal(shared_get(&stack_for(i)->full), first + capacity_of(i));
    }
    assert_int_equal(shared_get(&tcache->grown_bytes), grown);
    assert_in_range(grown, 0, shared_get(&tcache->grown_most));
}

/* Twice the room each time that the stack was full, empty and full again, and up to a batch's size
 * sooner; it moves when its place in the slot is too small, and holds the same blocks then. */
static void test_a_stack_grows_to_what_is_needed(void **state) {
    (void)state;
    uint32_t before = capacity_of(CLASS_64);
    for (uint32_t rounds = 0; rounds < 12; rounds++) {
        breathe(CLASS_64, 10000);
        assert_true(capacity_of(CLASS_64) <= (before < 2048 ? 4096 : 2 * before));
        assert_true(capacity_of(CLASS_64) > sizeclass_stack_entries(CLASS_64) ||
                    !is_moved(CLASS_64));
        before = capacity_of(CLASS_64);
        assert_budget();
    }
    assert_true(is_moved(CLASS_64));
    assert_in_range(before, 10000, 16384);
    assert_true(count_of(CLASS_64) >= 10000);
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(books_now().report.blocks_cached, count_of(CLASS_64));
    for (uint32_t i = 10000; i-- > 0;) { /* as they came, the last one first */
        assert_ptr_equal(pop(CLASS_64), room[i]);
        push(CLASS_64, room[i]);
        assert_ptr_equal(pop(CLASS_64), room[i]);
        give(room[i]);
    }
}

/* What a stack grew by is in the statistics, and goes when everything is given back. */
static void test_a_purge_takes_what_a_stack_grew_by(void **state) {
    (void)state;
    assert_int_equal(tcache_grown_bytes(self), 0);
    for (uint32_t rounds = 0; rounds < 12; rounds++) {
        breathe(CLASS_64, 10000);
    }
    assert_true(is_moved(CLASS_64));
    assert_int_equal(tcache_grown_bytes(self),
                     round_up(capacity_of(CLASS_64) * sizeof(void *), PAGE_BYTES));
    uint64_t fixed = census_fixed_bytes(heap);
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(tcache_grown_bytes(self), 0);
    assert_in_range(fixed - census_fixed_bytes(heap), 10000 * sizeof(void *), 1 << 20);
    assert_false(is_moved(CLASS_64));
    assert_budget();
    breathe(CLASS_64, 10000); /* the storage is taken anew */
    assert_int_equal(books_now().report.blocks_live, 0);
}

/* Who only frees gains by big batches, but what it holds is needed elsewhere. */
static void test_a_stack_that_never_runs_dry_grows_little(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        room[i] = take(CLASS_64);
    }
    sharena_free_batch(heap, 5000, room);
    assert_int_equal(capacity_of(CLASS_64), 2048); /* 128 KiB */
    assert_in_range(count_of(CLASS_64), 1, 2048);
    for (uint32_t i = 0; i < 10; i++) {
        room[i] = take(CLASS_16K);
    }
    sharena_free_batch(heap, 10, room);
    assert_int_equal(capacity_of(CLASS_16K), 0);
    assert_int_equal(count_of(CLASS_16K), 0);
}

/* The same of who only takes: each fill is twice as big, up to half of that. */
static void test_a_stack_that_only_runs_dry_grows_little(void **state) {
    (void)state;
    uint32_t capacity = capacity_of(CLASS_64);
    room[0] = sharena_malloc(heap, 64);
    assert_int_equal(capacity_of(CLASS_64), capacity); /* the first time says nothing */
    for (uint32_t i = 1; i < 20000; i++) {
        room[i] = sharena_malloc(heap, 64);
    }
    assert_int_equal(capacity_of(CLASS_64), 2048);
    assert_budget();
    for (uint32_t i = 0; i < 20000; i++) {
        give(room[i]);
    }
    shared_store(&tcache->low_water[CLASS_64 + 1], 1u);
    gc_round_to(CLASS_64);
    assert_int_equal(capacity_of(CLASS_64), 2048); /* it ran dry since the last step */
    for (uint32_t i = 0; i < 60; i++) {
        gc_round_to(CLASS_64);
    }
    assert_int_equal(capacity_of(CLASS_64), capacity);
}

static void test_growth_ends_with_the_budget(void **state) {
    (void)state;
    const uint32_t class_4m = SIZE_CLASSES_CACHED - 1;
    const size_t budgets[] = {0, 100, 5000, 300000, 5 << 20};
    for (size_t i = 0; i < sizeof(budgets) / sizeof(budgets[0]); i++) {
        conf.tcache_bytes = (uint32_t)budgets[i];
        reopen();
        for (uint32_t rounds = 0; rounds < 20; rounds++) {
            breathe(CLASS_64, 4000);
            breathe(CLASS_16K, 30);
            breathe(class_4m, 1);
            assert_budget();
        }
        assert_int_equal(shared_get(&tcache->grown_most), budgets[i]);
        assert_true(capacity_of(CLASS_16K) <= conf.tcache_nslots_large);
        assert_true(budgets[i] != 0 || shared_get(&tcache->grown_bytes) == 0);
        assert_true(budgets[i] < 4 << 20 || capacity_of(CLASS_16K) + capacity_of(class_4m) > 0);
    }
}

/* What one class no longer needs goes to another that does. */
static void test_growth_moves_between_classes(void **state) {
    (void)state;
    const uint32_t class_1k = sizeclass_of(1024);
    conf.tcache_bytes = 1 << 20;
    reopen();
    for (uint32_t rounds = 0; rounds < 8; rounds++) {
        breathe(class_1k, 1200);
    }
    const uint32_t most = capacity_of(class_1k);
    assert_in_range(shared_get(&tcache->grown_bytes), (1 << 20) - 2048, 1 << 20);
    for (uint32_t rounds = 0; rounds < 60; rounds++) {
        breathe(CLASS_64, 10000);
    }
    assert_true(capacity_of(CLASS_64) >= 10000);
    assert_true(capacity_of(class_1k) < most);
    assert_budget();
}

static void test_a_limit_is_not_spent_on_caches(void **state) {
    (void)state;
    set_limit_pages(1024);
    reopen();
    assert_int_equal(shared_get(&tcache->grown_most), 1024 * PAGE_BYTES / 16);
    allow_all();
    reopen();
    assert_int_equal(shared_get(&tcache->grown_most), conf.tcache_bytes);
}

/* The file system is full: the stack stays as it is, and nothing is lost. */
static void test_a_stack_that_cannot_be_backed_does_not_grow(void **state) {
    (void)state;
    struct stack_home home = tcache_home(heap, self, CLASS_64 + 1, 1);
    refuse_storage(home.first, 1);
    for (uint32_t rounds = 0; rounds < 8; rounds++) {
        breathe(CLASS_64, 2000);
    }
    assert_int_equal(capacity_of(CLASS_64), sizeclass_stack_entries(CLASS_64));
    assert_false(is_moved(CLASS_64));
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_budget();
    grant_storage(home.first, 1);
    breathe(CLASS_64, 2000);
    breathe(CLASS_64, 2000);
    assert_true(is_moved(CLASS_64));
}

/* ---- the GC ---- */

static uint32_t mark_of(uint32_t size_class) {
    return (uint32_t)((shared_ptr *)shared_get(&stack_for(size_class)->base) -
                      (shared_ptr *)shared_get(&stack_for(size_class)->bottom));
}

static void test_the_gc_comes_to_every_class(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2 * SIZE_CLASSES_CACHED; i++) {
        for (uint32_t j = 1; j < GC_TICKS; j++) {
            uint32_t before = shared_get(&tcache->gc_class);
            tcache_tick(heap, self);
            assert_int_equal(shared_get(&tcache->gc_class), before);
        }
        tcache_tick(heap, self);
        assert_int_equal(shared_get(&tcache->gc_class), i % SIZE_CLASSES_CACHED + 1);
    }
}

static void test_the_gc_flushes_what_was_not_used(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 40; i++) {
        push(CLASS_64, take(CLASS_64));
    }
    gc_round_to(CLASS_64);
    assert_int_equal(count_of(CLASS_64), 40); /* it has just begun to look */
    assert_int_equal(mark_of(CLASS_64), 40);
    uint32_t divisor = shared_get(&tcache->lg_divisor[CLASS_64 + 1]);
    gc_round_to(CLASS_64);
    assert_int_equal(count_of(CLASS_64), 10); /* a quarter stays */
    assert_int_equal(mark_of(CLASS_64), 10);
    assert_int_equal(shared_get(&tcache->lg_divisor[CLASS_64 + 1]), divisor + 1);
    assert_int_equal(books_now().report.blocks_cached, 10);
    for (uint32_t i = 0; i < 20; i++) { /* in the end nothing stays, and fills stay possible */
        gc_round_to(CLASS_64);
        push(CLASS_64, take(CLASS_64));
    }
    gc_round_to(CLASS_64);
    gc_round_to(CLASS_64);
    assert_int_equal(count_of(CLASS_64), 0);
    assert_true(capacity_of(CLASS_64) >> shared_get(&tcache->lg_divisor[CLASS_64 + 1]) >= 1);
    assert_int_equal(tcache_refill(heap, self, CLASS_64), 1);
}

/* A pop at the mark takes the slow path once, and lowers it by half: what was used stays. */
static void test_the_mark_sinks_with_use(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 40; i++) {
        push(CLASS_64, take(CLASS_64));
    }
    gc_round_to(CLASS_64);
    assert_ptr_equal(shared_get(&stack_for(CLASS_64)->top), shared_get(&stack_for(CLASS_64)->base));
    assert_int_equal(tcache_refill(heap, self, CLASS_64), 1);
    assert_int_equal(count_of(CLASS_64), 40); /* nothing was fetched */
    assert_int_equal(mark_of(CLASS_64), 20);
    for (uint32_t i = 0; i < 5; i++) {
        give(pop(CLASS_64));
    }
    gc_round_to(CLASS_64); /* 20 were not used */
    assert_int_equal(count_of(CLASS_64), 35 - 15);
    for (uint32_t left = 20; left > 0; left--) { /* down to the last one, without a fill */
        if (shared_get(&stack_for(CLASS_64)->top) == shared_get(&stack_for(CLASS_64)->base)) {
            assert_int_equal(tcache_refill(heap, self, CLASS_64), 1);
            assert_true(mark_of(CLASS_64) < left);
        }
        assert_int_equal(count_of(CLASS_64), left);
        give(pop(CLASS_64));
    }
}

/* A stack that runs dry is filled with more. */
static void test_fills_grow_where_the_cache_runs_dry(void **state) {
    (void)state;
    shared_u32 *divisor = &tcache->lg_divisor[CLASS_64 + 1];
    shared_store(divisor, 3u);
    for (uint32_t expected = 2; expected >= 1; expected--) {
        assert_int_equal(tcache_refill(heap, self, CLASS_64), 1);
        tcache_flush(heap, self);
        gc_round_to(CLASS_64);
        assert_int_equal(shared_get(divisor), expected);
    }
    assert_int_equal(tcache_refill(heap, self, CLASS_64), 1);
    tcache_flush(heap, self);
    gc_round_to(CLASS_64);
    assert_int_equal(shared_get(divisor), 1); /* half of the capacity is the most */
    gc_round_to(CLASS_64);
    assert_int_equal(shared_get(divisor), 1);
}

static void test_the_gc_of_large_blocks(void **state) {
    (void)state;
    grow_to(CLASS_16K, 8);
    for (uint32_t i = 0; i < 8; i++) {
        push(CLASS_16K, take(CLASS_16K));
    }
    gc_round_to(CLASS_16K);
    gc_round_to(CLASS_16K);
    assert_int_equal(count_of(CLASS_16K), 2);
    assert_int_equal(books_now().report.blocks_cached, 2);
}

/* Room that was not needed goes back, a quarter each time; what was needed stays. */
static void test_the_gc_takes_room_back(void **state) {
    (void)state;
    for (uint32_t rounds = 0; rounds < 12; rounds++) {
        breathe(CLASS_64, 5000);
    }
    uint32_t grown = capacity_of(CLASS_64);
    shared_store(&tcache->demand[CLASS_64 + 1], TCACHE_RAN_FULL);
    gc_round_to(CLASS_64);
    assert_int_equal(capacity_of(CLASS_64), grown); /* it ran full since the last step */
    gc_round_to(CLASS_64);
    assert_true(capacity_of(CLASS_64) < grown);
    assert_true(capacity_of(CLASS_64) >= count_of(CLASS_64));
    for (uint32_t i = 0; i < 60; i++) {
        gc_round_to(CLASS_64);
        assert_budget();
    }
    assert_int_equal(capacity_of(CLASS_64), shared_get(&tcache->least[CLASS_64 + 1]));
    assert_int_equal(shared_get(&tcache->grown_bytes), 0);
    breathe(CLASS_64, 100);
    assert_int_equal(books_now().report.blocks_live, 0);
}

/* ---- ownership, over all layers ---- */

#define BLOCKS 256u
#define STEPS 200000u

struct stamped {
    unsigned char *block;
    size_t size;
    uint64_t seed;
};

/* All of a small block, the ends of a larger one. */
static void stamp(const struct stamped *it) {
    if (it->size <= 512) {
        clean_fill(it->block, it->size, it->seed);
    } else {
        clean_fill(it->block, 256, it->seed);
        clean_fill(it->block + it->size - 256, 256, it->seed + it->size);
    }
}

/* What of the first `kept` bytes was stamped is as it was. */
static int is_stamped(const struct stamped *it, size_t kept) {
    size_t front = it->size <= 512 ? it->size : 256;
    front = front < kept ? front : kept;
    if (clean_compare(it->block, front, it->seed) != front) {
        return 0;
    }
    return it->size <= 512 || kept < it->size ||
           clean_compare(it->block + it->size - 256, 256, it->seed + it->size) == 256;
}

/* Every class is as likely as every other, but for the huge ones. */
static size_t random_size(uint64_t *seed) {
    uint32_t size_class = (uint32_t)(clean_random(seed) % SIZE_CLASSES_LARGE_END);
    if (size_class > SIZE_CLASSES_SMALL && clean_random(seed) % 4 != 0) {
        size_class %= SIZE_CLASSES_SMALL;
    }
    if (clean_random(seed) % 1000 == 0) {
        size_class = SIZE_CLASSES_LARGE_END + (uint32_t)(clean_random(seed) % 8);
    }
    size_t bytes = sizeclass_bytes(size_class);
    return bytes - clean_random(seed) % (bytes / 8 + 1);
}

static void make_block(struct stamped *it, uint64_t *seed) {
    it->size = random_size(seed);
    it->seed = clean_random(seed);
    if (clean_random(seed) % 8 == 0) {
        it->block = sharena_calloc(heap, 1, it->size);
        assert_true(clean_is_zero(it->block, it->size));
    } else if (clean_random(seed) % 16 == 0) {
        size_t align = (size_t)1 << clean_random(seed) % 15;
        it->block = sharena_aligned_alloc(heap, align, it->size);
        assert_int_equal((uintptr_t)it->block % align, 0);
    } else {
        it->block = sharena_malloc(heap, it->size);
    }
    assert_non_null(it->block);
    stamp(it);
}

static void resize_block(struct stamped *it, uint64_t *seed) {
    size_t size = random_size(seed);
    unsigned char *block = sharena_realloc(heap, it->block, size);
    assert_non_null(block);
    it->block = block;
    assert_true(is_stamped(it, size < it->size ? size : it->size));
    it->size = size;
    stamp(it);
}

static void free_block(struct stamped *it, uint64_t *seed) {
    assert_true(is_stamped(it, it->size));
    if (clean_random(seed) % 8 == 0) {
        sharena_dallocx(heap, it->block, SHARENA_TCACHE_NONE);
    } else {
        sharena_free(heap, it->block);
    }
    it->block = NULL;
}

static void assert_live(const struct stamped *all) {
    uint64_t live = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        live += all[i].block != NULL;
        assert_true(all[i].block == NULL || is_stamped(&all[i], all[i].size));
    }
    assert_int_equal(books_now().report.blocks_live, live);
}

static void test_every_block_has_one_owner(void **state) {
    (void)state;
    static struct stamped all[BLOCKS];
    uint64_t seed = 11;
    memset(all, 0, sizeof(all));
    for (uint32_t step = 0; step < STEPS; step++) {
        struct stamped *it = &all[clean_random(&seed) % BLOCKS];
        if (it->block == NULL) {
            make_block(it, &seed);
        } else if (clean_random(&seed) % 4 == 0) {
            resize_block(it, &seed);
        } else {
            free_block(it, &seed);
        }
        if (step % (STEPS / 8) == 0) {
            assert_live(all);
            assert_int_equal(sharena_purge(heap), 0);
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (all[i].block != NULL) {
            free_block(&all[i], &seed);
        }
    }
    assert_live(all);
}

#define THREADS 3u
#define EXCHANGE 64u
#define THREAD_STEPS 20000u

/* Blocks that threads hand to each other: a block begins with its own size and seed. */
static void *exchange[EXCHANGE];

struct header {
    uint64_t size;
    uint64_t seed;
};

static int free_exchanged(unsigned char *block) {
    struct header header;
    memcpy(&header, block, sizeof(header));
    size_t body = header.size - sizeof(header);
    int is_whole = clean_compare(block + sizeof(header), body, header.seed) == body;
    memset(block, 0xdd, header.size);
    sharena_free(heap, block);
    return is_whole;
}

/* The number of blocks that were not as their maker had left them. */
static void *exchange_blocks(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    uint64_t broken = 0;
    for (uint32_t i = 0; i < THREAD_STEPS; i++) {
        struct header header = {random_size(&seed) % 5000 + sizeof(header), clean_random(&seed)};
        unsigned char *block = sharena_malloc(heap, header.size);
        if (block != NULL) {
            memcpy(block, &header, sizeof(header));
            clean_fill(block + sizeof(header), header.size - sizeof(header), header.seed);
        }
        void **place = &exchange[clean_random(&seed) % EXCHANGE];
        block = __atomic_exchange_n(place, block, __ATOMIC_ACQ_REL);
        broken += block != NULL && !free_exchanged(block);
    }
    return (void *)(uintptr_t)broken;
}

static void test_blocks_may_be_freed_by_other_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, exchange_blocks, (void *)(i + 20)), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        void *broken = &threads;
        assert_int_equal(pthread_join(threads[i], &broken), 0);
        assert_null(broken);
    }
    for (uint32_t i = 0; i < EXCHANGE; i++) {
        assert_true(exchange[i] == NULL || free_exchanged(exchange[i]));
        exchange[i] = NULL;
    }
    tcache_flush(heap, self);
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(books_now().report.blocks_cached, 0); /* the threads took theirs along */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_cache(test_capacity_by_the_configuration),
        with_cache(test_disable_and_enable),
        with_cache(test_a_refill_takes_a_part_of_the_capacity),
        with_cache(test_large_classes_are_not_filled),
        with_cache(test_a_refill_without_memory),
        with_cache(test_a_full_stack_gives_its_older_half_back),
        with_cache(test_compaction_keeps_all_blocks),
        with_cache(test_a_stack_that_cannot_move_yet),
        with_cache(test_classes_without_a_cache_take_nothing),
        with_cache(test_flush_gives_all_classes_back),
        with_cache(test_a_stack_grows_to_what_is_needed),
        with_cache(test_a_purge_takes_what_a_stack_grew_by),
        with_cache(test_a_stack_that_never_runs_dry_grows_little),
        with_cache(test_a_stack_that_only_runs_dry_grows_little),
        with_cache(test_growth_ends_with_the_budget),
        with_cache(test_growth_moves_between_classes),
        with_cache(test_a_limit_is_not_spent_on_caches),
        with_cache(test_a_stack_that_cannot_be_backed_does_not_grow),
        with_cache(test_the_gc_comes_to_every_class),
        with_cache(test_the_gc_flushes_what_was_not_used),
        with_cache(test_the_mark_sinks_with_use),
        with_cache(test_fills_grow_where_the_cache_runs_dry),
        with_cache(test_the_gc_of_large_blocks),
        with_cache(test_the_gc_takes_room_back),
        with_cache(test_every_block_has_one_owner),
        with_cache(test_blocks_may_be_freed_by_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
