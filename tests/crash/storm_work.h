/* storm_work.h -- a worker of the crash tests: a process whose threads work on the table until they
 * are killed, or asked to leave.
 */
#ifndef TESTS_CRASH_STORM_WORK_H
#define TESTS_CRASH_STORM_WORK_H

#include <sharena/sharena.h>

#include "storm_control.h"

/* In a storm worker 0 is never killed, so that it may use plain malloc, free and realloc and still
 * lose nothing: it leaves from time to time instead, and another takes its place. */
#define STORM_GENTLE 0u

/* The whole life of worker `index`. `heap`: inherited from an attached parent; NULL: it opens the
 * file. Returns 0 after it was asked to leave; exits with 1 where something is wrong. */
int storm_work(struct storm_control *control, uint32_t index, sharena_t *heap);

#endif
