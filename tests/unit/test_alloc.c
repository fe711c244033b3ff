/* test_alloc.c -- one request past the fast path: its flags, its class, its source. */
#include "heap/alloc.h"

#include "heap/publish.h"
#include "heap/tcache.h"
#include "heap_parts.h"

static void test_request(void **state) {
    (void)state;
    struct request request;
    assert_int_equal(alloc_request(100, 0, &request), 0);
    assert_int_equal(request.size, 100);
    assert_int_equal(request.alignment, 1);
    assert_int_equal(request.zero, 0);
    assert_int_equal(request.use_cache, 1);
    assert_int_equal(request.arena, 0);
    int flags = SHARENA_LG_ALIGN(46) | SHARENA_ZERO | SHARENA_TCACHE_NONE;
    assert_int_equal(alloc_request(1, flags, &request), 0);
    assert_int_equal(request.alignment, (size_t)1 << 46);
    assert_int_equal(request.zero, 1);
    assert_int_equal(request.use_cache, 0);
    assert_int_equal(alloc_request(1, SHARENA_ARENA(3), &request), 0);
    assert_int_equal(request.arena, 4);
    assert_int_equal(request.use_cache, 0); /* the cache is of the thread's own arena */
    assert_refused(alloc_request(1, SHARENA_LG_ALIGN(47), &request), EINVAL, "flags");
    assert_refused(alloc_request(1, 0x100, &request), EINVAL, "0x100");
    assert_refused(alloc_request(1, SHARENA_ARENA(ARENAS_MAX), &request), EINVAL, "flags");
}

static size_t bytes_for(size_t size, size_t alignment) {
    uint32_t size_class = alloc_class_for(fixture_heap(), size, alignment);
    return size_class == SIZE_CLASSES_MAX ? 0 : sizeclass_bytes(size_class);
}

static void test_class_for(void **state) {
    (void)state;
    static const struct {
        size_t size;
        size_t alignment;
        size_t bytes;
    } cases[] = {
        {0, 1, 8},
        {8, 8, 8},
        {1, 16, 16},
        {9, 1, 16},
        {40, 16, 48},
        {40, 64, 64},
        {65, 64, 128},
        {100, 4096, 4096},
        {4097, 4096, 8192},
        {1, 8192, 16384},
        {14336, 16, 14336},
        {14336, 64, 14336},
        {14337, 1, 16384},
        {14337, 32, 16384},
        {1, MIB, 16384},
        {20000, 4096, 20480},
        {2 * MIB, 1, 2 * MIB},
        {GIB, 1, GIB},
        {GIB + 1, 1, 0},
        {SIZE_MAX, 1, 0},
        {1, GIB / 2, 16384},
        {1, GIB, 0},
        {900 * MIB, 1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t bytes = bytes_for(cases[i].size, cases[i].alignment);
        if (i + 1 == sizeof(cases) / sizeof(cases[0])) { /* rounds up to all that there is */
            assert_int_equal(bytes, GIB);
        } else if (bytes != cases[i].bytes) {
            fail_msg("%zu at %zu: %zu, not %zu", cases[i].size, cases[i].alignment, bytes,
                     cases[i].bytes);
        }
    }
}

static uint64_t taken_from_bin(uint32_t size_class) {
    return shared_get(&heap_arena(fixture_heap(), 0)->bins[size_class].regions_taken);
}

/* Through the cache a batch comes from the bin; past it one region. */
static void test_source(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    struct request request = {.size = 64, .alignment = 1, .use_cache = 0};
    uint32_t size_class = alloc_class_for(heap, 64, 1);
    const struct tcache_stack *stack = &slot_tcache(self)->stacks[size_class + 1];
    uint64_t before = taken_from_bin(size_class);
    void *past = alloc_block(heap, self, &request);
    assert_int_equal(taken_from_bin(size_class), before + 1);
    assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
    assert_int_equal(stack_count(stack), 0);
    request.use_cache = 1;
    void *through = alloc_block(heap, self, &request);
    assert_int_equal(taken_from_bin(size_class), before + 2 + stack_count(stack));
    assert_true(stack_count(stack) > 0);
    alloc_free(heap, self, past, 0);
    uint32_t cached = stack_count(stack);
    alloc_free(heap, self, through, 1);
    assert_int_equal(stack_count(stack), cached + 1);
}

/* A cached block that is not aligned as wished is left where it is. */
static void test_alignment_past_the_cache(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    for (size_t alignment = 32; alignment <= 1024; alignment *= 2) {
        void *blocks[40];
        struct request request = {.size = 1024, .alignment = alignment, .use_cache = 1};
        for (int i = 0; i < 40; i++) {
            blocks[i] = alloc_block(heap, self, &request);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
        }
        sharena_free_batch(heap, 40, blocks);
    }
}

static void test_zero(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    static const size_t sizes[] = {100, 5000, 20001, 300001, 3 * MIB + 1};
    for (size_t i = 0; i < 5; i++) {
        for (int use_cache = 0; use_cache < 2; use_cache++) {
            struct request request = {
                .size = sizes[i], .alignment = 1, .use_cache = use_cache, .zero = 1};
            void *block = alloc_block(heap, self, &request);
            size_t real = sharena_usable_size(heap, block);
            assert_true(clean_is_zero(block, real)); /* up to the real size */
            memset(block, 0xab, real);
            alloc_free(heap, self, block, use_cache);
            block = alloc_block(heap, self, &request);
            assert_true(clean_is_zero(block, real));
            alloc_free(heap, self, block, use_cache);
        }
    }
}

static void test_to_and_from(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    void **where = sharena_calloc(heap, 1, sizeof(void *));
    static const size_t sizes[] = {8, 5000, 20000, 300000, 3 * MIB};
    for (size_t i = 0; i < 5; i++) {
        for (int use_cache = 0; use_cache < 2; use_cache++) {
            struct request request = {.size = sizes[i], .alignment = 1, .use_cache = use_cache};
            assert_int_equal(alloc_block_to(heap, self, &request, where), 0);
            assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
            assert_true(sharena_usable_size(heap, *where) >= sizes[i]);
            clean_check(heap, 2);
            alloc_free_from(heap, self, where);
            assert_null(*where);
            assert_int_equal(shared_get(&self->pending.kind), PENDING_NONE);
            clean_check(heap, 1);
        }
    }
    sharena_free(heap, where);
}

/* What is small stays small; large and huge blocks do not turn into each other. */
static void test_resize(void **state) {
    (void)state;
    static const size_t sizes[] = {64, 14336, 16384, 65536, MIB, 2 * MIB, 6 * MIB};
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = fixture_self();
    for (size_t i = 0; i < 7; i++) {
        for (size_t j = 0; j < 7; j++) {
            void *block = sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE);
            uint32_t wanted = alloc_class_for(heap, sizes[j], 1);
            int done = alloc_resize(heap, self, block, wanted);
            int is_same_kind = (sizes[i] <= 14336) == (sizes[j] <= 14336) &&
                               (sizes[i] >= 2 * MIB) == (sizes[j] >= 2 * MIB);
            assert_true(done == 0 || is_same_kind);
            if (i == j || (is_same_kind && sizes[i] > 14336 && j < i)) {
                assert_int_equal(done, 1); /* the same, or smaller */
            }
            assert_int_equal(alloc_class_of(heap, block),
                             done ? wanted : alloc_class_for(heap, sizes[i], 1));
            clean_check(heap, 1);
            sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
        }
    }
}

