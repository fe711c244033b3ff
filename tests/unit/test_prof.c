/* test_prof.c -- how often is sampled, and what a sample says. */
#include "heap/prof.h"

#include <time.h>

#include "heap_parts.h"
#include "ipc/thread.h"

static struct attachment *profile(uint32_t lg_rate) {
    struct attachment *attachment = fixture_attachment();
    attachment->conf.prof = 1;
    attachment->conf.lg_prof_sample = lg_rate;
    prof_init(attachment);
    (void)fixture_self(); /* from here on this thread has no hint */
    return attachment;
}

/* 1 - exp(-x), without libm: by its series, for x < 1, else by halves. */
static double chance(double x) {
    if (x > 0.5) {
        double half = chance(x / 2);
        return half * (2 - half);
    }
    double sum = 0;
    double term = x;
    for (int i = 2; i < 20; i++) {
        sum += term;
        term *= -x / i;
    }
    return sum;
}

static void probability_is_by_size(void **state) {
    (void)state;
    enum { CALLS = 200000 };
    const uint64_t sizes[] = {16, 512, 4096, 14336, 65536};
    const struct attachment *attachment = profile(13);
    for (int i = 0; i < 5; i++) {
        double expected = CALLS * chance((double)sizes[i] / 8192);
        double spread = expected * (1 - expected / CALLS); /* variance, of independent draws */
        uint64_t sampled = 0;
        for (int j = 0; j < CALLS; j++) {
            sampled += prof_wants_sample(attachment, sizes[i]) ? 1 : 0;
        }
        double error = (double)sampled - expected;
        if (error * error > 25 * spread + 4) { /* five standard deviations */
            fail_msg("%llu bytes: %llu sampled, expected %.0f", (unsigned long long)sizes[i],
                     (unsigned long long)sampled, expected);
        }
    }
}

/* Independent of each other: in pairs they come as often as the product says. */
static void samples_are_independent(void **state) {
    (void)state;
    enum { CALLS = 400000 };
    const struct attachment *attachment = profile(12);
    double p = chance(1000.0 / 4096);
    int before = 0;
    uint64_t pairs = 0;
    for (int i = 0; i < CALLS; i++) {
        int is_sampled = prof_wants_sample(attachment, 1000);
        pairs += before && is_sampled ? 1 : 0;
        before = is_sampled;
    }
    double error = (double)pairs - CALLS * p * p;
    assert_true(error * error < 50 * CALLS * p * p);
}

static void to_ask_is_not_to_count(void **state) {
    (void)state;
    const struct attachment *attachment = profile(10);
    for (int i = 0; i < 1000; i++) {
        int would = prof_would_sample(attachment, 300);
        assert_int_equal(prof_would_sample(attachment, 300), would);
        assert_int_equal(prof_wants_sample(attachment, 300), would);
    }
}

static void nothing_while_inactive(void **state) {
    (void)state;
    struct attachment *attachment = profile(0);
    assert_true(prof_wants_sample(attachment, 8));
    attachment->prof_active = 0;
    assert_false(prof_wants_sample(attachment, 1 << 30));
    attachment->prof_active = 1;
    attachment->conf.prof = 0;
    assert_false(prof_wants_sample(attachment, 1 << 30));
}

static void what_a_sample_says(void **state) {
    (void)state;
    struct timespec now;
    sharena_t *heap = fixture_heap();
    const struct attachment *attachment = profile(7);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t before_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    struct thread_slot *self = fixture_self();
    assert_true(prof_begin(attachment, self, 100, 112));
    const struct sample *sample = heap_sample(heap, shared_get(&self->hand.sample) - 1);
    assert_int_equal(sample->asked_bytes, 100);
    assert_int_equal(sample->bytes, 112);
    assert_int_equal(sample->lg_rate, 7);
    assert_int_equal(sample->pid, getpid());
    assert_int_equal(sample->tid, gettid());
    assert_int_equal(sample->process, attachment->token.slot);
    assert_int_equal(sample->process_generation, attachment->process_generation);
    assert_string_equal(sample->name, fixture_process_name());
    assert_in_range(sample->taken_ns, before_ns, before_ns + 10000000000u);
    assert_in_range(sample->frames, 2, SAMPLE_FRAMES);
    for (uint32_t i = 0; i < sample->frames; i++) {
        assert_in_range(sample->frame[i] >> FRAME_MODULE_SHIFT, 1, 4);
    }
    prof_give(heap, self);
}

static struct sample *sample_of(void *block) {
    sharena_t *heap = fixture_heap();
    assert_true(prof_is_sampled(heap, page_of(heap, block)));
    for (uint32_t i = 0; i < shared_get(&heap_pool(heap)->samples_high); i++) {
        if (shared_get(&heap_sample(heap, i)->block) == block) {
            return heap_sample(heap, i);
        }
    }
    fail_msg("no sample is about %p", block);
    return NULL;
}

