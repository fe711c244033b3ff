/* test_slot.c -- a slot belongs to one living thread, and to nobody else until it is dead. */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "heap_fixture.h"
#include "ipc/journal.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

/* What the processes of a test share; in the heap. */
struct area {
    shared_u64 field;
    uint32_t slot;    /* index of the child's thread slot */
    uint32_t process; /* its process slot */
    uint64_t generation;
    int error;
    uint32_t is_ready;  /* atomic */
    uint32_t may_go_on; /* atomic */
    char message[256];
};

static struct area *area;

static int open_area(void **state) {
    int error = heap_fixture_open(state);
    area = sharena_calloc(fixture_heap(), 1, sizeof(*area));
    assert_non_null(area);
    return error;
}

static void tell(uint32_t *flag) { // NOLINT(readability-non-const-parameter)
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static int await(const uint32_t *flag) {
    for (int i = 0; i < 50000; i++) {
        if (__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
            return 1;
        }
        (void)usleep(100);
    }
    return 0;
}

static struct thread_slot *slot_at(uint32_t index) {
    return heap_thread(fixture_heap(), index);
}

static struct process_slot *process_at(uint32_t index) {
    return heap_process(fixture_heap(), index);
}

static uint32_t high(void) {
    return shared_get(&heap_state(fixture_heap())->threads_high);
}

static uint32_t my_tid(void) {
    return (uint32_t)syscall(SYS_gettid);
}

/* Ends a slot that slot_take() or slot_seize_dead() gave, without the heap's part of it. */
static void end_slot(struct thread_slot *slot) {
    slot_give_back(slot);
}

/* ---- children that hold a slot ---- */

struct holder {
    int unmarked;  /* the kernel marks nothing when it dies */
    uint32_t open; /* journal entries */
};

static int hold(void *arg) {
    static struct robust_list_head empty;
    const struct holder *holder = arg;
    struct thread_slot *self = fixture_self();
    area->slot = shared_get(&self->index);
    area->process = fixture_attachment()->token.slot;
    area->generation = fixture_attachment()->process_generation;
    if (holder->unmarked) {
        empty.list.next = &empty.list;
        REQUIRE(syscall(SYS_set_robust_list, &empty, sizeof(empty)) == 0);
    }
    for (uint32_t i = 0; i < holder->open; i++) {
        journal_set(self, &area->field, 100 + i);
    }
    tell(&area->is_ready);
    return pause();
}

static pid_t start_holder(struct holder holder) {
    area->is_ready = 0;
    pid_t pid = child_start(hold, &holder);
    assert_true(await(&area->is_ready));
    return pid;
}

static void kill_holder(pid_t pid) {
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status = child_wait(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- processes ---- */

static void process_is_registered(void **state) {
    (void)state;
    const struct attachment *attachment = fixture_attachment();
    struct process_slot *process = process_at(attachment->token.slot);
    char name[16] = "";
    assert_int_equal(prctl(PR_GET_NAME, name), 0);
    assert_int_equal(shared_get(&process->state), SLOT_USED);
    assert_int_equal(shared_get(&process->pid), getpid());
    assert_int_equal(shared_get(&process->generation), 1);
    assert_int_equal(attachment->process_generation, 1);
    assert_true(shared_get(&process->attached_ns) > 1600000000000000000ull);
    assert_string_equal(process->name, name);
    assert_int_equal(token_is_held(&attachment->file, attachment->token.slot), 1);
}

static void process_slot_is_reused_with_a_new_generation(void **state) {
    (void)state;
    struct attachment second = *fixture_attachment();
    struct attachment third = *fixture_attachment();
    second.token.page = third.token.page = NULL;
    assert_int_equal(slot_register_process(&second), 0);
    assert_int_not_equal(second.token.slot, fixture_attachment()->token.slot);
    struct process_slot *process = process_at(second.token.slot);
    assert_int_equal(shared_get(&process->state), SLOT_USED);
    assert_int_equal(second.process_generation, 1);
    slot_unregister_process(&second);
    assert_null(second.token.page);
    assert_int_equal(shared_get(&process->state), SLOT_FREE);
    assert_int_equal(token_is_held(&second.file, second.token.slot), 0);
    assert_int_equal(slot_register_process(&third), 0);
    assert_int_equal(third.token.slot, second.token.slot);
    assert_int_equal(third.process_generation, 2);
    assert_int_equal(shared_get(&process->generation), 2);
    slot_unregister_process(&third);
}

static void killed_process_leaves_its_slot_to_the_next(void **state) {
    (void)state;
    kill_holder(start_holder((struct holder){0}));
    uint32_t process = area->process;
    uint64_t generation = area->generation;
    assert_int_not_equal(process, fixture_attachment()->token.slot);
    assert_int_equal(shared_get(&process_at(process)->state), SLOT_USED);
    kill_holder(start_holder((struct holder){0}));
    assert_int_equal(area->process, process);
    assert_int_equal(area->generation, generation + 1);
}

static void only_slot_of_the_living_is_alone(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    (void)fixture_self();
    assert_true(slot_is_alone(attachment));
    struct thread_slot *second = slot_take(attachment);
    assert_false(slot_is_alone(attachment)); /* another thread of ours */
    end_slot(second);
    assert_true(slot_is_alone(attachment));
    pid_t pid = start_holder((struct holder){0});
    assert_false(slot_is_alone(attachment)); /* another process */
    kill_holder(pid);
    assert_true(slot_is_alone(attachment));
}

/* ---- take and give back ---- */

static void taken_slot_says_whose_it_is(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    uint32_t threads = slot_count_held_by_us(attachment);
    struct thread_slot *slot = slot_take(attachment);
    assert_non_null(slot);
    assert_int_equal(slot_count_held_by_us(attachment), threads + 1);
    assert_int_equal(shared_get(&slot->state), SLOT_USED);
    assert_ptr_equal(slot, slot_at(shared_get(&slot->index)));
    assert_int_equal(shared_get(&slot->process), attachment->token.slot);
    assert_int_equal(shared_get(&slot->process_generation), attachment->process_generation);
    assert_int_equal(shared_get(&slot->tid), my_tid());
    assert_int_equal(shared_get(&slot->generation), 1);
    assert_int_equal(robust_mutex_tid(&slot->token), my_tid());
    assert_true(journal_is_empty(slot));
    assert_true(slot_is_ours(attachment, slot));
    end_slot(slot);
    assert_int_equal(shared_get(&slot->state), SLOT_FREE);
    assert_int_equal(robust_mutex_tid(&slot->token), 0);
    assert_false(slot_is_ours(attachment, slot));
}

static void free_slot_is_taken_before_a_new_one_is_made(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    struct thread_slot *slots[3];
    uint32_t before = high();
    for (int i = 0; i < 3; i++) {
        slots[i] = slot_take(attachment);
        assert_non_null(slots[i]);
    }
    assert_int_equal(high(), before + 3);
    uint32_t index = shared_get(&slots[1]->index);
    end_slot(slots[1]);
    slots[1] = slot_take(attachment);
    assert_int_equal(shared_get(&slots[1]->index), index);
    assert_int_equal(shared_get(&slots[1]->generation), 2);
    assert_int_equal(high(), before + 3);
    for (int i = 0; i < 3; i++) {
        end_slot(slots[i]);
    }
}

static void *note_own_slot(void *arg) {
    struct thread_slot **slot = arg;
    *slot = fixture_self();
    return sharena_malloc(fixture_heap(), 100);
}

static void end_of_thread_gives_back(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    uint32_t threads = slot_count_held_by_us(attachment);
    struct thread_slot *first = NULL;
    for (int i = 1; i <= 3; i++) {
        pthread_t thread;
        struct thread_slot *slot = NULL;
        void *block = NULL;
        assert_int_equal(pthread_create(&thread, NULL, note_own_slot, &slot), 0);
        assert_int_equal(pthread_join(thread, &block), 0);
        assert_ptr_not_equal(slot, fixture_self());
        first = i == 1 ? slot : first;
        assert_ptr_equal(slot, first);
        assert_int_equal(shared_get(&slot->generation), i);
        assert_int_equal(shared_get(&slot->state), SLOT_FREE);
        assert_int_equal(robust_mutex_tid(&slot->token), 0);
        assert_int_equal(slot_count_held_by_us(attachment), threads);
        sharena_free(fixture_heap(), block);
    }
}

/* Slots that a killed grower left RAW are no slots, so a full table of them is cheap to make. */
static void full_table_is_refused(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    shared_u32 *threads_high = &heap_state(fixture_heap())->threads_high;
    uint32_t before = high();
    shared_store(threads_high, THREADS_MAX - 1);
    struct thread_slot *last = slot_take(attachment);
    assert_non_null(last);
    assert_int_equal(shared_get(&last->index), THREADS_MAX - 1);
    assert_int_equal(high(), THREADS_MAX);
    (void)error_set(0, "%s", "");
    errno = 0;
    assert_null(slot_take(attachment));
    assert_int_equal(errno, EUSERS);
    assert_says("4096 thread slots");
    assert_int_equal(high(), THREADS_MAX);
    end_slot(last);
    shared_store(threads_high, before);
}

static int lock_free_slot_and_die(void *arg) {
    const uint32_t *index = arg;
    REQUIRE(pthread_mutex_trylock(&slot_at(*index)->token) == 0);
    return kill(getpid(), SIGKILL);
}

static void free_slot_of_a_dead_taker_goes_to_the_next(void **state) {
    (void)state;
    struct thread_slot *slot = slot_take(fixture_attachment());
    uint32_t index = shared_get(&slot->index);
    end_slot(slot);
    pid_t pid = child_start(lock_free_slot_and_die, &index);
    (void)child_wait(pid);
    assert_true((uint32_t)slot->token.__data.__lock & FUTEX_OWNER_DIED);
    assert_null(slot_seize_dead(fixture_attachment(), index)); /* there is nothing to reap */
    struct thread_slot *again = slot_take(fixture_attachment());
    assert_ptr_equal(again, slot);
    assert_int_equal(robust_mutex_tid(&slot->token), my_tid());
    end_slot(again);
    assert_ptr_equal(slot_take(fixture_attachment()), slot); /* as good as any other */
    end_slot(slot);
}

/* ---- a false thread id ---- */

static void use_heap_in_raw_child(void) {
    struct thread_slot *self = heap_enter(fixture_heap());
    area->error = self == NULL ? errno : 0;
    (void)snprintf(area->message, sizeof(area->message), "%s", error_message());
    area->may_go_on = sharena_malloc(fixture_heap(), 64) != NULL;
    tell(&area->is_ready);
    _exit(0);
}

static void raw_clone_child_seizes_nothing(void **state) {
    (void)state;
    kill_holder(start_holder((struct holder){0}));
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        _exit(slot_seize_dead(fixture_attachment(), area->slot) != NULL);
    }
    assert_int_equal(child_wait(pid), 0);
    assert_ptr_equal(slot_seize_dead(fixture_attachment(), area->slot), slot_at(area->slot));
    end_slot(slot_at(area->slot));
}

static void raw_clone_child_is_refused(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    uint32_t threads = slot_count_held_by_us(fixture_attachment());
    uint32_t slots = high();
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        use_heap_in_raw_child();
    }
    assert_int_equal(child_wait(pid), 0);
    assert_true(await(&area->is_ready));
    assert_int_equal(area->error, EPERM);
    assert_non_null(strstr(area->message, "false thread id"));
    assert_int_equal(area->may_go_on, 0);
    assert_int_equal(shared_get(&self->state), SLOT_USED);
    assert_int_equal(robust_mutex_tid(&self->token), my_tid());
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), threads);
    assert_int_equal(high(), slots); /* it has not even tried */
}

