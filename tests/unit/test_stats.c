/* test_stats.c -- sharena_stats_print: who may call it, when, and where the text goes. */
/* ctest: not under valgrind: its forked children take minutes there to print all statistics */
#include <pthread.h>

#include "collect.h"
#include "heap/sizeclass.h"
#include "heap/stats.h"
#include "heap_parts.h"

static void *block_of(size_t size) {
    void *block = sharena_malloc(fixture_heap(), size);
    assert_non_null(block);
    return block;
}

static void a_heap_must_be_attached(void **state) {
    (void)state;
    int nothing = 0;
    assert_refused(sharena_stats_print((sharena_t *)(void *)&nothing, collect, NULL, NULL), EINVAL,
                   "not an attached heap");
}

/* What the child says on stderr, in text[0..size). */
static void hear(int (*body)(void *), void *arg, char *text, size_t size) {
    int pipes[2];
    size_t used = 0;
    ssize_t got;
    assert_int_equal(pipe(pipes), 0);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(pipes[1], STDERR_FILENO);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
        _exit(body(arg));
    }
    (void)close(pipes[1]);
    while ((got = read(pipes[0], text + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    text[used] = '\0';
    (void)close(pipes[0]);
    if (child_wait(pid) != 0) {
        fail_msg("the child said: %s", text);
    }
}

#define HEARD_BYTES 65536
static char heard[HEARD_BYTES];

static unsigned count_in(const char *text, const char *word) {
    unsigned count = 0;
    for (; (text = strstr(text, word)) != NULL; text++) {
        count++;
    }
    return count;
}

static int print_to_stderr(void *arg) {
    return sharena_stats_print(arg, NULL, NULL, NULL);
}

static void without_a_function_it_is_stderr(void **state) {
    (void)state;
    hear(print_to_stderr, fixture_heap(), heard, sizeof(heard));
    assert_non_null(strstr(heard, "___ begin sharena statistics ___\n"));
    assert_non_null(strstr(heard, "___ end sharena statistics ___\n"));
}

static int open_and_close(void *arg) {
    const struct sharena_options options = {.conf = arg};
    sharena_t *heap = NULL;
    char path[SCRATCH_MAX];
    REQUIRE(sharena_open(scratch_path(path, "close"), &options, &heap) == 0);
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(sharena_close(heap) == 0); /* not the last one */
    (void)fprintf(stderr, "<<<");
    REQUIRE(sharena_malloc(heap, 100) != NULL);
    REQUIRE(sharena_close(heap) == 0);
    (void)fprintf(stderr, ">>>");
    return unlink(path);
}

static void the_option_prints_at_the_last_close(void **state) {
    (void)state;
    hear(open_and_close, "stats_print:true", heard, sizeof(heard));
    assert_memory_equal(heard, "<<<___ begin", 12);
    assert_int_equal(count_in(heard, "___ begin"), 1);
    assert_non_null(strstr(heard, "___ end sharena statistics ___\n>>>"));
    assert_non_null(strstr(heard, "options.conf"));
    hear(open_and_close, "stats_print:false", heard, sizeof(heard));
    assert_string_equal(heard, "<<<>>>");
}

static int open_and_exit(void *arg) {
    const struct sharena_options options = {.conf = arg};
    sharena_t *heap = NULL;
    char path[SCRATCH_MAX];
    REQUIRE(sharena_open(scratch_path(path, "exit"), &options, &heap) == 0);
    REQUIRE(sharena_malloc(heap, 100) != NULL);
    REQUIRE(unlink(path) == 0);
    fixture_attachment()->conf.stats_print = 0;
    exit(0);
}

static void the_option_prints_at_exit(void **state) {
    (void)state;
    hear(open_and_exit, "stats_print:true", heard, sizeof(heard));
    assert_int_equal(count_in(heard, "___ begin"), 1);
    assert_int_equal(count_in(heard, "___ end"), 1);
    assert_non_null(strstr(heard, "-exit"));
    hear(open_and_exit, NULL, heard, sizeof(heard));
    assert_string_equal(heard, "");
}

static int read_only(void *arg) {
    const struct sharena_options options = {.flags = SHARENA_READONLY};
    sharena_t *heap = NULL;
    REQUIRE(sharena_close(fixture_heap()) == 0);
    REQUIRE(sharena_open(fixture_path(), &options, &heap) == 0);
    json_t *stats = collect_json(heap, "J");
    REQUIRE(json_number(stats, "summary.allocated") == *(const uint64_t *)arg);
    REQUIRE(json_is_true(json_find(stats, "heap.readonly")));
    REQUIRE(json_array_size(json_find(stats, "processes")) == 1); /* the parent */
    json_decref(stats);
    free(collect_text(heap, NULL));
    return sharena_close(heap);
}

static void who_only_looks_sees_the_same(void **state) {
    (void)state;
    uint64_t expected = 0;
    void *blocks[] = {block_of(100), block_of(50000), block_of(3 << 20)};
    for (size_t i = 0; i < 3; i++) {
        expected += sharena_usable_size(fixture_heap(), blocks[i]);
    }
    child_run(read_only, &expected);
    sharena_free_batch(fixture_heap(), 3, blocks);
}

static void a_full_heap_can_be_looked_at(void **state) {
    (void)state;
    void *blocks[4096];
    size_t count = 0;
    (void)fixture_self();
    allow_pages(2000);
    while (count < 4096 && (blocks[count] = sharena_malloc(fixture_heap(), 10000)) != NULL) {
        count++;
    }
    assert_true(count > 100 && count < 4096);
    uint64_t charged = charged_pages();
    json_t *stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_number(stats, "summary.allocated"), count * 10240);
    assert_int_equal(charged_pages(), charged);
    json_decref(stats);
    allow_all();
    sharena_free_batch(fixture_heap(), count, blocks);
}

/* Another thread allocates and frees meanwhile. */
static int is_over;

static void *go_on(void *arg) {
    (void)arg;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        void *blocks[200];
        for (size_t i = 0; i < 200; i++) {
            blocks[i] = sharena_malloc(fixture_heap(), i * 100);
        }
        sharena_free_batch(fixture_heap(), 200, blocks);
    }
    return NULL;
}

