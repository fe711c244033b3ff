/* trace.h -- a debugger that stops a process at the n-th instruction of an operation.
 *
 * A recording is made once, by single steps: the address of each instruction that was executed. To
 * stand before instruction n again, in another process in the same state, a breakpoint is set at the
 * recorded address and hit as often as the recording says. So the way to instruction n does not
 * cost n steps.
 */
#ifndef TESTS_CRASH_TRACE_H
#define TESTS_CRASH_TRACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Which task's instructions count. */
enum trace_follow {
    TRACE_SELF,   /* the victim's own, between two trace_mark() */
    TRACE_THREAD, /* the first thread that it makes there, from its first to its last */
    TRACE_CHILD   /* the first child that it forks there, likewise */
};

struct trace {
    pid_t process; /* the victim */
    pid_t task;    /* whose instructions count: it, a thread or a child of it */
    int is_over;   /* the task came to the end of the operation, or is gone */
};

struct recording {
    uint64_t *addresses; /* of each instruction, in order */
    uint32_t *repeats;   /* how often it was executed before */
    size_t count;
    size_t room;
};

/* Whether this system lets a process trace its child. */
int trace_is_allowed(void);

/* Where the operation begins, and where it ends; called by the victim. */
void trace_mark(void);

/* Forks a victim that runs body(arg), and lets it run up to its first mark. 0, or -1 with a message
 * on stderr. */
int trace_start(struct trace *trace, void (*body)(void *arg), void *arg);

/* From the first mark to the first instruction that counts. */
int trace_follow(struct trace *trace, enum trace_follow follow);

/* Steps to the end of the operation, or `limit` instructions far, and notes every one. */
int trace_record(struct trace *trace, struct recording *recording, size_t limit);

/* Runs up to instruction n of the recording. is_over is set if the task did not get there. */
int trace_run_to(struct trace *trace, const struct recording *recording, size_t n);

/* SIGKILL, now. Returns when the victim (and its traced child) are gone. */
void trace_kill(struct trace *trace);

void recording_free(struct recording *recording);

#endif
