/* points_life.c -- scenarios: roots, care, threads and processes that come and go. */
#include "points.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "ipc/faultpoint.h"

/* ---- roots ---- */

static int with_objects(struct stage *stage) {
    const struct known *first = stage_keep(stage, 100);
    return first != NULL && stage_keep(stage, 100) != NULL ? 0 : -1;
}

static int with_root(struct stage *stage) {
    int error = with_objects(stage);
    return error == 0 ? sharena_root_set(stage->heap, "name", stage->note->known[0].block) : error;
}

/* The table's entry has had another name and object. */
static int with_removed_root(struct stage *stage) {
    int error = with_objects(stage);
    if (error == 0) {
        error = sharena_root_set(stage->heap, "earlier", stage->note->known[0].block);
    }
    return error == 0 ? sharena_root_set(stage->heap, "earlier", NULL) : error;
}

static int act_root_set(struct stage *stage) {
    return sharena_root_set(stage->heap, "name", stage->note->known[1].block);
}

static int act_root_remove(struct stage *stage) {
    return sharena_root_set(stage->heap, "name", NULL);
}

/* The old or the new, and the new one if the call returned. */
static int judge_root(struct stage *stage, const void *before, const void *after) {
    const void *now = sharena_root_get(stage->heap, "name");
    return now == after || (now == before && !stage->was_done)
               ? 0
               : stage_fail(stage, "the root is %p, neither %p nor %p", now, before, after);
}

static int judge_root_new(struct stage *stage) {
    return judge_root(stage, NULL, stage->note->known[1].block);
}

static int judge_root_replaced(struct stage *stage) {
    return judge_root(stage, stage->note->known[0].block, stage->note->known[1].block);
}

static int judge_root_removed(struct stage *stage) {
    return judge_root(stage, stage->note->known[0].block, NULL);
}

struct made { /* what a maker makes */
    uint64_t is_complete;
    uint64_t zero[7];
};

/* An init function that dies half-way as well, and that makes another root. */
static int init_made(void *block, void *arg) {
    struct stage *stage = arg;
    struct made *made = block;
    FAULT_POINT();
    int error = sharena_root_set(stage->heap, "other", stage->note->known[0].block);
    for (uint32_t i = 0; i < 7; i++) {
        error |= made->zero[i] != 0;
    }
    made->zero[3] = error != 0;
    FAULT_POINT();
    made->is_complete = 1;
    FAULT_POINT();
    return 0;
}

static int init_in_vain(void *block, void *arg) {
    (void)arg;
    memset(block, 0xee, sizeof(struct made));
    FAULT_POINT();
    return ECANCELED;
}

static int act_root_create(struct stage *stage) {
    const void *made =
        sharena_root_create(stage->heap, "made", sizeof(struct made), init_made, stage);
    return made != NULL ? 0 : stage_fail(stage, "root_create: %s", sharena_errormsg());
}

static int act_root_create_in_vain(struct stage *stage) {
    const void *made =
        sharena_root_create(stage->heap, "made", sizeof(struct made), init_in_vain, stage);
    return made == NULL && errno == ECANCELED ? 0 : stage_fail(stage, "root_create: %d", errno);
}

/* The survivor wants the same object: it exists complete, or is made now. */
static int make_again(struct stage *stage) {
    struct made *made =
        sharena_root_create(stage->heap, "made", sizeof(struct made), init_made, stage);
    if (made == NULL) {
        return stage_fail(stage, "root_create again: %s", sharena_errormsg());
    }
    if (!made->is_complete || made->zero[3] != 0) {
        return stage_fail(stage, "the root is not complete, or was not zeroed before");
    }
    stage->note->results[0] = made;
    return 0;
}

/* ---- care ---- */

static const size_t mixed_bytes[] = {8, 100, 700, 3000, 14000, 20000, 300000};

#define MIXED (sizeof(mixed_bytes) / sizeof(mixed_bytes[0]))

/* A heap with something of everything: live blocks, gaps with memory, gaps without. */
static int with_mixture(struct stage *stage) {
    for (uint32_t i = 0; i < MIXED; i++) {
        void *gap = sharena_mallocx(stage->heap, mixed_bytes[i], SHARENA_TCACHE_NONE);
        if (gap == NULL || stage_keep(stage, mixed_bytes[i]) == NULL) {
            return -1;
        }
        sharena_dallocx(stage->heap, gap, SHARENA_TCACHE_NONE);
    }
    return 0;
}

/* The victim's cache holds something of everything. */
static int ready_mixed(struct stage *stage) {
    void *blocks[MIXED + 1];
    for (uint32_t i = 0; i < MIXED; i++) {
        blocks[i] = sharena_malloc(stage->heap, mixed_bytes[i]);
    }
    blocks[MIXED] = sharena_malloc(stage->heap, stage->bytes);
    sharena_free_batch(stage->heap, MIXED + 1, blocks);
    return 0;
}