/* ---- seize ---- */

static void slot_of_the_killed_is_seized_as_it_was_left(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        shared_store(&area->field, 5);
        kill_holder(start_holder((struct holder){.unmarked = unmarked, .open = 3}));
        struct thread_slot *dead = slot_at(area->slot);
        uint64_t generation = shared_get(&dead->generation);
        uint32_t threads = slot_count_held_by_us(attachment);
        assert_false(slot_is_ours(attachment, dead));
        assert_ptr_equal(slot_seize_dead(attachment, area->slot), dead);
        assert_int_equal(shared_get(&dead->state), SLOT_USED);
        assert_int_equal(slot_count_held_by_us(attachment), threads + 1); /* charged to us */
        assert_int_equal(shared_get(&dead->generation), generation);
        assert_int_equal(shared_get(&dead->journal.count), 3);
        assert_int_equal(shared_get(&area->field), 102);
        assert_true(slot_is_ours(attachment, dead));
        assert_int_equal(shared_get(&dead->tid), my_tid());
        assert_int_equal(robust_mutex_tid(&dead->token), my_tid());
        assert_null(slot_seize_dead(attachment, area->slot)); /* its new holder lives */
        journal_roll_back(fixture_heap(), dead);
        end_slot(dead);
        assert_int_equal(shared_get(&area->field), 5);
        assert_int_equal(shared_get(&dead->state), SLOT_FREE);
        assert_null(slot_seize_dead(attachment, area->slot));
        assert_ptr_equal(slot_take(attachment), dead); /* as good as any other */
        end_slot(dead);
    }
}

