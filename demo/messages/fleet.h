/* fleet.h -- publishers and subscribers as processes, and the one who looks after them.
 *
 * Holds:  publishers run until control->stop (or until they have sent their count); when the last
 *         one has ended well, control->closed says that nothing more will come, and subscribers end
 *         when they find nothing more.
 * Killed: a member killed with SIGKILL is replaced by a process with the same role and number.
 *         Any other bad end stops the run. The supervisor's death ends all (child.h).
 */
#ifndef DEMO_MESSAGES_FLEET_H
#define DEMO_MESSAGES_FLEET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FLEET_SIDE_MAX 8u /* publishers, and subscribers */
#define FLEET_LANES_MAX (FLEET_SIDE_MAX * FLEET_SIDE_MAX)

/* In memory that all share. */
struct fleet_control {
    _Atomic uint32_t stop;   /* stored by the supervisor only */
    _Atomic uint32_t closed; /* likewise */
};

/* What is to be run. The same for every way of sending, in private memory. */
struct fleet_job {
    unsigned publishers;
    unsigned subscribers;
    uint64_t size_bytes;
    uint64_t count; /* messages per publisher; 0: until `seconds` have passed */
    double seconds;
    unsigned kills; /* members to be killed, evenly over `seconds` */
    bool is_every_word_checked;
};

/* What a run achieved. */
struct fleet_result {
    uint64_t messages; /* processed */
    uint64_t bytes;
    double seconds;    /* from the first process started to the last one ended */
    unsigned replaced; /* processes that were killed */
};

struct fleet_roles {
    int (*publish)(void *arg, unsigned publisher);    /* returns an exit status */
    int (*subscribe)(void *arg, unsigned subscriber); /* likewise */
    void (*started)(void *arg); /* in the supervisor, once all are running; or NULL */
    void *arg;
};

/* Runs the job to its end and sets result->seconds and ->replaced; the roles count the messages.
 * Returns 0, or an errno value after a message. Nobody is left running. */
int fleet_run(const struct fleet_job *job, struct fleet_control *control,
              const struct fleet_roles *roles, struct fleet_result *result);

#endif
