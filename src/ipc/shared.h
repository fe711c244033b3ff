/* shared.h -- the types of fields that lie in the file.
 *
 * A wrapped field cannot be assigned by accident: reading is shared_get(), changing is
 * journal_set() (journal.h), or shared_store() for the few stores that are commits or fast paths of
 * their own; each use of shared_store() says why it needs no journal.
 *
 * Loads and stores are relaxed atomics: a field may be read by a thread that does not hold its lock
 * (page map, statistics, liveness), and a store must never be torn or repeated by the compiler.
 */
#ifndef SHARENA_IPC_SHARED_H
#define SHARENA_IPC_SHARED_H

#include <stdint.h>

typedef struct {
    uint16_t value_;
} shared_u16;

typedef struct {
    uint32_t value_;
} shared_u32;

typedef struct {
    uint64_t value_;
} shared_u64;

/* A pointer into the heap: plain, because the heap has one address everywhere. */
typedef struct {
    void *value_;
} shared_ptr;

#define shared_get(field) __atomic_load_n(&(field)->value_, __ATOMIC_RELAXED)
#define shared_get_acquire(field) __atomic_load_n(&(field)->value_, __ATOMIC_ACQUIRE)
/* Of a field that no other thread writes: a plain load, which the compiler may fold into its
 * use. */
#define shared_get_own(field) ((field)->value_)
#define shared_store(field, v) __atomic_store_n(&(field)->value_, (v), __ATOMIC_RELAXED)
#define shared_store_release(field, v) __atomic_store_n(&(field)->value_, (v), __ATOMIC_RELEASE)

/* Keeps the compiler from moving stores across; the processor keeps them in order for a kill. */
#define shared_order() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#endif
