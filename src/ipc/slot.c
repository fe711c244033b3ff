/* slot.c -- process slots and thread slots: taking, giving back, and seizing from the dead.
 *
 * Holds:  state USED: `process` and `process_generation` name a process slot, set before `state`
 *         a FREE slot owns nothing: empty journal, hand, pending step and tcache
 * Lock:   thread slots: their token; process slots: theirs; threads_high only grows (CAS)
 * Killed: between the CAS on threads_high and SLOT_FREE: that slot stays RAW until a cold open
 *         between trylock and USED: the slot is FREE with a dead owner; the next taker gets it
 * Not here: what a dead thread owned and how it goes back (heap/reap.c).
 */
#include "ipc/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define PROBES_MAX 16u /* of slot_any_dead(): each takes 0.3 us, 25 us with a thousand processes */

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void read_own_name(char name[16]) {
    memset(name, 0, 16);
    int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, name, 15);
        if (got > 0 && name[got - 1] == '\n') {
            name[got - 1] = '\0';
        }
        (void)close(fd);
    }
}

/* Process `generation` of that slot is known to have died without giving the slot back: counted by
 * exactly one of those who find out. */
static uint32_t note_death(sharena_t *heap, struct process_slot *process, uint64_t generation) {
    uint64_t died = shared_get(&process->died);
    int is_news = died < generation && shared_replace(&process->died, &died, generation);
    if (is_news) {
        shared_add(&heap_state(heap)->reaped_processes, 1);
    }
    return (uint32_t)is_news;
}

static void use_process_slot(sharena_t *heap, uint32_t index) {
    struct heap_state *state = heap_state(heap);
    uint32_t high = shared_get(&state->processes_high);
    while (high <= index && !shared_replace(&state->processes_high, &high, index + 1)) {
    }
}

int slot_register_process(struct attachment *attachment) {
    int error = token_take(&attachment->file, 0, &attachment->token);
    if (error != 0) {
        return error;
    }
    struct process_slot *process = heap_process(attachment->mapping.base, attachment->token.slot);
    use_process_slot(attachment->mapping.base, attachment->token.slot);
    if (shared_get(&process->state) == SLOT_USED) {
        (void)note_death(attachment->mapping.base, process, shared_get(&process->generation));
    }
    attachment->process_generation = shared_get(&process->generation) + 1;
    shared_store(&process->generation,
                 attachment->process_generation); /* threads of old are dead */
    shared_store(&process->seizing, 0u);
    shared_store(&process->pid, (uint32_t)getpid());
    shared_store(&process->attached_ns, now_ns());
    read_own_name(process->name);
    shared_store_release(&process->state, SLOT_USED);
    return 0;
}

uint32_t slot_note_dead_process(const struct attachment *attachment, uint32_t index) {
    sharena_t *heap = attachment->mapping.base;
    struct process_slot *process = heap_process(heap, index);
    uint64_t generation = shared_get_acquire(&process->generation);
    if (shared_get(&process->died) >= generation || token_is_held(&attachment->file, index)) {
        return 0;
    }
    /* Who gives the slot back stores FREE before the token is free, and a successor stores its
     * generation before USED. So what is USED now, by that generation still, died with it. */
    return shared_get_acquire(&process->state) == SLOT_USED &&
                   shared_get(&process->generation) == generation
               ? note_death(heap, process, generation)
               : 0;
}

void slot_unregister_process(struct attachment *attachment) {
    struct process_slot *process = heap_process(attachment->mapping.base, attachment->token.slot);
    shared_store(&process->state, SLOT_FREE);
    token_release(&attachment->token);
}

/* What lay there before the slot existed is nobody's word: zeros, but in a damaged file. So one
 * place to die is enough. */
static void clear(struct thread_slot *slot) {
    shared_u64 *words = (shared_u64 *)(void *)slot;
    for (uint32_t i = 0; i < THREAD_SLOT_BYTES / sizeof(*words); i++) {
        __atomic_store_n(&words[i].value_, 0, __ATOMIC_RELAXED);
    }
    FAULT_POINT();
}

/* Makes one more slot; its index, or -1 with errno. */
static int grow_slots(sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    do {
        if (high >= THREADS_MAX) {
            (void)error_null(EUSERS,
                             "all %u thread slots of the heap are in use by living threads: "
                             "end some, or let fewer threads use the heap",
                             THREADS_MAX);
            return -1;
        }
        struct thread_slot *slot = heap_thread(heap, high);
        if (mapping_back(heap, heap_offset(heap, slot), THREAD_SLOT_BYTES, 0) != 0) {
            (void)error_null(ENOMEM, "the file system is full: no room for the cache of one "
                                     "more thread (64 KiB): free space, or raise the limit");
            return -1;
        }
    } while (!shared_replace(&heap_state(heap)->threads_high, &high, high + 1));
    struct thread_slot *slot = heap_thread(heap, high);
    clear(slot);
    robust_mutex_init(&slot->token);
    shared_store(&slot->index, high);
    shared_store_release(&slot->state, SLOT_FREE);
    return (int)high;
}

