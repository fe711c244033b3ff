/* exchange.c -- see exchange.h. */
#include "exchange.h"

#include "../common/report.h"

#include <errno.h>
#include <string.h>

#define EXCHANGE_ROOT "messages"
#define EXCHANGE_LAYOUT (0x6d73670000000000u + sizeof(struct exchange))

/* A run, as each of its processes inherits it. */
struct run {
    sharena_t *heap;
    struct exchange *exchange;
    const struct fleet_job *job;
};

/* One process's ends, and what it waits for. */
struct party {
    struct ring_end ends[FLEET_SIDE_MAX];
    unsigned nends;
    const struct fleet_control *control;
};

static struct ring *exchange_ring(struct exchange *exchange, unsigned publisher,
                                  unsigned subscriber) {
    return &exchange->rings[publisher * FLEET_SIDE_MAX + subscriber];
}

static int exchange_init(void *ptr, void *arg) {
    struct exchange *exchange = ptr; /* zeroed */

    (void)arg;
    exchange->layout = EXCHANGE_LAYOUT;
    return 0;
}

static void exchange_reset(sharena_t *heap, struct exchange *exchange, uint64_t size_bytes) {
    for (unsigned lane = 0; lane < FLEET_LANES_MAX; lane++) {
        ring_reset(heap, &exchange->rings[lane], lane, size_bytes);
    }
}

struct exchange *exchange_open(sharena_t *heap) {
    struct exchange *exchange =
        sharena_root_create(heap, EXCHANGE_ROOT, sizeof(struct exchange), exchange_init, NULL);

    if (exchange == NULL) {
        report_error("cannot make the rings: %s", sharena_errormsg());
        return NULL;
    }
    if (exchange->layout != EXCHANGE_LAYOUT) {
        report_error("the heap's rings were made by another version of this program");
        return NULL;
    }
    exchange_reset(heap, exchange, MESSAGE_MIN_BYTES);
    return exchange;
}

static void party_add(struct party *party, sharena_t *heap, struct ring *ring, uint64_t other) {
    party->ends[party->nends++] = (struct ring_end){.heap = heap, .ring = ring, .other = other};
}

/* ---- publisher ----------------------------------------------------------------------------- */

static bool publisher_is_ready(const void *arg) {
    const struct party *party = arg;

    for (unsigned i = 0; i < party->nends; i++) {
        if (ring_has_room(party->ends[i].ring)) {
            return true;
        }
    }
    return atomic_load_explicit(&party->control->stop, memory_order_relaxed) != 0;
}

/* Publishes on the first lane with room, from `*next` on. */
static int publisher_send(struct party *party, struct exchange *exchange, unsigned *next) {
    for (unsigned i = 0; i < party->nends; i++) {
        unsigned subscriber = (*next + i) % party->nends;
        int error = ring_publish(&party->ends[subscriber]);

        if (error == 0) {
            bell_ring(&exchange->subscriber_bells[subscriber]);
            *next = subscriber + 1;
        }
        if (error != EAGAIN) {
            return error;
        }
    }
    return EAGAIN;
}

/* What this publisher and its dead predecessors have published. */
static uint64_t publisher_sent(const struct party *party) {
    uint64_t sent = 0;

    for (unsigned i = 0; i < party->nends; i++) {
        sent += atomic_load(&party->ends[i].ring->published);
    }
    return sent;
}

static int publisher_loop(struct party *party, struct exchange *exchange, struct bell *bell,
                          uint64_t count) {
    uint64_t sent = publisher_sent(party);
    unsigned next = 0;

    while ((count == 0 || sent < count) &&
           atomic_load_explicit(&party->control->stop, memory_order_relaxed) == 0) {
        int error = publisher_send(party, exchange, &next);

        if (error == 0) {
            sent++;
        } else if (error == EAGAIN) {
            bell_wait(bell, publisher_is_ready, party);
        } else {
            report_error("cannot allocate a message: %s", sharena_errormsg());
            return EXIT_FAILED;
        }
    }
    return EXIT_FINE;
}

