/* points_case.c -- one case: the victim, those who die while they recover, and who goes on. */
#include "points.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipc/check.h"
#include "ipc/faultpoint.h"

#define EXIT_DIED 77
#define PATIENCE_S 30u    /* a process that hangs is a failure, found by this */
#define WRECK_POINTS 150u /* the one before the victim dies at one of them */

/* ---- the hook ---- */

static struct {
    uint64_t die_at;
    uint64_t passed;
    pid_t spared; /* passes unharmed and uncounted */
    struct note *note;
} armed;

static void at_point(const char *file, int line) {
    if (armed.spared != 0 && armed.spared == getpid()) {
        return;
    }
    armed.passed++;
    if (armed.passed == armed.die_at) {
        armed.note->passed = armed.passed;
        armed.note->file = file;
        armed.note->line = line;
        _exit(EXIT_DIED);
    }
}

void points_arm(void) {
    fault_point_hook = at_point;
}

/* A reaper drops what a dead thread's cache holds that is no block of it: a double free that its
 * application made. Here nobody makes one, so the cache was torn by the kill (linked with --wrap). */
int __wrap_misuse_is_inherited(const sharena_t *heap, /* NOLINT(bugprone-reserved-identifier) */
                               const struct thread_slot *self);

int __wrap_misuse_is_inherited(const sharena_t *heap, /* NOLINT(bugprone-reserved-identifier) */
                               const struct thread_slot *self) {
    (void)heap;
    check_failed(__FILE__, (int)shared_get(&self->index), "a reaped cache holds only its blocks");
}

/* ---- processes that may die ---- */

struct role {
    int (*prepare)(struct stage *stage); /* done by the first who opens the heap */
    int (*ready)(struct stage *stage);
    int (*act)(struct stage *stage);
    unsigned flags; /* ARMED_FORK, ARMS_ITSELF, VICTIM_OPENS */
};

enum ended { DIED, DONE, BROKEN };

static int play(struct stage *stage, const struct role *role) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(PATIENCE_S);
    int error = 0;
    if (stage->heap == NULL && (role->flags & VICTIM_OPENS) == 0) {
        error = stage_open(stage);
        if (error == 0 && role->prepare != NULL) {
            error = role->prepare(stage);
        }
    }
    if (error == 0 && role->ready != NULL) {
        error = role->ready(stage);
    }
    if ((role->flags & ARMS_ITSELF) == 0) {
        points_arm();
    }
    if (error == 0) {
        error = role->act(stage);
    }
    fault_point_hook = NULL;
    stage->note->passed = armed.passed;
    return error == 0 ? 0 : 1;
}

static enum ended wait_for(struct stage *stage, pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DIED) {
        return DIED;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return DONE;
    }
    (void)stage_fail(stage, "a process ended with status %#x", (unsigned)status);
    return BROKEN;
}

static enum ended run(struct stage *stage, uint64_t die_at, const struct role *role) {
    armed.die_at = die_at;
    armed.passed = 0;
    armed.note = stage->note;
    armed.spared = (role->flags & ARMED_FORK) != 0 ? getpid() : 0;
    if ((role->flags & ARMED_FORK) != 0) {
        points_arm();
    }
    pid_t pid = fork();
    if (pid == 0) {
        _exit(play(stage, role));
    }
    fault_point_hook = NULL;
    if (pid < 0) {
        (void)stage_fail(stage, "fork: %s", strerror(errno));
        return BROKEN;
    }
    return wait_for(stage, pid);
}

/* ---- what recoverers do ---- */

/* A block of the victim's kind, so that it meets the victim's locks; a big one would take long. */
static size_t touch_bytes(const struct stage *stage) {
    return stage->size_class < 48 ? stage->bytes : LARGE_BYTES_MIN;
}

static int touch(struct stage *stage) {
    void *block = sharena_malloc(stage->heap, touch_bytes(stage));
    sharena_free(stage->heap, block);
    return 0;
}

static int reap(struct stage *stage) {
    (void)sharena_reap(stage->heap);
    return 0;
}

static int check(struct stage *stage) {
    int error = sharena_check(stage->heap, NULL);
    return error == 0 ? 0 : stage_fail(stage, "a recoverer: %s", sharena_errormsg());
}

