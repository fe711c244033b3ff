/* scenarios_small.c -- small blocks: cache, bins, runs. */
#include "scenario.h"

#include "heap/geometry.h"
#include "heap/heap.h"
#include "heap/tcache.h"

static struct tcache *own_tcache(struct stage *stage) {
    struct thread_slot *self = heap_enter(stage->heap);
    NEED(self != NULL);
    return slot_tcache(self);
}

static struct tcache_stack *own_stack(struct stage *stage) {
    return &own_tcache(stage)->stacks[sizeclass_of(stage->bytes) + 1];
}

/* ---- states ---- */

static void take_blocks(struct stage *stage, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        stage->block[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(stage->block[i] != NULL);
    }
}

static void free_blocks(struct stage *stage, unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; i++) {
        sharena_free(stage->heap, stage->block[i]);
    }
}

/* The victim has a slot and an empty cache. */
static void warm_slot(struct stage *stage) {
    (void)own_tcache(stage);
}

/* ... and a cached block of the class. */
static void warm_hit(struct stage *stage) {
    take_blocks(stage, 2);
    free_blocks(stage, 0, 2);
    NEED(shared_get(&own_stack(stage)->top) != shared_get(&own_stack(stage)->base));
}

/* ... and a full stack of them, and one block more. */
static void warm_full(struct stage *stage) {
    unsigned capacity = stack_capacity(own_tcache(stage), sizeclass_of(stage->bytes) + 1);
    NEED(capacity > 0 && capacity < STAGE_BLOCKS_MAX - 1);
    take_blocks(stage, capacity + 1);
    (void)sharena_ctl(stage->heap, "thread.tcache.flush", NULL, NULL, NULL, 0);
    free_blocks(stage, 1, capacity);
    NEED(shared_get(&own_stack(stage)->top) == shared_get(&own_stack(stage)->full));
}

/* Its stacks may grow, and this one ran dry. */
static void allow_growth(struct stage *stage) {
    struct tcache *tcache = own_tcache(stage);
    shared_store(&tcache->grown_most, (uint64_t)64 << 20);
    shared_store(&tcache->demand[sizeclass_of(stage->bytes) + 1], TCACHE_RAN_DRY);
}

/* ... and a full stack that will grow: beyond its place in the slot, if it is of big blocks. */
static void warm_grow(struct stage *stage) {
    warm_full(stage);
    allow_growth(stage);
}

/* The cache's next slow path is a GC step of this class, and finds that all is unused. */
static void warm_gc(struct stage *stage) {
    take_blocks(stage, 12);
    free_blocks(stage, 0, 12);
    struct tcache *tcache = own_tcache(stage);
    struct tcache_stack *stack = own_stack(stage);
    shared_store(&stack->base, (shared_ptr *)shared_get(&stack->top) - 1);
    shared_store(&tcache->gc_class, sizeclass_of(stage->bytes));
    shared_store(&tcache->gc_ticks, 1u << 30);
}

/* The same of a stack that grew, and moved. */
static void warm_gc_grown(struct stage *stage) {
    warm_grow(stage);
    sharena_free(stage->heap, stage->block[0]);
    struct tcache *tcache = own_tcache(stage);
    uint32_t stack = sizeclass_of(stage->bytes) + 1;
    NEED(shared_get(&tcache->first[stack]) ==
         tcache_home(stage->heap, heap_enter(stage->heap), stack, 1).first);
    shared_store(&own_stack(stage)->base, shared_get(&own_stack(stage)->top));
    shared_store(&tcache->demand[stack], 0u);
    shared_store(&tcache->gc_class, stack - 1);
    shared_store(&tcache->gc_ticks, 1u << 30);
}

/* ... and its arena has a dirty free run. */
static void warm_dirty(struct stage *stage) {
    void *blocks[2];
    for (int i = 0; i < 2; i++) {
        blocks[i] = sharena_malloc(stage->heap, 300000);
        NEED(blocks[i] != NULL);
    }
    sharena_free(stage->heap, blocks[0]);
    stage_adopt(stage, blocks[1], 300000);
}

/* One region of the class lives, so a run with free ones is there. */
static void prepare_run(struct stage *stage) {
    NEED(stage_add(stage, stage->bytes) == 0);
}

/* The arenas have nothing; the pool has a dirty chunk. */
static void prepare_chunk(struct stage *stage) {
    void *block = sharena_malloc(stage->heap, 4 << 20);
    NEED(block != NULL);
    sharena_free(stage->heap, block);
}

/* Full runs, non-full runs and the current one, in the first survivor's arena. */
static void prepare_runs(struct stage *stage) {
    for (unsigned i = 0; i < 300; i++) {
        NEED(stage_add(stage, stage->bytes) == 0);
    }
    for (unsigned i = 0; i < stage->objects; i += 6) { /* holes */
        struct object *hole = &stage->object[i];
        sharena_dallocx(stage->heap, hole->block, SHARENA_TCACHE_NONE);
        *hole = stage->object[--stage->objects];
    }
}

