/* lock.c -- process-shared robust locks, and all handling of EOWNERDEAD.
 *
 * Holds:  owner != 0 only while that slot's thread is between acquire and release, or died there
 *         a journal that is open under lock L belongs to the holder of L, alive or dead
 * Lock:   ranks rise (asserted)
 * Killed: see the table in lock.h; the roll-back may be killed as well and is repeated by the next
 * Not here: thread tokens (slot.c), which are held for life and protect no section.
 */
#include "ipc/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/registry.h"

#define SLICE_NS 100000000ll

void robust_mutex_init(pthread_mutex_t *mutex) {
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes) == 0);
    CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(mutex, &attributes) == 0);
    FAULT_POINT();
    (void)pthread_mutexattr_destroy(&attributes);
}

uint32_t robust_mutex_tid(const pthread_mutex_t *mutex) {
    return (uint32_t)__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}

int robust_mutex_mark_dead(pthread_mutex_t *mutex, uint32_t tid) {
    int word = __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED);
    int marked = (int)(((uint32_t)word & FUTEX_WAITERS) | FUTEX_OWNER_DIED);
    int is_marked = tid != 0 && ((uint32_t)word & FUTEX_TID_MASK) == tid &&
                    __atomic_compare_exchange_n(&mutex->__data.__lock, &word, marked, 0,
                                                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (is_marked) {
        FAULT_POINT();
        (void)syscall(SYS_futex, &mutex->__data.__lock, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    return is_marked;
}

void lock_init(struct shared_lock *lock, enum lock_rank rank) {
    robust_mutex_init(&lock->mutex);
    shared_store(&lock->owner, 0u);
    shared_prepare(&lock->rank, rank);
}

int lock_roll_back(sharena_t *heap, struct thread_slot *dead) {
    if (journal_is_empty(dead)) {
        return 0;
    }
    journal_roll_back(heap, dead);
    shared_add(&heap_state(heap)->recovered, 1);
    return 1;
}

/* The mutex is ours, and its last holder died in it: as if the dead thread had never entered. */
static COLD void recover(sharena_t *heap, struct shared_lock *lock) {
    uint32_t owner = shared_get(&lock->owner);
    if (owner != 0 && owner <= THREADS_MAX) {
        struct thread_slot *dead = heap_thread(heap, owner - 1);
        if (shared_get(&dead->journal.lock) == heap_offset(heap, lock)) {
            (void)lock_roll_back(heap, dead);
        }
    }
    CHECK(pthread_mutex_consistent(&lock->mutex) == 0);
    FAULT_POINT();
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        __atomic_store_n(&attachment->reap_wanted, 1, __ATOMIC_RELAXED);
    }
}

static int slot_process_is_dead(const struct attachment *attachment, const sharena_t *heap,
                                const struct thread_slot *slot) {
    uint32_t process = shared_get(&slot->process);
    if (process >= PROCESSES_MAX) {
        return 0;
    }
    return shared_get(&heap_process(heap, process)->generation) !=
               shared_get(&slot->process_generation) ||
           !token_is_held(&attachment->file, process);
}

/* Whether the holder of the lock, whose thread id is `tid`, can be the thread of that slot: the
 * lock names it, or it died before it could write its name there, and then it wanted the lock. */
static int slot_may_hold(sharena_t *heap, const struct thread_slot *slot,
                         const struct shared_lock *lock, uint32_t tid) {
    return shared_get(&slot->tid) == tid && shared_get(&slot->state) == SLOT_USED &&
           (shared_get(&slot->lock_wanted) == heap_offset(heap, lock) ||
            shared_get(&lock->owner) == shared_get(&slot->index) + 1);
}

/* The thread id of the holder if it is known to be dead, else 0. Two threads of different pid
 * namespaces may have one id: if any that can be the holder lives, the lock is its. `self` cannot:
 * a waiter would else wait for itself. */
static uint32_t find_dead_holder(sharena_t *heap, const struct thread_slot *self,
                                 const struct shared_lock *lock) {
    const struct attachment *attachment = registry_find(heap);
    uint32_t tid = robust_mutex_tid(&lock->mutex);
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    uint32_t found = 0;
    for (uint32_t i = 0; i < high && attachment != NULL && tid != 0; i++) {
        const struct thread_slot *slot = heap_thread(heap, i);
        if (slot != self && slot_may_hold(heap, slot, lock, tid)) {
            if (!slot_process_is_dead(attachment, heap, slot)) {
                return 0;
            }
            found = tid;
        }
    }
    return found;
}

void lock_mark_dead(sharena_t *heap, struct shared_lock *lock, uint32_t tid) {
    if (robust_mutex_mark_dead(&lock->mutex, tid)) {
        shared_add(&heap_state(heap)->taken_over, 1);
    }
}

void lock_mark_if_dead(sharena_t *heap, const struct thread_slot *self, uint64_t lock_offset) {
    if (lock_offset != 0) {
        struct shared_lock *lock = (struct shared_lock *)(void *)(heap_bytes(heap) + lock_offset);
        lock_mark_dead(heap, lock, find_dead_holder(heap, self, lock));
    }
}

static COLD int wait_in_slices(sharena_t *heap, const struct thread_slot *self,
                               struct shared_lock *lock) {
    for (;;) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        long long ns = until.tv_nsec + SLICE_NS;
        until.tv_sec += ns / 1000000000ll;
        until.tv_nsec = ns % 1000000000ll;
        int result = pthread_mutex_timedlock(&lock->mutex, &until);
        if (result != ETIMEDOUT) {
            return result;
        }
        lock_mark_if_dead(heap, self, heap_offset(heap, lock));
    }
}

void lock_acquire(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    ASSERT(shared_get(&self->held_rank) < lock->rank);
    shared_store(&self->lock_wanted, heap_offset(heap, lock));
    shared_order();
    int result = pthread_mutex_trylock(&lock->mutex);
    int contended = result == EBUSY;
    if (contended) {
        result = wait_in_slices(heap, self, lock);
    }
    FAULT_POINT();
    if (UNLIKELY(result == EOWNERDEAD)) {
        recover(heap, lock);
        result = 0;
    }
    CHECK(result == 0);
    shared_store(&lock->owner, shared_get(&self->index) + 1);
    journal_begin(self, heap_offset(heap, lock));
    shared_store(&lock->acquired, shared_get(&lock->acquired) + 1);
    shared_store(&lock->contended, shared_get(&lock->contended) + (contended ? 1u : 0u));
#ifdef SHARENA_DEBUG
    shared_store(&self->held_rank, lock->rank);
#endif
}

void lock_release(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    (void)heap;
    ASSERT(journal_is_empty(self) && lock_is_held(self, lock));
    shared_store(&lock->owner, 0u);
#ifdef SHARENA_DEBUG
    shared_store(&self->held_rank, RANK_NONE);
#endif
    shared_order();
    CHECK(pthread_mutex_unlock(&lock->mutex) == 0);
    FAULT_POINT();
    shared_store(&self->lock_wanted, (uint64_t)0);
    journal_begin(self, 0);
}
