/* reap.c -- the end of a slot: by its thread, or by whoever finds the thread dead.
 *
 * The reaper holds the dead thread's token and acts as that thread, with its journal, its hand and
 * its name in the locks, up to the end of its life. A killed reaper therefore leaves what a killed
 * thread leaves, and the next reaper needs no other rule.
 *
 * Holds:  a slot that was emptied owns nothing; only then is it given back
 * Lock:   the slot's token; below it one lock at a time
 * Killed: anywhere: every step looks at what is left to do
 * Not here: finding out who is dead (ipc/slot.c).
 */
#include "heap/reap.h"

#include <errno.h>
#include <time.h>

#include "heap/arena.h"
#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap/prof_samples.h"
#include "heap/publish.h"
#include "heap/quarantine.h"
#include "heap/tcache.h"
#include "ipc/cancel.h"
#include "ipc/journal.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

#define SETTLE_PAUSE_NS 100000
#define SETTLE_MOST_NS 500000000ull

/* An open section belongs to a lock that died with its holder: whoever locks it rolls it back. */
static void settle_journal(sharena_t *heap, struct thread_slot *slot) {
    uint64_t lock = shared_get(&slot->journal.lock);
    shared_store(&slot->held_rank, RANK_NONE);
    if (!journal_is_empty(slot) && lock != 0) {
        struct shared_lock *held = (struct shared_lock *)(void *)(heap_bytes(heap) + lock);
        lock_acquire(heap, slot, held);
        lock_release(heap, slot, held);
    }
    (void)lock_roll_back(heap, slot);
    shared_store(&slot->lock_wanted, (uint64_t)0);
    journal_begin(slot, 0);
}

static void settle_hand(sharena_t *heap, struct thread_slot *slot) {
    backing_settle(heap, slot);
    switch (shared_get(&slot->hand.kind)) {
    case HAND_RUN:
        arena_give(heap, slot);
        break;
    case HAND_SPAN:
        pool_give(heap, slot);
        break;
    default:
        break;
    }
    shared_store(&slot->hand.kind, HAND_EMPTY);
    prof_give(heap, slot);
}

/* Afterwards the slot owns what is in its caches, and nothing else. */
static void settle(sharena_t *heap, struct thread_slot *slot) {
    settle_journal(heap, slot);
    settle_hand(heap, slot);
    publish_settle(heap, slot);
}

static void drain(sharena_t *heap, struct thread_slot *slot) {
    quarantine_drain(heap, slot);
    tcache_flush(heap, slot);
    tcache_shrink(heap, slot);
    arena_leave(heap, slot);
}

static uint64_t cached_bytes(struct thread_slot *slot) {
    const struct tcache *tcache = slot_tcache(slot);
    uint64_t bytes = shared_get(&slot_quarantine(slot)->bytes);
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        bytes += stack_count(&tcache->stacks[i]) * sizeclass_bytes(i - 1);
    }
    return bytes + stack_count(&tcache->stacks[TCACHE_FLUSHING]) *
                       sizeclass_bytes(shared_get(&tcache->flushing_class));
}

void reap_empty(sharena_t *heap, struct thread_slot *slot) {
    settle(heap, slot);
    drain(heap, slot);
}

static void mark_lock(sharena_t *heap, const struct thread_slot *dead, struct shared_lock *lock) {
    if (lock_is_held(dead, lock)) {
        lock_mark_dead(heap, lock, shared_get(&dead->tid));
    }
}

void reap_mark_locks(sharena_t *heap, const struct thread_slot *dead) {
    uint32_t made = shared_get(&heap_pool(heap)->arenas_made);
    for (uint32_t i = 0; i < made && i < ARENAS_MAX; i++) {
        struct arena *arena = heap_arena(heap, i);
        mark_lock(heap, dead, &arena->lock);
        for (uint32_t j = 0; j < SIZE_CLASSES_SMALL; j++) {
            mark_lock(heap, dead, &arena->bins[j].lock);
        }
    }
    struct root_table *table = heap_roots(heap);
    mark_lock(heap, dead, &heap_pool(heap)->lock);
    mark_lock(heap, dead, &table->lock);
    for (uint32_t i = 0; i < SHARENA_ROOTS_MAX && i < shared_get(&table->high); i++) {
        mark_lock(heap, dead, &table->roots[i].lock);
    }
}

