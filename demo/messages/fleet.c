/* fleet.c -- see fleet.h. */
#include "fleet.h"

#include "../common/child.h"
#include "../common/clock.h"
#include "../common/report.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define TURN_MS 2

/* Members 0..publishers-1 publish, the others subscribe. */
struct fleet {
    const struct fleet_job *job;
    struct fleet_control *control;
    const struct fleet_roles *roles;
    pid_t pids[2 * FLEET_SIDE_MAX]; /* 0: ended well */
    unsigned nmembers;
    unsigned nkilled;
    unsigned nreplaced;
    unsigned seed;
    uint64_t start_ns;
};

static bool member_is_publisher(const struct fleet *fleet, unsigned member) {
    return member < fleet->job->publishers;
}

static const char *member_role(const struct fleet *fleet, unsigned member) {
    return member_is_publisher(fleet, member) ? "publisher" : "subscriber";
}

static unsigned member_number(const struct fleet *fleet, unsigned member) {
    return member_is_publisher(fleet, member) ? member : member - fleet->job->publishers;
}

static int member_start(struct fleet *fleet, unsigned member) {
    const struct fleet_roles *roles = fleet->roles;
    pid_t pid = child_start(member_is_publisher(fleet, member) ? roles->publish : roles->subscribe,
                            roles->arg, member_number(fleet, member));

    if (pid < 0) {
        int error = errno;

        report_error("cannot start a %s: %s", member_role(fleet, member), strerror(error));
        return error;
    }
    fleet->pids[member] = pid;
    return 0;
}

static unsigned members_running(const struct fleet *fleet, unsigned from, unsigned to) {
    unsigned nrunning = 0;

    for (unsigned member = from; member < to; member++) {
        nrunning += fleet->pids[member] != 0;
    }
    return nrunning;
}

static int member_ended(struct fleet *fleet, unsigned member, int status) {
    fleet->pids[member] = 0;
    switch (child_end_of(status, member_role(fleet, member), member_number(fleet, member))) {
    case CHILD_FINE:
        return 0;
    case CHILD_KILLED:
        fleet->nreplaced++;
        return member_start(fleet, member);
    case CHILD_FAILED:
        break;
    }
    return ECHILD;
}

/* Attends to every member that has ended. */
static int fleet_reap(struct fleet *fleet) {
    for (unsigned member = 0; member < fleet->nmembers; member++) {
        int status;

        if (fleet->pids[member] != 0 &&
            waitpid(fleet->pids[member], &status, WNOHANG) == fleet->pids[member]) {
            int error = member_ended(fleet, member, status);

            if (error != 0) {
                return error;
            }
        }
    }
    return 0;
}

/* Kills a publisher and a subscriber in turn, which one is left to chance. */
static void fleet_kill_one(struct fleet *fleet) {
    bool is_publishers_turn = fleet->nkilled % 2 == 0;
    unsigned first = is_publishers_turn ? 0 : fleet->job->publishers;
    unsigned count = is_publishers_turn ? fleet->job->publishers : fleet->job->subscribers;
    unsigned member = first + (unsigned)rand_r(&fleet->seed) % count;

    fleet->nkilled++;
    if (fleet->pids[member] != 0) {
        kill(fleet->pids[member], SIGKILL);
    }
}

static void fleet_tend(struct fleet *fleet) {
    const struct fleet_job *job = fleet->job;
    double elapsed = clock_seconds_since(fleet->start_ns);
    bool is_over = job->count == 0 && elapsed >= job->seconds;

    if (is_over) {
        atomic_store(&fleet->control->stop, 1);
    }
    if (members_running(fleet, 0, job->publishers) == 0) {
        atomic_store(&fleet->control->closed, 1);
    } else if (!is_over && fleet->nkilled < job->kills &&
               elapsed >= job->seconds * (fleet->nkilled + 1) / (job->kills + 1)) {
        fleet_kill_one(fleet);
    }
}

static void fleet_abandon(struct fleet *fleet) {
    for (unsigned member = 0; member < fleet->nmembers; member++) {
        if (fleet->pids[member] != 0) {
            kill(fleet->pids[member], SIGKILL);
            waitpid(fleet->pids[member], NULL, 0);
        }
    }
}

static int fleet_start(struct fleet *fleet) {
    int error = 0;

    for (unsigned member = 0; member < fleet->nmembers && error == 0; member++) {
        error = member_start(fleet, member);
    }
    if (error == 0 && fleet->roles->started != NULL) {
        fleet->roles->started(fleet->roles->arg);
    }
    return error;
}

int fleet_run(const struct fleet_job *job, struct fleet_control *control,
              const struct fleet_roles *roles, struct fleet_result *result) {
    struct fleet fleet = {.job = job, .control = control, .roles = roles};
    int error;

    fleet.nmembers = job->publishers + job->subscribers;
    fleet.start_ns = clock_now_ns();
    fleet.seed = (unsigned)fleet.start_ns;
    atomic_store(&control->stop, 0);
    atomic_store(&control->closed, 0);
    error = fleet_start(&fleet);
    while (error == 0 && members_running(&fleet, 0, fleet.nmembers) != 0) {
        clock_sleep_ms(TURN_MS);
        error = fleet_reap(&fleet);
        fleet_tend(&fleet);
    }
    if (error != 0) {
        fleet_abandon(&fleet);
    }
    result->seconds = clock_seconds_since(fleet.start_ns);
    result->replaced = fleet.nreplaced;
    return error;
}
