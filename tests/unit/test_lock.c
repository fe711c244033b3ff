/* test_lock.c -- one holder at a time, and a dead one leaves no trace. */
/* ctest: not under valgrind: its children die with their robust lists torn off */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "heap_fixture.h"
#include "ipc/journal.h"
#include "ipc/lock.h"
#include "ipc/thread.h"

#define PAGES 6u /* fields on pages of their own */

/* What the processes of a test share. */
struct area {
    struct shared_lock lock;  /* rank BIN */
    struct shared_lock upper; /* rank ARENA */
    shared_u16 u16;
    shared_u32 u32;
    shared_u64 u64;
    shared_ptr ptr;
    uint32_t child_slot; /* index of the child's thread slot */
    uint32_t is_ready;   /* atomic */
    uint32_t may_go_on;  /* atomic */
    volatile uint64_t counter;
    volatile uint32_t inside;
    char pages[] __attribute__((aligned(PAGE_BYTES)));
};

static struct area *area;
static struct thread_slot *self;

static int open_area(void **state) {
    size_t bytes = sizeof(struct area) + (size_t)PAGES * PAGE_BYTES;
    if (heap_fixture_open(state) != 0) {
        return 1;
    }
    self = fixture_self();
    area = sharena_aligned_alloc(fixture_heap(), PAGE_BYTES, bytes);
    assert_non_null(area);
    memset(area, 0, bytes);
    lock_init(&area->lock, RANK_BIN);
    lock_init(&area->upper, RANK_ARENA);
    return 0;
}

static shared_u64 *page_field(uint32_t page) {
    return (shared_u64 *)(void *)(area->pages + (size_t)page * PAGE_BYTES);
}

static uint64_t lock_offset(const struct shared_lock *lock) {
    return heap_offset(fixture_heap(), lock);
}

static uint64_t recovered(void) {
    return shared_get(&heap_state(fixture_heap())->recovered);
}

static void enter(void) {
    lock_acquire(fixture_heap(), self, &area->lock);
}

static void leave(void) {
    lock_release(fixture_heap(), self, &area->lock);
}

static void tell(uint32_t *flag) { // NOLINT(readability-non-const-parameter)
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

/* 1 once it is told; 0 if that does not come in five seconds. */
static int await(const uint32_t *flag) {
    for (int i = 0; i < 50000; i++) {
        if (__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
            return 1;
        }
        (void)usleep(100);
    }
    return 0;
}

static int await_waiter(const pthread_mutex_t *mutex) {
    for (int i = 0; i < 50000; i++) {
        if ((uint32_t)__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) & FUTEX_WAITERS) {
            return 1;
        }
        (void)usleep(100);
    }
    return 0;
}

static void wait_killed(pid_t pid, int signal_number) {
    int status = child_wait(pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal_number);
}

static int die(void) {
    (void)kill((pid_t)syscall(SYS_getpid), SIGKILL);
    return 1;
}

/* From now on the kernel marks nothing that this thread holds when it dies. */
static void break_robust_list(void) {
    static struct robust_list_head empty;
    empty.list.next = &empty.list;
    (void)syscall(SYS_set_robust_list, &empty, sizeof(empty));
}

static long long now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

/* ---- the mutex ---- */

static void mutex_is_made_of_any_bytes(void **state) {
    (void)state;
    pthread_mutex_t *mutex = &area->lock.mutex;
    memset(mutex, 0xff, sizeof(pthread_mutex_t));
    robust_mutex_init(mutex);
    assert_int_equal(robust_mutex_tid(mutex), 0);
    assert_int_equal(pthread_mutex_trylock(mutex), 0);
    assert_int_equal(robust_mutex_tid(mutex), syscall(SYS_gettid));
    assert_int_equal(pthread_mutex_trylock(mutex), EBUSY);
    assert_int_equal(pthread_mutex_unlock(mutex), 0);
    assert_int_equal(robust_mutex_tid(mutex), 0);
}

