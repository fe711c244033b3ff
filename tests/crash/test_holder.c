/* test_holder.c -- a process in the middle of a critical section is stopped, dumps core, loses its mapping
 * or its robust list: it is robbed of nothing while it lives, and whoever waits goes on when it has died.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "section.h"

enum { STOP_MS = 2500, REST_MS = 400 };

struct facts { /* shared, not in a heap */
    atomic_int is_ready;
    atomic_int may_go_on;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct facts *facts;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "holder"), section_options());
    assert_null(section_use_all(heap)); /* this thread has a slot, and there is an arena */
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

static int unmap(void) {
    return munmap(heap, registry_find(heap)->mapping.total_bytes);
}

/* ---- what the holder does when its waiters wait ---- */

static int leave_and_close(void) {
    return sharena_close(heap); /* hold() has left the section */
}

static int unmap_and_die(void) {
    REQUIRE(unmap() == 0);
    return raise(SIGKILL);
}

static int unmap_and_touch(void) {
    const struct rlimit no_core = {0, 0};
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0 && signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    REQUIRE(unmap() == 0);
    return *(volatile char *)heap;
}

static int unmap_and_end(void) {
    REQUIRE(unmap() == 0);
    return 0;
}

static int unmap_and_live(void) {
    REQUIRE(unmap() == 0);
    atomic_store(&facts->is_ready, 2);
    return pause();
}

static void *unmap_and_end_thread(void *arg) {
    if (unmap() == 0) {
        atomic_store(&facts->is_ready, 2);
        (void)syscall(SYS_exit, 0);
    }
    return arg;
}

/* Another library makes itself at home in the thread's list: the kernel finds nothing of ours there. */
static int replace_robust_list(void) {
    static struct robust_list_head empty;
    empty.list.next = &empty.list;
    REQUIRE(syscall(SYS_set_robust_list, &empty, sizeof(empty)) == 0);
    return raise(SIGKILL);
}

static int poison_robust_list(void) {
    struct robust_list_head *head = NULL;
    size_t length = 0;
    REQUIRE(syscall(SYS_get_robust_list, 0, &head, &length) == 0 && head != NULL);
    *(struct robust_list *volatile *)&head->list.next = (struct robust_list *)8;
    return raise(SIGKILL);
}

struct holder {
    enum section section;
    int (*end)(void);
};

static int hold(void *arg) {
    const struct holder *holder = arg;
    REQUIRE(section_prepare(heap) == 0);
    section_enter(heap, holder->section);
    atomic_store(&facts->is_ready, 1);
    while (atomic_load(&facts->may_go_on) == 0) {
        crowd_sleep_us(200);
    }
    if (holder->end == leave_and_close) {
        section_leave(heap, holder->section);
    }
    return holder->end();
}

static pid_t start_holder(enum section section, int (*end)(void)) {
    struct holder holder = {section, end};
    memset(facts, 0, sizeof(*facts));
    pid_t pid = child_start(hold, &holder);
    assert_true(section_await(&facts->is_ready, 1));
    return pid;
}

/* ---- deaths that the kernel cannot tell the waiters of ---- */

static void test_deaths_that_leave_the_lock_unmarked(void **state) {
    (void)state;
    int (*const ends[])(void) = {unmap_and_die, unmap_and_touch, unmap_and_end, replace_robust_list,
                                 poison_robust_list};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
            uint64_t before = section_recovered(heap);
            pid_t pid = start_holder(section, ends[i]);
            struct waiters waiters = waiters_start(heap, section);
            atomic_store(&facts->may_go_on, 1);
            int status = child_wait(pid);
            assert_true(ends[i] == unmap_and_end ? status == 0 : WIFSIGNALED(status));
            waiters_join(waiters);
            (void)sharena_reap(heap);
            assert_int_equal(sharena_reap(heap), 0);
            assert_int_equal(section_recovered(heap), before + (section != SECTION_NONE));
            section_check(heap, 0);
        }
    }
}

/* It cannot store to the heap any more, but nobody else can know that: its waiters wait for its end. */
static void test_unmapped_and_alive(void **state) {
    (void)state;
    for (enum section section = SECTION_BIN; section < SECTIONS; section++) {
        pid_t pid = start_holder(section, unmap_and_live);
        struct waiters waiters = waiters_start(heap, section);
        atomic_store(&facts->may_go_on, 1);
        assert_true(section_await(&facts->is_ready, 2));
        crowd_sleep_us(REST_MS * 1000);
        waiters_are_waiting(waiters);
        assert_int_equal(sharena_reap(heap), 0);
        crowd_kill(pid);
        waiters_join(waiters);
        (void)sharena_reap(heap);
        section_check(heap, 0);
    }
}

static void *hold_and_unmap(void *arg) {
    if (section_prepare(heap) != 0) {
        return arg;
    }
    section_enter(heap, (enum section)(uintptr_t)arg);
    atomic_store(&facts->is_ready, 1);
    (void)section_await(&facts->may_go_on, 1);
    return unmap_and_end_thread(arg);
}

static int be_process_of_thread(void *arg) {
    (void)crowd_start_raw(hold_and_unmap, arg);
    return pause();
}

/* Nor can it be known of a thread that ends after it, as long as its process lives. */
static void test_thread_ends_unmapped(void **state) {
    (void)state;
    memset(facts, 0, sizeof(*facts));
    pid_t pid = child_start(be_process_of_thread, (void *)(uintptr_t)SECTION_ARENA);
    assert_true(section_await(&facts->is_ready, 1));
    struct waiters waiters = waiters_start(heap, SECTION_ARENA);
    atomic_store(&facts->may_go_on, 1);
    assert_true(section_await(&facts->is_ready, 2));
    crowd_sleep_us(REST_MS * 1000);
    waiters_are_waiting(waiters);
    crowd_kill(pid);
    waiters_join(waiters);
    (void)sharena_reap(heap);
    section_check(heap, 0);
}