static int open_cold(struct stage *stage) {
    return stage_open(stage);
}

static int wreck(struct stage *stage) {
    static const size_t sizes[] = {3000, 100, 20000};
    for (uint32_t i = 0; i < 3; i++) {
        sharena_free(stage->heap, sharena_malloc(stage->heap, sizes[i]));
    }
    return stage_flush(stage);
}

static struct role role_of(const struct stage *stage, const struct plan *plan, uint32_t turn) {
    static int (*const acts[])(struct stage *) = {reap, touch, check};
    const struct scenario *scenario = stage->scenario;
    if (turn == 0) {
        int has_slot =
            scenario->ready == NULL && (scenario->flags & (VICTIM_OPENS | ARMED_FORK)) == 0;
        return (struct role){scenario->prepare, has_slot ? stage_flush : scenario->ready,
                             scenario->act, scenario->flags};
    }
    if (plan->survivor == ALL_DEAD) {
        return (struct role){NULL, NULL, open_cold, VICTIM_OPENS};
    }
    return (struct role){NULL, NULL, acts[(plan->deaths[0] + plan->deaths[turn]) % 3], 0};
}

/* ---- the survivor ---- */

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The slots of the dead came back: only the survivors have one. */
static int are_slots_free(struct stage *stage, const struct plan *plan) {
    uint32_t may_use = plan->survivor == ATTACHES ? 2 : 1; /* who was attached before lives on */
    uint32_t high = shared_get(&heap_state(stage->heap)->threads_high);
    uint32_t used = 0;
    for (uint32_t i = 0; i < high; i++) {
        used += shared_get(&heap_thread(stage->heap, i)->state) == SLOT_USED;
    }
    return used <= may_use ? 0 : stage_fail(stage, "%u thread slots are in use", used);
}

/* A pass takes nothing that the survivor will need to know, so it may be made twice. */
static int survive(struct stage *stage, const struct plan *plan, uint32_t may_lose) {
    const struct scenario *scenario = stage->scenario;
    if (plan->deaths[0] % 2 != 0 && touch(stage) != 0) {
        return -1;
    }
    (void)sharena_reap(stage->heap);
    if (scenario->resume != NULL && scenario->resume(stage) != 0) {
        return -1;
    }
    if (sharena_check(stage->heap, &stage->report) != 0) {
        return stage_fail(stage, "not clean: %s", sharena_errormsg());
    }
    if (are_slots_free(stage, plan) != 0 || stage_account(stage) != 0) {
        return -1;
    }
    if (stage->lost > may_lose) {
        return stage_fail(stage, "%u blocks are lost", stage->lost);
    }
    return scenario->judge != NULL ? scenario->judge(stage) : 0;
}

static int use(struct stage *stage) {
    const size_t sizes[] = {touch_bytes(stage), 24, 3000, 20000};
    void *blocks[4];
    for (uint32_t i = 0; i < 4; i++) {
        blocks[i] = sharena_malloc(stage->heap, sizes[i]);
        if (blocks[i] == NULL && (stage->scenario->flags & LIMITED) == 0) {
            return stage_fail(stage, "the survivor got no %zu bytes: %s", sizes[i],
                              sharena_errormsg());
        }
        if (blocks[i] != NULL) {
            memset(blocks[i], (int)i + 1, sizes[i]);
        }
    }
    for (uint32_t i = 0; i < stage->note->known_count; i++) {
        if (!stage_is_filled(&stage->note->known[i])) {
            return stage_fail(stage, "block %u was overwritten by a new one", i);
        }
    }
    sharena_free_batch(stage->heap, 4, blocks);
    return 0;
}

struct attacher {
    const struct plan *plan;
    uint32_t may_lose;
};

static struct attacher attacher; /* of the process that attaches afterwards */

/* What it learns of the blocks is its own: the one who was attached before looks for itself. */
static int attach_and_survive(struct stage *stage) {
    static struct note own;
    struct note *shared = stage->note;
    own = *shared;
    stage->note = &own;
    int error = stage_close(stage) != 0 || stage_open(stage) != 0 ||
                survive(stage, attacher.plan, attacher.may_lose) != 0 || use(stage) != 0 ||
                stage_close(stage) != 0;
    stage->note = shared;
    memcpy(shared->why, own.why, sizeof(own.why));
    return error ? -1 : 0;
}