static int lock_mutex_and_die(void *arg) {
    const int *unmarked = arg;
    if (*unmarked) {
        break_robust_list();
    }
    REQUIRE(pthread_mutex_lock(&area->lock.mutex) == 0);
    return die();
}

static void mutex_names_its_dead(void **state) {
    (void)state;
    int unmarked = 0;
    wait_killed(child_start(lock_mutex_and_die, &unmarked), SIGKILL);
    assert_int_equal(pthread_mutex_trylock(&area->lock.mutex), EOWNERDEAD);
    assert_int_equal(pthread_mutex_consistent(&area->lock.mutex), 0);
    assert_int_equal(pthread_mutex_unlock(&area->lock.mutex), 0);
}

static void only_the_named_thread_is_marked_dead(void **state) {
    (void)state;
    int unmarked = 1;
    pthread_mutex_t *mutex = &area->lock.mutex;
    robust_mutex_mark_dead(mutex, 0);
    assert_int_equal(mutex->__data.__lock, 0);
    pid_t pid = child_start(lock_mutex_and_die, &unmarked);
    wait_killed(pid, SIGKILL);
    assert_int_equal(robust_mutex_tid(mutex), pid);
    robust_mutex_mark_dead(mutex, 0);
    robust_mutex_mark_dead(mutex, (uint32_t)pid + 1);
    assert_int_equal(pthread_mutex_trylock(mutex), EBUSY);
    mutex->__data.__lock |= (int)FUTEX_WAITERS;
    robust_mutex_mark_dead(mutex, (uint32_t)pid);
    assert_int_equal((uint32_t)mutex->__data.__lock, FUTEX_WAITERS | FUTEX_OWNER_DIED);
    assert_int_equal(pthread_mutex_trylock(mutex), EOWNERDEAD);
    assert_int_equal(pthread_mutex_consistent(mutex), 0);
    assert_int_equal(pthread_mutex_unlock(mutex), 0);
}

static void *lock_mutex(void *arg) {
    intptr_t result = pthread_mutex_lock(arg);
    if (result == EOWNERDEAD) {
        (void)pthread_mutex_consistent(arg);
        (void)pthread_mutex_unlock(arg);
    }
    return (void *)result;
}

static void marking_wakes_a_waiter(void **state) {
    (void)state;
    int unmarked = 1;
    pthread_t waiter;
    void *result = NULL;
    pid_t pid = child_start(lock_mutex_and_die, &unmarked);
    wait_killed(pid, SIGKILL);
    assert_int_equal(pthread_create(&waiter, NULL, lock_mutex, &area->lock.mutex), 0);
    assert_true(await_waiter(&area->lock.mutex));
    (void)usleep(10000); /* it may not be asleep yet; later, only the wake-up helps */
    robust_mutex_mark_dead(&area->lock.mutex, (uint32_t)pid);
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    assert_int_equal(pthread_timedjoin_np(waiter, &result, &until), 0);
    assert_int_equal((intptr_t)result, EOWNERDEAD);
}

/* ---- the living ---- */

static void holder_is_named_while_it_holds(void **state) {
    (void)state;
    assert_false(lock_is_held(self, &area->lock));
    enter();
    assert_true(lock_is_held(self, &area->lock));
    assert_int_equal(shared_get(&area->lock.owner), shared_get(&self->index) + 1);
    assert_int_equal(shared_get(&self->lock_wanted), lock_offset(&area->lock));
    assert_int_equal(shared_get(&self->journal.lock), lock_offset(&area->lock));
    assert_int_equal(robust_mutex_tid(&area->lock.mutex), syscall(SYS_gettid));
    leave();
    assert_false(lock_is_held(self, &area->lock));
    assert_int_equal(shared_get(&area->lock.owner), 0);
    assert_int_equal(shared_get(&self->lock_wanted), 0);
    assert_int_equal(shared_get(&self->journal.lock), 0);
    assert_int_equal(robust_mutex_tid(&area->lock.mutex), 0);
    assert_int_equal(shared_get(&area->lock.acquired), 1);
    assert_int_equal(shared_get(&area->lock.contended), 0);
}

