/* stepper.h -- for the demos' kill tests: a child dies in the n-th instruction of an operation.
 *
 * The child sets the CPU's trap flag, so that each instruction raises SIGTRAP, whose handler counts
 * and in the n-th one sends SIGKILL. Where the CPU has no such flag the operations are only run
 * through, and the tests' storms must do.
 */
#ifndef DEMO_COMMON_TESTS_STEPPER_H
#define DEMO_COMMON_TESTS_STEPPER_H

#include <stdint.h>

struct stepper_case {
    const char *name;
    void (*prepare)(void); /* in the tester: back to the state that the operation begins with */
    void (*enter)(void);   /* in the child, at full speed: what went before; may be NULL */
    void (*operate)(void); /* in the child, instruction by instruction, up to its death */
    void (*verify)(void);  /* in the tester: whatever the child got done, is all well? */
};

/* Runs the operation to its end once, to count its instructions; then kills a child in each of them,
 * or, where `seconds` are not enough for that, in as many as they allow, chosen at random. Prints a
 * line about it; returns the number of kills. */
uint64_t stepper_run(const struct stepper_case *test, double seconds);

/* One child: prepare, enter, and death at a random instruction among the first `instructions`. For
 * a `prepare` that wants somebody dead. */
void stepper_kill_once(const struct stepper_case *test, uint64_t instructions);

#endif
