/* test_audit_counts.c -- every count of blocks, changed by hand, is a finding; and what operations
 * make of the counts is right after each of them: the check of a clean heap says so. */
#include "heap/audit_counts.h"

#include "heap_parts.h"

static void assert_clean(void) {
    if (sharena_check(fixture_heap(), NULL) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
}

static void assert_finds(shared_u64 *count, const char *words) {
    struct sharena_report report;
    uint64_t right = shared_get(count);
    for (int by = -1; by <= 1; by += 2) {
        shared_store(count, right + (uint64_t)by);
        assert_int_equal(sharena_check(fixture_heap(), &report), EUCLEAN);
        assert_int_equal(report.findings, 1);
        if (strstr(report.messages[0], words) == NULL) {
            fail_msg("no '%s' in: %s", words, report.messages[0]);
        }
    }
    shared_store(count, right);
    assert_clean();
}

static void every_count_is_proved(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)fixture_self(); /* makes arena 0 */
    void *blocks[] = {sharena_malloc(heap, 100), sharena_malloc(heap, 20000),
                      sharena_malloc(heap, 9 << 20)};
    struct arena *arena = heap_arena(heap, 0);
    struct pool *pool = heap_pool(heap);
    assert_clean();
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        assert_finds(&arena->bins[i].regions_taken, "arena 0: ");
        assert_finds(&arena->bins[i].regions_given, "arena 0: ");
    }
    for (uint32_t i = 0; i < SIZE_CLASSES_LARGE_END - SIZE_CLASSES_SMALL; i++) {
        assert_finds(&arena->large[i].taken, "arena 0: ");
        assert_finds(&arena->large[i].given, "blocks of class");
    }
    for (uint32_t i = 0; i < SIZE_CLASSES_MAX - SIZE_CLASSES_SMALL; i++) {
        assert_finds(&pool->huge[i].taken, "chunk pool: ");
        assert_finds(&pool->huge[i].given, "are out, but");
    }
    sharena_free_batch(heap, 3, blocks);
}

/* Blocks out, by the counts of their class. */
static uint64_t out_of(const struct block_count *counts, size_t size) {
    const struct block_count *count = &counts[sizeclass_of(size) - SIZE_CLASSES_SMALL];
    return shared_get(&count->taken) - shared_get(&count->given);
}

static void a_block_that_changes_its_class_changes_both_counts(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)fixture_self();
    struct arena *arena = heap_arena(heap, 0);
    struct pool *pool = heap_pool(heap);
    void *large = sharena_mallocx(heap, 65536, SHARENA_TCACHE_NONE);
    void *huge = sharena_mallocx(heap, 8 << 20, SHARENA_TCACHE_NONE);
    static const size_t larges[] = {32768, 16384, 65536, 1 << 20};
    static const size_t huges[] = {4 << 20, 8 << 20, 6 << 20, 2 << 20};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(sharena_xallocx(heap, large, larges[i], 0, 0), larges[i]);
        assert_int_equal(out_of(arena->large, larges[i]), 1);
        assert_int_equal(sharena_xallocx(heap, huge, huges[i], 0, 0), huges[i]);
        assert_int_equal(out_of(pool->huge, huges[i]), 1);
        assert_clean();
    }
    assert_int_equal(out_of(arena->large, 16384), 0);
    assert_int_equal(out_of(pool->huge, 8 << 20), 0);
    sharena_dallocx(heap, large, SHARENA_TCACHE_NONE);
    sharena_dallocx(heap, huge, SHARENA_TCACHE_NONE);
    assert_int_equal(out_of(arena->large, 1 << 20), 0);
    assert_int_equal(out_of(pool->huge, 2 << 20), 0);
}

static void an_alignment_makes_a_large_class_huge(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)fixture_self();
    void *block = sharena_aligned_alloc(heap, 4 << 20, 100000);
    assert_non_null(block);
    assert_int_equal(out_of(heap_pool(heap)->huge, 100000), 1);
    assert_int_equal(out_of(heap_arena(heap, 0)->large, 100000), 0);
    assert_clean();
    sharena_free(heap, block);
    assert_int_equal(sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0), 0);
    assert_int_equal(out_of(heap_pool(heap)->huge, 100000), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(every_count_is_proved),
        with_heap(a_block_that_changes_its_class_changes_both_counts),
        with_heap(an_alignment_makes_a_large_class_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
