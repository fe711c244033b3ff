/* point.c -- one death of the stepper, with all that follows from it.
 *
 * Not here: which points there are (steps.c), what is done (scenarios_*.c), what survivors do
 * (stage.c).
 */
#include "point.h"

#include <unistd.h>

#include "heap/heap.h"

const char *const order_names[ORDERS] = {"survivor", "newcomer", "waiter"};
const char *const recoverer_names[RECOVERERS] = {"lock", "reap", "open"};

void scenario_require(int holds, const char *what, const char *file, int line) {
    if (!holds) {
        (void)fprintf(stderr, "%s:%d: not so: %s (%s)\n", file, line, what, sharena_errormsg());
        _exit(1);
    }
}

struct cast { /* what a victim is told; by the memory that it inherits */
    struct stage *stage;
    const struct scenario *scenario;
    enum recoverer kind;
};

static void be_victim(void *arg) {
    const struct cast *cast = arg;
    if (cast->scenario->warm != NULL) {
        cast->scenario->warm(cast->stage);
    }
    trace_mark();
    cast->scenario->act(cast->stage);
    trace_mark();
}

static void open_again(struct stage *stage) {
    sharena_t *heap = NULL;
    (void)!sharena_open(stage->path, NULL, &heap);
}

#define LOCKS_BYTES_MAX (2u << 20)

/* Each lock is taken: of a bin, its arena, the pool, the names. */
static void use_locks(sharena_t *heap) {
    static const size_t sizes[] = {64, 320, 100000, LOCKS_BYTES_MAX};
    for (unsigned i = 0; i < 4; i++) {
        void *block = sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE);
        sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
    }
    (void)sharena_root_set(heap, "nothing", NULL);
}

static void be_recoverer(void *arg) {
    const struct cast *cast = arg;
    struct stage *stage = cast->stage;
    int is_alone = (cast->scenario->flags & (ALONE | NO_HEAP)) != 0;
    if (cast->kind == RECOVER_OPEN && !is_alone) {
        NEED(sharena_close(stage->heap) == 0);
    }
    trace_mark();
    if (is_alone || cast->kind == RECOVER_OPEN) {
        open_again(stage);
    } else if (cast->kind == RECOVER_REAP) {
        (void)sharena_reap(stage->heap);
    } else {
        use_locks(stage->heap);
    }
    trace_mark();
}

static int set_up(struct stage *stage, const struct scenario *scenario) {
    stage_reset(stage);
    stage->bytes = scenario->bytes;
    stage->to_bytes = scenario->to_bytes;
    if ((scenario->flags & NO_HEAP) == 0 && stage_open(stage) != 0) {
        return -1;
    }
    if (scenario->prepare != NULL) {
        scenario->prepare(stage);
    }
    return 0;
}

/* The victim stands before its operation. */
static int start_victim(struct trace *trace, struct cast *cast) {
    if (trace_start(trace, be_victim, cast) != 0) {
        return -1;
    }
    if ((cast->scenario->flags & ALONE) != 0 && sharena_close(cast->stage->heap) != 0) {
        return -1;
    }
    return trace_follow(trace, cast->scenario->follow);
}

/* One after the other comes to mend the heap, and dies. With `record`, the last one's instructions
 * are noted, and it dies at the end. */
static int die_recovering(struct cast *cast, const struct point *point, struct recording *record) {
    for (unsigned i = 0; i < point->links; i++) {
        const struct link *link = &point->link[i];
        struct trace trace;
        int error;
        cast->kind = link->kind;
        if (trace_start(&trace, be_recoverer, cast) != 0) {
            return -1;
        }
        if (record != NULL && i + 1 == point->links) {
            error = trace_record(&trace, record, point->record_limit);
        } else {
            error = trace_run_to(&trace, link->recording, link->at);
        }
        trace_kill(&trace);
        if (error != 0) {
            return -1;
        }
    }
    return 0;
}

/* A recoverer that was killed may have had a block of its own in flight. */
static struct allowance allowance_of(const struct point *point) {
    struct allowance allowance = point->scenario->missing;
    for (unsigned i = 0; i < point->links; i++) {
        int has_block = point->link[i].kind == RECOVER_LOCK;
        allowance.blocks += has_block ? 1 : 0;
        allowance.bytes += has_block ? LOCKS_BYTES_MAX : 0;
    }
    return allowance;
}

static int survive(struct stage *stage, const struct point *point) {
    const struct scenario *scenario = point->scenario;
    int is_newcomer_first = point->order == ORDER_NEWCOMER && (scenario->flags & NO_HEAP) == 0;
    stage->newcomer_is_first = is_newcomer_first;
    if (is_newcomer_first && stage_call_newcomer(stage) != 0) {
        return -1;
    }
    if ((scenario->flags & (ALONE | NO_HEAP)) != 0 && stage_open(stage) != 0) {
        return -1;
    }
    if (stage_go_on(stage, stage->heap) != 0) {
        return -1;
    }
    if (!is_newcomer_first && stage_call_newcomer(stage) != 0) {
        return -1;
    }
    if (scenario->settle != NULL) {
        scenario->settle(stage);
    }
    return stage_account(stage, allowance_of(point));
}

/* Kills, and waits until those who waited for the dead went on. */
static int kill_victim(struct trace *trace, struct stage *stage, const struct point *point,
                       struct tally *tally) {
    uint64_t lock = 0;
    pid_t waiter = 0;
    if (point->order == ORDER_WAITER && point->links == 0 && !trace->is_over &&
        (point->scenario->flags & (ALONE | NO_HEAP)) == 0) {
        lock = stage_lock_of(stage, trace->task);
    }
    if (lock != 0) {
        waiter = stage_start_waiter(stage, lock);
        tally->waits++;
    }
    uint64_t killed_ns = stage_now_ns();
    trace_kill(trace);
    return waiter == 0 ? 0 : stage_await_waiter(stage, waiter, killed_ns);
}

int point_run(struct stage *stage, const struct point *point, struct tally *tally,
              const struct recording *recording, struct recording *record) {
    struct cast cast = {stage, point->scenario, RECOVER_LOCK};
    struct trace trace;
    if (set_up(stage, point->scenario) != 0 || start_victim(&trace, &cast) != 0) {
        return -1;
    }
    int error = record != NULL && point->links == 0
                    ? trace_record(&trace, record, point->record_limit)
                    : trace_run_to(&trace, recording, point->at);
    tally->drifts += record == NULL && trace.is_over;
    if (error != 0 || kill_victim(&trace, stage, point, tally) != 0 ||
        die_recovering(&cast, point, record) != 0) {
        return -1;
    }
    return survive(stage, point);
}

void point_print(FILE *stream, const struct point *point) {
    (void)fprintf(stream, "crash_steps --scenario %s --at %zu --order %s", point->scenario->name,
                  point->at, order_names[point->order]);
    for (unsigned i = 0; i < point->links; i++) {
        (void)fprintf(stream, " --then %s:%zu", recoverer_names[point->link[i].kind],
                      point->link[i].at);
    }
    (void)fprintf(stream, "\n");
}
