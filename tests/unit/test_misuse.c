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
    misuse(heap, SHARENA_MISUSE_FOREIGN, arg, "a very bad pointer");
    return 0;
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
    misuse(heap, SHARENA_MISUSE_FOREIGN, arg, text);
    return 0;
}

static void test_a_long_text_does_no_harm(void **state) {
    (void)state;
    child_stops(report_at_length, heap, "sharena: xxxx");
}

/* ---- who decides ---- */

static struct sharena_misuse seen;
static int answer;

static int watch(const struct sharena_misuse *what, void *arg) {
    assert_ptr_equal(arg, &answer);
    seen = *what;
    errno = EBUSY;
    return answer;
}

static void test_a_hook_is_told_all_and_decides(void **state) {
    (void)state;
    char *block = sharena_malloc(heap, 100);
    assert_int_equal(sharena_set_misuse_hook(heap, watch, &answer), 0);
    answer = 0;
    errno = ERANGE;
    misuse(heap, SHARENA_MISUSE_SIZE, block + 5, "told");
    assert_int_equal(errno, ERANGE);
    assert_int_equal(seen.kind, SHARENA_MISUSE_SIZE);
    assert_int_equal(seen.pid, getpid());
    assert_int_equal(seen.tid, gettid());
    assert_int_equal(seen.freed_pid, 0);
    assert_ptr_equal(seen.heap, heap);
    assert_string_equal(seen.path, fixture_path());
    assert_ptr_equal(seen.ptr, block + 5);
    assert_ptr_equal(seen.block, block);
    assert_int_equal(seen.bytes, 112);
    assert_string_equal(seen.text, "told");
    misuse_report(&(struct sharena_misuse){
        .heap = heap, .ptr = &seen, .text = "freed", .freed_pid = 7, .freed_tid = 8});
    assert_null(seen.block);
    assert_int_equal(seen.freed_pid, 7);
    assert_int_equal(seen.freed_tid, 8);
    answer = 1;
    assert_int_equal(sharena_set_misuse_hook(NULL, watch, &answer), EINVAL);
    sharena_free(heap, block);
}

static int report_with_hook(void *arg) {
    (void)arg;
    answer = 1;
    REQUIRE(sharena_set_misuse_hook(heap, watch, &answer) == 0);
    misuse_report(&(struct sharena_misuse){
        .heap = heap, .ptr = &seen, .text = "hooked", .freed_pid = 7, .freed_tid = 8});
    return 0;
}

static void test_a_hook_may_stop_it(void **state) {
    (void)state;
    child_stops(report_with_hook, NULL, "sharena: hooked");
    child_stops(report_with_hook, NULL, "freed by process 7, thread 8");
    child_stops(report_with_hook, NULL, "this process stops");
}

/* Says something, but not that it stops; stops then. */
static int report_without_abort(void *arg) {
    fixture_attachment()->conf.abort = 0;
    misuse(heap, SHARENA_MISUSE_SIZE, arg, "passed");
    abort();
}

static void test_without_abort_it_is_said_and_passes(void **state) {
    (void)state;
    child_stops(report_without_abort, heap, "the call is ignored");
}

static void test_what_is_inherited_is_not_said(void **state) {
    (void)state;
    const struct thread_slot *other = heap_thread(heap, THREADS_MAX - 1);
    assert_int_equal(sharena_set_misuse_hook(heap, watch, &answer), 0);
    answer = 0;
    seen = (struct sharena_misuse){0};
    misuse_in_slot(heap, other, SHARENA_MISUSE_SIZE, heap, "not mine");
    assert_null(seen.text);
    misuse_in_slot(heap, fixture_self(), SHARENA_MISUSE_SIZE, heap, "mine");
    assert_string_equal(seen.text, "mine");
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
/* The cache has room for one more block like this one. */
static void make_room_for(void *block) {
    size_t bytes = sharena_usable_size(heap, block);
    sharena_free(heap, sharena_malloc(heap, bytes));
    sharena_dallocx(heap, sharena_malloc(heap, bytes), SHARENA_TCACHE_NONE);
}

static int free_twice(void *arg) {
    make_room_for(arg);
    sharena_free(heap, arg);
    sharena_free(heap, arg);
    return sharena_purge(heap);
}

static int free_inside(void *arg) {
    make_room_for(arg);
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
        with_misuse(test_a_hook_is_told_all_and_decides),
        with_misuse(test_a_hook_may_stop_it),
        with_misuse(test_without_abort_it_is_said_and_passes),
        with_misuse(test_what_is_inherited_is_not_said),
        with_misuse(test_a_slot_of_another_is_inherited),
        with_misuse(test_every_way_to_hand_one_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