/* Reaps one slot if its thread is dead: 1, else 0. */
static uint32_t reap_slot(struct attachment *attachment, uint32_t index) {
    sharena_t *heap = attachment->mapping.base;
    struct heap_state *state = heap_state(heap);
    struct thread_slot *slot = slot_seize_dead(attachment, index);
    if (slot == NULL) {
        return 0;
    }
    settle(heap, slot);
    uint64_t bytes = cached_bytes(slot); /* not before: an open section may have torn the ends */
    drain(heap, slot);
    slot_give_back(slot);
    shared_add(&state->reaped_bytes, bytes);
    shared_add(&state->reaped_threads, 1);
    return 1;
}

uint32_t reap_undo(struct attachment *attachment) {
    sharena_t *heap = attachment->mapping.base;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    uint32_t undone = 0;
    for (uint32_t i = 0; i < high; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (!journal_is_empty(slot) && shared_get(&slot->journal.lock) == 0 &&
            slot_seize_dead(attachment, i) != NULL) {
            undone += (uint32_t)lock_roll_back(heap, slot);
            slot_let_go(slot);
        }
    }
    return undone;
}

uint32_t reap_dead(struct attachment *attachment) {
    uint32_t high = shared_get(&heap_state(attachment->mapping.base)->threads_high);
    uint32_t reaped = 0;
    __atomic_store_n(&attachment->reap_wanted, 0, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < high; i++) {
        reaped += reap_slot(attachment, i);
    }
    for (uint32_t i = 0; i < heap_processes_used(attachment->mapping.base); i++) {
        (void)slot_note_dead_process(attachment, i);
    }
    return reaped;
}

static int has_open_step(const struct thread_slot *slot, uint64_t generation) {
    return shared_get(&slot->state) == SLOT_USED && shared_get(&slot->generation) == generation &&
           shared_get(&slot->pending.kind) != PENDING_NONE;
}

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The limit is one of time, not of pauses: on a busy machine each of them may last long. */
uint32_t reap_settled(struct attachment *attachment) {
    sharena_t *heap = attachment->mapping.base;
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    int cancel_state = cancel_forbid();
    uint32_t reaped = reap_dead(attachment);
    uint64_t end_ns = now_ns() + SETTLE_MOST_NS;
    for (uint32_t i = 0; i < high; i++) {
        const struct thread_slot *slot = heap_thread(heap, i);
        uint64_t generation = shared_get(&slot->generation);
        while (has_open_step(slot, generation) && now_ns() < end_ns) {
            const struct timespec pause = {0, SETTLE_PAUSE_NS};
            uint32_t got = reap_slot(attachment, i);
            reaped += got;
            if (got == 0) {
                (void)nanosleep(&pause, NULL);
            }
        }
    }
    cancel_restore(cancel_state);
    return reaped;
}

uint32_t reap_look(struct attachment *attachment) {
    int kept_errno = errno;
    uint32_t reaped = slot_any_dead(attachment) ? reap_dead(attachment) : 0;
    errno = kept_errno;
    return reaped;
}

/* Exactly one thread of the process finds that the time has come. */
static int is_due(struct attachment *attachment) {
    uint32_t interval = attachment->conf.reap_interval_ms;
    struct timespec now;
    if (interval == CONF_MS_NEVER) {
        return 0;
    }
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* no system call: the vDSO has it */
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t due_ms = __atomic_load_n(&attachment->reap_due_ms, __ATOMIC_RELAXED);
    return now_ms >= due_ms &&
           __atomic_compare_exchange_n(&attachment->reap_due_ms, &due_ms, now_ms + interval, 0,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void reap_tick(struct attachment *attachment) {
    if (UNLIKELY(__atomic_load_n(&attachment->reap_wanted, __ATOMIC_RELAXED))) {
        int kept_errno = errno;
        (void)reap_dead(attachment);
        errno = kept_errno;
    } else if (is_due(attachment)) {
        (void)reap_look(attachment);
    }
}

void reap_roll_back_all(sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (lock_roll_back(heap, slot)) {
            shared_add(&heap_state(heap)->recovered_cold, 1);
        }
    }
}
