/* scenarios_life.c -- beginning and end of heaps, processes and threads, and recovery. */
#include "scenario.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/arena.h"
#include "heap/heap.h"
#include "ipc/journal.h"

#define BLOCKS 40

/* ---- states ---- */

static void prepare_some(struct stage *stage) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        NEED(stage_add(stage, 64) == 0);
    }
    NEED(stage_add(stage, 100000) == 0 && stage_add(stage, 3 << 20) == 0);
}

static void warm_slot(struct stage *stage) {
    NEED(heap_enter(stage->heap) != NULL);
}

/* Caches with something in them. */
static void warm_cache(struct stage *stage) {
    static const size_t sizes[] = {16, 64, 512, 2048, 20000};
    for (unsigned i = 0; i < BLOCKS; i++) {
        stage->block[i] = sharena_malloc(stage->heap, sizes[i % 5]);
        NEED(stage->block[i] != NULL);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        sharena_free(stage->heap, stage->block[i]);
    }
}

/* The victim is not attached any more. */
static void warm_leave(struct stage *stage) {
    NEED(sharena_close(stage->heap) == 0);
}

/* A process that died with full caches, in the middle of nothing. */
static void prepare_dead(struct stage *stage) {
    int status;
    prepare_some(stage);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        warm_cache(stage);
        (void)raise(SIGKILL);
    }
    NEED(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

/* A process that died while it moved its own stack: no lock tells of that section. */
static void prepare_open_section(struct stage *stage) {
    int status;
    prepare_some(stage);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        warm_cache(stage);
        struct thread_slot *self = heap_enter(stage->heap);
        NEED(self != NULL);
        struct tcache_stack *stack = &slot_tcache(self)->stacks[sizeclass_of(64) + 1];
        journal_set(self, &stack->bottom, shared_get(&stack->top));
        journal_set(self, &stack->top, NULL);
        (void)raise(SIGKILL);
    }
    NEED(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

/* The victim's next slow path looks for the dead. */
static void warm_tick(struct stage *stage) {
    warm_slot(stage);
    struct attachment *attachment = registry_find(stage->heap);
    NEED(attachment != NULL);
    attachment->conf.reap_interval_ms = 0;
}

/* The victim's next slow path finds that half a period has gone by since the memory became dirty. */
static void warm_decay(struct stage *stage) {
    warm_slot(stage);
    struct attachment *attachment = registry_find(stage->heap);
    NEED(attachment != NULL);
    attachment->conf.dirty_decay_ms = 3600000;
    NEED(sharena_ctl(stage->heap, "arena.0.decay", NULL, NULL, NULL, 0) == 0);
    struct thread_slot *self = heap_enter(stage->heap); /* looks at the pool as well */
    struct decay *books[] = {&heap_arena(stage->heap, 0)->decay, &heap_pool(stage->heap)->decay};
    for (int i = 0; i < 2; i++) {
        NEED(self != NULL && shared_get(&books[i]->seen) != 0);
        shared_store(&books[i]->start_ns, shared_get(&books[i]->start_ns) - 1800000000000ull);
    }
    attachment->purge_due_ns = 0;
    NEED(arena_bind(stage->heap, self, 0) == 0); /* the arena that is dirty */
}

/* Free memory everywhere, for a purge. */
static void prepare_dirty(struct stage *stage) {
    void *block = sharena_malloc(stage->heap, 6 << 20);
    prepare_some(stage);
    NEED(block != NULL);
    sharena_free(stage->heap, block);
    warm_cache(stage);
}

/* ---- operations ---- */

static void act_purge(struct stage *stage) {
    (void)sharena_purge(stage->heap);
}

static void act_malloc(struct stage *stage) {
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
}

/* Chunks that become clean leave their arena and give their run tables back. */
static void prepare_empty_chunks(struct stage *stage) {
    void *blocks[3];
    prepare_some(stage);
    for (int i = 0; i < 3; i++) {
        blocks[i] = sharena_malloc(stage->heap, 1536 << 10);
        NEED(blocks[i] != NULL);
    }
    for (int i = 0; i < 3; i++) {
        sharena_dallocx(stage->heap, blocks[i], SHARENA_TCACHE_NONE);
    }
}

static void act_reap(struct stage *stage) {
    (void)sharena_reap(stage->heap);
}

static void act_check(struct stage *stage) {
    struct sharena_report report;
    (void)!sharena_check(stage->heap, &report);
}

static void act_close(struct stage *stage) {
    (void)sharena_close(stage->heap);
}

static void act_open(struct stage *stage) {
    sharena_t *heap = NULL;
    const struct sharena_options options = {.flags = SHARENA_CREATE,
                                            .capacity_bytes = 256u << 20,
                                            .conf =
                                                "narenas:2,reap_interval_ms:-1,dirty_decay_ms:-1"};
    (void)!sharena_open(stage->path, &options, &heap);
}

static void act_unlink(struct stage *stage) {
    (void)!sharena_unlink(stage->path);
}

static void *be_thread(void *arg) {
    struct stage *stage = arg;
    static const size_t sizes[] = {16, 512, 20000};
    for (unsigned i = 0; i < 3; i++) {
        sharena_free(stage->heap, sharena_malloc(stage->heap, sizes[i]));
    }
    return NULL;
}

static void act_thread(struct stage *stage) {
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, be_thread, stage) == 0);
    (void)pthread_join(thread, NULL);
}