/* Locks the token if it is free or its owner died; 0, or EBUSY. */
static int try_token(struct thread_slot *slot) {
    int result = pthread_mutex_trylock(&slot->token);
    FAULT_POINT();
    if (result == EOWNERDEAD) {
        CHECK(pthread_mutex_consistent(&slot->token) == 0);
        FAULT_POINT();
        result = 0;
    }
    return result;
}

/* Locks the token of a FREE slot. */
static int claim_free(struct thread_slot *slot) {
    if (shared_get_acquire(&slot->state) != SLOT_FREE || try_token(slot) != 0) {
        return 0;
    }
    if (shared_get(&slot->state) != SLOT_FREE) {
        (void)pthread_mutex_unlock(&slot->token);
        return 0;
    }
    return 1;
}

static struct thread_slot *find_free(sharena_t *heap) {
    for (;;) {
        uint32_t high = shared_get(&heap_state(heap)->threads_high);
        for (uint32_t i = 0; i < high; i++) {
            if (claim_free(heap_thread(heap, i))) {
                return heap_thread(heap, i);
            }
        }
        int grown = grow_slots(heap);
        if (grown < 0) {
            return NULL;
        }
        if (claim_free(heap_thread(heap, (uint32_t)grown))) {
            return heap_thread(heap, (uint32_t)grown);
        }
    }
}

static void own(const struct attachment *attachment, struct thread_slot *slot) {
    shared_store(&slot->process, attachment->token.slot);
    shared_store(&slot->process_generation, attachment->process_generation);
    shared_order();
    FAULT_POINT();
    shared_store_release(&slot->tid, robust_mutex_tid(&slot->token)); /* last */
}

/* Whether libc knows the calling thread by its right id, as the kernel needs it in a robust mutex.
 * Asked of a private mutex: to lock a shared one would write to its neighbours in the list of those
 * held, which in a child with a false id are the parent's. */
static int has_true_tid(void) {
    pthread_mutex_t probe = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    CHECK(pthread_mutex_lock(&probe) == 0);
    int owner = probe.__data.__owner;
    CHECK(pthread_mutex_unlock(&probe) == 0);
    return owner == (int)syscall(SYS_gettid);
}

struct thread_slot *slot_take(struct attachment *attachment) {
    if (!has_true_tid()) {
        return error_null(EPERM, "libc has a false thread id in this process: it was made by a "
                                 "raw clone or fork system call; use fork() or _Fork()");
    }
    struct thread_slot *slot = find_free(attachment->mapping.base);
    if (slot == NULL) {
        return NULL;
    }
    own(attachment, slot);
    shared_store(&slot->generation, shared_get(&slot->generation) + 1);
    shared_store(&slot->lock_wanted, (uint64_t)0);
    shared_store(&slot->held_rank, RANK_NONE);
    journal_begin(slot, 0);
    shared_store_release(&slot->state, SLOT_USED);
    return slot;
}

void slot_give_back(struct thread_slot *slot) {
    ASSERT(journal_is_empty(slot));
    shared_store_release(&slot->state, SLOT_FREE);
    CHECK(pthread_mutex_unlock(&slot->token) == 0);
    FAULT_POINT();
}

/* Without asking the kernel: nobody has its token, or its process is known to be dead. */
static int slot_looks_dead(const sharena_t *heap, const struct thread_slot *slot) {
    uint32_t index = shared_get(&slot->process);
    uint64_t generation = shared_get(&slot->process_generation);
    if (shared_get_acquire(&slot->state) != SLOT_USED || index >= PROCESSES_MAX) {
        return 0;
    }
    const struct process_slot *process = heap_process(heap, index);
    return robust_mutex_tid(&slot->token) == 0 || shared_get(&process->generation) != generation ||
           shared_get(&process->died) >= generation;
}

/* Asks for the tokens of the next few processes that are not known to be dead. */
static int some_process_died(struct attachment *attachment) {
    uint32_t next = __atomic_load_n(&attachment->next_probe, __ATOMIC_RELAXED);
    uint32_t used = heap_processes_used(attachment->mapping.base);
    uint32_t end = next + used;
    int is_dead = 0;
    for (uint32_t probes = 0; next != end && probes < PROBES_MAX && !is_dead; next++) {
        uint32_t index = next % used;
        const struct process_slot *process = heap_process(attachment->mapping.base, index);
        if (shared_get(&process->state) == SLOT_USED && index != attachment->token.slot &&
            shared_get(&process->died) < shared_get(&process->generation)) {
            probes++;
            is_dead = !token_is_held(&attachment->file, index);
        }
    }
    __atomic_store_n(&attachment->next_probe, next, __ATOMIC_RELAXED);
    return is_dead;
}

int slot_any_dead(struct attachment *attachment) {
    const sharena_t *heap = attachment->mapping.base;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        if (slot_looks_dead(heap, heap_thread(heap, i))) {
            return 1;
        }
    }
    return some_process_died(attachment);
}

int slot_is_ours(const struct attachment *attachment, const struct thread_slot *slot) {
    return attachment->token.page != NULL && shared_get(&slot->state) == SLOT_USED &&
           shared_get(&slot->process) == attachment->token.slot &&
           shared_get(&slot->process_generation) == attachment->process_generation;
}

