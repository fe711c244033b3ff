/* test_fork.c -- fork and its relatives, from threads, while other threads allocate: nothing is handed
 * out twice, nothing hangs.
 */
#include <pthread.h>
#include <spawn.h>
#include <sys/syscall.h>

#include "crowd.h"

extern pid_t _Fork(void) __attribute__((weak)); /* glibc 2.34 */

enum { KEPT = 200, THREADS = 2, ROUNDS = 30 };

static char path[SCRATCH_MAX];
static char program[SCRATCH_MAX];
static sharena_t *heap;
static atomic_int is_over;
static pthread_t threads[THREADS];
static sharena_t *churned; /* what they use: a test may look at another */

/* ---- threads that allocate meanwhile ---- */

static void *churn(void *arg) {
    uint64_t random = (uintptr_t)arg;
    void *blocks[KEPT] = {NULL};
    intptr_t wrong = 0;
    while (!atomic_load(&is_over)) {
        size_t at = clean_random(&random) % KEPT;
        size_t bytes = 1 + clean_random(&random) % 3000;
        sharena_free(churned, blocks[at]);
        blocks[at] = sharena_malloc(churned, bytes);
        wrong += blocks[at] == NULL;
    }
    sharena_free_batch(churned, KEPT, blocks);
    return (void *)wrong;
}

static int start_all(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "fork"), NULL);
    churned = heap;
    atomic_store(&is_over, 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    }
    return 0;
}

static int end_all(void **state) {
    (void)state;
    atomic_store(&is_over, 1);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    (void)sharena_reap(heap);
    clean_end(heap, path, 0);
    return 0;
}

/* ---- what a child does ---- */

struct family { /* in the heap */
    void *of_parent[KEPT];
    void *of_child[KEPT];
    int expected_errno;
};

static uint64_t seed_of(const void *block) {
    return (uintptr_t)block >> 4;
}

/* Frees what the parent gave it, makes its own, stamps them, leaves them for the parent. Only calls of
 * sharena: this runs in children of _Fork() and clone() too. */
static int be_child(void *arg) {
    struct family *family = arg;
    for (int i = 0; i < KEPT; i++) {
        size_t bytes = 16 + (size_t)i * 7;
        if (clean_compare(family->of_parent[i], bytes, seed_of(family->of_parent[i])) != bytes) {
            return 10;
        }
        void *own = sharena_malloc(heap, bytes);
        if (own == NULL) {
            return 11;
        }
        clean_fill(own, bytes, seed_of(own));
        family->of_child[i] = own;
        sharena_free(heap, family->of_parent[i]);
        family->of_parent[i] = NULL;
    }
    if (sharena_heap_of(arg) != heap || sharena_root_get(heap, "family") != arg) {
        return 12;
    }
    return 0;
}

static int be_refused(void *arg) {
    const struct family *family = arg;
    errno = 0;
    if (sharena_malloc(heap, 10000) != NULL) {
        return 20;
    }
    return errno == family->expected_errno && strlen(sharena_errormsg()) > 0 ? 0 : 21;
}

static char stack[1 << 17] __attribute__((aligned(64)));

static pid_t by_fork(int (*body)(void *), void *arg) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(body(arg));
    }
    return pid;
}

static pid_t by_underscore_fork(int (*body)(void *), void *arg) {
    pid_t pid = _Fork();
    if (pid == 0) {
        _exit(body(arg));
    }
    return pid;
}

static pid_t by_clone(int (*body)(void *), void *arg) {
    return clone(body, stack + sizeof(stack), SIGCHLD, arg);
}

/* libc's idea of the thread's id stays that of the parent. */
static pid_t by_raw_fork(int (*body)(void *), void *arg) {
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        _exit(body(arg));
    }
    return pid;
}

