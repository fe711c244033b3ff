/* test_thread.c -- a record leads to the slots of its thread, and ends with it or with the fork. */
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "heap_fixture.h"
#include "ipc/forking.h"
#include "ipc/slot.h"
#include "ipc/thread.h"

#define THREADS 120u /* more than two blocks of records */

/* Heaps and slots that nobody looks into. */
static sharena_t *heap_number(uintptr_t number) {
    return (sharena_t *)(number << 30); // NOLINT(performance-no-int-to-ptr)
}

static struct thread_slot *slot_number(uintptr_t number) {
    return (struct thread_slot *)(number << 16); // NOLINT(performance-no-int-to-ptr)
}

/* What thread_exit_hook and thread_visit_others said. */
static struct {
    uint32_t count;
    sharena_t *heaps[THREADS];
    struct thread_slot *slots[THREADS];
} seen;
static pthread_mutex_t seen_mutex = PTHREAD_MUTEX_INITIALIZER;

static void note_exit(sharena_t *heap, struct thread_slot *slot) {
    (void)pthread_mutex_lock(&seen_mutex);
    if (seen.count < THREADS) {
        seen.heaps[seen.count] = heap;
        seen.slots[seen.count] = slot;
    }
    seen.count++;
    (void)pthread_mutex_unlock(&seen_mutex);
}

static void note_visit(struct thread_slot *slot) {
    note_exit(NULL, slot);
}

static int has_seen(const struct thread_slot *slot) {
    int times = 0;
    for (uint32_t i = 0; i < seen.count && i < THREADS; i++) {
        times += seen.slots[i] == slot;
    }
    return times;
}

/* With a heap attached, which makes the private state; its exit hook is replaced meanwhile. */
static void (*real_hook)(sharena_t *heap, struct thread_slot *slot);

static int open_hooked(void **state) {
    int error = heap_fixture_open(state);
    real_hook = thread_exit_hook;
    thread_exit_hook = note_exit;
    seen.count = 0;
    return error;
}

static int close_hooked(void **state) {
    thread_exit_hook = real_hook;
    return heap_fixture_close(state);
}

static void *run_thread(void *(*body)(void *), void *arg) {
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, body, arg), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return result;
}

/* ---- records ---- */

static void slot_is_found_until_its_heap_is_forgotten(void **state) {
    (void)state;
    assert_null(thread_find_slot(heap_number(1)));
    assert_int_equal(thread_add_slot(heap_number(1), slot_number(1)), 0);
    assert_int_equal(thread_add_slot(heap_number(2), slot_number(2)), 0);
    assert_ptr_equal(thread_find_slot(heap_number(1)), slot_number(1));
    assert_ptr_equal(thread_find_slot(heap_number(2)), slot_number(2));
    assert_int_equal(thread_record->is_alive, 1);
    thread_record->hint_heap = heap_number(2);
    thread_forget_heap(heap_number(1));
    assert_null(thread_find_slot(heap_number(1)));
    assert_ptr_equal(thread_find_slot(heap_number(2)), slot_number(2));
    assert_ptr_equal(thread_record->hint_heap, heap_number(2));
    thread_forget_heap(heap_number(2));
    assert_null(thread_find_slot(heap_number(2)));
    assert_ptr_equal(thread_record->hint_heap, HINT_NONE);
    thread_forget_heap(heap_number(2));
}

static void each_thread_may_use_so_many_heaps(void **state) {
    (void)state;
    for (uint32_t i = 1; i <= HEAPS_MAX; i++) {
        assert_int_equal(thread_add_slot(heap_number(i), slot_number(i)), 0);
    }
    assert_refused(thread_add_slot(heap_number(HEAPS_MAX + 1), slot_number(1)), EMFILE, "64 heaps");
    for (uint32_t i = 1; i <= HEAPS_MAX; i++) {
        assert_ptr_equal(thread_find_slot(heap_number(i)), slot_number(i));
        thread_forget_heap(heap_number(i));
    }
}

static void *look_for_heap_one(void *arg) {
    (void)arg;
    return thread_find_slot(heap_number(1));
}

static void slots_of_other_threads_are_not_found(void **state) {
    (void)state;
    assert_int_equal(thread_add_slot(heap_number(1), slot_number(1)), 0);
    assert_null(run_thread(look_for_heap_one, NULL));
    thread_forget_heap(heap_number(1));
}

