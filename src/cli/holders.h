/* holders.h -- the processes that have a heap's file mapped for writing, as /proc shows them.
 *
 * A process slot says who attached, by a pid of the process's own pid namespace; /proc says who can
 * store into the heap now, a forked child included that has no slot yet, by pids of ours.
 */
#ifndef SHARENA_CLI_HOLDERS_H
#define SHARENA_CLI_HOLDERS_H

#include <stdint.h>
#include <sys/types.h>

#include "ipc/file.h"

#define HOLDERS_MAX 4096u

struct holder {
    pid_t pid;       /* ours */
    pid_t inner_pid; /* in its own pid namespace, as its process slot has it */
};

struct holders {
    uint32_t count;
    struct holder list[HOLDERS_MAX];
};

/* A file as /proc/PID/maps names it, which need not be what stat() says. */
struct file_key {
    char text[48]; /* "fd:01 1234" */
};

/* Both return 0, or an errno value with error_set(). */
int holders_identify(const struct heap_file *file, struct file_key *key);
/* Processes that this one may not look into (another user's) or not see (of a namespace that is not
 * below ours) are left out. */
int holders_find(const struct file_key *key, struct holders *holders);

enum process_state { PROCESS_RUNS, PROCESS_STOPPED, PROCESS_GONE };

/* Whether all threads are stopped, so that none stores; `switches` (or NULL) receives a number that
 * changes if one of them runs between two such calls. */
enum process_state holders_process_state(pid_t pid, uint64_t *switches);

#endif