/* Creation that was killed leaves a heap, or nothing that is taken for one. */
static int probe(struct stage *stage) {
    const struct sharena_options only = {.flags = SHARENA_OPEN_ONLY};
    int error = sharena_open(stage->path, &only, &stage->heap);
    if (error == 0) {
        return stage_close(stage);
    }
    return error == ENOENT || error == EUCLEAN
               ? 0
               : stage_fail(stage, "open of what a dead creator left: %d, %s", error,
                            sharena_errormsg());
}

static int go_on(struct stage *stage, const struct plan *plan, uint32_t may_lose) {
    const struct role fresh = {NULL, NULL, attach_and_survive, ARMS_ITSELF};
    int error = 0;
    attacher = (struct attacher){plan, may_lose};
    if (plan->survivor == ATTACHES && run(stage, 0, &fresh) != DONE) {
        return -1;
    }
    uint64_t begin = now_ns();
    if (plan->survivor == ALL_DEAD) {
        if ((stage->scenario->flags & NO_FILE) != 0) {
            error = probe(stage);
        }
        error = error == 0 ? stage_open(stage) : error;
    }
    error = error == 0 ? survive(stage, plan, may_lose) : error;
    uint64_t wait = now_ns() - begin;
    stage->wait_ns = wait > stage->wait_ns ? wait : stage->wait_ns;
    return error == 0 ? use(stage) : error;
}

/* ---- the whole ---- */

/* The heap as it was when the row began: new, and closed if all will be dead, else with the
 * survivor attached. */
static int set_back(struct stage *stage, const struct plan *plan) {
    if (plan->survivor == ALL_DEAD && stage_close(stage) != 0) {
        return -1;
    }
    if (stage->is_remembered) {
        return rewind_file(stage);
    }
    if (stage_renew(stage) != 0 || stage_flush(stage) != 0 ||
        (plan->survivor == ALL_DEAD && stage_close(stage) != 0)) {
        return -1;
    }
    stage->is_remembered = (stage->scenario->flags & NO_FILE) == 0;
    return rewind_remember(stage);
}

static int set_up(struct stage *stage, const struct plan *plan) {
    const struct scenario *scenario = stage->scenario;
    struct role wrecker = {scenario->prepare, stage_flush, wreck, 0};
    memset(stage->note, 0, sizeof(*stage->note));
    int error = set_back(stage, plan);
    if ((scenario->flags & NO_FILE) != 0) {
        (void)unlink(stage->path);
    }
    if (error == 0 && plan->survivor != ALL_DEAD && scenario->prepare != NULL) {
        error = scenario->prepare(stage);
    }
    if (error == 0 && (scenario->flags & WRECKED) != 0) {
        uint64_t at = 1 + (plan->deaths[0] * 7 + stage->size_class) % WRECK_POINTS;
        error = run(stage, at, &wrecker) == BROKEN ? -1 : 0;
    }
    return error;
}

struct outcome case_play(struct stage *stage, const struct plan *plan) {
    struct outcome outcome = {.is_failed = set_up(stage, plan) != 0};
    uint32_t may_lose = stage->scenario->may_lose;
    for (uint32_t turn = 0; turn < DEATHS_MAX && !outcome.is_failed; turn++) {
        if (turn > 0 && plan->deaths[turn] == 0) {
            break;
        }
        const struct role role = role_of(stage, plan, turn);
        enum ended ended = run(stage, plan->deaths[turn], &role);
        outcome.passed[turn] = stage->note->passed;
        outcome.kills += ended == DIED;
        outcome.is_failed = ended == BROKEN;
        if (turn == 0) {
            stage->was_done = ended == DONE;
            if (ended == DONE && (stage->scenario->flags & WRECKED) == 0) {
                may_lose = 0;
            }
        } else {
            may_lose += role.act == touch; /* its block was in flight */
        }
    }
    if (!outcome.is_failed) {
        outcome.is_failed =
            go_on(stage, plan, may_lose) != 0 || stage_clear(stage, plan->deaths[0] % 4 == 0) != 0;
    }
    return outcome;
}
