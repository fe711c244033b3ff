/* lock.h -- the one function that locks shared memory, and does all that death requires.
 *
 *     lock_acquire: lock_wanted = lock | mutex | EOWNERDEAD? roll the dead owner's journal back,
 *                    mark the mutex consistent, go on as if it had never entered | owner = self
 *     lock_release:  (journal is empty) owner = 0 | mutex | lock_wanted = 0
 *
 * A kill between any two of these steps leaves either no entries to undo, or an owner whose journal
 * names this lock.
 */
#ifndef SHARENA_IPC_LOCK_H
#define SHARENA_IPC_LOCK_H

#include "ipc/journal.h"
#include "ipc/layout.h"

/* Makes a lock of that rank out of any bytes. Nobody may use it meanwhile. */
void lock_init(struct shared_lock *lock, enum lock_rank rank);

/* Waits for the lock and begins a section: journal.lock names it. A waiter goes on within a slice
 * of 100 ms after the holder's death even if the kernel could not mark the mutex. */
void lock_acquire(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock);

/* Ends the section; everything must be committed. */
void lock_release(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock);

/* If the holder of the lock at that offset is dead and the kernel could not mark the mutex, marks
 * it. To be called with the lock_wanted of a dead thread before its slot, which alone tells who the
 * holder was, becomes another's. 0: no lock. `self`: a thread that surely is not the holder, though
 * it may have the holder's thread id and wait for the lock; or NULL. */
void lock_mark_if_dead(sharena_t *heap, const struct thread_slot *self, uint64_t lock_offset);

/* If thread `tid`, which is known to be dead, still stands in the lock, marks the lock as the
 * kernel would have, and counts it. */
void lock_mark_dead(sharena_t *heap, struct shared_lock *lock, uint32_t tid);

/* Undoes what the dead thread has not committed, and counts the section: 1; 0 if there is none. The
 * caller holds the lock that covers it, or the token where none does. */
int lock_roll_back(sharena_t *heap, struct thread_slot *dead);

/* Makes a process-shared robust mutex out of any bytes. */
void robust_mutex_init(pthread_mutex_t *mutex);

/* If the mutex word still names thread `tid`, which is known to be dead, marks it as the kernel
 * would have (OWNER_DIED) and wakes one waiter: 1, else 0. */
int robust_mutex_mark_dead(pthread_mutex_t *mutex, uint32_t tid);

/* The thread id in the mutex word: 0 when it is free. */
uint32_t robust_mutex_tid(const pthread_mutex_t *mutex);

/* Whether the lock names that slot: while its thread lives, or whoever acts for it, that is who
 * holds the lock. A lock of the dead goes on naming their slot until it is next acquired. */
static inline int lock_is_held(const struct thread_slot *self, const struct shared_lock *lock) {
    return shared_get(&lock->owner) == shared_get(&self->index) + 1;
}

#endif