static void slot_of_the_living_is_not_seized(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    for (int unmarked = 0; unmarked < 2; unmarked++) {
        pid_t pid = start_holder((struct holder){.unmarked = unmarked});
        struct thread_slot *slot = slot_at(area->slot);
        uint32_t tid = shared_get(&slot->tid);
        assert_int_equal(tid, pid);
        assert_null(slot_seize_dead(attachment, area->slot));
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_null(slot_seize_dead(attachment, area->slot));
        assert_int_equal(shared_get(&slot->tid), tid);
        assert_int_equal(robust_mutex_tid(&slot->token), tid);
        kill_holder(pid);
        assert_ptr_equal(slot_seize_dead(attachment, area->slot), slot);
        end_slot(slot);
    }
}

/* The process slot of the dead has a new holder: its generation tells, not its token. */
static void slot_is_seized_although_its_process_slot_lives(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    kill_holder(start_holder((struct holder){.unmarked = 1}));
    uint32_t slot = area->slot;
    uint32_t process = area->process;
    pid_t pid = start_holder((struct holder){0});
    assert_int_equal(area->process, process);
    assert_int_not_equal(area->slot, slot);
    assert_ptr_equal(slot_seize_dead(attachment, slot), slot_at(slot));
    end_slot(slot_at(slot));
    assert_null(slot_seize_dead(attachment, area->slot));
    kill_holder(pid);
}

