/* change.c -- several stores that a kill cannot separate.
 *
 * A shard's lists, tables and counts change only by a `change`: the stores are written to the
 * shard's log, the log is armed by one store, the stores are made, the log is disarmed.
 *
 *     killed before arming     nothing has happened
 *     killed after arming      the next holder of the lock makes all the stores again; they are
 *                              absolute values, so a second (or fifth) time does no harm
 *     killed after disarming   it has happened
 *
 * A block enters a shard through `fresh` and leaves it through `dying`. sharena_malloc_to() and
 * sharena_free_from() make these two steps untearable, and the shard's lock is the guard that they
 * ask for. A repair therefore has only four lines: reap, finish the log, free fresh, free dying.
 *
 * Lock:   the shard's.
 * Killed: in a repair: the next one does the same again.
 * Not here: which changes there are (shard.c, table.c, reclaim.c), who calls a repair (store.c).
 */
#include "shard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pointers and counts of the heap are stored through this type. */
typedef uint64_t __attribute__((may_alias)) shared_word;

void change_set(struct change *change, void *where, uint64_t value) {
    if (change->steps == CHANGE_STEPS) {
        fprintf(stderr, "respd: a change has more than %u steps: a bug\n", CHANGE_STEPS);
        abort();
    }
    change->step[change->steps].where = where;
    change->step[change->steps].value = value;
    change->steps++;
}

void change_set_ptr(struct change *change, void *where, const void *value) {
    change_set(change, where, (uint64_t)(uintptr_t)value);
}

static void log_replay(struct shard *shard, uint64_t steps) {
    for (uint64_t i = 0; i < steps; i++) {
        volatile shared_word *where = (shared_word *)(void *)shard->log[i].where;
        *where = shard->log[i].value;
    }
    atomic_signal_fence(memory_order_seq_cst);
    __atomic_store_n(&shard->log_steps, 0, __ATOMIC_RELEASE);
}

void change_commit(struct shard *shard, const struct change *change) {
    memcpy(shard->log, change->step, change->steps * sizeof change->step[0]);
    atomic_signal_fence(memory_order_seq_cst); /* what it links in is complete, so is the log */
    __atomic_store_n(&shard->log_steps, change->steps, __ATOMIC_RELEASE);
    atomic_signal_fence(memory_order_seq_cst);
    log_replay(shard, change->steps);
    atomic_signal_fence(memory_order_seq_cst);
}

void shard_free_dying(struct store *store, struct shard *shard) {
    sharena_free_from(store->heap, &shard->dying);
}

void shard_repair(struct store *store, struct shard *shard) {
    log_replay(shard, shard->log_steps);
    sharena_free_from(store->heap, &shard->fresh);
    sharena_free_from(store->heap, &shard->dying);
}

int shard_allocate(struct store *store, struct shard *shard, size_t bytes) {
    int error = sharena_malloc_to(store->heap, bytes, &shard->fresh);
    if (error == ENOMEM && shard->retired != NULL) {
        shard_reclaim(store, shard, true);
        error = sharena_malloc_to(store->heap, bytes, &shard->fresh);
    }
    return error;
}
