/* point.h -- one death of the stepper, with all that follows from it.
 *
 * A victim executes an operation (scenario.h) up to its n-th instruction and is killed there. In a
 * recovery point, others then come to mend the heap and are killed at that, one or two in a row.
 * Survivors go on, and every byte is accounted for (stage.h).
 */
#ifndef TESTS_CRASH_POINT_H
#define TESTS_CRASH_POINT_H

#include <stdio.h>

#include "scenario.h"

#define LINKS_MAX 2

/* Who is the first to meet what the dead left. */
enum order { ORDER_SURVIVOR, ORDER_NEWCOMER, ORDER_WAITER, ORDERS };

/* How a process mends a heap. */
enum recoverer { RECOVER_LOCK, RECOVER_REAP, RECOVER_OPEN, RECOVERERS };

/* A killed recovery. */
struct link {
    enum recoverer kind;
    size_t at;
    const struct recording *recording; /* NULL: none yet */
};

struct point {
    const struct scenario *scenario;
    size_t at; /* instruction */
    enum order order;
    unsigned links;
    struct link link[LINKS_MAX];
    size_t record_limit; /* of a recording that this point makes */
};

struct tally { /* of one scenario, by one job */
    size_t instructions;
    size_t points;
    size_t recovery_points;
    size_t waits;  /* points with a waiter */
    size_t drifts; /* points where the victim came to the end before */
};

extern const char *const order_names[ORDERS];
extern const char *const recoverer_names[RECOVERERS];

/* Dies once. `recording` is the scenario's, and each link has its own. With `record`, the victim (no
 * links) or the last recovery is recorded instead: all of it, and it dies at the end. 0, or -1 with a
 * message; then processes and the heap are in any state. */
int point_run(struct stage *stage, const struct point *point, struct tally *tally,
              const struct recording *recording, struct recording *record);

/* Prints the arguments that repeat it. */
void point_print(FILE *stream, const struct point *point);

#endif
