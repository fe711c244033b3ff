/* test_copy.c -- a file that is copied while its heap is in use: a heap of its own if all writers stood
 * still meanwhile, and in any case nothing that could crash who opens it.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "crowd.h"

enum { WORKERS = 2, THREADS = 2, PLACES = 128, COPIES = 25, HEAP_MIB = 64 };

struct places { /* in the heap: all blocks there are */
    void *of_threads[WORKERS * THREADS][PLACES];
};

struct signals { /* shared, not in a heap */
    atomic_int started;
    atomic_uint_fast64_t steps;
};

static char path[SCRATCH_MAX];
static char copy[SCRATCH_MAX];
static struct signals *signals;
static pid_t workers[WORKERS];
static sharena_t *own; /* a worker's */

static const struct sharena_options small = {.capacity_bytes = HEAP_MIB * MIB};
static const struct sharena_options must_exist = {.flags = SHARENA_OPEN_ONLY};
static const struct sharena_options recover = {.flags = SHARENA_OPEN_ONLY | SHARENA_RECOVER};

/* ---- workers: this process itself does not attach the original ---- */

static void *churn(void *arg) {
    void **mine = arg;
    uint64_t random = (uint64_t)getpid() + (uintptr_t)arg;
    (void)atomic_fetch_add(&signals->started, 1);
    for (;;) {
        void **place = &mine[clean_random(&random) % PLACES];
        uint64_t draw = clean_random(&random) % 100;
        size_t most = draw < 90 ? 600 : draw < 99 ? 20000 : 300000;
        int error = *place == NULL ? sharena_malloc_to(own, 8 + clean_random(&random) % most, place)
                                   : sharena_free_from(own, place);
        if (error != 0) {
            abort();
        }
        (void)atomic_fetch_add(&signals->steps, 1);
    }
    return NULL;
}

static int be_worker(void *arg) {
    intptr_t index = (intptr_t)arg;
    pthread_t thread;
    REQUIRE(sharena_open(path, &small, &own) == 0);
    struct places *places = sharena_root_create(own, "places", sizeof(*places), NULL, NULL);
    REQUIRE(places != NULL);
    REQUIRE(pthread_create(&thread, NULL, churn, places->of_threads[2 * index]) == 0);
    (void)churn(places->of_threads[2 * index + 1]);
    return 1;
}

static int start_workers(void **state) {
    (void)state;
    memset(signals, 0, sizeof(*signals));
    (void)scratch_path(path, "original");
    (void)scratch_path(copy, "copy");
    for (intptr_t i = 0; i < WORKERS; i++) {
        workers[i] = child_start(be_worker, (void *)i);
    }
    while (atomic_load(&signals->started) < WORKERS * THREADS) {
        crowd_sleep_us(200);
    }
    return 0;
}

static void kill_workers(void) {
    for (int i = 0; i < WORKERS; i++) {
        crowd_kill(workers[i]);
    }
}

static void stop_workers(void) {
    for (int i = 0; i < WORKERS; i++) {
        int status;
        assert_int_equal(kill(workers[i], SIGSTOP), 0);
        assert_int_equal(waitpid(workers[i], &status, WUNTRACED), workers[i]);
        assert_true(WIFSTOPPED(status));
    }
}

static void continue_workers(void) {
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(kill(workers[i], SIGCONT), 0);
    }
}

/* Lets them get somewhere else. */
static void let_work(uint64_t *random) {
    uint64_t until = atomic_load(&signals->steps) + clean_random(random) % 3000;
    while (atomic_load(&signals->steps) < until) {
        crowd_sleep_us(20);
    }
}

/* ---- copies ---- */

/* What is stored of the original, into a sparse file. */
static void copy_file(void) {
    static char bytes[1 << 16];
    struct stat status;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(copy, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(from >= 0 && to >= 0);
    assert_int_equal(fstat(from, &status), 0);
    assert_int_equal(ftruncate(to, status.st_size), 0);
    for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
        off_t hole = lseek(from, at, SEEK_HOLE);
        while (at < hole) {
            size_t want = hole - at < (off_t)sizeof(bytes) ? (size_t)(hole - at) : sizeof(bytes);
            ssize_t got = pread(from, bytes, want, at);
            assert_true(got > 0);
            assert_int_equal(pwrite(to, bytes, (size_t)got, at), got);
            at += got;
        }
    }
    (void)close(from);
    (void)close(to);
}