/* Blocks of the first survivor's arena, for the victim to free. */
static void prepare_foreign(struct stage *stage) {
    for (unsigned i = 0; i < STAGE_BLOCKS_MAX / 2; i++) {
        stage->block[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(stage->block[i] != NULL);
    }
    (void)sharena_ctl(stage->heap, "thread.tcache.flush", NULL, NULL, NULL, 0);
}

/* All but the last that fits are in the victim's cache; the rest is freed past it, so that the flush
 * empties whole runs. */
static void warm_foreign(struct stage *stage) {
    unsigned capacity = stack_capacity(own_tcache(stage), sizeclass_of(stage->bytes) + 1);
    NEED(capacity > 0 && capacity + 1 < STAGE_BLOCKS_MAX / 2);
    for (unsigned i = capacity + 1; i < STAGE_BLOCKS_MAX / 2; i++) {
        sharena_dallocx(stage->heap, stage->block[i], SHARENA_TCACHE_NONE);
    }
    free_blocks(stage, 1, capacity);
}

/* ---- operations ---- */

static void act_malloc(struct stage *stage) {
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
}

static void act_free(struct stage *stage) {
    sharena_free(stage->heap, stage->block[0]);
}

static void act_calloc(struct stage *stage) {
    stage->block[0] = sharena_calloc(stage->heap, 1, stage->bytes);
}

static void act_direct(struct stage *stage) {
    stage->block[0] = sharena_mallocx(stage->heap, stage->bytes, SHARENA_TCACHE_NONE);
    sharena_dallocx(stage->heap, stage->block[0], SHARENA_TCACHE_NONE);
}

static void act_batch(struct stage *stage) {
    (void)sharena_malloc_batch(stage->heap, stage->bytes, 30, stage->block);
}

static void warm_batch(struct stage *stage) {
    take_blocks(stage, 60);
}

static void act_free_batch(struct stage *stage) {
    sharena_free_batch(stage->heap, 60, stage->block);
}

static void act_realloc(struct stage *stage) {
    stage->block[1] = sharena_realloc(stage->heap, stage->block[0], stage->to_bytes);
}

static void warm_one(struct stage *stage) {
    take_blocks(stage, 1);
}

static void act_flush(struct stage *stage) {
    (void)sharena_ctl(stage->heap, "thread.tcache.flush", NULL, NULL, NULL, 0);
}

const struct scenario scenarios_small[] = {
    {"malloc_hit", .warm = warm_hit, .act = act_malloc, ONE_OF(64)},
    {"malloc_hit_8k", .warm = warm_hit, .act = act_malloc, ONE_OF(8192)},
    {"malloc_miss", prepare_run, warm_slot, act_malloc, ONE_OF(64)},
    {"malloc_miss_8", prepare_run, warm_slot, act_malloc, ONE_OF(8)},
    {"malloc_miss_14k", prepare_run, warm_slot, act_malloc, ONE_OF(14336)},
    {"malloc_nonfull", prepare_runs, warm_slot, act_malloc, ONE_OF(1024)},
    {"malloc_run_dirty", .warm = warm_dirty, .act = act_malloc, ONE_OF(96)},
    {"malloc_run_clean", prepare_run, warm_slot, act_malloc, ONE_OF(160)},
    {"malloc_chunk_new", .warm = warm_slot, .act = act_malloc, ONE_OF(64)},
    {"malloc_chunk_old", prepare_chunk, warm_slot, act_malloc, ONE_OF(64)},
    {"malloc_first", prepare_run, .act = act_malloc, ONE_OF(64)},
    {"free_hit", .warm = warm_one, .act = act_free, ONE_OF(64)},
    {"free_flush", .warm = warm_full, .act = act_free, ONE_OF(1024)},
    {"free_flush_foreign", prepare_foreign, warm_foreign, act_free, ONE_OF(2048)},
    {"free_flush_foreign_512", prepare_foreign, warm_foreign, act_free, ONE_OF(512)},
    {"free_grow", .warm = warm_grow, .act = act_free, ONE_OF(2048)},
    {"free_grow_move", .warm = warm_grow, .act = act_free, ONE_OF(14336)},
    {"cache_gc", prepare_run, warm_gc, act_direct, ONE_OF(320)},
    {"cache_gc_grown", .warm = warm_gc_grown, .act = act_direct, ONE_OF(14336)},
    {"cache_flush", prepare_run, warm_hit, act_flush, .bytes = 320},
    {"direct", prepare_run, warm_slot, act_direct, ONE_OF(320)},
    {"calloc", prepare_run, warm_slot, act_calloc, ONE_OF(256)},
    {"malloc_batch", prepare_run, warm_slot, act_batch, .bytes = 48, .missing = {30, 30 * 48}},
    {"free_batch", .warm = warm_batch, .act = act_free_batch, .bytes = 3072,
     .missing = {60, 60 * 3072}},
    {"realloc_small_up", .warm = warm_one, .act = act_realloc, .bytes = 64, .to_bytes = 200,
     .missing = {2, 64 + 224}},
    {"realloc_small_down", .warm = warm_one, .act = act_realloc, .bytes = 200, .to_bytes = 64,
     .missing = {2, 64 + 224}},
    {.name = NULL},
};