/* ---- a core dump ---- */

static int dump_by_abort(void) {
    (void)signal(SIGABRT, SIG_DFL);
    abort();
}

static int dump_by_fault(void) {
    (void)signal(SIGSEGV, SIG_DFL);
    char *volatile nowhere = NULL;
    return *(volatile char *)nowhere;
}

/* Whether a core goes to a plain file in the current folder. The address sanitizer makes none: its
 * shadow is too big. */
static int core_goes_to_a_file(void) {
#ifdef __SANITIZE_ADDRESS__
    return 0;
#endif
    char pattern[2] = "";
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, pattern, 1) : 0;
    (void)close(fd);
    return got == 1 && pattern[0] != '|' && pattern[0] != '/';
}

static char folder[SCRATCH_MAX];

/* The stored bytes of the one file in the folder, which goes; 0 if there is none. */
static long long take_core(void) {
    struct stat status;
    const struct dirent *entry;
    long long bytes = 0;
    DIR *cores = opendir(folder);
    assert_non_null(cores);
    while ((entry = readdir(cores)) != NULL) {
        if (entry->d_name[0] != '.' && fstatat(dirfd(cores), entry->d_name, &status, 0) == 0) {
            bytes += status.st_blocks * 512;
            assert_int_equal(unlinkat(dirfd(cores), entry->d_name, 0), 0);
        }
    }
    (void)closedir(cores);
    assert_int_equal(rmdir(folder), 0);
    return bytes;
}

static int dump(void *arg) {
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    REQUIRE(chdir(folder) == 0 && setrlimit(RLIMIT_CORE, &all) == 0);
    return hold(arg);
}

/* The waiters wait for the end of the dump, in which the heap is left out. */
static void test_core_dump(void **state) {
    (void)state;
    if (!core_goes_to_a_file() || geteuid() != 0) {
        print_message(
            "skipped: no core goes to a plain file here, or only root may raise their limit\n");
        skip();
    }
    size_t bytes = 128 * MIB;
    void *much = sharena_malloc(heap, bytes);
    assert_non_null(much);
    memset(much, 0x5a, bytes);
    for (int i = 0; i < 2; i++) {
        for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
            struct holder holder = {section, i == 0 ? dump_by_abort : dump_by_fault};
            memset(facts, 0, sizeof(*facts));
            (void)mkdir(scratch_path(folder, "core"), 0700);
            pid_t pid = child_start(dump, &holder);
            assert_true(section_await(&facts->is_ready, 1));
            struct waiters waiters = waiters_start(heap, section);
            atomic_store(&facts->may_go_on, 1);
            int status = child_wait(pid);
            assert_true(WIFSIGNALED(status) && WCOREDUMP(status));
            waiters_join(waiters);
            long long core = take_core();
            assert_in_range(core, 1, bytes / 2);
            (void)sharena_reap(heap);
            section_check(heap, 1);
        }
    }
    assert_int_equal(clean_is_zero(much, bytes), 0);
    sharena_free(heap, much);
}

static void test_heap_is_left_out_of_cores(void **state) {
    (void)state;
    char line[512];
    int is_ours = 0;
    int found = 0;
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        char *end;
        unsigned long long begin = strtoull(line, &end, 16);
        if (*end == '-') { /* the first line of a mapping: its addresses */
            is_ours = begin == (uintptr_t)heap;
        }
        found |= is_ours && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " dd") != NULL;
    }
    (void)fclose(maps);
    assert_true(found);
}

/* ---- stopped ---- */

static void stop_by_signal(pid_t pid) {
    int status;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void go_on_by_signal(pid_t pid) {
    assert_int_equal(kill(pid, SIGCONT), 0);
}

static void stop_by_debugger(pid_t pid) {
    int status;
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0) {
        crowd_kill(pid);
        print_message("skipped: PTRACE_ATTACH is not permitted here\n");
        skip();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
}

static void go_on_by_debugger(pid_t pid) {
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
}

static void let_wait(void (*stop)(pid_t), void (*go_on)(pid_t)) {
    for (enum section section = SECTION_BIN; section < SECTIONS; section++) {
        uint64_t before = section_recovered(heap);
        pid_t pid = start_holder(section, leave_and_close);
        stop(pid);
        struct waiters waiters = waiters_start(heap, section);
        crowd_sleep_us((section == SECTION_POOL ? STOP_MS : REST_MS) * 1000);
        waiters_are_waiting(waiters);
        assert_int_equal(sharena_reap(heap), 0);
        go_on(pid);
        crowd_sleep_us(20000);
        waiters_are_waiting(waiters); /* it still holds the lock */
        atomic_store(&facts->may_go_on, 1);
        assert_int_equal(child_wait(pid), 0);
        waiters_join(waiters);
        assert_int_equal(section_recovered(heap), before);
        (void)sharena_reap(heap); /* the waiting process */
        section_check(heap, 0);
    }
}

static void test_stopped_holder(void **state) {
    (void)state;
    let_wait(stop_by_signal, go_on_by_signal);
}

static void test_holder_in_a_debugger(void **state) {
    (void)state;
    let_wait(stop_by_debugger, go_on_by_debugger);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    facts = crowd_memory(sizeof(*facts));
    (void)alarm(240); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        with_heap(test_deaths_that_leave_the_lock_unmarked),
        with_heap(test_unmapped_and_alive),
        with_heap(test_thread_ends_unmapped),
        with_heap(test_core_dump),
        with_heap(test_heap_is_left_out_of_cores),
        with_heap(test_stopped_holder),
        with_heap(test_holder_in_a_debugger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
