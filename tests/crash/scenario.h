/* scenario.h -- one public operation in one state of a heap, as the stepper runs it. */
#ifndef TESTS_CRASH_SCENARIO_H
#define TESTS_CRASH_SCENARIO_H

#include "stage.h"
#include "trace.h"

enum {              /* scenario.flags */
       ALONE = 1u,  /* the victim is the only process that is attached when it dies */
       NO_HEAP = 2u /* no process is attached before */
};

struct scenario {
    const char *name;
    void (*prepare)(struct stage *stage); /* by the first survivor; NULL: nothing */
    void (*warm)(struct stage *stage);    /* by the victim, before it is stepped; NULL: nothing */
    void (*act)(struct stage *stage);     /* the operation */
    void (*settle)(struct stage *stage);  /* by a survivor after the reap: what the operation
                                             published becomes known; NULL: nothing */
    size_t bytes;                         /* what the operation is about; stage->bytes */
    size_t to_bytes;                      /* stage->to_bytes */
    struct allowance missing;             /* what may be in flight */
    unsigned flags;
    enum trace_follow follow;
};

/* The operation is about one block of that size (a class's own), which may be in flight. */
#define ONE_OF(n) .bytes = (n), .missing = {1, (n)}

extern const struct scenario scenarios_small[], scenarios_big[], scenarios_steps[],
    scenarios_life[], scenarios_debug[],
    scenarios_prof[]; /* each ends with an entry without a name */

/* A prepared state that cannot be made is a defect of the test: says so and ends the process. */
void scenario_require(int holds, const char *what, const char *file, int line);
#define NEED(x) scenario_require((x) ? 1 : 0, #x, __FILE__, __LINE__)

#endif
