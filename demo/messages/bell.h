/* bell.h -- how one process of the exchange waits for others, in a word of the heap.
 *
 * Holds:  asleep == 1 only while its owner sleeps or is about to look a last time before it does.
 * Killed: a ringer or a sleeper, anywhere: nobody waits longer than BELL_PATIENCE_MS for a ring
 *         that never comes, and a stale asleep == 1 costs one needless wake.
 */
#ifndef DEMO_MESSAGES_BELL_H
#define DEMO_MESSAGES_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BELL_PATIENCE_MS 2

struct bell {
    _Atomic uint32_t asleep; /* the futex word; set by the owner, cleared by both */
    char own_line[60];       /* so that bells do not share a cache line */
};

/* Wakes the owner. */
void bell_wake(struct bell *bell);

/* To be called after a store that the owner may be waiting for. */
static inline void bell_ring(struct bell *bell) {
    /* Our store before their flag; bell_wait() has their flag before our store. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->asleep, memory_order_relaxed) != 0) {
        bell_wake(bell);
    }
}

/* Returns when is_ready(arg), or a little later than BELL_PATIENCE_MS: the caller looks again.
 * Looks, yields, and only then sleeps. Only the owner calls this. */
void bell_wait(struct bell *bell, bool (*is_ready)(const void *arg), const void *arg);

#endif