/* Every block that is there is known, and every one that is known is there. */
static void assert_whole(sharena_t *heap) {
    struct sharena_report report;
    if (sharena_check(heap, &report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    struct places *places = sharena_root_get(heap, "places");
    uint64_t known = 1;
    for (int i = 0; i < WORKERS * THREADS * PLACES; i++) {
        known += places->of_threads[i / PLACES][i % PLACES] != NULL;
    }
    assert_int_equal(report.blocks_live, known);
    for (int i = 0; i < WORKERS * THREADS * PLACES; i++) {
        sharena_free(heap, places->of_threads[i / PLACES][i % PLACES]);
    }
    sharena_free(heap, places);
    assert_int_equal(sharena_root_set(heap, "places", NULL), 0);
    assert_int_equal(sharena_purge(heap), 0);
}

static void test_copied_while_all_stand_still(void **state) {
    (void)state;
    uint64_t random = 11;
    sharena_t *heap = NULL;
    for (int i = 0; i < COPIES; i++) {
        let_work(&random);
        stop_workers();
        copy_file();
        continue_workers();
        assert_refused(sharena_open(copy, &must_exist, &heap), EUCLEAN, "SHARENA_RECOVER");
        heap = clean_open_with(copy, &recover); /* while they work on the original */
        assert_whole(heap);
        clean_end(heap, copy, 0);
    }
    kill_workers();
    heap = clean_open_with(path, &must_exist);
    assert_whole(heap);
    clean_end(heap, path, 0);
}

static void test_copied_after_all_were_killed(void **state) {
    (void)state;
    kill_workers();
    copy_file();
    sharena_t *heap = clean_open_with(copy, &recover);
    assert_whole(heap);
    clean_end(heap, copy, 0);
    heap = clean_open_with(path, &must_exist); /* the original needs no word */
    assert_whole(heap);
    clean_end(heap, path, 0);
}

/* ---- torn copies: pages of different moments ---- */

enum { IS_CLEAN = 10, IS_FOUND_DAMAGED, IS_REFUSED };

static int look_at_torn(void *arg) {
    sharena_t *heap = NULL;
    (void)arg;
    (void)alarm(10);
    int error = sharena_open(copy, &recover, &heap);
    if (error != 0) {
        return IS_REFUSED;
    }
    return sharena_check(heap, NULL) == 0 ? IS_CLEAN : IS_FOUND_DAMAGED;
}

static void test_copied_while_all_work(void **state) {
    (void)state;
    uint64_t random = 17;
    int outcomes[3] = {0};
    for (int i = 0; i < COPIES; i++) {
        let_work(&random);
        copy_file();
        int status = child_wait(child_start(look_at_torn, NULL));
        if (!WIFEXITED(status) || WEXITSTATUS(status) < IS_CLEAN) {
            fail_msg("copy %d: the open or the check ended by status %#x", i, (unsigned)status);
        }
        outcomes[WEXITSTATUS(status) - IS_CLEAN]++;
        assert_int_equal(unlink(copy), 0);
    }
    print_message("%d torn copies: %d clean, %d found damaged, %d refused\n", COPIES, outcomes[0],
                  outcomes[1], outcomes[2]);
    kill_workers();
    sharena_t *heap = clean_open_with(path, &must_exist);
    assert_whole(heap);
    clean_end(heap, path, 0);
}

/* ---- beside the original ---- */

static void test_original_is_in_the_way(void **state) {
    (void)state;
    sharena_t *heap = NULL;
    sharena_t *second = NULL;
    kill_workers();
    copy_file();
    heap = clean_open_with(path, &must_exist);
    assert_refused(sharena_open(copy, &recover, &second), EADDRINUSE, path);
    assert_null(second);
    assert_whole(heap);
    clean_end(heap, path, 0);
    heap = clean_open_with(copy, &recover);
    assert_whole(heap);
    clean_end(heap, copy, 0);
}

static int clean_up(void **state) {
    (void)state;
    (void)unlink(copy);
    return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
}

#define with_workers(f) cmocka_unit_test_setup_teardown(f, start_workers, clean_up)

int main(void) {
    signals = crowd_memory(sizeof(*signals));
    (void)alarm(120);
    const struct CMUnitTest tests[] = {
        with_workers(test_copied_while_all_stand_still),
        with_workers(test_copied_after_all_were_killed),
        with_workers(test_copied_while_all_work),
        with_workers(test_original_is_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
