/* test_misuse.c -- who hands in a bad pointer learns which, and stops. */
#include "heap/misuse.h"

#include <pthread.h>
#include <sys/resource.h>

#include "heap_parts.h"

static sharena_t *heap;

static int open_misuse(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    (void)fixture_self();
    return error;
}

#define with_misuse(f) cmocka_unit_test_setup_teardown(f, open_misuse, heap_fixture_close)

/* ---- the report ---- */

static int report_to; /* what is said goes there */

static int report(void *arg) {
    const struct rlimit no_core = {0, 0};
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    REQUIRE(dup2(report_to, STDERR_FILENO) == STDERR_FILENO);
    misuse(heap, arg, "a very bad pointer");
}

static void assert_contains(const char *text, const char *format, unsigned long long value) {
    char part[64];
    (void)snprintf(part, sizeof(part), format, value);
    if (strstr(text, part) == NULL) {
        fail_msg("no '%s' in: %s", part, text);
    }
}

static void test_names_pointer_heap_and_process(void **state) {
    (void)state;
    char said[1024] = "";
    int ends[2];
    char *wild = heap_bytes(heap) + 0x123456;
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    report_to = ends[1];
    pid_t pid = child_start(report, wild);
    int status = child_wait(pid);
    assert_true(read(ends[0], said, sizeof(said) - 1) > 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_ptr_equal(strstr(said, "sharena: a very bad pointer"), said);
    assert_contains(said, "pointer 0x%llx", (unsigned long long)(uintptr_t)wild);
    assert_contains(said, "heap 0x%llx", (unsigned long long)(uintptr_t)heap);
    assert_contains(said, "process %llu", (unsigned long long)pid);
    assert_contains(said, "thread %llu", (unsigned long long)pid); /* its only one */
    assert_int_equal(said[strlen(said) - 1], '\n');
}

/* A long text is cut, not written past its buffer. */
static int report_at_length(void *arg) {
    static char text[1000];
    memset(text, 'x', sizeof(text) - 1);
    misuse(heap, arg, text);
}

static void test_a_long_text_does_no_harm(void **state) {
    (void)state;
    child_stops(report_at_length, heap, "sharena: xxxx");
}

/* ---- whose fault it is ---- */

static void *other_thread(void *arg) {
    struct thread_slot *slot = arg;
    struct thread_slot *own = fixture_self();
    return misuse_is_inherited(heap, slot) && !misuse_is_inherited(heap, own) ? arg : NULL;
}

static void test_a_slot_of_another_is_inherited(void **state) {
    (void)state;
    pthread_t thread;
    void *agrees = NULL;
    struct thread_slot *self = fixture_self();
    assert_false(misuse_is_inherited(heap, self));
    assert_int_equal(pthread_create(&thread, NULL, other_thread, self), 0);
    assert_int_equal(pthread_join(thread, &agrees), 0);
    assert_ptr_equal(agrees, self);
}

/* ---- every way to hand one in ---- */

struct deed {
    const char *text;    /* what is said */
    int (*body)(void *); /* what is done to the block */
    size_t size;         /* of the block */
};

static int free_twice_past_the_cache(void *arg) {
    sharena_dallocx(heap, arg, SHARENA_TCACHE_NONE);
    sharena_dallocx(heap, arg, SHARENA_TCACHE_NONE);
    return 0;
}

static int free_inside_past_the_cache(void *arg) {
    sharena_dallocx(heap, (char *)arg + 8, SHARENA_TCACHE_NONE);
    return 0;
}

/* Into the cache it goes, which the thread must have; when that is emptied, it is noticed. */
static int free_twice(void *arg) {
    (void)fixture_self();
    sharena_free(heap, arg);
    sharena_free(heap, arg);
    return sharena_purge(heap);
}

static int free_inside(void *arg) {
    (void)fixture_self();
    sharena_free(heap, (char *)arg + 8);
    return sharena_purge(heap);
}

static int free_foreign(void *arg) {
    (void)arg;
    sharena_free(heap, &heap);
    return 0;
}

static int free_metadata(void *arg) {
    (void)arg;
    sharena_free(heap, heap);
    return 0;
}

static int free_behind_the_end(void *arg) {
    (void)arg;
    sharena_free(heap, heap_bytes(heap) + heap_superblock(heap)->total_bytes - 64);
    return 0;
}

static int size_of_inside(void *arg) {
    return sharena_usable_size(heap, (char *)arg + 8) == 0;
}

static int realloc_inside(void *arg) {
    return sharena_realloc(heap, (char *)arg + 8, 1000000) == NULL;
}

static const struct deed deeds[] = {
    {"double free of a small block", free_twice_past_the_cache, 100},
    {"not a live block", free_twice_past_the_cache, 20000},
    {"not a live block", free_twice_past_the_cache, (size_t)9 << 20},
    {"not the start of a block", free_inside_past_the_cache, 100},
    {"not the start of a block", free_inside_past_the_cache, 20000},
    {"not the start of a block", free_inside_past_the_cache, (size_t)9 << 20},
    {"double free of a small block", free_twice, 100},
    {"not a live large or huge block", free_twice, 20000},
    {"not a live block", free_twice, (size_t)9 << 20},
    {"not the start of a block", free_inside, 100},
    {"not a live large or huge block", free_inside, 20000},
    {"not the start of a block", free_inside, (size_t)9 << 20},
    {"not in this heap", free_foreign, 100},
    {"not in this heap", free_metadata, 100},
    {"not in this heap", free_behind_the_end, 100},
    {"not the start of a block", size_of_inside, 100},
    {"not the start of a block", size_of_inside, 20000},
    {"not the start of a block", realloc_inside, 100},
};

/* Freed once rightly, the block is gone; else nothing has changed at all. */
static void test_every_way_to_hand_one_in(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        void *neighbour = sharena_malloc(heap, deeds[i].size);
        void *block = sharena_malloc(heap, deeds[i].size);
        assert_non_null(block);
        assert_int_equal(sharena_purge(heap), 0);
        struct books before = books_now();
        child_stops(deeds[i].body, block, deeds[i].text);
        (void)sharena_reap(heap);
        struct books after = books_now();
        int was_freed = deeds[i].body == free_twice || deeds[i].body == free_twice_past_the_cache;
        assert_int_equal(after.report.blocks_live, before.report.blocks_live - (was_freed ? 1 : 0));
        if (!was_freed) {
            sharena_free(heap, block);
        }
        sharena_free(heap, neighbour);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_misuse(test_names_pointer_heap_and_process),
        with_misuse(test_a_long_text_does_no_harm),
        with_misuse(test_a_slot_of_another_is_inherited),
        with_misuse(test_every_way_to_hand_one_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
