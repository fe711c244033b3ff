/* test_forking.c -- a child of any kind of fork is a process of its own; its parent stays one. */
/* ctest: not under valgrind: it forks while threads allocate, hundreds of times */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "heap_fixture.h"
#include "ipc/forking.h"
#include "ipc/journal.h"
#include "ipc/slot.h"

extern char **environ;

/* ---- what holds in every child ---- */

struct parent {
    uint32_t process; /* slot */
    uint64_t generation;
    struct thread_slot *slot;
    char *block; /* allocated by the parent */
};

static struct parent parent;

static void remember_parent(void) {
    parent.slot = fixture_self();
    parent.process = fixture_attachment()->token.slot;
    parent.generation = fixture_attachment()->process_generation;
    parent.block = sharena_malloc(fixture_heap(), 100);
    assert_non_null(parent.block);
    (void)strcpy(parent.block, "parent's"); // NOLINT
}

static int use_heap(void) {
    void *blocks[40];
    for (uint32_t i = 0; i < 40; i++) {
        blocks[i] = sharena_malloc(fixture_heap(), 16 + i * 500);
        REQUIRE(blocks[i] != NULL);
        memset(blocks[i], 0x5a, 16 + i * 500);
    }
    for (uint32_t i = 0; i < 40; i++) {
        sharena_free(fixture_heap(), blocks[i]);
    }
    return 0;
}

/* The child has used the heap. */
static int is_own_process(void) {
    const struct attachment *attachment = fixture_attachment();
    REQUIRE(attachment != NULL && attachment->token.page != NULL);
    REQUIRE(attachment->token.slot != parent.process);
    REQUIRE(token_is_held(&attachment->file, parent.process));
    REQUIRE(token_is_held(&attachment->file, attachment->token.slot));
    const struct process_slot *process = heap_process(fixture_heap(), attachment->token.slot);
    REQUIRE(shared_get(&process->pid) == (uint32_t)getpid());
    REQUIRE(shared_get(&process->state) == SLOT_USED);
    REQUIRE(shared_get(&process->generation) == attachment->process_generation);
    REQUIRE(slot_count_held_by_us(attachment) == 1);
    struct thread_slot *self = fixture_self();
    REQUIRE(self != parent.slot && slot_is_ours(attachment, self));
    REQUIRE(!slot_is_ours(attachment, parent.slot));
    REQUIRE(shared_get(&parent.slot->state) == SLOT_USED);
    return 0;
}

static void assert_parent_is_as_before(void) {
    const struct attachment *attachment = fixture_attachment();
    assert_non_null(attachment->token.page);
    assert_int_equal(attachment->token.slot, parent.process);
    assert_int_equal(attachment->process_generation, parent.generation);
    assert_int_equal(token_is_held(&attachment->file, parent.process), 1);
    assert_ptr_equal(fixture_self(), parent.slot);
    assert_true(slot_is_ours(attachment, parent.slot));
    assert_string_equal(parent.block, "parent's");
    assert_int_equal(use_heap(), 0);
}

/* Slots that the child held were all that is reaped. */
static void assert_child_is_gone(uint32_t threads) {
    assert_int_equal(sharena_reap(fixture_heap()), threads);
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        assert_int_equal(token_is_held(&fixture_attachment()->file, i), i == parent.process);
    }
    assert_parent_is_as_before();
}

/* ---- fork ---- */

static int register_and_use(void *arg) {
    (void)arg;
    REQUIRE(fixture_attachment()->reap_wanted == 0);   /* that is the parent's business */
    REQUIRE(fixture_attachment()->token.page != NULL); /* by the handler */
    REQUIRE(fixture_attachment()->token.slot != parent.process);
    REQUIRE(slot_count_held_by_us(fixture_attachment()) == 0);
    REQUIRE(use_heap() == 0);
    return is_own_process();
}

static void child_of_fork_registers_itself(void **state) {
    (void)state;
    remember_parent();
    for (int i = 0; i < 3; i++) {
        fixture_attachment()->reap_wanted = 1;
        child_run(register_and_use, NULL);
        fixture_attachment()->reap_wanted = 0;
        assert_child_is_gone(1);
    }
}

static int fork_once_more(void *arg) {
    (void)arg;
    REQUIRE(register_and_use(NULL) == 0);
    uint32_t own = fixture_attachment()->token.slot;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(register_and_use(NULL) != 0 || fixture_attachment()->token.slot == own);
    }
    REQUIRE(pid > 0 && child_wait(pid) == 0);
    REQUIRE(sharena_reap(fixture_heap()) == 1);
    return is_own_process();
}

static void grandchild_registers_itself(void **state) {
    (void)state;
    remember_parent();
    child_run(fork_once_more, NULL);
    assert_child_is_gone(1);
}

static int free_and_publish(void *arg) {
    char **given = arg;
    sharena_free(fixture_heap(), *given);
    char *block = sharena_malloc(fixture_heap(), 300);
    REQUIRE(block != NULL);
    (void)strcpy(block, "child's"); // NOLINT
    return sharena_root_set(fixture_heap(), "block", block);
}