/* fork, the child's handlers, and its first block. */
static void fork_by(struct stage *stage, pid_t (*fork_function)(void)) {
    pid_t pid = fork_function();
    if (pid == 0) {
        sharena_free(stage->heap, sharena_malloc(stage->heap, 64));
        trace_mark();
        _exit(0);
    }
    NEED(pid > 0);
    (void)waitpid(pid, NULL, 0);
}

static void act_fork(struct stage *stage) {
    fork_by(stage, fork);
}

static void act_bare_fork(struct stage *stage) {
    fork_by(stage, _Fork);
}

/* The heap exists, with objects, and nobody is attached. */
static void prepare_closed(struct stage *stage) {
    NEED(stage_open(stage) == 0);
    NEED(sharena_close(stage->heap) == 0);
    stage->heap = NULL;
}

const struct scenario scenarios_life[] = {
    {"purge", prepare_dirty, warm_cache, .act = act_purge},
    {"purge_tables", prepare_empty_chunks, warm_slot, .act = act_purge},
    {"decay", prepare_dirty, warm_decay, act_malloc, ONE_OF(320)},
    {"check", prepare_some, warm_slot, .act = act_check},
    {"check_undoes", prepare_open_section, warm_slot, .act = act_check},
    {"reap", prepare_dead, warm_slot, .act = act_reap},
    {"tick", prepare_dead, warm_tick, act_malloc, ONE_OF(320)},
    {"open_warm", prepare_some, warm_leave, .act = act_open},
    {"open_reaps", prepare_dead, warm_leave, .act = act_open},
    {"open_cold", prepare_dead, warm_leave, act_open, .flags = ALONE},
    {"open_clean", prepare_some, warm_leave, act_open, .flags = ALONE},
    {"create", .act = act_open, .flags = NO_HEAP},
    {"unlink", prepare_closed, .act = act_unlink, .flags = NO_HEAP},
    {"close", prepare_some, warm_cache, .act = act_close},
    {"close_last", prepare_some, warm_cache, act_close, .flags = ALONE},
    {"thread", prepare_some, warm_slot, act_thread, .missing = {1, 20480}, .follow = TRACE_THREAD},
    {"fork", prepare_some, warm_slot, act_fork, .missing = {1, 64}, .follow = TRACE_CHILD},
    {"bare_fork", prepare_some, warm_slot, act_bare_fork, .missing = {1, 64},
     .follow = TRACE_CHILD},
    {.name = NULL},
};
