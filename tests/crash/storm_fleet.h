/* storm_fleet.h -- the workers as the director sees them: started, killed, waited for. */
#ifndef TESTS_CRASH_STORM_FLEET_H
#define TESTS_CRASH_STORM_FLEET_H

#include <sharena/sharena.h>

#include "storm_control.h"

struct fleet {
    struct storm_control *control;
    int control_fd;
    sharena_t *heap; /* attached: odd workers inherit it, even ones are new programs; or NULL */
    pid_t pids[STORM_PROCESSES_MAX];     /* 0: none */
    int was_killed[STORM_PROCESSES_MAX]; /* by fleet_kill() */
};

/* main() of a program that fleet_start() began; -1: it was not. */
int fleet_be_worker(int argc, char **argv);

/* Starts worker `index`. With no heap it is forked and opens the file itself. */
void fleet_start(struct fleet *fleet, uint32_t index);

/* Starts all that there are not. */
void fleet_start_missing(struct fleet *fleet);

/* Whether all its threads have begun, and nobody has killed it yet. */
int fleet_is_working(const struct fleet *fleet, uint32_t index);

/* SIGKILL; fleet_poll() notices the death. 1, or 0: it is dead or dying already. */
int fleet_kill(struct fleet *fleet, uint32_t index);

/* Notices who ended. 1 if somebody did whom nobody killed or asked to leave, or if an operation
 * takes too long; that was said. */
int fleet_poll(struct fleet *fleet);

/* Polls until all that were killed or asked to leave have ended. */
int fleet_wait_for_the_dead(struct fleet *fleet);

/* Kills whoever is left. */
void fleet_end(struct fleet *fleet);

/* Guarded steps of all, since the beginning. */
uint64_t fleet_steps(const struct fleet *fleet);

#endif
