/* test_namespace.c -- processes of several pid namespaces, whose threads all have the id 1, on one heap:
 * each is told from the others, in life and in death.
 */
#include <linux/futex.h>
#include <sched.h>

#include "section.h"

enum { LODGERS = 2, KEPT = 300 };

enum deed { HOLD, USE, REAP, REST };

struct lodger { /* shared, not in a heap: a process that is number 1 of its namespace */
    enum deed deed;
    enum section section; /* HOLD */
    int is_unmarked;      /* the kernel will find nothing to mark when it dies */
    pid_t pid;            /* as we see it */
    atomic_int tid;       /* as it sees itself */
    atomic_int is_ready;
    atomic_int may_go_on;
    atomic_int result;
};

static char path[SCRATCH_MAX];
static sharena_t *heap;
static struct lodger *lodgers; /* LODGERS of them */

static int open_heap(void **state) {
    (void)state;
    heap = clean_open_with(scratch_path(path, "namespace"), section_options());
    assert_null(section_use_all(heap));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

/* ---- what a lodger does ---- */

static void poison_robust_list(void) {
    struct robust_list_head *head = NULL;
    size_t length = 0;
    if (syscall(SYS_get_robust_list, 0, &head, &length) == 0) {
        *(struct robust_list *volatile *)&head->list.next = (struct robust_list *)8;
    }
}

static int hold(struct lodger *lodger) {
    REQUIRE(section_prepare(heap) == 0);
    section_enter(heap, lodger->section);
    if (lodger->is_unmarked) {
        poison_robust_list();
    }
    atomic_store(&lodger->is_ready, 1);
    return pause();
}

static int use(struct lodger *lodger) {
    atomic_store(&lodger->is_ready, 1);
    return waiters_use_in_process(heap);
}

static int reap(struct lodger *lodger) {
    REQUIRE(section_prepare(heap) == 0);
    atomic_store(&lodger->is_ready, 1);
    REQUIRE(section_await(&lodger->may_go_on, 1));
    atomic_store(&lodger->result, sharena_reap(heap));
    REQUIRE(clean_is_not(heap) == 0);
    return sharena_close(heap);
}

/* Has blocks and a cache; both must be as they were. */
static int rest(struct lodger *lodger) {
    void *blocks[KEPT];
    REQUIRE(sharena_malloc_batch(heap, 100, KEPT, blocks) == KEPT);
    for (uint64_t i = 0; i < KEPT; i++) {
        clean_fill(blocks[i], 100, i);
    }
    REQUIRE(section_prepare(heap) == 0);
    void *newest = sharena_malloc(heap, SECTION_SIZE);
    sharena_free(heap, newest);
    atomic_store(&lodger->is_ready, 1);
    REQUIRE(section_await(&lodger->may_go_on, 1));
    REQUIRE(sharena_malloc(heap, SECTION_SIZE) == newest);
    sharena_free(heap, newest);
    for (uint64_t i = 0; i < KEPT; i++) {
        REQUIRE(clean_compare(blocks[i], 100, i) == 100);
    }
    sharena_free_batch(heap, KEPT, blocks);
    return sharena_close(heap);
}

static int live(struct lodger *lodger) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    atomic_store(&lodger->tid, (int)syscall(SYS_gettid));
    switch (lodger->deed) {
    case HOLD:
        return hold(lodger);
    case USE:
        return use(lodger);
    case REAP:
        return reap(lodger);
    default:
        return rest(lodger);
    }
}

/* The process outside, which is its parent. */
static int be_landlord(void *arg) {
    struct lodger *lodger = arg;
    if (unshare(CLONE_NEWPID) != 0) {
        atomic_store(&lodger->is_ready, 1);
        return CHILD_SKIP;
    }
    pid_t pid = fork();
    if (pid == 0) {
        _exit(live(lodger));
    }
    __atomic_store_n(&lodger->pid, pid, __ATOMIC_RELEASE);
    int status = child_wait(pid);
    return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t start_lodger(struct lodger *lodger, enum deed deed, enum section section) {
    int is_unmarked = lodger->is_unmarked;
    memset(lodger, 0, sizeof(*lodger));
    lodger->deed = deed;
    lodger->section = section;
    lodger->is_unmarked = is_unmarked;
    pid_t landlord = child_start(be_landlord, lodger);
    assert_true(section_await(&lodger->is_ready, 1));
    if (atomic_load(&lodger->tid) == 0) {
        (void)child_wait(landlord);
        print_message("skipped: unshare(CLONE_NEWPID) is not permitted here\n");
        skip();
    }
    assert_int_equal(atomic_load(&lodger->tid), 1);
    while (__atomic_load_n(&lodger->pid, __ATOMIC_ACQUIRE) == 0) {
        crowd_sleep_us(100);
    }
    return landlord;
}

static void kill_lodger(const struct lodger *lodger, pid_t landlord) {
    assert_int_equal(kill(lodger->pid, SIGKILL), 0);
    int status = child_wait(landlord);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 100 + SIGKILL);
}