static void others_go_on_meanwhile(void **state) {
    (void)state;
    pthread_t thread;
    is_over = 0;
    void *block = block_of(1 << 20);
    assert_int_equal(pthread_create(&thread, NULL, go_on, NULL), 0);
    for (int i = 0; i < 200; i++) {
        json_t *stats = collect_json(fixture_heap(), "J");
        uint64_t allocated = json_number(stats, "summary.allocated");
        assert_true(allocated < 8 << 20); /* of one moment each, so not exact: doc/ctl.md */
        assert_true(json_number(stats, "summary.cached") < 8 << 20);
        assert_true(json_number(stats, "merged.small.current") < 1 << 20);
        json_decref(stats);
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    json_t *stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_number(stats, "summary.allocated"), 1 << 20);
    json_decref(stats);
    sharena_free(fixture_heap(), block);
}

/* The function may use the heap: no lock is held. */
static void allocate(void *arg, const char *piece) {
    unsigned *pieces = arg;
    ++*pieces;
    void *block = sharena_malloc(fixture_heap(), strlen(piece) + 1);
    assert_non_null(block);
    sharena_free(fixture_heap(), block);
    assert_int_equal(sharena_ctl(fixture_heap(), "thread.tcache.flush", NULL, NULL, NULL, 0), 0);
}

static void the_function_may_use_the_heap(void **state) {
    (void)state;
    unsigned pieces = 0;
    assert_int_equal(sharena_stats_print(fixture_heap(), allocate, &pieces, "J"), 0);
    assert_true(pieces > 1);
    assert_int_equal(sharena_stats_print(fixture_heap(), allocate, &pieces, ""), 0);
}

/* Numbers that cannot be lead nowhere. */
static void damaged_counts_are_only_wrong_numbers(void **state) {
    (void)state;
    struct pool *pool = heap_pool(fixture_heap());
    (void)fixture_self();
    shared_u64 *counts[] = {&heap_arena(fixture_heap(), 0)->bins[3].regions_given,
                            &heap_arena(fixture_heap(), 0)->large[3].taken, &pool->huge[3].given};
    for (size_t i = 0; i < 3; i++) {
        uint64_t right = shared_get(counts[i]);
        shared_store(counts[i], UINT64_MAX);
        json_decref(collect_json(fixture_heap(), "J"));
        free(collect_text(fixture_heap(), NULL));
        shared_store(counts[i], right);
    }
    uint32_t made = shared_get(&pool->arenas_made);
    shared_store(&pool->arenas_made, UINT32_MAX);
    json_t *stats = collect_json(fixture_heap(), "Jm");
    shared_store(&pool->arenas_made, made);
    assert_int_equal(json_array_size(json_find(stats, "arenas")), ARENAS_MAX);
    json_decref(stats);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(a_heap_must_be_attached),
        with_heap(without_a_function_it_is_stderr),
        with_heap(the_option_prints_at_the_last_close),
        with_heap(the_option_prints_at_exit),
        with_heap(who_only_looks_sees_the_same),
        with_heap(a_full_heap_can_be_looked_at),
        with_heap(others_go_on_meanwhile),
        with_heap(the_function_may_use_the_heap),
        with_heap(damaged_counts_are_only_wrong_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