static void *find_without_record(void *arg) {
    (void)arg;
    struct thread_record *before = thread_record;
    thread_forget_heap(heap_number(1)); /* touches nothing: the record is a constant */
    int is_empty = thread_find_slot(heap_number(1)) == NULL &&
                   thread_record->hint_heap == HINT_NONE && thread_record == before &&
                   thread_record->is_alive == 0;
    return (void *)(intptr_t)is_empty;
}

static void fresh_thread_has_an_empty_record(void **state) {
    (void)state;
    assert_int_equal((intptr_t)run_thread(find_without_record, NULL), 1);
}

/* ---- the end of a thread ---- */

static void *add_two_heaps(void *arg) {
    intptr_t error = thread_add_slot(heap_number(1), slot_number(11)) |
                     thread_add_slot(heap_number(2), slot_number(12));
    struct thread_record **record = arg;
    *record = thread_record;
    return (void *)error;
}

static void end_of_thread_calls_the_hook_for_each_slot(void **state) {
    (void)state;
    struct thread_record *records[2];
    for (uint32_t i = 0; i < 2; i++) {
        seen.count = 0;
        assert_null(run_thread(add_two_heaps, &records[i]));
        assert_int_equal(seen.count, 2);
        assert_ptr_equal(seen.heaps[0], heap_number(1));
        assert_ptr_equal(seen.slots[0], slot_number(11));
        assert_ptr_equal(seen.heaps[1], heap_number(2));
        assert_ptr_equal(seen.slots[1], slot_number(12));
        assert_null(records[i]->heaps[0].heap);
        assert_int_equal(records[i]->is_alive, 0);
    }
    assert_ptr_equal(records[1], records[0]); /* reused */
}

static void *add_and_forget(void *arg) {
    (void)arg;
    intptr_t error = thread_add_slot(heap_number(1), slot_number(1));
    thread_forget_heap(heap_number(1));
    return (void *)error;
}

static void forgotten_slot_has_no_end(void **state) {
    (void)state;
    assert_null(run_thread(add_and_forget, NULL));
    assert_int_equal(seen.count, 0);
}

/* A destructor of the application that runs after ours: it finds the heap gone from the record. */
static pthread_key_t late_key;
static int late_runs;
static int late_again;

static void use_heap_late(void *value) {
    sharena_free(fixture_heap(), value);
    void *block = sharena_malloc(fixture_heap(), 200);
    late_runs++;
    if (late_again) {
        (void)pthread_setspecific(late_key, block);
    } else {
        sharena_free(fixture_heap(), block);
    }
}

static void *set_late_key(void *arg) {
    struct thread_slot **slot = arg;
    void *block = sharena_malloc(fixture_heap(), 100);
    *slot = thread_find_slot(fixture_heap());
    (void)pthread_setspecific(late_key, block);
    return block;
}

static void late_destructor_still_can_free(void **state) {
    (void)state;
    struct thread_slot *slot = NULL;
    uint32_t high = shared_get(&heap_state(fixture_heap())->threads_high);
    late_runs = 0;
    late_again = 0;
    assert_int_equal(pthread_key_create(&late_key, use_heap_late), 0); /* behind ours */
    for (int i = 1; i <= 3; i++) {
        assert_non_null(run_thread(set_late_key, &slot));
        assert_int_equal(late_runs, i);
        assert_int_equal(shared_get(&slot->state), SLOT_FREE);
        assert_int_equal(shared_get(&slot->generation), 2 * i); /* given back, taken, given back */
    }
    assert_int_equal(shared_get(&heap_state(fixture_heap())->threads_high), high + 1);
    assert_int_equal(pthread_key_delete(late_key), 0);
}

/* Libc gives up after some rounds; then the slot is one of a dead thread. */
static void slot_of_an_endless_destructor_is_reaped(void **state) {
    (void)state;
    struct thread_slot *slot = NULL;
    late_runs = 0;
    late_again = 1;
    assert_int_equal(pthread_key_create(&late_key, use_heap_late), 0);
    assert_non_null(run_thread(set_late_key, &slot));
    assert_int_equal(late_runs, PTHREAD_DESTRUCTOR_ITERATIONS);
    assert_int_equal(shared_get(&slot->state), SLOT_USED);
    assert_int_equal(sharena_reap(fixture_heap()), 1);
    assert_int_equal(shared_get(&slot->state), SLOT_FREE);
    assert_int_equal(pthread_key_delete(late_key), 0);
}

/* ---- a thread that ends without libc, and so without us ---- */

struct stage {        /* shared with the child, outside of the heap */
    uint32_t slot;    /* index */
    uint32_t is_set;  /* atomic */
    uint32_t is_over; /* atomic */
};

