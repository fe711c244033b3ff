/* trial.h -- for the demos' kill tests: a place to work in, conditions that must hold, chance.
 *
 * Killed: trial_main() runs the test in a child, so what it leaves is removed when it gives up too.
 */
#ifndef DEMO_COMMON_TESTS_TRIAL_H
#define DEMO_COMMON_TESTS_TRIAL_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Ends the process with a message unless the condition holds. */
#define REQUIRE(condition) ((condition) ? (void)0 : trial_failed(#condition, __FILE__, __LINE__))
_Noreturn void trial_failed(const char *condition, const char *file, int line);

/* Any number; below `limit`. Another series in each run: kills come at other instants anyway. */
uint64_t trial_random(void);
uint64_t trial_below(uint64_t limit);

/* Kills the child, which must not have ended otherwise before. */
void trial_kill(pid_t pid);

/* Writes the children of a process into pids[0..max) and returns how many there are. */
unsigned trial_children(pid_t parent, pid_t *pids, unsigned max);

/* `PROGRAM [SECONDS]`: runs body(dir, seconds), where `dir` is a new directory in /dev/shm, or in
 * $TMPDIR if that is set, and removes the directory. Returns main's exit status. */
int trial_main(int argc, char **argv, double seconds,
               void (*body)(const char *dir, double seconds));

#endif