/* ---- tests ---- */

/* A holder is killed while a thread of the same id, in another namespace, waits for its lock, and others
 * do as well. */
static void test_holder_and_waiter_have_one_id(void **state) {
    (void)state;
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        for (enum section section = SECTION_BIN; section < SECTIONS; section++) {
            uint64_t before = section_recovered(heap);
            lodgers[0].is_unmarked = unmarked;
            lodgers[1].is_unmarked = 0;
            pid_t holder = start_lodger(&lodgers[0], HOLD, section);
            pid_t waiter = start_lodger(&lodgers[1], USE, section);
            assert_true(section_await_waiter(heap, section));
            struct waiters waiters = waiters_start(heap, section);
            crowd_sleep_us(300000); /* some slices: nobody takes anything from it */
            waiters_are_waiting(waiters);
            assert_int_equal(waitpid(waiter, NULL, WNOHANG), 0);
            kill_lodger(&lodgers[0], holder);
            assert_int_equal(child_wait(waiter), 0);
            waiters_join(waiters);
            assert_int_equal(section_recovered(heap), before + 1);
            (void)sharena_reap(heap);
            section_check(heap, 0);
        }
    }
}

/* The dead and the reaper have one id; a third one of that id is alive all the time. */
static void test_reaper_has_the_id_of_the_dead(void **state) {
    (void)state;
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
            lodgers[0].is_unmarked = unmarked;
            lodgers[1].is_unmarked = 0;
            pid_t reaper = start_lodger(&lodgers[1], REAP, SECTION_NONE);
            pid_t holder = start_lodger(&lodgers[0], HOLD, section);
            assert_int_equal(sharena_reap(heap), 0);
            kill_lodger(&lodgers[0], holder);
            atomic_store(&lodgers[1].may_go_on, 1);
            assert_int_equal(child_wait(reaper), 0);
            assert_int_equal(atomic_load(&lodgers[1].result), 1);
            section_check(heap, 0);
        }
    }
}

/* One of two with the same id is killed: the other keeps all it has, whoever reaps. */
static void test_the_living_is_not_robbed(void **state) {
    (void)state;
    struct sharena_report report;
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        for (int first = 0; first < LODGERS; first++) { /* kills in both directions */
            struct lodger *dying = &lodgers[first];
            struct lodger *living = &lodgers[1 - first];
            dying->is_unmarked = unmarked;
            living->is_unmarked = 0;
            pid_t landlords[LODGERS];
            for (int i = 0; i < LODGERS; i++) {
                landlords[i] = start_lodger(&lodgers[i], i == first ? HOLD : REST, SECTION_NONE);
            }
            assert_int_equal(sharena_check(heap, &report), 0);
            assert_int_equal(report.blocks_live, KEPT);
            kill_lodger(dying, landlords[first]);
            assert_int_equal(sharena_reap(heap), 1);
            assert_int_equal(sharena_reap(heap), 0);
            assert_int_equal(sharena_check(heap, &report), 0);
            assert_int_equal(report.blocks_live, KEPT);
            assert_true(report.blocks_cached >= 50);
            atomic_store(&living->may_go_on, 1);
            assert_int_equal(child_wait(landlords[1 - first]), 0);
            section_check(heap, 0);
        }
    }
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    lodgers = crowd_memory(LODGERS * sizeof(*lodgers));
    (void)alarm(120); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        with_heap(test_holder_and_waiter_have_one_id),
        with_heap(test_reaper_has_the_id_of_the_dead),
        with_heap(test_the_living_is_not_robbed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