static void lock_is_made_of_any_bytes(void **state) {
    (void)state;
    memset(&area->lock, 0xff, sizeof(area->lock));
    lock_init(&area->lock, RANK_BIN);
    assert_int_equal(area->lock.rank, RANK_BIN);
    assert_int_equal(shared_get(&area->lock.owner), 0);
    enter();
    assert_true(lock_is_held(self, &area->lock));
    leave();
}

static void *take_once(void *arg) {
    struct thread_slot **slot = arg;
    *slot = fixture_self();
    tell(&area->is_ready);
    lock_acquire(fixture_heap(), *slot, &area->lock);
    area->counter = 1;
    lock_release(fixture_heap(), *slot, &area->lock);
    return NULL;
}

static void waiter_waits_and_is_counted(void **state) {
    (void)state;
    pthread_t waiter;
    struct thread_slot *other = NULL;
    enter();
    assert_int_equal(pthread_create(&waiter, NULL, take_once, &other), 0);
    assert_true(await(&area->is_ready));
    assert_true(await_waiter(&area->lock.mutex));
    assert_ptr_not_equal(other, self);
    assert_int_equal(shared_get(&other->lock_wanted), lock_offset(&area->lock));
    assert_true(lock_is_held(self, &area->lock));
    assert_false(lock_is_held(other, &area->lock));
    assert_int_equal(area->counter, 0);
    leave();
    assert_int_equal(pthread_join(waiter, NULL), 0);
    assert_int_equal(area->counter, 1);
    assert_int_equal(shared_get(&area->lock.acquired), 2);
    assert_int_equal(shared_get(&area->lock.contended), 1);
}

#define ROUNDS 20000u

static void *add_many(void *arg) {
    struct thread_slot *slot = fixture_self();
    uint32_t *collisions = arg;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        lock_acquire(fixture_heap(), slot, &area->lock);
        *collisions += area->inside++;
        area->counter++;
        area->inside--;
        lock_release(fixture_heap(), slot, &area->lock);
    }
    return NULL;
}

static int add_many_from_two_threads(void *arg) {
    (void)arg;
    pthread_t thread;
    uint32_t collisions[2] = {0, 0};
    REQUIRE(pthread_create(&thread, NULL, add_many, &collisions[0]) == 0);
    (void)add_many(&collisions[1]);
    REQUIRE(pthread_join(thread, NULL) == 0);
    REQUIRE(collisions[0] == 0 && collisions[1] == 0);
    return 0;
}

static void threads_and_processes_exclude_each_other(void **state) {
    (void)state;
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = child_start(add_many_from_two_threads, NULL);
    }
    assert_int_equal(add_many_from_two_threads(NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(child_wait(children[i]), 0);
    }
    assert_int_equal(area->counter, 6 * ROUNDS);
    assert_int_equal(shared_get(&area->lock.acquired), 6 * ROUNDS);
    assert_int_equal(recovered(), 0);
}

/* ---- debug builds ---- */

static int nest_downwards(void *arg) {
    (void)arg;
    self = fixture_self();
    lock_acquire(fixture_heap(), self, &area->upper);
    enter();
    return 0;
}

static int enter_twice(void *arg) {
    (void)arg;
    (void)alarm(5);
    self = fixture_self();
    enter();
    enter();
    return 0;
}

static int leave_uncommitted(void *arg) {
    (void)arg;
    self = fixture_self();
    enter();
    journal_set(self, &area->u32, 1);
    leave();
    return 0;
}

static int leave_without_entering(void *arg) {
    (void)arg;
    self = fixture_self();
    leave();
    return 0;
}

static void debug_build_stops_at_misuse(void **state) {
    (void)state;
#ifdef SHARENA_DEBUG
    child_stops(nest_downwards, NULL, "held_rank");
    child_stops(enter_twice, NULL, "held_rank");
    child_stops(leave_uncommitted, NULL, "journal_is_empty");
    child_stops(leave_without_entering, NULL, "lock_is_held");
#else
    (void)nest_downwards;
    (void)enter_twice;
    (void)leave_uncommitted;
    (void)leave_without_entering;
    skip();
#endif
}