static int await(const uint32_t *flag) {
    for (int i = 0; i < 50000 && !__atomic_load_n(flag, __ATOMIC_ACQUIRE); i++) {
        (void)usleep(100);
    }
    return (int)__atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void *end_without_libc(void *arg) {
    uint32_t *slot = arg;
    *slot = shared_get(&fixture_self()->index);
    (void)syscall(SYS_exit, 0);
    return NULL;
}

static int cache_and_look_again(void *arg) {
    static struct tcache before;
    struct stage *stage = arg;
    struct thread_slot *self = fixture_self();
    REQUIRE(shared_get(&self->index) == stage->slot);
    sharena_free(fixture_heap(), sharena_malloc(fixture_heap(), 100));
    memcpy(&before, slot_tcache(self), sizeof(before));
    __atomic_store_n(&stage->is_set, 1, __ATOMIC_RELEASE);
    REQUIRE(await(&stage->is_over));
    REQUIRE(memcmp((const char *)&before, (const char *)slot_tcache(self), sizeof(before)) == 0);
    sharena_free(fixture_heap(), sharena_malloc(fixture_heap(), 100));
    return 0;
}

static int close_after_losing_a_thread(void *arg) {
    struct stage *stage = arg;
    pthread_t thread;
    sharena_t *heap = fixture_heap();
    (void)fixture_self(); /* has a slot before it */
    REQUIRE(pthread_create(&thread, NULL, end_without_libc, &stage->slot) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    REQUIRE(sharena_reap(heap) == 1);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(cache_and_look_again(stage));
    }
    REQUIRE(pid > 0 && await(&stage->is_set));
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(registry_find(heap) == NULL);
    __atomic_store_n(&stage->is_over, 1, __ATOMIC_RELEASE);
    REQUIRE(child_wait(pid) == 0);
    return 0;
}

/* Its record stays, but its slot may be another process's by the time we close. In a child, because
 * a sanitizer does not survive such threads. */
static void slot_of_a_dead_thread_is_not_flushed(void **state) {
    (void)state;
    struct stage *stage =
        mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(stage, MAP_FAILED);
    child_run(close_after_losing_a_thread, stage);
    assert_int_equal(munmap(stage, sizeof(*stage)), 0);
}

/* ---- many threads ---- */

static pthread_barrier_t all_there;
static pthread_barrier_t may_end;

static void *add_own_number(void *arg) {
    uintptr_t number = (uintptr_t)arg;
    intptr_t error = thread_add_slot(heap_number(1 + number % 2), slot_number(100 + number));
    (void)pthread_barrier_wait(&all_there);
    error |= thread_find_slot(heap_number(1 + number % 2)) != slot_number(100 + number);
    (void)pthread_barrier_wait(&may_end);
    return (void *)error;
}

static void others_are_visited_by_heap(void **state) {
    (void)state;
    static pthread_t threads[THREADS];
    assert_int_equal(thread_add_slot(heap_number(1), slot_number(1)), 0);
    assert_int_equal(pthread_barrier_init(&all_there, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_barrier_init(&may_end, NULL, THREADS + 1), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_own_number, (void *)i), 0);
    }
    (void)pthread_barrier_wait(&all_there);
    thread_visit_others(heap_number(1), note_visit);
    assert_int_equal(seen.count, THREADS / 2);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(has_seen(slot_number(100 + i)), i % 2 == 0);
    }
    assert_int_equal(has_seen(slot_number(1)), 0); /* our own */
    seen.count = 0;
    (void)pthread_barrier_wait(&may_end);
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *error = NULL;
        assert_int_equal(pthread_join(threads[i], &error), 0);
        assert_null(error);
    }
    assert_int_equal(seen.count, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(has_seen(slot_number(100 + i)), 1);
    }
    seen.count = 0;
    thread_visit_others(heap_number(1), note_visit); /* they are gone */
    assert_int_equal(seen.count, 0);
    thread_forget_heap(heap_number(1));
    assert_int_equal(pthread_barrier_destroy(&all_there), 0);
    assert_int_equal(pthread_barrier_destroy(&may_end), 0);
}

/* ---- children ---- */

static int is_empty_of_parents(void) {
    seen.count = 0;
    thread_visit_others(heap_number(1), note_visit);
    return thread_find_slot(heap_number(1)) == NULL && thread_record->hint_heap == NULL &&
           thread_record->is_alive == 0 && seen.count == 0;
}