static void child_frees_and_leaves_blocks(void **state) {
    (void)state;
    remember_parent();
    char *given = sharena_malloc(fixture_heap(), 5000);
    child_run(free_and_publish, &given);
    assert_child_is_gone(1);
    char *left = sharena_root_get(fixture_heap(), "block");
    assert_non_null(left);
    assert_string_equal(left, "child's");
    sharena_free(fixture_heap(), left);
}

static int close_and_open_again(void *arg) {
    (void)arg;
    sharena_t *again = NULL;
    sharena_t *heap = fixture_heap();
    REQUIRE(use_heap() == 0);
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(registry_find(heap) == NULL);
    const struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    REQUIRE(sharena_open(fixture_path(), &options, &again) == 0);
    REQUIRE(again == heap);
    REQUIRE(use_heap() == 0);
    REQUIRE(is_own_process() == 0);
    return sharena_close(heap);
}

static void child_may_close_and_open(void **state) {
    (void)state;
    remember_parent();
    child_run(close_and_open_again, NULL);
    assert_child_is_gone(0);
}

static void child_that_only_exits_leaves_nothing(void **state) {
    (void)state;
    remember_parent();
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    assert_int_equal(child_wait(pid), 0);
    assert_child_is_gone(0);
}

static int register_twice(void *arg) {
    struct attachment *attachment = fixture_attachment();
    (void)arg;
    uint32_t slot = attachment->token.slot;
    void *page = attachment->token.page;
    uint64_t generation = attachment->process_generation;
    REQUIRE(forking_register(attachment) == 0);
    REQUIRE(attachment->token.slot == slot && attachment->token.page == page);
    REQUIRE(attachment->process_generation == generation);
    return 0;
}

static void registered_process_stays_so(void **state) {
    (void)state;
    remember_parent();
    assert_int_equal(register_twice(NULL), 0);
    child_run(register_twice, NULL);
    assert_child_is_gone(0);
}

/* ---- a child that cannot register yet ---- */

static int register_later(void *arg) {
    const struct rlimit *before = arg;
    REQUIRE(fixture_attachment()->token.page == NULL);
    (void)error_set(0, "%s", "");
    errno = 0;
    REQUIRE(sharena_malloc(fixture_heap(), 50) == NULL);
    REQUIRE(errno == EMFILE);
    REQUIRE(strlen(sharena_errormsg()) > 0);    /* it says why */
    sharena_free(fixture_heap(), parent.block); /* is lost rather than freed without a slot */
    REQUIRE(setrlimit(RLIMIT_NOFILE, before) == 0);
    REQUIRE(use_heap() == 0);
    return is_own_process();
}

static void child_registers_when_it_can(void **state) {
    (void)state;
    struct rlimit before;
    remember_parent();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    pid_t pid = child_start(register_later, &before);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(child_wait(pid), 0);
    assert_child_is_gone(1);
}

/* ---- without handlers ---- */

static int notice_and_use(void) {
    REQUIRE(use_heap() == 0);
    return is_own_process();
}

static void child_of_bare_fork_notices(void **state) {
    (void)state;
    remember_parent();
    for (int i = 0; i < 3; i++) {
        pid_t pid = _Fork();
        if (pid == 0) {
            _exit(notice_and_use());
        }
        assert_int_equal(child_wait(pid), 0);
        assert_child_is_gone(1);
    }
}

/* The very first call may be one that frees. */
static int free_first(void) {
    sharena_free(fixture_heap(), parent.block);
    return is_own_process();
}

static void first_call_of_a_child_may_be_free(void **state) {
    (void)state;
    remember_parent();
    char *kept = parent.block;
    parent.block = sharena_malloc(fixture_heap(), 100);
    pid_t pid = _Fork();
    if (pid == 0) {
        _exit(free_first());
    }
    assert_int_equal(child_wait(pid), 0);
    parent.block = kept;
    assert_child_is_gone(1);
}

/* The child's set of blocked signals is its own, whatever liburcu's handlers restore. */
static int keeps_signal_mask(void) {
    sigset_t mask;
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGUSR1);
    REQUIRE(sigprocmask(SIG_SETMASK, &mask, NULL) == 0);
    REQUIRE(use_heap() == 0);
    REQUIRE(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    REQUIRE(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGUSR2) == 0);
    return 0;
}

static void noticing_keeps_the_signal_mask(void **state) {
    (void)state;
    remember_parent();
    pid_t pid = _Fork();
    if (pid == 0) {
        _exit(keeps_signal_mask());
    }
    assert_int_equal(child_wait(pid), 0);
    assert_child_is_gone(1);
}

/* ---- children that share the memory ---- */

