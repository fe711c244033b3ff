/* scenarios_big.c -- large and huge blocks, alignment, and realloc of all kinds. */
#include "scenario.h"

#include "heap/geometry.h"
#include "heap/heap.h"

#define KB ((size_t)1 << 10)
#define MB ((size_t)1 << 20)

/* ---- states ---- */

static void warm_slot(struct stage *stage) {
    NEED(heap_enter(stage->heap) != NULL);
}

static void warm_one(struct stage *stage) {
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
    NEED(stage->block[0] != NULL);
}

/* ... and the cache may keep it: its first. */
static void warm_room(struct stage *stage) {
    warm_one(stage);
    struct tcache *tcache = slot_tcache(heap_enter(stage->heap));
    shared_store(&tcache->grown_most, (uint64_t)stage->bytes * 2);
}

/* Three in a row, of which the middle one is the operation's, and its neighbours are free. */
static void warm_between_free(struct stage *stage) {
    void *row[4];
    for (int i = 0; i < 4; i++) {
        row[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(row[i] != NULL);
    }
    stage->block[0] = row[1];
    sharena_dallocx(stage->heap, row[0], SHARENA_TCACHE_NONE);
    sharena_dallocx(stage->heap, row[2], SHARENA_TCACHE_NONE);
    stage_adopt(stage, row[3], stage->bytes);
}

/* Behind the block there is a free dirty neighbour of the same size. */
static void warm_before_free(struct stage *stage) {
    void *row[3];
    for (int i = 0; i < 3; i++) {
        row[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(row[i] != NULL);
    }
    stage->block[0] = row[0];
    sharena_dallocx(stage->heap, row[1], SHARENA_TCACHE_NONE);
    stage_adopt(stage, row[2], stage->bytes);
}

/* Free memory that is dirty, of a huge block, and another one that keeps it from being the last. */
static void prepare_huge_free(struct stage *stage) {
    void *block = sharena_malloc(stage->heap, 12 * MB);
    NEED(block != NULL && stage_add(stage, 3 * MB) == 0);
    sharena_free(stage->heap, block);
}

static void prepare_some(struct stage *stage) {
    NEED(stage_add(stage, 100 * KB) == 0 && stage_add(stage, 3 * MB) == 0);
}

/* Chunks of the arena that become empty when the victim frees: the first is kept, the second goes
 * to the pool. */
static void warm_two_chunks(struct stage *stage) {
    void *other = sharena_malloc(stage->heap, stage->bytes);
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
    NEED(other != NULL && stage->block[0] != NULL);
    sharena_free(stage->heap, other);
}

/* ---- operations ---- */

static void act_malloc(struct stage *stage) {
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
}

static void act_calloc(struct stage *stage) {
    stage->block[0] = sharena_calloc(stage->heap, 1, stage->bytes);
}

static void act_aligned(struct stage *stage) {
    stage->block[0] = sharena_aligned_alloc(stage->heap, stage->to_bytes, stage->bytes);
}

static void act_free(struct stage *stage) {
    sharena_free(stage->heap, stage->block[0]);
}

static void act_realloc(struct stage *stage) {
    stage->block[1] = sharena_realloc(stage->heap, stage->block[0], stage->to_bytes);
}

static void act_resize(struct stage *stage) {
    (void)sharena_xallocx(stage->heap, stage->block[0], stage->to_bytes, 0, 0);
}

/* The bytes that are stored in are few: `calloc` and the copy of `realloc` would otherwise be
 * thousands of steps that change nothing of the heap's. */
#define MISSING(blocks, bytes) .missing = {(blocks), (bytes)}

const struct scenario scenarios_big[] = {
    {"large_new_chunk", .warm = warm_slot, .act = act_malloc, .bytes = 100 * KB,
     MISSING(1, 112 * KB)},
    {"large_clean", prepare_some, warm_slot, act_malloc, .bytes = 200 * KB, MISSING(1, 224 * KB)},
    {"large_dirty", .warm = warm_between_free, .act = act_malloc, .bytes = 100 * KB,
     MISSING(2, 224 * KB)},
    {"large_free", prepare_some, warm_one, act_free, .bytes = 100 * KB, MISSING(1, 112 * KB)},
    {"large_free_between", .warm = warm_between_free, .act = act_free, .bytes = 100 * KB,
     MISSING(1, 112 * KB)},
    {"large_free_chunk", prepare_some, warm_one, act_free, .bytes = 1536 * KB,
     MISSING(1, 1536 * KB)},
    {"large_free_second_chunk", .warm = warm_two_chunks, .act = act_free, .bytes = 1536 * KB,
     MISSING(1, 1536 * KB)},
    {"large_calloc", .warm = warm_between_free, .act = act_calloc, .bytes = 40 * KB,
     MISSING(2, 80 * KB)},
    {"large_aligned", prepare_some, warm_slot, act_aligned, .bytes = 80 * KB, .to_bytes = 64 * KB,
     MISSING(1, 80 * KB)},
    {"large_cached", .warm = warm_room, .act = act_free, .bytes = 20 * KB, MISSING(1, 20 * KB)},
    {"huge_new", prepare_some, warm_slot, act_malloc, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"huge_old", prepare_huge_free, warm_slot, act_malloc, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"huge_free", prepare_huge_free, warm_one, act_free, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"huge_free_last", prepare_some, warm_one, act_free, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"huge_aligned", prepare_some, warm_slot, act_aligned, .bytes = 3 * MB, .to_bytes = 16 * MB,
     MISSING(1, 3 * MB)},
    {"realloc_large_up", .warm = warm_before_free, .act = act_realloc, .bytes = 100 * KB,
     .to_bytes = 150 * KB, MISSING(2, (112 + 160) * KB)},
    {"realloc_large_down", prepare_some, warm_one, act_realloc, .bytes = 200 * KB,
     .to_bytes = 100 * KB, MISSING(2, (224 + 112) * KB)},
    {"realloc_large_move", .warm = warm_between_free, .act = act_realloc, .bytes = 20 * KB,
     .to_bytes = 64 * KB, MISSING(2, (20 + 64) * KB)},
    {"realloc_small_large", prepare_some, warm_one, act_realloc, .bytes = 1024, .to_bytes = 40 * KB,
     MISSING(2, 1024 + 40 * KB)},
    {"realloc_large_small", prepare_some, warm_one, act_realloc, .bytes = 40 * KB, .to_bytes = 1024,
     MISSING(2, 1024 + 40 * KB)},
    {"realloc_huge_up", prepare_some, warm_one, act_realloc, .bytes = 5 * MB, .to_bytes = 8 * MB,
     MISSING(2, 13 * MB)},
    {"realloc_huge_down", prepare_some, warm_one, act_realloc, .bytes = 8 * MB, .to_bytes = 5 * MB,
     MISSING(2, 13 * MB)},
    {"realloc_large_huge", prepare_some, warm_one, act_realloc, .bytes = 64 * KB,
     .to_bytes = 3 * MB, MISSING(2, 64 * KB + 3 * MB)},
    {"resize_huge_up", prepare_huge_free, warm_one, act_resize, .bytes = 3 * MB, .to_bytes = 6 * MB,
     MISSING(1, 6 * MB)},
    {.name = NULL},
};
