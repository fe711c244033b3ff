/* worker.h -- a process that takes one file after the other and puts its words into the index. */
#ifndef DEMO_WORDINDEX_WORKER_H
#define DEMO_WORDINDEX_WORKER_H

#include "index.h"

struct worker_args {
    sharena_t *heap;
    struct index *index;
};

/* The body of worker process number `worker`; `arg` is a struct worker_args. Returns its exit
 * status when no file is left in this pass. */
int worker_run(void *arg, unsigned worker);

#endif