int slot_is_held_by_us(const struct attachment *attachment, const struct thread_slot *slot) {
    return slot_is_ours(attachment, slot) &&
           robust_mutex_tid(&slot->token) == shared_get(&slot->tid);
}

uint32_t slot_count_held_by_us(const struct attachment *attachment) {
    const sharena_t *heap = attachment->mapping.base;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    uint32_t held = 0;
    for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
        held += (uint32_t)slot_is_held_by_us(attachment, heap_thread(heap, i));
    }
    return held;
}

int slot_is_alone(const struct attachment *attachment) {
    if (slot_count_held_by_us(attachment) != 1) {
        return 0;
    }
    for (uint32_t i = 0; i < heap_processes_used(attachment->mapping.base); i++) {
        if (i != attachment->token.slot && token_is_held(&attachment->file, i)) {
            return 0;
        }
    }
    return 1;
}

static int process_is_dead(const struct attachment *attachment, const struct thread_slot *slot) {
    uint32_t index = shared_get(&slot->process);
    const struct process_slot *process = heap_process(attachment->mapping.base, index);
    return index < PROCESSES_MAX &&
           (shared_get(&process->generation) != shared_get(&slot->process_generation) ||
            !token_is_held(&attachment->file, index));
}

void (*slot_dead_hook)(sharena_t *heap, const struct thread_slot *dead);

/* Whether no other thread of any process is seizing a slot now. */
static int seizes_alone(const struct attachment *attachment) {
    for (uint32_t i = 0; i < heap_processes_used(attachment->mapping.base); i++) {
        const struct process_slot *process = heap_process(attachment->mapping.base, i);
        uint32_t seizing = __atomic_load_n(&process->seizing.value_, __ATOMIC_SEQ_CST);
        int is_own = i == attachment->token.slot;
        if (seizing > (is_own ? 1u : 0u) && (is_own || token_is_held(&attachment->file, i))) {
            return 0;
        }
    }
    return 1;
}

/* The token of a dead process's thread is not free: perhaps the kernel could not mark it. Or a
 * faster reaper holds it, who has not written its name into the slot yet and may well have the dead
 * thread's id: after exec, in another pid namespace, or because the id was used again. So a token
 * is marked only while nobody else is seizing: a faster reaper is seen, or has finished. One that
 * comes later finds the token taken and sees us. The next try may be luckier. */
static int mark_and_try_token(const struct attachment *attachment, struct thread_slot *slot) {
    if (slot_is_ours(attachment, slot) || !process_is_dead(attachment, slot)) {
        return EBUSY; /* as a rule */
    }
    if (!seizes_alone(attachment) || shared_get_acquire(&slot->state) != SLOT_USED ||
        !process_is_dead(attachment, slot)) {
        return EBUSY;
    }
    robust_mutex_mark_dead(&slot->token, shared_get(&slot->tid));
    return try_token(slot);
}

/* 1 if the slot is the caller's now. */
static int seize(struct attachment *attachment, struct thread_slot *slot) {
    int result = try_token(slot);
    if (result == EBUSY) {
        result = mark_and_try_token(attachment, slot);
    }
    if (result != 0) {
        return 0;
    }
    if (shared_get(&slot->state) != SLOT_USED) {
        CHECK(pthread_mutex_unlock(&slot->token) == 0);
        return 0;
    }
    lock_mark_if_dead(attachment->mapping.base, NULL, shared_get(&slot->lock_wanted));
    if (slot_dead_hook != NULL) {
        slot_dead_hook(attachment->mapping.base, slot);
    }
    own(attachment, slot);
    return 1;
}

struct thread_slot *slot_seize_dead(struct attachment *attachment, uint32_t index) {
    struct thread_slot *slot = heap_thread(attachment->mapping.base, index);
    if (shared_get_acquire(&slot->state) != SLOT_USED || !has_true_tid()) {
        return NULL;
    }
    struct process_slot *own_process =
        heap_process(attachment->mapping.base, attachment->token.slot);
    shared_add(&own_process->seizing, 1u); /* before anything is looked at: see above */
    int is_seized = seize(attachment, slot);
    shared_add(&own_process->seizing, -1u);
    return is_seized ? slot : NULL;
}

void slot_let_go(struct thread_slot *slot) {
    CHECK(pthread_mutex_unlock(&slot->token) == 0);
    FAULT_POINT();
}

int slot_any_used(const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        if (shared_get(&heap_thread(heap, i)->state) == SLOT_USED) {
            return 1;
        }
    }
    return 0;
}

void slot_init_tokens(sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        robust_mutex_init(&slot->token);
        shared_store(&slot->index, i);
        shared_store(&slot->process,
                     PROCESSES_MAX); /* gone, and no process of now is taken for it */
        shared_store(&slot->lock_wanted, (uint64_t)0); /* all locks are new as well */
        shared_store(&slot->held_rank, RANK_NONE);
        shared_store(&slot->journal.lock, (uint64_t)0);
        if (shared_get(&slot->state) == SLOT_RAW) {
            shared_store(&slot->state, SLOT_FREE);
        }
    }
}