/* Free pages that an arena keeps count against the limit: they are given back before malloc fails. */
static void test_gives_back_before_it_gives_up(void **state) {
    (void)state;
    char path[SCRATCH_MAX];
    struct sharena_options options = {.capacity_bytes = GIB, .limit_bytes = 64 * MIB};
    sharena_t *heap = clean_open_with(scratch_path(path, "alloc"), &options);
    void *blocks[50];
    assert_int_equal(sharena_malloc_batch(heap, MIB, 50, blocks), 50);
    for (int i = 0; i < 50; i += 2) { /* half of each chunk */
        sharena_free(heap, blocks[i]);
    }
    void *huge = sharena_malloc(heap, 32 * MIB);
    if (huge == NULL) {
        fail_msg("%s", sharena_errormsg());
    }
    sharena_free(heap, huge);
    void **where = blocks[1];
    *where = NULL;
    assert_int_equal(sharena_malloc_to(heap, 24 * MIB, where), 0);
    assert_int_equal(sharena_free_from(heap, where), 0);
    for (int i = 1; i < 50; i += 2) {
        sharena_free(heap, blocks[i]);
    }
    clean_end(heap, path, 0);
}

static int ask_class(void *ptr) {
    return (int)alloc_class_of(fixture_heap(), ptr);
}

static void test_class_of_no_block(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    char *small = sharena_malloc(heap, 64);
    char *large = sharena_malloc(heap, 50000);
    child_stops(ask_class, heap, "not in this heap");
    child_stops(ask_class, small + 8, "not the start");
    child_stops(ask_class, large + 64, "not the start");
    child_stops(ask_class, large + 4096, "not a live block");
    sharena_free(heap, small);
    sharena_free(heap, large);
    (void)sharena_reap(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_request),
        with_heap(test_class_for),
        with_heap(test_source),
        with_heap(test_alignment_past_the_cache),
        with_heap(test_zero),
        with_heap(test_to_and_from),
        with_heap(test_resize),
        cmocka_unit_test(test_gives_back_before_it_gives_up),
        with_heap(test_class_of_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
