/* heap_fixture.c -- for tests: a fresh heap of 1 GiB, gone again afterwards. */
#include "heap_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* The one window where the thread sanitizer lets an application map. */
#ifdef __SANITIZE_THREAD__
#define BASE_ADDRESS 0x7e8000000000ull
#else
#define BASE_ADDRESS 0ull
#endif

static char path[SCRATCH_MAX];
static sharena_t *heap;

int heap_fixture_open(void **state) {
    (void)state;
    const struct sharena_options options = {
        .flags = SHARENA_CREATE | SHARENA_EXCL,
        .capacity_bytes = FIXTURE_CAPACITY,
        .conf = "reap_interval_ms:-1,dirty_decay_ms:-1", /* when tests say so */
        .base_address = BASE_ADDRESS};
    assert_null(heap);
    if (sharena_open(scratch_path(path, "heap"), &options, &heap) != 0) {
        fail_msg("no heap: %s", sharena_errormsg());
    }
    return 0;
}

/* Even if the test failed half-way, the next one gets a heap of its own. */
static int remove_file(void) {
    int error = unlink(path) == 0 || errno == ENOENT ? 0 : errno;
    path[0] = '\0';
    return error;
}

static void assert_clean(sharena_t *checked) {
    struct sharena_report report;
    int error = sharena_check(checked, &report);
    if (error != 0) {
        fail_msg("sharena_check: %d, %llu findings; %s; %s; %s", error,
                 (unsigned long long)report.findings, report.messages[0], report.messages[1],
                 report.messages[2]);
    }
}

int heap_fixture_close(void **state) {
    (void)state;
    sharena_t *closing = heap;
    heap = NULL;
    if (closing != NULL) {
        (void)sharena_reap(closing);
        assert_clean(closing);
        assert_int_equal(sharena_close(closing), 0);
        assert_null(registry_find(closing));
    }
    return remove_file();
}

sharena_t *fixture_heap(void) {
    return heap;
}

const char *fixture_path(void) {
    return path;
}

const char *fixture_process_name(void) {
    static char name[16];
    assert_int_equal(prctl(PR_GET_NAME, name), 0); /* of the main thread */
    return name;
}

struct thread_slot *fixture_self(void) {
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        (void)fprintf(stderr, "fixture: no thread slot: %s\n", error_message());
        abort();
    }
    return self;
}

struct attachment *fixture_attachment(void) {
    return registry_find(heap);
}

/* ---- children ---- */

struct stop {
    int (*body)(void *);
    void *arg;
    int stderr_fd;
};

static int run_quietly(void *arg) {
    const struct stop *stop = arg;
    const struct rlimit no_core = {0, 0};
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    REQUIRE(dup2(stop->stderr_fd, STDERR_FILENO) == STDERR_FILENO);
    return stop->body(stop->arg);
}

void child_stops(int (*body)(void *), void *arg, const char *text) {
    char said[1024] = "";
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    struct stop stop = {body, arg, ends[1]};
    int status = child_wait(child_start(run_quietly, &stop));
    (void)!read(ends[0], said, sizeof(said) - 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        fail_msg("the child did not abort: status %#x, it said: %s", (unsigned)status, said);
    }
    if (strstr(said, text) == NULL) {
        fail_msg("no '%s' in what the child said: %s", text, said);
    }
}

int child_wait_ms(pid_t pid, int ms) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(pidfd >= 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    int in_time = poll(&ended, 1, ms);
    (void)close(pidfd);
    if (in_time != 1) {
        (void)kill(pid, SIGKILL);
    }
    int status = child_wait(pid);
    if (in_time != 1) {
        fail_msg("the child hung: not done after %d ms", ms);
    }
    return status;
}