/* The record of the parent's other thread is free, and so the next to be taken. */
static int takes_record(const struct thread_record *free_record) {
    pthread_t thread;
    struct thread_record *record = NULL;
    void *error = NULL;
    REQUIRE(pthread_create(&thread, NULL, add_two_heaps, &record) == 0);
    REQUIRE(pthread_join(thread, &error) == 0 && error == NULL);
    REQUIRE(record == free_record);
    return 0;
}

static int look_after_fork(void *arg) {
    REQUIRE(!thread_process_is_new()); /* the handler has run */
    REQUIRE(is_empty_of_parents());
    REQUIRE(thread_add_slot(heap_number(1), slot_number(9)) == 0);
    REQUIRE(thread_find_slot(heap_number(1)) == slot_number(9));
    return takes_record(arg);
}

static int look_without_handlers(void) {
    REQUIRE(thread_process_is_new());
    REQUIRE(is_empty_of_parents());
    forking_notice_child();
    REQUIRE(!thread_process_is_new());
    REQUIRE(is_empty_of_parents());
    REQUIRE(thread_add_slot(heap_number(1), slot_number(9)) == 0);
    REQUIRE(thread_find_slot(heap_number(1)) == slot_number(9));
    return 0;
}

static void *add_heap_one(void *arg) {
    struct thread_record **record = arg;
    intptr_t error = thread_add_slot(heap_number(1), slot_number(2));
    *record = thread_record;
    (void)pthread_barrier_wait(&all_there);
    (void)pthread_barrier_wait(&may_end);
    return (void *)error;
}

static void child_finds_nothing_of_its_parent(void **state) {
    (void)state;
    pthread_t other;
    struct thread_record *others_record = NULL;
    assert_int_equal(pthread_barrier_init(&all_there, NULL, 2), 0);
    assert_int_equal(pthread_barrier_init(&may_end, NULL, 2), 0);
    assert_int_equal(thread_add_slot(heap_number(1), slot_number(1)), 0);
    assert_int_equal(pthread_create(&other, NULL, add_heap_one, &others_record), 0);
    (void)pthread_barrier_wait(&all_there);
    thread_record->hint_heap = heap_number(1);
    child_run(look_after_fork, others_record);
    pid_t pid = _Fork();
    if (pid == 0) {
        _exit(look_without_handlers());
    }
    assert_int_equal(child_wait(pid), 0);
    assert_false(thread_process_is_new());
    assert_ptr_equal(thread_find_slot(heap_number(1)), slot_number(1));
    assert_ptr_equal(thread_record->hint_heap, heap_number(1));
    thread_forget_heap(heap_number(1));
    (void)pthread_barrier_wait(&may_end);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&all_there), 0);
    assert_int_equal(pthread_barrier_destroy(&may_end), 0);
}

/* The records of the parent's threads are for the child's threads to use. */
static int run_many_threads(void *arg) {
    static pthread_t threads[THREADS];
    (void)arg;
    seen.count = 0;
    REQUIRE(thread_add_slot(heap_number(1), slot_number(9)) == 0);
    REQUIRE(pthread_barrier_init(&all_there, NULL, THREADS) == 0);
    REQUIRE(pthread_barrier_init(&may_end, NULL, THREADS) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, add_own_number, (void *)i) == 0);
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        void *error = NULL;
        REQUIRE(pthread_join(threads[i], &error) == 0 && error == NULL);
    }
    REQUIRE(seen.count == THREADS);
    REQUIRE(thread_find_slot(heap_number(1)) ==
            slot_number(9)); /* our record was not one of them */
    return 0;
}

static void child_has_threads_of_its_own(void **state) {
    (void)state;
    assert_int_equal(thread_add_slot(heap_number(1), slot_number(1)), 0);
    child_run(run_many_threads, NULL);
    thread_forget_heap(heap_number(1));
}

#define with_hook(f) cmocka_unit_test_setup_teardown(f, open_hooked, close_hooked)
#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_hook(slot_is_found_until_its_heap_is_forgotten),
        with_hook(each_thread_may_use_so_many_heaps),
        with_hook(slots_of_other_threads_are_not_found),
        with_hook(fresh_thread_has_an_empty_record),
        with_hook(end_of_thread_calls_the_hook_for_each_slot),
        with_hook(forgotten_slot_has_no_end),
        with_heap(late_destructor_still_can_free),
        with_heap(slot_of_a_dead_thread_is_not_flushed),
        with_hook(others_are_visited_by_heap),
        with_hook(child_finds_nothing_of_its_parent),
        with_hook(child_has_threads_of_its_own),
        with_heap(slot_of_an_endless_destructor_is_reaped), /* the last: it costs a record */
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
