/* ring.h -- a lane in the heap: one publisher, one subscriber, pointers to messages.
 *
 * A message's life: sharena_malloc_to() puts a block into the slot, the publisher fills it, a store
 * to `published` hands it over; the subscriber checks it, adds it to the next tally,
 * sharena_free_from() takes the block out of the slot, a store to `consumed` gives the slot back.
 *
 * Holds:  consumed <= published <= consumed + nslots
 *         slot i % nslots for consumed <= i < published holds message i, except that the slot of
 *         message `consumed` is NULL when it is processed already and `consumed` is about to move
 *         every other slot is NULL, except that of message `published`, which its publisher is
 *         filling
 *         tallies[n % 2] sums up the first n messages, for n == consumed
 *         (and for n == consumed + 1 once the slot of message `consumed` is NULL)
 *
 * A message IS PUBLISHED by the store to `published`, and IS PROCESSED by the sharena_free_from()
 * that empties its slot: before it, what the subscriber did lies in the tally that does not count
 * yet; after it, that tally is the one that counts. Both are single steps, so:
 *
 * Killed: publisher, before the store to `published`: the slot may hold a half-written message that
 *         nobody has seen; the next publisher frees it before anything else (ring_inherit), and the
 *         message number is still to be written.
 *         subscriber, before its sharena_free_from(): the message is still there; the next
 *         subscriber processes it from the start and overwrites the tally.
 *         subscriber, between that and the store to `consumed`: the slot is NULL; the next one only
 *         moves `consumed`.
 *         No other state than the ring itself is needed: message number `published` is the next
 *         one, whoever writes it. The successor must call sharena_reap() first, for it inherits
 *         slots that a sharena_malloc_to() or sharena_free_from() of the dead may still have open.
 * Lock:   none. `published` is stored by the publisher only, `consumed` and `tallies` by the
 *         subscriber only; a slot belongs to the publisher outside of consumed..published-1.
 */
#ifndef DEMO_MESSAGES_RING_H
#define DEMO_MESSAGES_RING_H

#include "message.h"

#include <sharena/sharena.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RING_SLOTS_MAX 1024u

struct tally {
    uint64_t messages;
    uint64_t bytes;
    uint64_t digest; /* depends on every message and on their order */
};

struct ring {
    _Atomic uint64_t published;
    char publishers_line[56];
    _Atomic uint64_t consumed;
    char subscribers_line[56];
    struct tally tallies[2];
    uint64_t lane;               /* fixed during a run, as are the next two */
    uint64_t size_bytes;         /* of every message */
    uint64_t nslots;             /* in use, a power of two */
    void *slots[RING_SLOTS_MAX]; /* struct message */
};

/* What one side knows without asking: a bound on the other side's counter. In private memory. */
struct ring_end {
    sharena_t *heap;
    struct ring *ring;
    uint64_t other; /* the other side's counter when it was read last */
};

/* For a publisher, before its first message, and after sharena_reap(): takes back what a dead
 * predecessor had not published. */
void ring_inherit(struct ring_end *end);

/* Publishes the next message. 0, EAGAIN where the ring is full, or as sharena_malloc_to(). */
int ring_publish(struct ring_end *end);

/* Processes and frees the next message. 0, EAGAIN where the ring is empty, or EBADMSG where it
 * holds something else than message number `consumed`. */
int ring_consume(struct ring_end *end, enum depth depth);

bool ring_has_room(const struct ring *ring);
bool ring_is_empty(const struct ring *ring);

/* Frees whatever an earlier run left and makes the ring ready for a new one. Nobody else may be
 * using it. */
void ring_reset(sharena_t *heap, struct ring *ring, uint64_t lane, uint64_t size_bytes);

/* Has every message been processed exactly once and in order, and is the ring empty? The run must
 * be over. Says on stderr what is wrong. */
bool ring_is_settled(const struct ring *ring);

/* What has been processed. */
const struct tally *ring_tally(const struct ring *ring);

#endif