/* ---- the dead, marked by the kernel ---- */

static void set_one(uint32_t i) {
    switch (i % 5) {
    case 0:
        journal_set(self, &area->u16, (uint16_t)(i + 1));
        break;
    case 1:
        journal_set(self, &area->u32, i + 1);
        break;
    case 2:
        journal_set(self, &area->u64, i + 1);
        break;
    case 3:
        journal_set(self, &area->ptr, (char *)area + i);
        break;
    default:
        journal_set(self, &area->u32, i + 100);
        break;
    }
}

static void set_many(uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        set_one(i);
    }
}

static void assert_untouched(void) {
    assert_int_equal(shared_get(&area->u16), 0);
    assert_int_equal(shared_get(&area->u32), 0);
    assert_int_equal(shared_get(&area->u64), 0);
    assert_null(shared_get(&area->ptr));
}

struct death {
    uint32_t committed; /* so many stores, then a commit */
    uint32_t open;      /* and so many more */
    int unmarked;
};

static void enter_as_child(const struct death *death) {
    self = fixture_self();
    area->child_slot = shared_get(&self->index);
    if (death->unmarked) {
        break_robust_list();
    }
    enter();
}

static int die_in_section(void *arg) {
    const struct death *death = arg;
    enter_as_child(death);
    set_many(0, death->committed);
    journal_commit(self);
    set_many(death->committed, death->committed + death->open);
    return die();
}

static void let_one_die(struct death death) {
    wait_killed(child_start(die_in_section, &death), SIGKILL);
}

static void kill_after_any_store_leaves_the_old_values(void **state) {
    (void)state;
    for (uint32_t open = 0; open <= 12; open++) {
        uint64_t before = recovered();
        let_one_die((struct death){.open = open});
        struct thread_slot *dead = heap_thread(fixture_heap(), area->child_slot);
        assert_int_equal(shared_get(&area->lock.owner), area->child_slot + 1);
        assert_int_equal(shared_get(&dead->journal.count), open);
        enter();
        assert_untouched();
        assert_true(journal_is_empty(dead));
        assert_true(lock_is_held(self, &area->lock));
        assert_int_equal(recovered(), before + (open > 0));
        leave();
        enter(); /* nothing is left of it */
        leave();
        assert_int_equal(recovered(), before + (open > 0));
        (void)sharena_reap(fixture_heap());
    }
}

static void what_was_committed_stays(void **state) {
    (void)state;
    let_one_die((struct death){.committed = 3, .open = 4});
    enter();
    assert_int_equal(shared_get(&area->u16), 1);
    assert_int_equal(shared_get(&area->u32), 2);
    assert_int_equal(shared_get(&area->u64), 3);
    assert_null(shared_get(&area->ptr));
    leave();
}

static void recovery_asks_for_reaping(void **state) {
    (void)state;
    (void)sharena_reap(fixture_heap());
    let_one_die((struct death){.open = 1});
    assert_int_equal(fixture_attachment()->reap_wanted, 0);
    enter();
    assert_int_equal(fixture_attachment()->reap_wanted, 1);
    leave();
    assert_ptr_equal(fixture_self(), self); /* reaps */
    assert_int_equal(fixture_attachment()->reap_wanted, 0);
    struct thread_slot *dead = heap_thread(fixture_heap(), area->child_slot);
    assert_int_equal(shared_get(&dead->state), SLOT_FREE);
}

static int die_unnamed(void *arg) {
    const struct death *death = arg;
    self = fixture_self();
    area->child_slot = shared_get(&self->index);
    if (death->unmarked) {
        break_robust_list();
    }
    shared_store(&self->lock_wanted, lock_offset(&area->lock));
    REQUIRE(pthread_mutex_lock(&area->lock.mutex) == 0);
    return die();
}

static void kill_before_the_name_is_written(void **state) {
    (void)state;
    struct death death = {0};
    wait_killed(child_start(die_unnamed, &death), SIGKILL);
    assert_int_equal(shared_get(&area->lock.owner), 0);
    enter();
    assert_true(lock_is_held(self, &area->lock));
    leave();
    assert_int_equal(recovered(), 0);
}

