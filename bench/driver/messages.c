/* messages.c -- blocks that one worker takes and another gives back.
 *
 *     messages SIZE       a sender and a receiver: millions of messages per second. Without an
 *                         allocator (bare) it is the rate of the ring that carries the pointers
 *     exchange PERCENT    two workers; of the blocks of 64 bytes that each takes, so many
 *                         percent are given back by the other: millions of blocks per second, of
 *                         both together
 */
#include "block.h"
#include "ring.h"
#include "team.h"

#include <sched.h>

#define BETWEEN_CLOCKS 1000u
#define SPINS_MAX 200u

/* Waits a little; if it takes long, lets others run, who may be the ones that are waited for. */
static void wait_a_little(unsigned *spins) {
    __builtin_ia32_pause();
    if (++*spins % SPINS_MAX == 0) {
        (void)sched_yield();
    }
}

/* ---- messages ---- */

/* The last message, which is no block. */
static char last_message;
#define LAST ((void *)&last_message)

static void put_waiting(struct ring_end *end, void *block) {
    unsigned spins = 0;
    while (!ring_put(end, block)) {
        wait_a_little(&spins);
    }
}

static void send(struct worker *worker, struct ring_end *end) {
    size_t size = worker->job->args[0];
    do {
        for (unsigned i = 0; i < BETWEEN_CLOCKS; i++) {
            put_waiting(end, block_take(size));
        }
    } while (!worker_is_done(worker));
    put_waiting(end, LAST);
    ring_flush(end);
}

static uint64_t receive(struct ring_end *end) {
    uint64_t received = 0;
    unsigned spins = 0;
    for (;;) {
        uint64_t *block = ring_get(end);
        if (block == LAST) {
            return received;
        }
        if (block == NULL) {
            wait_a_little(&spins);
            continue;
        }
        if (*block != block_stamp(block)) {
            die("a message was changed");
        }
        block_give(block);
        received++;
    }
}

/* Only the receiver counts. */
static void messages_body(struct worker *worker) {
    struct ring_end end = {.ring = worker->shared};
    uint64_t received = 0;
    worker_begin(worker);
    if (worker->index == 0) {
        send(worker, &end);
    } else {
        received = receive(&end);
    }
    worker_end(worker, received);
}

void run_messages(const struct job *job) {
    struct ring *ring = table_make(sizeof(*ring));
    size_t live = 2 * (size_t)RING_SLOTS;
    struct needs needs = {live, 4 * live * job->args[0]};
    report("rate", team_run(job, 2, &needs, messages_body, ring) / 1e6, "M/s");
}

/* ---- exchange ---- */

#define EXCHANGE_BYTES 64u

static uint64_t give_all(struct ring_end *end) {
    uint64_t given = 0;
    for (void *block = ring_get(end); block != NULL; block = ring_get(end)) {
        block_give(block);
        given++;
    }
    return given;
}

/* Two full rings: each worker empties its own while it waits for the other's, unless the other has
 * left already because the time is over. */
static void exchange_some(struct worker *worker, struct ring_end *out, struct ring_end *in) {
    unsigned percent = (unsigned)worker->job->args[0];
    unsigned spins = 0;
    for (unsigned i = 0; i < BETWEEN_CLOCKS; i++) {
        void *block = block_take(EXCHANGE_BYTES);
        if (random_below(&worker->random, 100) >= percent) {
            block_give(block);
            continue;
        }
        while (!ring_put(out, block)) {
            if (worker_is_done(worker)) {
                block_give(block);
                break;
            }
            if (give_all(in) == 0) {
                wait_a_little(&spins);
            }
        }
    }
    (void)give_all(in);
}

static void exchange_body(struct worker *worker) {
    struct ring *rings = worker->shared;
    struct ring_end out = {.ring = &rings[worker->index]};
    struct ring_end in = {.ring = &rings[1 - worker->index]};
    uint64_t done = 0;
    worker_begin(worker);
    do {
        exchange_some(worker, &out, &in);
        done += BETWEEN_CLOCKS;
    } while (!worker_is_done(worker));
    ring_flush(&out);
    worker_end(worker, done);
    (void)give_all(&in);
}

void run_exchange(const struct job *job) {
    struct ring *rings = table_make(2 * sizeof(*rings));
    struct needs needs = {4 * (size_t)RING_SLOTS, 64 * (size_t)RING_SLOTS * EXCHANGE_BYTES};
    report("rate", team_run(job, 2, &needs, exchange_body, rings) / 1e6, "M/s");
}
