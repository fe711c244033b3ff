/* test_full.c -- no slot is left for one more process or thread: it is refused with a reason, and served when
 * one has gone, whether it said goodbye or not.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/resource.h>

#include "section.h"

enum { THREADS_EACH = 512, STACK_BYTES = 1 << 16 };

struct facts { /* shared, not in a heap */
    atomic_int attached;
    atomic_int may_go_on;
    atomic_int failed;
};

static char path[SCRATCH_MAX];
static struct facts *facts;

static const struct sharena_options *options(void) {
    return section_options();
}

static void await_count(atomic_int *count, int wanted) {
    for (int i = 0; i < 600000 && atomic_load(count) < wanted && !atomic_load(&facts->failed);
         i++) {
        crowd_sleep_us(100);
    }
    assert_int_equal(atomic_load(&facts->failed), 0);
    assert_int_equal(atomic_load(count), wanted);
}

static void kill_all(const pid_t *pids, int count) {
    for (int i = 0; i < count; i++) {
        (void)kill(pids[i], SIGKILL);
    }
    for (int i = 0; i < count; i++) {
        (void)child_wait(pids[i]);
    }
}

static void forget(void) {
    memset(facts, 0, sizeof(*facts));
}

/* ---- processes ---- */

static int only_attach(void *arg) {
    sharena_t *heap;
    (void)arg;
    if (sharena_open(path, options(), &heap) != 0) {
        (void)fprintf(stderr, "child: %s\n", sharena_errormsg());
        atomic_store(&facts->failed, 1);
        return 1;
    }
    (void)atomic_fetch_add(&facts->attached, 1);
    return pause();
}

static int be_the_last(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, options(), &heap) == 0);
    REQUIRE(section_prepare(heap) == 0);
    return sharena_close(heap);
}

/* By fork from an attached process: it is in the table only from its first use on. */
static int be_refused_in_a_child(void *arg) {
    sharena_t *heap = arg;
    errno = 0;
    REQUIRE(sharena_malloc(heap, 100) == NULL && errno == EUSERS);
    REQUIRE(strstr(sharena_errormsg(), "1024 process slots") != NULL);
    return 0;
}

static int be_served_in_a_child(void *arg) {
    return section_prepare(arg);
}

/* A limit of tasks that a container sets; none: a great number. */
static long tasks_allowed(const char *file) {
    char text[32] = "";
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    (void)close(fd);
    return got > 0 && text[0] != 'm' ? strtol(text, NULL, 10) : LONG_MAX;
}

static void skip_unless_tasks_fit(long tasks) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NPROC, &limit), 0);
    long allowed = geteuid() == 0 || limit.rlim_cur > LONG_MAX ? LONG_MAX : (long)limit.rlim_cur;
    if (allowed < tasks || tasks_allowed("/sys/fs/cgroup/pids.max") < tasks ||
        tasks_allowed("/sys/fs/cgroup/pids/pids.max") < tasks) {
        print_message("skipped: %ld tasks at once are not allowed here\n", tasks);
        skip();
    }
}

static void test_full_process_table(void **state) {
    (void)state;
    skip_unless_tasks_fit(PROCESSES_MAX + 100);
    static pid_t pids[PROCESSES_MAX];
    sharena_t *heap = NULL;
    forget();
    assert_int_equal(sharena_close(clean_open_with(scratch_path(path, "full"), options())), 0);
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        pids[i] = child_start(only_attach, NULL);
    }
    await_count(&facts->attached, PROCESSES_MAX);
    assert_refused(sharena_open(path, options(), &heap), EUSERS, "1024 process slots");
    assert_null(heap);
    crowd_kill(pids[500]);
    child_run(be_the_last, NULL); /* its slot is free, and free again */
    heap = clean_open_with(path, options());
    assert_int_equal(registry_find(heap)->process_generation, 3); /* the same slot */
    assert_null(section_use_all(heap));
    child_run(be_refused_in_a_child, heap);
    crowd_kill(pids[0]);
    child_run(be_served_in_a_child, heap);
    pids[0] = pids[500] = pids[1];
    kill_all(pids + 1, 499);
    kill_all(pids + 501, PROCESSES_MAX - 501);
    (void)sharena_reap(heap);
    section_check(heap, 0);
    clean_end(heap, path, 0);
}

/* ---- threads ---- */

static sharena_t *heap_of_threads;

static void *take_a_slot(void *arg) {
    atomic_int *count = arg;
    sharena_free(heap_of_threads, sharena_malloc(heap_of_threads, 100));
    (void)atomic_fetch_add(thread_record->is_alive ? count : &facts->failed, 1);
    while (atomic_load(&facts->may_go_on) == 0) {
        crowd_sleep_us(50000);
    }
    return NULL;
}

static int run_threads(void *arg) {
    intptr_t count = (intptr_t)arg;
    static pthread_t threads[THREADS_EACH];
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    REQUIRE(sharena_open(path, options(), &heap_of_threads) == 0);
    for (intptr_t i = 0; i < count; i++) {
        if (pthread_create(&threads[i], &attributes, take_a_slot, &facts->attached) != 0) {
            atomic_store(&facts->failed, 2);
            return 1;
        }
    }
    for (intptr_t i = 0; i < count; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    return sharena_close(heap_of_threads);
}

static void *be_refused_a_slot(void *arg) {
    errno = 0;
    int is_refused = sharena_malloc(arg, 100) == NULL && errno == EUSERS &&
                     strstr(sharena_errormsg(), "4096 thread slots") != NULL;
    return (void *)(intptr_t)!is_refused;
}

static void *be_served(void *arg) {
    void *block = sharena_malloc(arg, 100);
    sharena_free(arg, block);
    return (void *)(intptr_t)(block == NULL);
}

static void join_one(void *(*body)(void *), void *arg) {
    pthread_t thread;
    void *wrong;
    assert_int_equal(pthread_create(&thread, NULL, body, arg), 0);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
}

static void test_full_thread_table(void **state) {
    (void)state;
    enum { PROCESSES = THREADS_MAX / THREADS_EACH };
    pid_t pids[PROCESSES];
    skip_unless_tasks_fit(THREADS_MAX + 200);
    forget();
    sharena_t *heap = clean_open_with(scratch_path(path, "full"), options());
    assert_null(section_use_all(heap)); /* the first slot */
    for (intptr_t i = 0; i < PROCESSES; i++) {
        pids[i] = child_start(run_threads, (void *)(intptr_t)(THREADS_EACH - (i == 0)));
    }
    await_count(&facts->attached, THREADS_MAX - 1);
    join_one(be_refused_a_slot, heap);
    assert_null(section_use_all(heap)); /* who has a slot is served */
    crowd_kill(pids[3]);
    join_one(be_served, heap); /* that it needed a slot was reason enough to reap them */
    assert_int_equal(sharena_reap(heap), 0);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_threads), THREADS_EACH);
    pid_t another = child_start(run_threads, (void *)(intptr_t)THREADS_EACH);
    await_count(&facts->attached, THREADS_MAX - 1 + THREADS_EACH);
    join_one(be_refused_a_slot, heap);
    atomic_store(&facts->may_go_on, 1); /* the threads end */
    pids[3] = another;
    crowd_wait(pids, PROCESSES);
    join_one(be_served, heap);
    assert_int_equal(sharena_reap(heap), 0);
    section_check(heap, 0);
    clean_end(heap, path, 0);
}

int main(void) {
    facts = crowd_memory(sizeof(*facts));
    (void)alarm(280); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_process_table),
        cmocka_unit_test(test_full_thread_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