/* The journal is open under the inner lock: whoever gets the outer one leaves it alone. */
static int die_nested(void *arg) {
    enter_as_child(arg);
    lock_acquire(fixture_heap(), self, &area->upper);
    set_many(0, 4);
    return die();
}

static void only_the_lock_of_the_journal_rolls_it_back(void **state) {
    (void)state;
    struct death death = {0};
    wait_killed(child_start(die_nested, &death), SIGKILL);
    enter();
    assert_int_equal(shared_get(&area->u32), 2);
    assert_int_equal(recovered(), 0);
    leave();
    lock_acquire(fixture_heap(), self, &area->upper);
    assert_untouched();
    assert_int_equal(recovered(), 1);
    lock_release(fixture_heap(), self, &area->upper);
}

static void *end_thread_in_section(void *arg) {
    (void)arg;
    struct thread_slot *slot = fixture_self();
    lock_acquire(fixture_heap(), slot, &area->lock);
    journal_set(slot, &area->u32, 7);
    journal_set(slot, &area->u64, 8);
    (void)syscall(SYS_exit, 0);
    return NULL;
}

static int survive_a_thread(void *arg) {
    (void)arg;
    pthread_t thread;
    self = fixture_self();
    REQUIRE(pthread_create(&thread, NULL, end_thread_in_section, NULL) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    enter();
    REQUIRE(shared_get(&area->u32) == 0 && shared_get(&area->u64) == 0);
    REQUIRE(recovered() == 1);
    leave();
    return sharena_close(fixture_heap());
}

/* In a child, because a sanitizer does not survive such threads. */
static void one_thread_may_die_alone(void **state) {
    (void)state;
    child_run(survive_a_thread, NULL);
    assert_int_equal(recovered(), 1);
}

static void waiter_goes_on_at_once(void **state) {
    (void)state;
    pthread_t waiter;
    struct thread_slot *other = NULL;
    struct death death = {0};
    assert_int_equal(pthread_create(&waiter, NULL, take_once, &other), 0);
    assert_int_equal(pthread_join(waiter, NULL), 0); /* without contention */
    for (death.open = 0; death.open < 4; death.open++) {
        area->counter = 0;
        wait_killed(child_start(die_in_section, &death), SIGKILL);
        long long start = now_ms();
        assert_int_equal(pthread_create(&waiter, NULL, take_once, &other), 0);
        assert_int_equal(pthread_join(waiter, NULL), 0);
        assert_int_equal(area->counter, 1);
        assert_true(now_ms() - start < 3000);
    }
}

/* ---- a recovery that is killed ---- */

static void set_pages(void) {
    for (uint32_t i = 0; i < PAGES; i++) {
        journal_set(self, page_field(i), 100 + i);
    }
}

static int die_with_pages_set(void *arg) {
    const struct death *death = arg;
    enter_as_child(death);
    set_pages();
    return die();
}

struct recovery {
    uint32_t page; /* the restoring store to it kills */
    int unmarked;
};

static int die_in_recovery(void *arg) {
    const struct recovery *recovery = arg;
    const struct rlimit no_core = {0, 0};
    self = fixture_self();
    REQUIRE(setrlimit(RLIMIT_CORE, &no_core) == 0);
    REQUIRE(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    REQUIRE(mprotect(page_field(recovery->page), PAGE_BYTES, PROT_READ) == 0);
    if (recovery->unmarked) {
        break_robust_list();
    }
    enter();
    return 1;
}

static void let_recovery_die(struct recovery recovery) {
    wait_killed(child_start(die_in_recovery, &recovery), SIGSEGV);
}

static void assert_pages_untouched(void) {
    for (uint32_t i = 0; i < PAGES; i++) {
        assert_int_equal(shared_get(page_field(i)), 0);
    }
}

static void killed_recovery_is_finished_by_the_next(void **state) {
    (void)state;
    for (uint32_t page = 0; page < PAGES; page++) {
        struct death death = {0};
        uint64_t before = recovered();
        wait_killed(child_start(die_with_pages_set, &death), SIGKILL);
        let_recovery_die((struct recovery){.page = page});
        if (page > 0) {
            let_recovery_die((struct recovery){.page = page / 2}); /* and once more */
        }
        assert_int_equal(recovered(), before);
        enter();
        assert_pages_untouched();
        assert_int_equal(recovered(), before + 1);
        leave();
        (void)sharena_reap(fixture_heap());
    }
}

/* ---- the dead that the kernel did not mark ---- */

static int enter_and_leave(void *arg) {
    (void)arg;
    self = fixture_self();
    enter();
    leave();
    return 0;
}

static int enter_and_leave_upper(void *arg) {
    (void)arg;
    self = fixture_self();
    lock_acquire(fixture_heap(), self, &area->upper);
    lock_release(fixture_heap(), self, &area->upper);
    return 0;
}

/* The lock can be had within slices of 100 ms, not minutes; the fields hold their old values. */
static void assert_goes_on(void) {
    assert_int_equal(child_wait_ms(child_start(enter_and_leave, NULL), 3000), 0);
    assert_untouched();
    assert_pages_untouched();
}

static void unmarked_holder_is_found_dead(void **state) {
    (void)state;
    let_one_die((struct death){.open = 4, .unmarked = 1});
    assert_int_equal(shared_get(&area->u32), 2);
    assert_int_equal(pthread_mutex_trylock(&area->lock.mutex), EBUSY);
    assert_goes_on();
    assert_int_equal(recovered(), 1);
    assert_int_equal(shared_get(&heap_state(fixture_heap())->taken_over), 1);
}

static void unmarked_and_unnamed_holder_is_found_dead(void **state) {
    (void)state;
    struct death death = {.unmarked = 1};
    wait_killed(child_start(die_unnamed, &death), SIGKILL);
    assert_int_equal(pthread_mutex_trylock(&area->lock.mutex), EBUSY);
    assert_goes_on();
    assert_int_equal(recovered(), 0);
}

/* What it wanted last is the inner lock; the outer one has its name. */
static void unmarked_holder_of_two_is_found_dead(void **state) {
    (void)state;
    struct death death = {.unmarked = 1};
    wait_killed(child_start(die_nested, &death), SIGKILL);
    assert_int_equal(child_wait_ms(child_start(enter_and_leave, NULL), 3000), 0);
    assert_int_equal(child_wait_ms(child_start(enter_and_leave_upper, NULL), 3000), 0);
    assert_untouched();
}

static int linger(void *arg) {
    uint32_t *process = arg;
    (void)fixture_self();
    *process = fixture_attachment()->token.slot;
    tell(&area->is_ready);
    return pause();
}

/* A new process has the process slot of the dead one, and so its token is held. */
static void unmarked_holder_is_dead_also_if_its_process_slot_lives(void **state) {
    (void)state;
    let_one_die((struct death){.open = 2, .unmarked = 1});
    uint32_t process = shared_get(&heap_thread(fixture_heap(), area->child_slot)->process);
    uint32_t *successor = (uint32_t *)(void *)page_field(PAGES - 1);
    pid_t pid = child_start(linger, successor);
    assert_true(await(&area->is_ready));
    assert_int_equal(*successor, process);
    *successor = 0;
    assert_goes_on();
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)child_wait(pid);
}

static int reap_all(void *arg) {
    (void)arg;
    (void)sharena_reap(fixture_heap());
    return 0;
}

static void unmarked_holder_with_open_section_can_be_reaped(void **state) {
    (void)state;
    let_one_die((struct death){.open = 3, .unmarked = 1});
    assert_int_equal(child_wait_ms(child_start(reap_all, NULL), 3000), 0);
    assert_goes_on();
}

static void unmarked_holder_without_entries_can_be_reaped(void **state) {
    (void)state;
    let_one_die((struct death){.open = 0, .unmarked = 1});
    assert_int_equal(child_wait_ms(child_start(reap_all, NULL), 3000), 0);
    assert_goes_on();
}

static void unmarked_and_unnamed_holder_can_be_reaped(void **state) {
    (void)state;
    struct death death = {.unmarked = 1};
    wait_killed(child_start(die_unnamed, &death), SIGKILL);
    assert_int_equal(child_wait_ms(child_start(reap_all, NULL), 3000), 0);
    assert_goes_on();
}

/* The lock names the first of the dead, the mutex the second. */
static void unmarked_recovery_is_found_dead(void **state) {
    (void)state;
    struct death death = {0};
    wait_killed(child_start(die_with_pages_set, &death), SIGKILL);
    let_recovery_die((struct recovery){.page = 2, .unmarked = 1});
    assert_goes_on();
}

/* Two waiters, of which one does the marking. */
static void all_waiters_go_on(void **state) {
    (void)state;
    let_one_die((struct death){.open = 4, .unmarked = 1});
    pid_t first = child_start(enter_and_leave, NULL);
    assert_goes_on();
    assert_int_equal(child_wait_ms(first, 3000), 0);
    assert_int_equal(recovered(), 1);
}

/* ---- the stopped ---- */

static int hold_until_told(void *arg) {
    enter_as_child(arg);
    set_many(0, 4);
    tell(&area->is_ready);
    REQUIRE(await(&area->may_go_on));
    REQUIRE(shared_get(&area->u32) == 2);
    set_many(0, 0);
    journal_roll_back(fixture_heap(), self);
    leave();
    return 0;
}

static void stopped_holder_keeps_its_lock(void **state) {
    (void)state;
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        struct death death = {.unmarked = unmarked};
        area->is_ready = area->may_go_on = 0;
        pid_t holder = child_start(hold_until_told, &death);
        assert_true(await(&area->is_ready));
        assert_int_equal(kill(holder, SIGSTOP), 0);
        pid_t waiter = child_start(enter_and_leave, NULL);
        (void)usleep(350000); /* three slices */
        assert_int_equal(waitpid(waiter, NULL, WNOHANG), 0);
        assert_int_equal(shared_get(&area->u32), 2);
        assert_int_equal(shared_get(&area->lock.owner), area->child_slot + 1);
        assert_int_equal(kill(holder, SIGCONT), 0);
        tell(&area->may_go_on);
        assert_int_equal(child_wait_ms(holder, 5000), 0);
        assert_int_equal(child_wait_ms(waiter, 5000), 0);
        assert_int_equal(recovered(), 0);
    }
}

