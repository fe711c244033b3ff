/* scenarios_prof.c -- sampled blocks: their samples come and go with them, whoever frees them.
 *
 * What a killed operation leaves of samples the check finds, which every survivor makes: each has
 * one owner, and a block that leads to it.
 */
#include "scenario.h"

#include <execinfo.h>
#include <string.h>

#include "heap/heap.h"
#include "heap/prof.h"

#define KB ((size_t)1 << 10)
#define MB ((size_t)1 << 20)
#define SAMPLED_MIN (16 * KB) /* what a small block takes if it is sampled */

/* What backtrace() needs is loaded before the first fork, or each victim would have it elsewhere,
 * and no breakpoint of one would hold for the others. */
__attribute__((constructor)) static void load_unwinder(void) {
    void *frame[1];
    (void)!backtrace(frame, 1);
}

/* ---- states ---- */

static void sample_all(struct stage *stage, uint32_t is_on) {
    struct attachment *attachment = registry_find(stage->heap);
    NEED(attachment != NULL);
    attachment->conf.prof = is_on;
    attachment->conf.lg_prof_sample = 0;
    prof_init(attachment);
    NEED(heap_enter(stage->heap) != NULL);
}

/* The victim profiles; nothing is in the tables yet. */
static void warm_first(struct stage *stage) {
    sample_all(stage, 1);
}

/* ... and it has done so before. */
static void warm(struct stage *stage) {
    sample_all(stage, 1);
    void *block = sharena_malloc(stage->heap, stage->bytes);
    NEED(block != NULL);
    sharena_free(stage->heap, block);
}

static void warm_block(struct stage *stage) {
    warm(stage);
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
    NEED(stage->block[0] != NULL &&
         prof_is_sampled(stage->heap, page_of(stage->heap, stage->block[0])));
}

static void warm_cell(struct stage *stage) {
    warm(stage);
    NEED(sharena_malloc_to(stage->heap, stage->bytes, stage->cell) == 0);
}

static void prepare_some(struct stage *stage) {
    NEED(stage_add(stage, 100 * KB) == 0 && stage_add(stage, 3 * MB) == 0);
}

static void prepare_cell(struct stage *stage) {
    NEED(stage_add_cell(stage) == 0 && stage_add(stage, 100 * KB) == 0);
}

/* A sampled block of the first survivor's, which the victim, who samples nothing, frees. */
static void prepare_foreign(struct stage *stage) {
    prepare_some(stage);
    sample_all(stage, 1);
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
    sample_all(stage, 0);
    NEED(stage->block[0] != NULL &&
         prof_is_sampled(stage->heap, page_of(stage->heap, stage->block[0])));
}

static void warm_slot(struct stage *stage) {
    NEED(heap_enter(stage->heap) != NULL);
}

/* ---- operations ---- */

static void act_malloc(struct stage *stage) {
    stage->block[0] = sharena_malloc(stage->heap, stage->bytes);
}

static void act_free(struct stage *stage) {
    sharena_free(stage->heap, stage->block[0]);
}

static void act_realloc(struct stage *stage) {
    stage->block[1] = sharena_realloc(stage->heap, stage->block[0], stage->to_bytes);
}

static void act_malloc_to(struct stage *stage) {
    (void)!sharena_malloc_to(stage->heap, stage->bytes, stage->cell);
}

static void act_free_from(struct stage *stage) {
    (void)!sharena_free_from(stage->heap, stage->cell);
}

/* A block that is in the cell is the application's, and whole. */
static void settle_cell(struct stage *stage) {
    if (*stage->cell != NULL) {
        NEED(sharena_usable_size(stage->heap, *stage->cell) >= stage->bytes);
        memset(*stage->cell, 0x5a, stage->bytes);
    }
}

#define MISSING(blocks, bytes) .missing = {(blocks), (bytes)}

const struct scenario scenarios_prof[] = {
    {"sampled_first", prepare_some, warm_first, act_malloc, .bytes = 64, MISSING(1, SAMPLED_MIN)},
    {"sampled_malloc", prepare_some, warm, act_malloc, .bytes = 64, MISSING(1, SAMPLED_MIN)},
    {"sampled_malloc_huge", prepare_some, warm, act_malloc, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"sampled_free", prepare_some, warm_block, act_free, .bytes = 64, MISSING(1, SAMPLED_MIN)},
    {"sampled_free_huge", prepare_some, warm_block, act_free, .bytes = 5 * MB, MISSING(1, 5 * MB)},
    {"sampled_free_foreign", prepare_foreign, warm_slot, act_free, .bytes = 3 * KB,
     MISSING(1, SAMPLED_MIN)},
    {"sampled_realloc", prepare_some, warm_block, act_realloc, .bytes = 64, .to_bytes = 100 * KB,
     MISSING(2, SAMPLED_MIN + 112 * KB)},
    {"sampled_malloc_to", prepare_cell, warm, act_malloc_to, settle_cell, .bytes = 320},
    {"sampled_free_from", prepare_cell, warm_cell, act_free_from, settle_cell, .bytes = 320},
    {.name = NULL},
};