static void go_forth(pid_t (*make)(int (*)(void *), void *), int (*body)(void *),
                     int expected_errno) {
    struct family *family = sharena_root_create(heap, "family", sizeof(*family), NULL, NULL);
    assert_non_null(family);
    family->expected_errno = expected_errno;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < KEPT; i++) {
            size_t bytes = 16 + (size_t)i * 7;
            family->of_parent[i] = sharena_malloc(heap, bytes);
            clean_fill(family->of_parent[i], bytes, seed_of(family->of_parent[i]));
        }
        (void)fflush(NULL);
        pid_t pid = make(body, family);
        assert_true(pid > 0);
        for (int i = 0; i < 1000; i++) { /* the parent goes on from the same cache */
            sharena_free(heap, sharena_malloc(heap, (size_t)i));
        }
        int status = child_wait(pid);
        if (status != 0) {
            fail_msg("round %d: the child ended with %#x", round, (unsigned)status);
        }
        for (int i = 0; i < KEPT; i++) {
            size_t bytes = 16 + (size_t)i * 7;
            void *block = family->of_child[i];
            assert_true(block == NULL || clean_compare(block, bytes, seed_of(block)) == bytes);
            sharena_free(heap, block);
            family->of_child[i] = NULL;
            sharena_free(heap, family->of_parent[i]);
        }
        if (sharena_check(heap, NULL) != 0) {
            fail_msg("%s", sharena_errormsg());
        }
    }
    assert_int_equal(sharena_root_set(heap, "family", NULL), 0);
    sharena_free(heap, family);
}

static void test_fork(void **state) {
    (void)state;
    go_forth(by_fork, be_child, 0);
}

static void test_underscore_fork(void **state) {
    (void)state;
    if (_Fork == NULL) {
        print_message("skipped: this libc has no _Fork()\n");
        skip();
    }
    go_forth(by_underscore_fork, be_child, 0);
}

/* glibc's clone() leaves the id of the parent's thread in the child, so its robust mutexes would not be
 * told from the parent's: it is refused, like a raw system call, and nothing is harmed. */
static void test_clone(void **state) {
    (void)state;
    go_forth(by_clone, be_refused, EPERM);
}

static void test_raw_fork(void **state) {
    (void)state;
    go_forth(by_raw_fork, be_refused, EPERM);
}

/* ---- what a child of fork() is like ---- */

