/* exchange.h -- the rings of all lanes under one name in the heap, and a run over them.
 *
 * Not here: one lane (ring.h), the other ways of sending (stream.h).
 */
#ifndef DEMO_MESSAGES_EXCHANGE_H
#define DEMO_MESSAGES_EXCHANGE_H

#include "bell.h"
#include "fleet.h"
#include "ring.h"

#include <sharena/sharena.h>
#include <stdint.h>

/* The object of the root "messages". Lane publisher * FLEET_SIDE_MAX + subscriber. */
struct exchange {
    uint64_t layout; /* EXCHANGE_LAYOUT */
    struct fleet_control control;
    struct bell publisher_bells[FLEET_SIDE_MAX];
    struct bell subscriber_bells[FLEET_SIDE_MAX];
    struct ring rings[FLEET_LANES_MAX];
};

/* Finds the exchange in the heap or makes it; empties what an earlier run left. NULL after a
 * message. The caller is the only one at work on this heap. */
struct exchange *exchange_open(sharena_t *heap);

/* Runs the job through the rings and proves that every message was processed exactly once and in
 * order and that every ring is empty. Returns 0, or an errno value after a message. */
int exchange_run(sharena_t *heap, struct exchange *exchange, const struct fleet_job *job,
                 struct fleet_result *result);

#endif