static void vfork_and_exec_leave_all_as_it_is(void **state) {
    (void)state;
    remember_parent();
    for (int i = 0; i < 5; i++) {
        char *const arguments[] = {"true", NULL};
        pid_t pid = vfork(); // NOLINT: it is what is tested
        if (pid == 0) {
            (void)execv("/bin/true", arguments);
            _exit(1);
        }
        assert_int_equal(child_wait(pid), 0);
        assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ), 0);
        assert_int_equal(child_wait(pid), 0);
        assert_false(thread_process_is_new());
        assert_child_is_gone(0);
    }
}

/* ---- fork while other threads are at work ---- */

#define FORKERS 4u
#define FORKS 50u

static int allocate_awhile(uint32_t seed) {
    void *blocks[16] = {NULL};
    for (uint32_t i = 0; i < 200; i++) {
        seed = seed * 1103515245u + 12345u;
        void **block = &blocks[(seed >> 8) % 16];
        sharena_free(fixture_heap(), *block);
        *block = sharena_malloc(fixture_heap(), 8 + (seed >> 16) % 6000);
        REQUIRE(*block != NULL);
    }
    for (uint32_t i = 0; i < 16; i++) {
        sharena_free(fixture_heap(), blocks[i]);
    }
    return 0;
}

struct forker {
    pthread_t thread;
    uint32_t number;
    int failures;     /* of its own allocations */
    int fork_error;   /* the last one */
    int child_status; /* of the last child that did not do well */
};

static void *fork_and_allocate(void *arg) {
    struct forker *forker = arg;
    for (uint32_t i = 0; i < FORKS; i++) {
        pid_t pid = i % 2 == 0 ? fork() : _Fork();
        if (pid == 0) {
            _exit(allocate_awhile(forker->number * 1000 + i));
        }
        forker->fork_error = pid < 0 ? errno : forker->fork_error;
        forker->failures += allocate_awhile(forker->number + i);
        int status = pid > 0 ? child_wait(pid) : 0;
        forker->child_status = status != 0 ? status : forker->child_status;
    }
    return NULL;
}

static void threads_fork_while_others_allocate(void **state) {
    (void)state;
    struct forker forkers[FORKERS];
    remember_parent();
    for (uint32_t i = 0; i < FORKERS; i++) {
        forkers[i] = (struct forker){.number = i};
        assert_int_equal(pthread_create(&forkers[i].thread, NULL, fork_and_allocate, &forkers[i]),
                         0);
    }
    for (uint32_t i = 0; i < FORKERS; i++) {
        assert_int_equal(pthread_join(forkers[i].thread, NULL), 0);
    }
    for (uint32_t i = 0; i < FORKERS; i++) {
        assert_int_equal(forkers[i].failures, 0);
        assert_int_equal(forkers[i].fork_error, 0);
        assert_int_equal(forkers[i].child_status, 0);
    }
    (void)sharena_reap(fixture_heap());
    assert_child_is_gone(0);
}

/* Another thread is somewhere in open or close, with the locks of this process, at each fork. */
static uint32_t is_over; /* atomic */
static char other_path[SCRATCH_MAX];

static int open_other(sharena_t **other) {
    const struct sharena_options options = {.capacity_bytes = FIXTURE_CAPACITY};
    return sharena_open(other_path, &options, other);
}

static void *open_and_close(void *arg) {
    intptr_t failures = 0;
    (void)arg;
    while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
        sharena_t *other = NULL;
        failures += open_other(&other) != 0 || sharena_close(other) != 0;
    }
    return (void *)failures;
}

static int use_and_open_other(void) {
    sharena_t *other = NULL;
    (void)alarm(10);
    REQUIRE(use_heap() == 0);
    REQUIRE(is_own_process() == 0);
    REQUIRE(open_other(&other) == 0);
    REQUIRE(sharena_malloc(other, 10) != NULL);
    return sharena_close(other);
}

static void fork_while_another_thread_opens_and_closes(void **state) {
    (void)state;
    pthread_t opener;
    void *failures = NULL;
    remember_parent();
    is_over = 0;
    (void)scratch_path(other_path, "other");
    assert_int_equal(pthread_create(&opener, NULL, open_and_close, NULL), 0);
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(use_and_open_other());
        }
        assert_int_equal(child_wait(pid), 0);
        (void)sharena_reap(fixture_heap());
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(opener, &failures), 0);
    assert_null(failures);
    assert_int_equal(sharena_unlink(other_path), 0);
    assert_child_is_gone(0);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(child_of_fork_registers_itself),
        with_heap(grandchild_registers_itself),
        with_heap(child_frees_and_leaves_blocks),
        with_heap(child_may_close_and_open),
        with_heap(child_that_only_exits_leaves_nothing),
        with_heap(registered_process_stays_so),
        with_heap(child_registers_when_it_can),
        with_heap(child_of_bare_fork_notices),
        with_heap(first_call_of_a_child_may_be_free),
        with_heap(noticing_keeps_the_signal_mask),
        with_heap(vfork_and_exec_leave_all_as_it_is),
        with_heap(threads_fork_while_others_allocate),
        with_heap(fork_while_another_thread_opens_and_closes),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