/* ---- a reaper whose thread id is that of the dead, as after exec ---- */

static void wait_in_hook(sharena_t *heap, const struct thread_slot *dead) {
    (void)heap;
    (void)dead;
    tell(&area->is_ready);
    (void)await(&area->may_go_on);
}

static int seize_slowly(void *arg) {
    const uint32_t *index = arg;
    struct thread_slot *dead = slot_at(*index);
    shared_store(&dead->tid, my_tid());
    slot_dead_hook = wait_in_hook;
    REQUIRE(slot_seize_dead(fixture_attachment(), *index) == dead);
    slot_give_back(dead);
    return 0;
}

static void reaper_that_has_the_id_of_the_dead_is_not_robbed(void **state) {
    (void)state;
    kill_holder(start_holder((struct holder){0}));
    uint32_t index = area->slot;
    for (int stopped = 0; stopped < 2; stopped++) {
        area->is_ready = 0;
        pid_t pid = child_start(seize_slowly, &index);
        assert_true(await(&area->is_ready));
        assert_int_equal(kill(pid, stopped ? SIGSTOP : 0), 0);
        assert_null(slot_seize_dead(fixture_attachment(), index));
        assert_int_equal(robust_mutex_tid(&slot_at(index)->token), pid);
        if (stopped) {
            kill_holder(pid); /* dead now, in the middle of it */
            assert_ptr_equal(slot_seize_dead(fixture_attachment(), index), slot_at(index));
            end_slot(slot_at(index));
        } else {
            tell(&area->may_go_on);
            assert_int_equal(child_wait(pid), 0);
            area->may_go_on = 0;
            kill_holder(start_holder((struct holder){0}));
            index = area->slot;
        }
    }
}

