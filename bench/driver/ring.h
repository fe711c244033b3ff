/* ring.h -- pointers from one worker to another: a bounded queue with one sender and one receiver.
 *
 * As Lee's, Bu's and Chandranmenon's MCRingBuffer: each side keeps a copy of the other's index, and
 * shows its own only once per RING_STEP pointers, so that lines travel seldom. Only the shared half
 * is in shared memory; each side has its own struct ring_end.
 */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_SLOTS 1024u
#define RING_STEP 32u

struct ring {
    _Alignas(128) _Atomic uint64_t sent;
    _Alignas(128) _Atomic uint64_t received;
    _Alignas(128) void *slots[RING_SLOTS];
};

struct ring_end {
    struct ring *ring;
    uint64_t next;  /* the index that this side uses next */
    uint64_t other; /* how far the other side was when last looked at */
};

/* Shows the receiver all that was put. */
static inline void ring_flush(struct ring_end *end) {
    atomic_store_explicit(&end->ring->sent, end->next, memory_order_release);
}

/* false: it is full. */
static inline bool ring_put(struct ring_end *end, void *block) {
    struct ring *ring = end->ring;
    if (end->next - end->other == RING_SLOTS) {
        end->other = atomic_load_explicit(&ring->received, memory_order_acquire);
        if (end->next - end->other == RING_SLOTS) {
            ring_flush(end);
            return false;
        }
    }
    ring->slots[end->next++ % RING_SLOTS] = block;
    if (end->next % RING_STEP == 0) {
        ring_flush(end);
    }
    return true;
}

/* NULL: it is empty. */
static inline void *ring_get(struct ring_end *end) {
    struct ring *ring = end->ring;
    if (end->next == end->other) {
        end->other = atomic_load_explicit(&ring->sent, memory_order_acquire);
        if (end->next == end->other) {
            atomic_store_explicit(&ring->received, end->next, memory_order_release);
            return NULL;
        }
    }
    void *block = ring->slots[end->next++ % RING_SLOTS];
    if (end->next % RING_STEP == 0) {
        atomic_store_explicit(&ring->received, end->next, memory_order_release);
    }
    return block;
}

#endif
