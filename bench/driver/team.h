/* team.h -- workers: threads of a private allocator, processes that share a heap.
 *
 * A worker prepares itself, calls worker_begin(), works until worker_is_done(), calls worker_end(),
 * and may clean up. Both calls wait for all workers, so that nobody is measured alone.
 */
#ifndef BENCH_TEAM_H
#define BENCH_TEAM_H

#include "workload.h"

#define WORKERS_MAX 64u

struct worker {
    unsigned index;
    unsigned count; /* of the team */
    const struct job *job;
    struct needs needs; /* of the whole team */
    void *shared;       /* what the workload gave to team_run() */
    uint64_t random;    /* a state of its own */
    uint64_t begin_ns;
    uint64_t begin_cpu;
    struct tally *tally;
};

typedef void worker_body(struct worker *worker);

/* Runs the body in that many workers, with the heap open in each. Returns operations per second,
 * the sum over the workers. `shared` must come from table_make(), or not matter. */
double team_run(const struct job *job, unsigned count, const struct needs *needs, worker_body *body,
                void *shared);

void worker_begin(struct worker *worker);
bool worker_is_done(const struct worker *worker); /* asks the clock */
void worker_end(struct worker *worker, uint64_t operations);

/* Runs the body in a child, and waits for it; dies if it dies. */
void child_run(void (*body)(const struct job *job, void *shared), const struct job *job,
               void *shared);

#endif
