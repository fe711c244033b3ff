/* scenarios_debug.c -- what a process does whose calls are watched: blocks are filled, and wait in a
 * quarantine. Only the victim is such a process.
 */
#include "scenario.h"

#include "heap/geometry.h"
#include "heap/heap.h"
#include "heap/quarantine.h"
#include "ipc/registry.h"

/* ---- states ---- */

/* The victim keeps that many bytes in its quarantine; with the patterns. */
static void watch(struct stage *stage, uint32_t bytes) {
    struct attachment *attachment = registry_find(stage->heap);
    NEED(attachment != NULL);
    attachment->conf.quarantine_bytes = bytes;
    attachment->conf.junk = JUNK_ALLOC | JUNK_FREE;
    struct thread_slot *self = heap_enter(stage->heap);
    NEED(self != NULL);
    quarantine_open(stage->heap, self, &attachment->conf);
    NEED(shared_get(&slot_quarantine(self)->is_backed) != 0);
}

static void need_waiting(struct stage *stage, uint32_t count) {
    NEED(quarantine_count(heap_enter(stage->heap)) == count);
}

/* block[0] is live, and the quarantine has `count` others. */
static void fill(struct stage *stage, unsigned count) {
    for (unsigned i = 0; i <= count; i++) {
        stage->block[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(stage->block[i] != NULL);
    }
    for (unsigned i = 1; i <= count; i++) {
        sharena_free(stage->heap, stage->block[i]);
    }
    need_waiting(stage, count);
}

static void warm_room(struct stage *stage) {
    watch(stage, 1u << 20);
    fill(stage, 2);
}

/* There is room for two and no more. */
static void warm_full(struct stage *stage) {
    watch(stage, (uint32_t)(2 * stage->bytes));
    fill(stage, 2);
}

/* ... and what leaves the quarantine is not cached. */
static void warm_full_uncached(struct stage *stage) {
    _Bool enabled = 0;
    watch(stage, (uint32_t)(2 * stage->bytes));
    NEED(sharena_ctl(stage->heap, "thread.tcache.enabled", NULL, NULL, &enabled, sizeof(enabled)) ==
         0);
    fill(stage, 2);
}

static void warm_many(struct stage *stage) {
    watch(stage, 1u << 20);
    fill(stage, 12);
    sharena_free(stage->heap, stage->block[0]);
}

static void prepare_cell(struct stage *stage) {
    NEED(stage_add_cell(stage) == 0);
}

static void warm_cell(struct stage *stage) {
    warm_full(stage);
    sharena_dallocx(stage->heap, stage->block[0], SHARENA_TCACHE_NONE);
    NEED(sharena_malloc_to(stage->heap, stage->bytes, stage->cell) == 0);
    need_waiting(stage, 2);
}

/* ---- operations ---- */

static void act_malloc(struct stage *stage) {
    stage->block[1] = sharena_malloc(stage->heap, stage->bytes);
}

static void act_free(struct stage *stage) {
    sharena_free(stage->heap, stage->block[0]);
}

static void act_free_from(struct stage *stage) {
    (void)sharena_free_from(stage->heap, stage->cell);
}

static void act_purge(struct stage *stage) {
    (void)sharena_purge(stage->heap);
}

/* A block that is in the cell is the application's still. */
static void settle_cell(struct stage *stage) {
    NEED(*stage->cell == NULL || sharena_usable_size(stage->heap, *stage->cell) >= stage->bytes);
}

#define TWO_OF(n) .bytes = (n), .missing = {2, (size_t)2 * (n)}

const struct scenario scenarios_debug[] = {
    {"watched_malloc", .warm = warm_room, .act = act_malloc, TWO_OF(64)},
    {"quarantine_push", .warm = warm_room, .act = act_free, ONE_OF(64)},
    {"quarantine_release", .warm = warm_full, .act = act_free, ONE_OF(64)},
    {"quarantine_release_uncached", .warm = warm_full_uncached, .act = act_free, ONE_OF(320)},
    {"quarantine_release_large", .warm = warm_full, .act = act_free, ONE_OF(112u << 10)},
    {"quarantine_free_from", prepare_cell, warm_cell, act_free_from, settle_cell, .bytes = 64},
    {"quarantine_drain", .warm = warm_many, .act = act_purge, .bytes = 320},
    {.name = NULL},
};