static int act_purge(struct stage *stage) {
    return sharena_purge(stage->heap);
}

static int act_check(struct stage *stage) {
    int error = sharena_check(stage->heap, NULL);
    return error == 0 ? 0 : stage_fail(stage, "check: %s", sharena_errormsg());
}

static int act_reap(struct stage *stage) {
    (void)sharena_reap(stage->heap);
    return 0;
}

/* ---- threads ---- */

struct life {
    struct stage *stage;
    int is_armed_late;
    int error;
};

static void *live(void *arg) {
    struct life *life = arg;
    struct stage *stage = life->stage;
    if (!life->is_armed_late) {
        points_arm();
    }
    life->error = ready_mixed(stage);
    points_arm();
    return NULL; /* the destructor of the thread's record follows */
}

static int act_thread(struct stage *stage, int is_armed_late) {
    struct life life = {stage, is_armed_late, 0};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, live, &life);
    if (error == 0) {
        error = pthread_join(thread, NULL);
    }
    return error == 0 && life.error == 0 ? 0 : stage_fail(stage, "a thread: %d", error);
}

static int act_thread_exit(struct stage *stage) {
    return act_thread(stage, 1);
}

static int act_thread_life(struct stage *stage) {
    return act_thread(stage, 0);
}

/* The first that does so makes the arena. */
static int act_change_arena(struct stage *stage) {
    uint32_t index = 1;
    int error = sharena_ctl(stage->heap, "thread.arena", NULL, NULL, &index, sizeof(index));
    return error == 0 ? 0 : stage_fail(stage, "thread.arena: %s", sharena_errormsg());
}

/* ---- processes ---- */

static int act_close(struct stage *stage) {
    return stage_close(stage);
}

static int ready_closed(struct stage *stage) {
    return stage_close(stage);
}

static int act_open(struct stage *stage) {
    return stage_open(stage);
}

static int act_open_and_use(struct stage *stage) {
    int error = stage_open(stage);
    if (error == 0) {
        stage->note->results[0] = sharena_malloc(stage->heap, stage->bytes);
    }
    return error;
}

/* ---- the table ---- */

const struct scenario life_scenarios[] = {
    {"root_new", 0, 0, ON_ALL, 0, 0, with_objects, NULL, act_root_set, NULL, judge_root_new},
    {"root_reused", 0, 0, ON_ALL, 0, 0, with_removed_root, NULL, act_root_set, NULL,
     judge_root_new},
    {"root_replace", 0, 0, ON_ALL, 0, 0, with_root, NULL, act_root_set, NULL, judge_root_replaced},
    {"root_remove", 0, 0, ON_ALL, 0, 0, with_root, NULL, act_root_remove, NULL, judge_root_removed},
    {"root_create", 0, 0, ON_ALL, 0, 0, with_objects, NULL, act_root_create, make_again, NULL},
    {"root_create_fails", 0, 0, ON_ALL, 0, 0, with_objects, NULL, act_root_create_in_vain,
     make_again, NULL},
    {"purge", 0, CLASS_LAST, ON_ALL, EVERY_FOURTH, 0, with_mixture, ready_mixed, act_purge, NULL,
     NULL},
    {"check", 0, 40, ON_ALL, EVERY_FOURTH, 0, with_mixture, ready_mixed, act_check, NULL, NULL},
    {"reap", 0, CLASS_LAST, ON_BEFORE | ON_AFTER, WRECKED, 1, with_mixture, NULL, act_reap, NULL,
     NULL},
    {"thread_exit", 0, CLASS_LAST, ON_ALL, ARMS_ITSELF | EVERY_FOURTH, 0, with_mixture, NULL,
     act_thread_exit, NULL, NULL},
    {"thread_life", 0, CLASS_LAST, ON_ALL, ARMS_ITSELF | EVERY_FOURTH, 8, with_mixture, NULL,
     act_thread_life, NULL, NULL},
    {"change_arena", 0, 0, ON_ALL, 0, 0, with_objects, NULL, act_change_arena, NULL, NULL},
    {"close", 0, CLASS_LAST, ON_ALL, EVERY_FOURTH, 0, with_mixture, ready_mixed, act_close, NULL,
     NULL},
    {"open_warm", 0, 0, ON_BEFORE | ON_AFTER, VICTIM_OPENS, 0, with_mixture, ready_closed, act_open,
     NULL, NULL},
    {"open_clean", 9, 9, ON_COLD, VICTIM_OPENS, 1, with_mixture, NULL, act_open_and_use, NULL,
     NULL},
    {"open_cold", 9, 12, ON_COLD, VICTIM_OPENS | WRECKED, 1, with_mixture, NULL, act_open, NULL,
     NULL},
    {"create", 9, 9, ON_COLD, VICTIM_OPENS | NO_FILE, 1, NULL, NULL, act_open_and_use, NULL, NULL},
    {NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
