/* ctest: inprocess */
/* test_sizeclass.c -- every size has its class, every class its run and its stack. */
#include "heap/large.h"
#include "heap/layout.h"
#include "heap/sizeclass.h"
#include "scratch.h"

static int init(void **state) {
    (void)state;
    sizeclass_init();
    return 0;
}

/* The rule, without arithmetic: the first class that is big enough. */
static uint32_t smallest_that_fits(size_t size) {
    uint32_t size_class = 0;
    while (sizeclass_bytes(size_class) < size) {
        size_class++;
    }
    return size_class;
}

static void test_every_size_gets_the_smallest_class_that_fits(void **state) {
    (void)state;
    for (size_t size = 0; size <= 65536; size++) {
        assert_int_equal(sizeclass_of(size), smallest_that_fits(size));
    }
}

static void test_borders_of_all_classes(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_MAX - 1; i++) {
        size_t bytes = sizeclass_bytes(i);
        assert_true(bytes < sizeclass_bytes(i + 1));
        assert_int_equal(sizeclass_of(bytes - 1), i);
        assert_int_equal(sizeclass_of(bytes), i);
        assert_int_equal(sizeclass_of(bytes + 1), i + 1);
    }
}

static void test_sizes_of_the_table_in_the_header(void **state) {
    (void)state;
    const struct {
        uint32_t size_class;
        size_t bytes;
    } table[] = {{0, 8},
                 {1, 16},
                 {2, 32},
                 {8, 128},
                 {9, 160},
                 {10, 192},
                 {12, 256},
                 {13, 320},
                 {SIZE_CLASSES_SMALL - 1, SMALL_BYTES_MAX},
                 {SIZE_CLASSES_SMALL, LARGE_BYTES_MIN},
                 {SIZE_CLASSES_LARGE_END - 1, LARGE_BYTES_MAX},
                 {SIZE_CLASSES_LARGE_END, CHUNK_BYTES},
                 {SIZE_CLASSES_CACHED - 1, (size_t)4 << 20},
                 {SIZE_CLASSES_CACHED, (size_t)5 << 20}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(sizeclass_bytes(table[i].size_class), table[i].bytes);
    }
    assert_true(sizeclass_bytes(SIZE_CLASSES_MAX - 1) > (size_t)1 << 43); /* the largest heap */
}

static void test_a_fifth_of_a_block_is_waste_at_most(void **state) {
    (void)state;
    for (size_t size = 1; size <= (size_t)16 << 20; size += size < 65536 ? 1 : 4093) {
        size_t bytes = sizeclass_bytes(sizeclass_of(size));
        size_t waste = bytes - size;
        assert_true(size > 128 ? waste * 5 < bytes : waste < 16);
    }
}

/* What the rest of the heap takes for granted. */
static void test_granularity(void **state) {
    (void)state;
    for (uint32_t i = 1; i < SIZE_CLASSES_MAX; i++) {
        size_t unit = i < SIZE_CLASSES_SMALL ? 16 : PAGE_BYTES;
        assert_int_equal(sizeclass_bytes(i) % unit, 0);
    }
}

/* ---- runs ---- */

static void test_run_shapes(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct run_shape *shape = sizeclass_run_shape(i);
        uint32_t used = shape->regions * shape->region_bytes;
        assert_int_equal(shape->region_bytes, sizeclass_bytes(i));
        assert_in_range(shape->pages, 1, 16);
        assert_in_range(shape->regions, 4, REGIONS_MAX);
        assert_true(used <= shape->pages * PAGE_BYTES);
        assert_true((shape->pages * PAGE_BYTES - used) * 16 <= used);
    }
}

/* The bitmap goes on in the entries of the run's other pages, and nowhere else. */
static void test_bitmaps_fit_the_entries_of_their_run(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct run_shape *shape = sizeclass_run_shape(i);
        size_t words = (shape->regions + 63) / 64;
        size_t room = shape->pages * sizeof(struct run) - offsetof(struct run, bitmap);
        assert_true(words * sizeof(shared_u64) <= room);
    }
}

static void test_the_inverse_divides_every_offset(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct run_shape *shape = sizeclass_run_shape(i);
        for (uint64_t offset = 0; offset < (uint64_t)shape->pages * PAGE_BYTES; offset++) {
            assert_int_equal(offset * shape->inverse >> 32, offset / shape->region_bytes);
        }
    }
}

/* ---- stacks ---- */

static void test_offset_of_the_stack(void **state) {
    (void)state;
    for (size_t size = 0; size <= LOOKUP_BYTES_MAX; size++) {
        uint32_t size_class = sizeclass_of(size);
        assert_int_equal(sizeclass_stack_offset[size],
                         (size_class + 1) * sizeof(struct tcache_stack));
        assert_int_equal(sizeclass_stack_offset[size], stack_offset_of(size_class));
    }
}

static void test_storage_of_the_stacks_fits_and_does_not_overlap(void **state) {
    (void)state;
    uint32_t end = 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        assert_true(sizeclass_stack_first(i) >= end);
        assert_true(sizeclass_stack_entries(i) > 0);
        end = sizeclass_stack_first(i) + sizeclass_stack_entries(i);
    }
    assert_true(end <= TCACHE_STORAGE);
}

/* ---- alignment ---- */

/* Regions of a run lie side by side from a page on: all are aligned if the class is a multiple. */
static void test_aligned_size(void **state) {
    (void)state;
    for (size_t alignment = 1; alignment <= PAGE_BYTES; alignment *= 2) {
        for (size_t size = 0; size <= 20000; size++) {
            size_t aligned = sizeclass_aligned_size(size, alignment);
            assert_true(aligned >= size && aligned != 0);
            assert_true(aligned - size < alignment || size == 0);
            assert_int_equal(aligned % alignment, 0);
            if (alignment >= 8) {
                assert_int_equal(sizeclass_bytes(sizeclass_of(aligned)) % alignment, 0);
            }
        }
    }
}

static void test_init_again_changes_nothing(void **state) {
    (void)state;
    uint16_t offsets[LOOKUP_BYTES_MAX / 8 + 1];
    struct run_shape shape = *sizeclass_run_shape(SIZE_CLASSES_SMALL - 1);
    memcpy(offsets, sizeclass_stack_offset, sizeof(offsets));
    sizeclass_init();
    assert_memory_equal(offsets, sizeclass_stack_offset, sizeof(offsets));
    assert_memory_equal(&shape, sizeclass_run_shape(SIZE_CLASSES_SMALL - 1), sizeof(shape));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size_gets_the_smallest_class_that_fits),
        cmocka_unit_test(test_borders_of_all_classes),
        cmocka_unit_test(test_sizes_of_the_table_in_the_header),
        cmocka_unit_test(test_a_fifth_of_a_block_is_waste_at_most),
        cmocka_unit_test(test_granularity),
        cmocka_unit_test(test_run_shapes),
        cmocka_unit_test(test_bitmaps_fit_the_entries_of_their_run),
        cmocka_unit_test(test_the_inverse_divides_every_offset),
        cmocka_unit_test(test_offset_of_the_stack),
        cmocka_unit_test(test_storage_of_the_stacks_fits_and_does_not_overlap),
        cmocka_unit_test(test_aligned_size),
        cmocka_unit_test(test_init_again_changes_nothing),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
