/* shared.h -- the types of fields that lie in the file.
 *
 * A wrapped field cannot be assigned by accident: reading is shared_get(), changing is
 * journal_set() (journal.h), or shared_store() for the few stores that are commits or fast paths of
 * their own; each use of shared_store() says why it needs no journal.
 *
 * Loads and stores are relaxed atomics: a field may be read by a thread that does not hold its lock
 * (page map, statistics, liveness), and a store must never be torn or repeated by the compiler.
 *
 * A fault point (faultpoint.h) follows each store: the state between two stores is one place to
 * die, so every place that differs from the next has exactly one.
 */
#ifndef SHARENA_IPC_SHARED_H
#define SHARENA_IPC_SHARED_H

#include <stdint.h>

#include "ipc/faultpoint.h"

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
#define shared_store(field, v)                                                                     \
    (__atomic_store_n(&(field)->value_, (v), __ATOMIC_RELAXED), FAULT_POINT())
#define shared_store_release(field, v)                                                             \
    (__atomic_store_n(&(field)->value_, (v), __ATOMIC_RELEASE), FAULT_POINT())
/* A sum that no lock covers; in one order with all other loads and stores. */
#define shared_add(field, v)                                                                       \
    ((void)__atomic_fetch_add(&(field)->value_, (v), __ATOMIC_SEQ_CST), FAULT_POINT())
/* A pointer variable of the application, which lies in the heap like the rest. */
#define shared_publish(where, v) (__atomic_store_n((where), (v), __ATOMIC_RELEASE), FAULT_POINT())
/* A plain store, to what nobody looks at before a later store says so. */
#define shared_prepare(place, v) (*(place) = (v), FAULT_POINT())

/* Puts v there if *expected still is: 1, or 0 with what was there in *expected. */
#define shared_replace(field, expected, v)                                                         \
    (__atomic_compare_exchange_n(&(field)->value_, (expected), (v), 0, __ATOMIC_ACQ_REL,           \
                                 __ATOMIC_RELAXED)                                                 \
         ? (FAULT_POINT(), 1)                                                                      \
         : 0)

/* Keeps the compiler from moving stores across; the processor keeps them in order for a kill. */
#define shared_order() __atomic_signal_fence(__ATOMIC_SEQ_CST)

#endif