static int publisher_work(void *arg, unsigned publisher) {
    struct run *run = arg;
    struct exchange *exchange = run->exchange;
    struct party party = {.control = &exchange->control};
    int status;

    sharena_reap(run->heap); /* before the inherited slots are looked at: see ring.h */
    for (unsigned i = 0; i < run->job->subscribers; i++) {
        struct ring *ring = exchange_ring(exchange, publisher, i);

        party_add(&party, run->heap, ring, atomic_load(&ring->consumed));
        ring_inherit(&party.ends[i]);
    }
    status =
        publisher_loop(&party, exchange, &exchange->publisher_bells[publisher], run->job->count);
    sharena_close(run->heap);
    return status;
}

/* ---- subscriber ---------------------------------------------------------------------------- */

static bool subscriber_is_ready(const void *arg) {
    const struct party *party = arg;

    for (unsigned i = 0; i < party->nends; i++) {
        if (!ring_is_empty(party->ends[i].ring)) {
            return true;
        }
    }
    return atomic_load_explicit(&party->control->closed, memory_order_acquire) != 0;
}

/* Takes what a lane holds, but no more than fills it once, so that no lane starves another. */
static int subscriber_drain(struct ring_end *end, enum depth depth, struct bell *bell,
                            uint64_t *taken) {
    uint64_t most = end->ring->nslots;
    int error = 0;

    for (uint64_t i = 0; i < most; i++) {
        error = ring_consume(end, depth);
        if (error != 0) {
            break;
        }
        (*taken)++;
        /* A publisher that waits for room gets a good piece of it, not one slot. */
        if (i % (most / 4) == most / 4 - 1) {
            bell_ring(bell);
        }
    }
    bell_ring(bell);
    return error == EAGAIN ? 0 : error;
}

static int subscriber_loop(struct party *party, struct exchange *exchange, struct bell *bell,
                           enum depth depth) {
    for (;;) {
        bool is_closed = atomic_load_explicit(&party->control->closed, memory_order_acquire) != 0;
        uint64_t taken = 0;

        for (unsigned i = 0; i < party->nends; i++) {
            if (subscriber_drain(&party->ends[i], depth, &exchange->publisher_bells[i], &taken) !=
                0) {
                return EXIT_FAILED;
            }
        }
        if (taken == 0 && is_closed) {
            return EXIT_FINE;
        }
        if (taken == 0) {
            bell_wait(bell, subscriber_is_ready, party);
        }
    }
}

static int subscriber_work(void *arg, unsigned subscriber) {
    struct run *run = arg;
    struct exchange *exchange = run->exchange;
    struct party party = {.control = &exchange->control};
    int status;

    sharena_reap(run->heap); /* before the inherited slots are looked at: see ring.h */
    for (unsigned i = 0; i < run->job->publishers; i++) {
        struct ring *ring = exchange_ring(exchange, i, subscriber);

        party_add(&party, run->heap, ring, atomic_load(&ring->consumed));
    }
    status = subscriber_loop(&party, exchange, &exchange->subscriber_bells[subscriber],
                             run->job->is_every_word_checked ? DEPTH_ALL : DEPTH_SAMPLE);
    sharena_close(run->heap);
    return status;
}

/* ---- the run ------------------------------------------------------------------------------- */

static int exchange_settle(const struct exchange *exchange, struct fleet_result *result) {
    int error = 0;

    for (unsigned lane = 0; lane < FLEET_LANES_MAX; lane++) {
        const struct ring *ring = &exchange->rings[lane];

        result->messages += ring_tally(ring)->messages;
        result->bytes += ring_tally(ring)->bytes;
        if (!ring_is_settled(ring)) {
            error = EBADMSG;
        }
    }
    return error;
}

int exchange_run(sharena_t *heap, struct exchange *exchange, const struct fleet_job *job,
                 struct fleet_result *result) {
    struct run run = {.heap = heap, .exchange = exchange, .job = job};
    const struct fleet_roles roles = {
        .publish = publisher_work, .subscribe = subscriber_work, .arg = &run};
    int error;

    *result = (struct fleet_result){0};
    exchange_reset(heap, exchange, job->size_bytes);
    error = fleet_run(job, &exchange->control, &roles, result);
    return error != 0 ? error : exchange_settle(exchange, result);
}
