/* ring.c -- see ring.h. */
#include "ring.h"

#include "../common/report.h"

#include <errno.h>

#define RING_BYTES (8u << 20) /* messages in flight: no more than a cache or two can hold ... */
#define RING_SLOTS_MIN 4u     /* ... but enough that neither side waits for each single one */

static void **ring_slot(struct ring *ring, uint64_t number) {
    return &ring->slots[number & (ring->nslots - 1)];
}

static void tally_add(struct tally *next, const struct tally *before, uint64_t size_bytes,
                      uint64_t seed) {
    next->messages = before->messages + 1;
    next->bytes = before->bytes + size_bytes;
    next->digest = (before->digest << 7 | before->digest >> 57) * MESSAGE_STEP + seed;
}

void ring_inherit(struct ring_end *end) {
    struct ring *ring = end->ring;
    uint64_t published = atomic_load_explicit(&ring->published, memory_order_relaxed);

    /* In a full ring that slot holds the oldest message. Who died had seen room, and since then
     * nobody has published: so where there is no room there is no half-written message either. */
    end->other = atomic_load_explicit(&ring->consumed, memory_order_acquire);
    if (published - end->other < ring->nslots) {
        sharena_free_from(end->heap, ring_slot(ring, published));
    }
}

int ring_publish(struct ring_end *end) {
    struct ring *ring = end->ring;
    uint64_t number = atomic_load_explicit(&ring->published, memory_order_relaxed);
    void **slot = ring_slot(ring, number);
    int error;

    if (number - end->other >= ring->nslots) {
        end->other = atomic_load_explicit(&ring->consumed, memory_order_acquire);
        if (number - end->other >= ring->nslots) {
            return EAGAIN;
        }
    }
    error = sharena_malloc_to(end->heap, ring->size_bytes, slot);
    if (error != 0) {
        return error;
    }
    message_fill(*slot, ring->size_bytes, ring->lane, number);
    atomic_store_explicit(&ring->published, number + 1, memory_order_release);
    return 0;
}

int ring_consume(struct ring_end *end, enum depth depth) {
    struct ring *ring = end->ring;
    uint64_t number = atomic_load_explicit(&ring->consumed, memory_order_relaxed);
    void **slot = ring_slot(ring, number);

    if (end->other == number) {
        end->other = atomic_load_explicit(&ring->published, memory_order_acquire);
        if (end->other == number) {
            return EAGAIN;
        }
    }
    if (*slot != NULL) {
        const struct message *message = *slot;

        if (!message_is_intact(message, ring->size_bytes, ring->lane, number, depth)) {
            report_error("lane %llu: message %llu is damaged, lost or repeated (it says %llu)",
                         (unsigned long long)ring->lane, (unsigned long long)number,
                         (unsigned long long)message->number);
            return EBADMSG;
        }
        tally_add(&ring->tallies[(number + 1) % 2], &ring->tallies[number % 2], ring->size_bytes,
                  message->seed);
        sharena_free_from(end->heap, slot); /* now it is processed */
    }
    atomic_store_explicit(&ring->consumed, number + 1, memory_order_release);
    return 0;
}

bool ring_has_room(const struct ring *ring) {
    return atomic_load_explicit(&ring->published, memory_order_relaxed) -
               atomic_load_explicit(&ring->consumed, memory_order_acquire) <
           ring->nslots;
}

bool ring_is_empty(const struct ring *ring) {
    return atomic_load_explicit(&ring->published, memory_order_acquire) ==
           atomic_load_explicit(&ring->consumed, memory_order_relaxed);
}

static uint64_t slots_for(uint64_t size_bytes) {
    uint64_t nslots = RING_SLOTS_MIN;

    while (nslots < RING_SLOTS_MAX && nslots * 2 * size_bytes <= RING_BYTES) {
        nslots *= 2;
    }
    return nslots;
}

void ring_reset(sharena_t *heap, struct ring *ring, uint64_t lane, uint64_t size_bytes) {
    for (unsigned i = 0; i < RING_SLOTS_MAX; i++) {
        sharena_free_from(heap, &ring->slots[i]);
    }
    atomic_store(&ring->published, 0);
    atomic_store(&ring->consumed, 0);
    ring->tallies[0] = (struct tally){0};
    ring->tallies[1] = (struct tally){0};
    ring->lane = lane;
    ring->size_bytes = size_bytes;
    ring->nslots = slots_for(size_bytes);
}

const struct tally *ring_tally(const struct ring *ring) {
    return &ring->tallies[atomic_load(&ring->consumed) % 2];
}

/* The tally that `count` messages, each once and in order, must have left. */
static struct tally tally_expected(const struct ring *ring, uint64_t count) {
    struct tally tally = {0};

    for (uint64_t number = 0; number < count; number++) {
        struct tally before = tally;

        tally_add(&tally, &before, ring->size_bytes, message_seed(ring->lane, number));
    }
    return tally;
}

bool ring_is_settled(const struct ring *ring) {
    uint64_t published = atomic_load(&ring->published);
    struct tally expected = tally_expected(ring, published);
    const struct tally *tally = ring_tally(ring);
    unsigned nleft = 0;

    for (unsigned i = 0; i < RING_SLOTS_MAX; i++) {
        nleft += ring->slots[i] != NULL;
    }
    if (ring_is_empty(ring) && nleft == 0 && tally->messages == expected.messages &&
        tally->bytes == expected.bytes && tally->digest == expected.digest) {
        return true;
    }
    report_error("lane %llu: published %llu, processed %llu, digest %llx instead of %llx, "
                 "%u messages left in slots",
                 (unsigned long long)ring->lane, (unsigned long long)published,
                 (unsigned long long)tally->messages, (unsigned long long)tally->digest,
                 (unsigned long long)expected.digest, nleft);
    return false;
}
