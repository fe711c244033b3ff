/* guardian.h -- a process that undoes what this one does to others, however this one ends.
 *
 * It continues the processes that were stopped, and removes the file that was not finished: when it
 * is told to, and when this process ends, by a signal as well (also SIGKILL).
 */
#ifndef SHARENA_CLI_GUARDIAN_H
#define SHARENA_CLI_GUARDIAN_H

#include <sys/types.h>

struct guardian {
    pid_t pid;
    int pipe; /* our end: what it shall know */
};

/* Starts it; `temporary` is the file to be removed at its end, if it is still there then. 0, or an
 * errno value with error_set(). */
int guardian_start(struct guardian *guardian, const char *temporary);

/* Stops a process, once the guardian knows of it: 0 or an errno value. */
int guardian_stop_process(const struct guardian *guardian, pid_t pid);

/* All that were stopped go on. Returns at once. */
void guardian_continue_all(const struct guardian *guardian);

/* The same, and ends it. What was to be done has been done when this returns. */
void guardian_end(struct guardian *guardian);

#endif