#define with_area(f) cmocka_unit_test_setup_teardown(f, open_area, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_area(mutex_is_made_of_any_bytes),
        with_area(mutex_names_its_dead),
        with_area(only_the_named_thread_is_marked_dead),
        with_area(marking_wakes_a_waiter),
        with_area(holder_is_named_while_it_holds),
        with_area(lock_is_made_of_any_bytes),
        with_area(waiter_waits_and_is_counted),
        with_area(threads_and_processes_exclude_each_other),
        with_area(debug_build_stops_at_misuse),
        with_area(kill_after_any_store_leaves_the_old_values),
        with_area(what_was_committed_stays),
        with_area(recovery_asks_for_reaping),
        with_area(kill_before_the_name_is_written),
        with_area(only_the_lock_of_the_journal_rolls_it_back),
        with_area(one_thread_may_die_alone),
        with_area(waiter_goes_on_at_once),
        with_area(killed_recovery_is_finished_by_the_next),
        with_area(unmarked_holder_is_found_dead),
        with_area(unmarked_and_unnamed_holder_is_found_dead),
        with_area(unmarked_holder_of_two_is_found_dead),
        with_area(unmarked_holder_is_dead_also_if_its_process_slot_lives),
        with_area(unmarked_holder_with_open_section_can_be_reaped),
        with_area(unmarked_holder_without_entries_can_be_reaped),
        with_area(unmarked_and_unnamed_holder_can_be_reaped),
        with_area(unmarked_recovery_is_found_dead),
        with_area(all_waiters_go_on),
        with_area(stopped_holder_keeps_its_lock),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