static int compare_mask(void *arg) {
    sigset_t mask;
    REQUIRE(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    for (int signal = 1; signal < 32; signal++) {
        REQUIRE(sigismember(&mask, signal) == sigismember(arg, signal));
    }
    return 0;
}

static void test_signal_mask_is_inherited(void **state) {
    (void)state;
    sigset_t mask;
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    for (int i = 0; i < 2; i++) {
        pid_t pid = by_fork(compare_mask, &mask);
        assert_int_equal(child_wait(pid), 0);
        if (_Fork != NULL) {
            pid = by_underscore_fork(compare_mask, &mask);
            assert_int_equal(child_wait(pid), 0);
        }
        sigset_t now;
        assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
        assert_int_equal(sigismember(&now, SIGTERM), sigismember(&mask, SIGTERM));
        (void)sigaddset(&mask, SIGUSR1);
        assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
    }
    (void)sigdelset(&mask, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
}

/* Children of children, each using the heap before and after it forks. */
static int nest(void *arg) {
    intptr_t depth = (intptr_t)arg;
    void *block = sharena_malloc(heap, 100);
    REQUIRE(block != NULL);
    clean_fill(block, 100, (uint64_t)depth);
    if (depth > 0) {
        pid_t pid = by_fork(nest, (void *)(depth - 1));
        REQUIRE(pid > 0);
        REQUIRE(child_wait(pid) == 0);
    }
    REQUIRE(clean_compare(block, 100, (uint64_t)depth) == 100);
    sharena_free(heap, block);
    REQUIRE(clean_is_not(heap) == 0);
    return depth % 2 ? sharena_close(heap) : 0;
}

static void test_generations(void **state) {
    (void)state;
    assert_int_equal(child_wait(by_fork(nest, (void *)(intptr_t)8)), 0);
}

/* The child lives on when the parent has closed, and is attached by itself. */
static int outlive(void *arg) {
    int *pipes = arg;
    char go;
    REQUIRE(read(pipes[0], &go, 1) == 1);
    REQUIRE(sharena_unlink(path) == EBUSY);
    void *block = sharena_malloc(heap, 100);
    REQUIRE(block != NULL);
    sharena_free(heap, block);
    REQUIRE(clean_is_not(heap) == 0);
    return sharena_close(heap);
}

static void test_child_outlives_the_parents_close(void **state) {
    (void)state;
    int pipes[2];
    char elsewhere[SCRATCH_MAX];
    sharena_t *kept = heap;
    (void)snprintf(elsewhere, sizeof(elsewhere), "%s", path);
    heap = clean_open_with(scratch_path(path, "fork-2"), NULL);
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = child_start(outlive, pipes);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(write(pipes[1], "x", 1), 1);
    assert_int_equal(child_wait(pid), 0);
    heap = clean_open(path);
    clean_end(heap, path, 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    heap = kept;
    (void)snprintf(path, sizeof(path), "%s", elsewhere);
}

/* ---- children that only exec ---- */

static const char *const arguments[] = {program, "--child", path, NULL};

static int be_new_program(const char *heap_path) {
    REQUIRE(sharena_open(heap_path, NULL, &heap) == 0);
    void *blocks[KEPT];
    REQUIRE(sharena_malloc_batch(heap, 77, KEPT, blocks) == KEPT);
    sharena_free_batch(heap, KEPT, blocks);
    for (int fd = 3; fd < 2000; fd++) { /* no descriptor of the heap came through */
        char link[64];
        char target[SCRATCH_MAX];
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        REQUIRE(strcmp(target, heap_path) != 0 || fd >= 512); /* our own lie high */
    }
    return sharena_close(heap);
}

static pid_t by_vfork(int is_to_exec) {
    pid_t pid = vfork();
    if (pid == 0) {
        if (is_to_exec) {
            (void)execv(program, (char **)(uintptr_t)arguments);
        }
        _exit(is_to_exec ? 99 : 0);
    }
    return pid;
}

static void test_vfork(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        void *before = sharena_malloc(heap, 64);
        assert_int_equal(child_wait(by_vfork(1)), 0);
        sharena_free(heap, before);
        assert_int_equal(child_wait(by_vfork(0)), 0);
    }
    if (sharena_check(heap, NULL) != 0) {
        fail_msg("%s", sharena_errormsg());
    }
}

static void test_spawn(void **state) {
    (void)state;
    extern char **environ;
    pid_t pids[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(
            posix_spawn(&pids[i], program, NULL, NULL, (char **)(uintptr_t)arguments, environ), 0);
    }
    crowd_wait(pids, ROUNDS);
}

static int be_another_program(void *arg) {
    (void)arg;
    REQUIRE(sharena_malloc(heap, 1000) != NULL); /* held when exec ends this program */
    (void)execv(program, (char **)(uintptr_t)arguments);
    return 98;
}

/* exec gives up the slot, as death does. */
static void test_exec(void **state) {
    (void)state;
    struct sharena_report report;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(child_wait(by_fork(be_another_program, NULL)), 0);
    }
    (void)sharena_reap(heap);
    assert_int_equal(sharena_reap(heap), 0);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_true(report.blocks_live >= 10);
}

/* The ten of test_exec are lost with their programs, so its heap ends otherwise. */
static int end_exec(void **state) {
    struct sharena_report report;
    (void)state;
    atomic_store(&is_over, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 10);
    assert_int_equal(sharena_close(heap), 0);
    return sharena_unlink(path);
}

#define with_threads(f) cmocka_unit_test_setup_teardown(f, start_all, end_all)

int main(int count, char **args) {
    if (count == 3 && strcmp(args[1], "--child") == 0) {
        return be_new_program(args[2]);
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[length > 0 ? length : 0] = '\0';
    (void)alarm(120); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        with_threads(test_fork),
        with_threads(test_underscore_fork),
        with_threads(test_clone),
        with_threads(test_raw_fork),
        with_threads(test_signal_mask_is_inherited),
        with_threads(test_generations),
        with_threads(test_child_outlives_the_parents_close),
        with_threads(test_vfork),
        with_threads(test_spawn),
        cmocka_unit_test_setup_teardown(test_exec, start_all, end_exec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
