/* test_audit_prof.c -- each rule over samples: broken by hand, found, and mended again. */
#include "heap/audit_prof.h"

#include "heap/prof.h"
#include "heap_parts.h"

static void *large;
static void *huge;

/* Three samples: of a large block, of a huge one, and an unused one. */
static int open_scene(void **state) {
    int error = heap_fixture_open(state);
    struct attachment *attachment = fixture_attachment();
    attachment->conf.prof = 1;
    attachment->conf.lg_prof_sample = 0;
    prof_init(attachment);
    large = sharena_malloc(fixture_heap(), 100);
    huge = sharena_malloc(fixture_heap(), 3 << 20);
    sharena_free(fixture_heap(), sharena_malloc(fixture_heap(), 100));
    return error;
}

static int close_scene(void **state) {
    sharena_free(fixture_heap(), large);
    sharena_free(fixture_heap(), huge);
    return heap_fixture_close(state);
}

static struct pool *pool(void) {
    return heap_pool(fixture_heap());
}

static struct sample *sample(uint32_t index) {
    return heap_sample(fixture_heap(), index);
}

static int is_said(const struct sharena_report *report, const char *words) {
    for (uint64_t i = 0; i < report->findings && i < SHARENA_REPORT_MESSAGES; i++) {
        if (strstr(report->messages[i], words) != NULL) {
            return 1;
        }
    }
    return 0;
}

/* With that value in the field the check says those words; with its own the heap is clean. */
static void assert_finds_in(void *field, size_t bytes, uint64_t value, const char *words) {
    struct sharena_report report;
    uint64_t own = 0;
    memcpy(&own, field, bytes);
    memcpy(field, &value, bytes);
    int error = sharena_check(fixture_heap(), &report);
    memcpy(field, &own, bytes);
    if (error != EUCLEAN || !is_said(&report, words)) {
        fail_msg("not found: %s, but: %d, %s", words, error, report.messages[0]);
    }
    assert_int_equal(sharena_check(fixture_heap(), NULL), 0);
}
#define assert_finds(field, value, words)                                                          \
    assert_finds_in((field), sizeof(*(field)), (uint64_t)(value), (words))

static void the_scene(void **state) {
    (void)state;
    assert_int_equal(shared_get(&pool()->samples_high), 3);
    assert_int_equal(shared_get(&pool()->samples_used), 2);
    assert_int_equal(shared_get(&pool()->samples_free), 3);
    assert_ptr_equal(shared_get(&sample(0)->block), large);
    assert_ptr_equal(shared_get(&sample(1)->block), huge);
}

static void links(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct run *run = heap_run(heap, page_of(heap, large));
    struct chunk *chunk = heap_chunk(heap, chunk_of_page(page_of(heap, huge)));
    assert_finds(&run->left, 2, "is not about it");
    assert_finds(&run->left, 0, "is not about it");
    assert_finds(&chunk->left, 0xffffffff, "is not about it");
    assert_finds(&sample(0)->block, (uintptr_t)huge, "is not about it");
    assert_finds(&sample(1)->block, 0, "is not about it");
    assert_finds(&sample(2)->block, (uintptr_t)large, "but has a block");
    assert_finds(&sample(2)->block, 0x10, "which is no block of it");
}

static void page_map_entries(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    shared_u16 *entry = heap_page_map(heap) + page_of(heap, large);
    uint32_t of_class = (SIZE_CLASSES_SMALL + 1) * sizeof(struct tcache_stack);
    assert_finds(entry, of_class, "which is no block of it");
    void *plain = sharena_mallocx(heap, 20000, 0);
    sharena_free(heap, plain);
    entry = heap_page_map(heap) + page_of(heap, huge);
    assert_finds(entry + 1, PROF_MAP_ENTRY, "no block begins there");
}

static void list_and_counts(void **state) {
    (void)state;
    assert_finds(&pool()->samples_free, 1, "but has a block");
    assert_finds(&pool()->samples_free, 9, "does not exist");
    assert_finds(&pool()->samples_free, 0, "in use, but the count says");
    assert_finds(&sample(2)->next, 3, "is listed twice");
    assert_finds(&pool()->samples_used, 1, "in use, but the count says");
    assert_finds(&pool()->samples_high, 4, "in use, but the count says");
    assert_finds(&pool()->samples_high, SAMPLES_MAX + 1, "is not about it");
    assert_finds(&pool()->modules, MODULES_MAX + 1, "cannot be");
}

static void hands(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    assert_finds(&self->hand.sample, 1, "which is not so");
    assert_finds(&self->hand.sample, 3, "which is not so");
    assert_finds(&self->hand.sample, 0xffffffff, "which is not so");
}

#define with_scene(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_scene(the_scene),       with_scene(links), with_scene(page_map_entries),
        with_scene(list_and_counts), with_scene(hands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