static void every_kind_of_allocation(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void **where = sharena_malloc(heap, sizeof(*where));
    (void)profile(0);
    void *blocks[] = {sharena_malloc(heap, 1),
                      sharena_malloc(heap, 20000),
                      sharena_malloc(heap, 5 << 20),
                      sharena_calloc(heap, 5, 1000),
                      sharena_aligned_alloc(heap, 4096, 100),
                      sharena_aligned_alloc(heap, 1 << 16, 100),
                      sharena_aligned_alloc(heap, 4 << 20, 100),
                      sharena_mallocx(heap, 64, SHARENA_TCACHE_NONE | SHARENA_ZERO),
                      sharena_realloc(heap, NULL, 300)};
    const uint64_t asked[] = {1, 20000, 5 << 20, 5000, 100, 100, 100, 64, 300};
    enum { KINDS = sizeof(blocks) / sizeof(blocks[0]) };
    for (uint32_t i = 0; i < KINDS; i++) {
        assert_non_null(blocks[i]);
        assert_int_equal(sample_of(blocks[i])->asked_bytes, asked[i]);
        assert_true(sharena_usable_size(heap, blocks[i]) >= asked[i]);
        memset(blocks[i], 0xa5, sharena_usable_size(heap, blocks[i]));
    }
    assert_int_equal((uintptr_t)blocks[6] % (4 << 20), 0);
    assert_int_equal(sample_of(blocks[0])->bytes, 8);
    assert_int_equal(sharena_malloc_to(heap, 77, where), 0);
    assert_int_equal(sample_of(*where)->asked_bytes, 77);
    assert_int_equal(books_now().report.blocks_live, KINDS + 2);
    assert_int_equal(sharena_free_from(heap, where), 0);
    for (uint32_t i = 0; i < KINDS; i++) {
        sharena_free_sized(heap, blocks[i], asked[i]);
    }
    sharena_free(heap, where);
    assert_int_equal(books_now().report.blocks_live, 0);
    assert_int_equal(shared_get(&heap_pool(heap)->samples_used), 0);
}

/* A block that is asked to be zero is, whoever had its memory before. */
static void zero_is_zero(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)profile(0);
    for (int i = 0; i < 50; i++) {
        char *block = sharena_mallocx(heap, 100, SHARENA_ZERO);
        size_t bytes = sharena_usable_size(heap, block);
        assert_true(clean_is_zero(block, bytes));
        memset(block, 0xff, bytes);
        sharena_free(heap, block);
    }
}

static void realloc_is_a_new_allocation(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    const size_t sizes[] = {10, 100, 100, 30000, 40000, 3 << 20, 5 << 20, 20000, 10};
    (void)profile(0);
    void *block = NULL;
    size_t had = 0;
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        block = sharena_realloc(heap, block, sizes[i]);
        assert_int_equal(sample_of(block)->asked_bytes, sizes[i]);
        size_t kept = had < sizes[i] ? had : sizes[i];
        assert_int_equal(clean_compare(block, kept, 3), kept);
        clean_fill(block, sizes[i], 3);
        had = sizes[i];
        assert_int_equal(shared_get(&heap_pool(heap)->samples_used), 1);
    }
    size_t usable = sharena_usable_size(heap, block);
    assert_int_equal(sharena_xallocx(heap, block, usable + 50000, 0, 0), usable); /* it stays */
    sharena_free(heap, block);
}

/* Blocks from before the profile began grow in place, unless that would be sampled. */
static void growth_is_sampled(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *block = sharena_malloc(heap, 100 << 10);
    (void)profile(0);
    block = sharena_realloc(heap, block, 200 << 10);
    assert_int_equal(sample_of(block)->asked_bytes, 200 << 10);
    sharena_free(heap, block);
    fixture_attachment()->prof_active = 0;
    block = sharena_malloc(heap, 100 << 10);
    void *grown = sharena_realloc(heap, block, 200 << 10);
    assert_ptr_equal(grown, block);
    assert_false(prof_is_sampled(heap, page_of(heap, grown)));
    sharena_free(heap, grown);
}

/* Only what is allocated is to be counted: cached blocks come and go without entering the heap. */
static void cached_blocks_are_counted_on_the_way(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct attachment *attachment = profile(40);
    const struct tcache *tcache = slot_tcache(fixture_self());
    sharena_free(heap, sharena_malloc(heap, 64));
    uint32_t ticks = shared_get(&tcache->gc_ticks);
    for (int i = 0; i < 1000; i++) {
        sharena_free(heap, sharena_malloc(heap, 64));
    }
    assert_int_equal(shared_get(&tcache->gc_ticks), ticks);
    assert_ptr_equal(thread_record->hint_heap, HINT_NONE);
    assert_ptr_equal(thread_record->counted, attachment);
    attachment->conf.lg_prof_sample = 0;
    void *sampled = sharena_malloc(heap, 64); /* there is a cached one, but it is not to be used */
    assert_true(prof_is_sampled(heap, page_of(heap, sampled)));
    sharena_free(heap, sampled);
    attachment->conf.zero = 1; /* each block is to be seen */
    (void)fixture_self();
    assert_null(thread_record->counted);
    assert_int_equal(thread_record->data_bytes, 0);
    attachment->conf.zero = 0;
    attachment->conf.quarantine_bytes = 4096;
    (void)fixture_self();
    assert_null(thread_record->counted);
    attachment->conf.quarantine_bytes = 0;
    attachment->conf.prof = 0;
    (void)fixture_self();
    assert_null(thread_record->counted);
    assert_ptr_equal(thread_record->hint_heap, heap);
}

