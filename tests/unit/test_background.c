/* test_background.c -- a thread that looks after the heap while nobody calls, and ends with it. */
#include "heap/background.h"

#include <dirent.h>
#include <time.h>

#include "clean_heap.h"
#include "heap/heap.h"

#define PATIENCE_MS 20000 /* on a busy machine */

static char path[SCRATCH_MAX];
static sharena_t *heap;

static void pause_ms(long ms) {
    const struct timespec pause = {0, ms * 1000000};
    (void)nanosleep(&pause, NULL);
}

static int tasks(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = -2; /* . and .. */
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    (void)closedir(folder);
    return count;
}

/* The kernel removes a task a little after it was joined. */
static int await_tasks(int wanted) {
    for (int i = 0; i < PATIENCE_MS / 10 && tasks() != wanted; i++) {
        pause_ms(10);
    }
    return tasks() == wanted;
}

static void open_with(const char *conf) {
    const struct sharena_options options = {
        .capacity_bytes = GIB, .base_address = clean_base(0), .conf = conf};
    heap = clean_open_with(scratch_path(path, "background"), &options);
}

static uint64_t dirty_pages(void) {
    return shared_get(&heap_arena(heap, 0)->pages_dirty) +
           shared_get(&heap_pool(heap)->pages_dirty);
}

static int await_clean(void) {
    for (int i = 0; i < PATIENCE_MS / 10 && dirty_pages() != 0; i++) {
        pause_ms(10);
    }
    return dirty_pages() == 0;
}

static void make_dirty(void) {
    sharena_free(heap, sharena_malloc(heap, 6 * MIB));
    sharena_dallocx(heap, sharena_mallocx(heap, 300 * KIB, SHARENA_TCACHE_NONE),
                    SHARENA_TCACHE_NONE);
}

static void memory_decays_though_nobody_calls(void **state) {
    (void)state;
    open_with("background_thread:true,dirty_decay_ms:300");
    assert_int_equal(tasks(), 1); /* not before it is needed */
    make_dirty();
    assert_int_equal(tasks(), 2);
    assert_int_not_equal(dirty_pages(), 0);
    assert_int_equal(await_clean(), 1);
    clean_check(heap, 0);
    make_dirty();
    assert_int_equal(tasks(), 2); /* one is enough */
    assert_int_equal(await_clean(), 1);
    clean_end(heap, path, 0);
    assert_int_equal(await_tasks(1), 1);
}

static void without_it_nothing_happens(void **state) {
    (void)state;
    open_with("dirty_decay_ms:300");
    make_dirty();
    uint64_t dirty = dirty_pages();
    pause_ms(900);
    assert_int_equal(dirty_pages(), dirty);
    assert_int_equal(tasks(), 1);
    clean_end(heap, path, 0);
}

static int die_with_a_cache(void *arg) {
    (void)arg;
    sharena_free(heap, sharena_malloc(heap, 100));
    return raise(SIGKILL);
}

static void the_dead_are_reaped(void **state) {
    (void)state;
    open_with("background_thread:true,reap_interval_ms:100");
    make_dirty();
    (void)child_wait(child_start(die_with_a_cache, NULL));
    const struct heap_state *books = heap_state(heap);
    for (int i = 0; i < PATIENCE_MS / 10 && shared_get(&books->reaped_threads) == 0; i++) {
        pause_ms(10);
    }
    assert_true(shared_get(&books->reaped_threads) >= 1);
    clean_end(heap, path, 0);
}

/* Only the last close ends it; the next open begins anew. */
static void it_lives_as_long_as_the_heap_is_open(void **state) {
    (void)state;
    sharena_t *again;
    open_with("background_thread:true,dirty_decay_ms:300");
    make_dirty();
    assert_int_equal(sharena_open(path, NULL, &again), 0);
    assert_int_equal(sharena_close(again), 0);
    assert_int_equal(tasks(), 2);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sharena_close(heap), 0);
        assert_null(registry_find(heap)); /* it does not linger for that thread */
        assert_int_equal(await_tasks(1), 1);
        open_with("background_thread:true,dirty_decay_ms:300");
        make_dirty();
        pause_ms(i % 5 * 20);
        assert_int_equal(tasks(), 2);
    }
    clean_end(heap, path, 0);
}

/* A fork's child has its own, from its first use on, and may close as anybody. */
static int use_as_a_child(void *arg) {
    (void)arg;
    REQUIRE(tasks() == 1);
    make_dirty();
    REQUIRE(tasks() == 2);
    REQUIRE(await_clean());
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(await_tasks(1));
    return 0;
}

static void children_have_their_own(void **state) {
    (void)state;
    open_with("background_thread:true,dirty_decay_ms:300");
    make_dirty();
    for (int i = 0; i < 10; i++) {
        child_run(use_as_a_child, NULL);
        pid_t pid = _Fork();
        if (pid == 0) {
            _exit(use_as_a_child(NULL));
        }
        assert_int_equal(child_wait(pid), 0);
    }
    assert_int_equal(tasks(), 2);
    clean_end(heap, path, 0);
}

/* A child that never uses the heap. */
static int only_close(void *arg) {
    (void)arg;
    return sharena_close(heap);
}

static void a_child_may_close_at_once(void **state) {
    (void)state;
    open_with("background_thread:true");
    make_dirty();
    child_run(only_close, NULL);
    clean_end(heap, path, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_decays_though_nobody_calls),
        cmocka_unit_test(without_it_nothing_happens),
        cmocka_unit_test(the_dead_are_reaped),
        cmocka_unit_test(it_lives_as_long_as_the_heap_is_open),
        cmocka_unit_test(children_have_their_own),
        cmocka_unit_test(a_child_may_close_at_once),
    };
    (void)alarm(200);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