static void *hold_as_thread(void *arg) {
    struct thread_slot **slot = arg;
    *slot = fixture_self();
    tell(&area->is_ready);
    (void)await(&area->may_go_on);
    return NULL;
}

static void slots_of_our_living_threads_are_not_seized(void **state) {
    (void)state;
    pthread_t thread;
    struct thread_slot *other = NULL;
    struct thread_slot *self = fixture_self();
    assert_int_equal(pthread_create(&thread, NULL, hold_as_thread, &other), 0);
    assert_true(await(&area->is_ready));
    assert_null(slot_seize_dead(fixture_attachment(), shared_get(&self->index)));
    assert_null(slot_seize_dead(fixture_attachment(), shared_get(&other->index)));
    assert_true(slot_is_ours(fixture_attachment(), other));
    tell(&area->may_go_on);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void *end_without_libc(void *arg) {
    struct thread_slot **slot = arg;
    *slot = fixture_self();
    (void)syscall(SYS_exit, 0);
    return NULL;
}

static int survive_a_thread(void *arg) {
    const int *by_reaping = arg;
    pthread_t thread;
    struct thread_slot *slot = NULL;
    sharena_t *heap = fixture_heap();
    REQUIRE(pthread_create(&thread, NULL, end_without_libc, &slot) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    REQUIRE(shared_get(&slot->state) == SLOT_USED);
    if (*by_reaping) {
        REQUIRE(sharena_reap(heap) == 1);
        REQUIRE(shared_get(&slot->state) == SLOT_FREE);
    } else {
        uint32_t threads = slot_count_held_by_us(fixture_attachment());
        REQUIRE(slot_seize_dead(fixture_attachment(), shared_get(&slot->index)) == slot);
        REQUIRE(shared_get(&slot->tid) == my_tid());
        REQUIRE(slot_count_held_by_us(fixture_attachment()) == threads + 1); /* by us, now */
        end_slot(slot);
    }
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(registry_find(heap) == NULL); /* nothing keeps the heap attached */
    return 0;
}

/* In children, because a sanitizer does not survive such threads. */
static void slot_of_our_dead_thread_is_seized(void **state) {
    (void)state;
    for (int by_reaping = 0; by_reaping < 2; by_reaping++) {
        child_run(survive_a_thread, &by_reaping);
    }
}

static int seize_and_die(void *arg) {
    const uint32_t *slot = arg;
    REQUIRE(slot_seize_dead(fixture_attachment(), *slot) == slot_at(*slot));
    return kill(getpid(), SIGKILL);
}

static void slot_of_a_dead_reaper_is_seized(void **state) {
    (void)state;
    kill_holder(start_holder((struct holder){.open = 2}));
    uint32_t slot = area->slot;
    for (int i = 0; i < 2; i++) {
        int status = child_wait(child_start(seize_and_die, &slot));
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    assert_ptr_equal(slot_seize_dead(fixture_attachment(), slot), slot_at(slot));
    assert_int_equal(shared_get(&slot_at(slot)->journal.count), 2);
    journal_roll_back(fixture_heap(), slot_at(slot));
    end_slot(slot_at(slot));
}

/* ---- whose ---- */

static int look_at_parents_slot(void *arg) {
    struct thread_slot *parents = arg;
    REQUIRE(shared_get(&parents->state) == SLOT_USED);
    REQUIRE(!slot_is_ours(fixture_attachment(), parents));
    REQUIRE(slot_is_ours(fixture_attachment(), fixture_self()));
    return 0;
}

static void inherited_slot_is_not_ours(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    child_run(look_at_parents_slot, self);
    assert_true(slot_is_ours(fixture_attachment(), self));
}

static int is_not_mine_by_generation(void *arg) {
    (void)arg;
    REQUIRE(fixture_attachment()->token.slot == area->process);
    REQUIRE(shared_get(&slot_at(area->slot)->state) == SLOT_USED);
    REQUIRE(!slot_is_ours(fixture_attachment(), slot_at(area->slot)));
    return 0;
}

static void slot_of_a_dead_predecessor_is_not_ours(void **state) {
    (void)state;
    kill_holder(start_holder((struct holder){0}));
    child_run(is_not_mine_by_generation, NULL);
}

static void any_used_sees_the_living_and_the_dead(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    assert_int_equal(slot_any_used(fixture_heap()), 1);
    kill_holder(start_holder((struct holder){0}));
    shared_store(&self->state, SLOT_FREE); /* only the dead one is left */
    assert_int_equal(slot_any_used(fixture_heap()), 1);
    shared_store(&slot_at(area->slot)->state, SLOT_FREE);
    assert_int_equal(slot_any_used(fixture_heap()), 0);
    shared_store(&slot_at(area->slot)->state, SLOT_USED);
    shared_store(&self->state, SLOT_USED);
}

/* ---- a cold open ---- */

/* On private memory that looks like a heap, because nobody may be attached. */
static void cold_open_makes_all_tokens_anew(void **state) {
    (void)state;
    size_t bytes = THREADS_OFFSET + 4 * (size_t)THREAD_SLOT_BYTES;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    sharena_t *heap = memory;
    static const uint32_t states[4] = {SLOT_USED, SLOT_FREE, SLOT_RAW, SLOT_RAW};
    shared_store(&heap_state(heap)->threads_high, 3u);
    for (uint32_t i = 0; i < 4; i++) {
        memset(&heap_thread(heap, i)->token, 0x77, sizeof(pthread_mutex_t));
        shared_store(&heap_thread(heap, i)->index, 77);
        shared_store(&heap_thread(heap, i)->state, states[i]);
    }
    slot_init_tokens(heap);
    for (uint32_t i = 0; i < 3; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        assert_int_equal(shared_get(&slot->index), i);
        assert_int_equal(shared_get(&slot->state), i == 0 ? SLOT_USED : SLOT_FREE);
        assert_int_equal(pthread_mutex_trylock(&slot->token), 0);
        assert_int_equal(robust_mutex_tid(&slot->token), my_tid());
        assert_int_equal(pthread_mutex_unlock(&slot->token), 0);
    }
    assert_int_equal(shared_get(&heap_thread(heap, 3)->index), 77); /* does not exist */
    assert_int_equal(slot_any_used(heap), 1);
    assert_int_equal(munmap(memory, bytes), 0);
}

#define with_area(f) cmocka_unit_test_setup_teardown(f, open_area, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_area(process_is_registered),
        with_area(process_slot_is_reused_with_a_new_generation),
        with_area(killed_process_leaves_its_slot_to_the_next),
        with_area(only_slot_of_the_living_is_alone),
        with_area(taken_slot_says_whose_it_is),
        with_area(free_slot_is_taken_before_a_new_one_is_made),
        with_area(end_of_thread_gives_back),
        with_area(full_table_is_refused),
        with_area(free_slot_of_a_dead_taker_goes_to_the_next),
        with_area(raw_clone_child_is_refused),
        with_area(raw_clone_child_seizes_nothing),
        with_area(slot_of_the_killed_is_seized_as_it_was_left),
        with_area(slot_of_the_living_is_not_seized),
        with_area(slot_is_seized_although_its_process_slot_lives),
        with_area(slots_of_our_living_threads_are_not_seized),
        with_area(slot_of_our_dead_thread_is_seized),
        with_area(reaper_that_has_the_id_of_the_dead_is_not_robbed),
        with_area(slot_of_a_dead_reaper_is_seized),
        with_area(inherited_slot_is_not_ours),
        with_area(slot_of_a_dead_predecessor_is_not_ours),
        with_area(any_used_sees_the_living_and_the_dead),
        cmocka_unit_test(cold_open_makes_all_tokens_anew),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