/* With junk and quarantine as well: sampled blocks do not wait, the others do; nothing is lost. */
static void beside_all_that_watches(void **state) {
    (void)state;
    enum { BLOCKS = 200 };
    char path[SCRATCH_MAX];
    const struct sharena_options options = {.capacity_bytes = 1 << 28,
                                            .conf =
                                                "prof:true,lg_prof_sample:12,junk:true,zero:true,"
                                                "quarantine_bytes:65536"};
    sharena_t *heap;
    char *blocks[BLOCKS] = {NULL};
    uint64_t random = 3;
    assert_int_equal(sharena_open(scratch_path(path, "watched"), &options, &heap), 0);
    for (int i = 0; i < 20000; i++) {
        char **at = &blocks[clean_random(&random) % BLOCKS];
        size_t bytes = 1 + clean_random(&random) % (i % 7 == 0 ? 40000 : 3000);
        sharena_free(heap, *at);
        *at = i % 3 == 0 ? sharena_calloc(heap, 1, bytes) : sharena_malloc(heap, bytes);
        assert_non_null(*at);
        assert_true(i % 3 != 0 || clean_is_zero(*at, bytes));
        memset(*at, 0x77, sharena_usable_size(heap, *at));
    }
    assert_true(shared_get(&heap_pool(heap)->samples_used) > 10);
    assert_int_equal(sharena_check(heap, NULL), 0);
    for (int i = 0; i < BLOCKS; i++) {
        sharena_free(heap, blocks[i]);
    }
    assert_int_equal(shared_get(&heap_pool(heap)->samples_used), 0);
    assert_int_equal(sharena_check(heap, NULL), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(sharena_unlink(path), 0);
}

static void a_close_ends_the_counting(void **state) {
    (void)state;
    char path[SCRATCH_MAX];
    const struct sharena_options options = {.capacity_bytes = 1 << 26, .conf = "prof:true"};
    sharena_t *heap;
    assert_int_equal(sharena_open(scratch_path(path, "counted"), &options, &heap), 0);
    sharena_free(heap, sharena_malloc(heap, 64));
    assert_non_null(thread_record->counted);
    assert_int_equal(sharena_close(heap), 0);
    assert_null(thread_record->counted);
    assert_int_equal(thread_record->data_bytes, 0);
    assert_null(sharena_malloc(heap, 64));
    assert_int_equal(sharena_unlink(path), 0);
}

static void without_samples_it_allocates(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    (void)profile(0);
    (void)fixture_self();
    refuse_storage(heap_sample(heap, 0), 8);
    void *block = sharena_malloc(heap, 64);
    assert_non_null(block);
    assert_int_equal(sharena_usable_size(heap, block), 64);
    grant_storage(heap_sample(heap, 0), 8);
    sharena_free(heap, block);
    assert_int_equal(shared_get(&heap_pool(heap)->samples_dropped), 1);
}

/* Where a sampled block has no room, one that is not may have: a small one in a run that is there. */
static void memory_goes_before_samples(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *first = sharena_malloc(heap, 64);
    (void)profile(0);
    sharena_free(heap, sharena_malloc(heap, 64)); /* the tables are there */
    assert_int_equal(sharena_purge(heap), 0);
    allow_pages(0);
    void *block = sharena_malloc(heap, 64);
    assert_non_null(block);
    assert_false(prof_is_sampled(heap, page_of(heap, block)));
    assert_int_equal(shared_get(&heap_pool(heap)->samples_used), 0);
    allow_all();
    sharena_free(heap, block);
    sharena_free(heap, first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(probability_is_by_size),
        with_heap(samples_are_independent),
        with_heap(to_ask_is_not_to_count),
        with_heap(nothing_while_inactive),
        with_heap(what_a_sample_says),
        with_heap(every_kind_of_allocation),
        with_heap(zero_is_zero),
        with_heap(realloc_is_a_new_allocation),
        with_heap(growth_is_sampled),
        with_heap(without_samples_it_allocates),
        with_heap(memory_goes_before_samples),
        with_heap(cached_blocks_are_counted_on_the_way),
        with_heap(a_close_ends_the_counting),
        with_heap(beside_all_that_watches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
