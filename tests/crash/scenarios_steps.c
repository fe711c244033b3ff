/* scenarios_steps.c -- operations that no kill can tear: malloc_to, free_from, roots. Not a block may
 * be missing after them.
 */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

#include "heap/heap.h"
#include "heap/tcache.h"

#define KB ((size_t)1 << 10)
#define MB ((size_t)1 << 20)

/* ---- malloc_to and free_from ---- */

static void prepare_cell(struct stage *stage) {
    NEED(stage_add_cell(stage) == 0 && stage_add(stage, 100 * KB) == 0);
}

static void warm_slot(struct stage *stage) {
    NEED(heap_enter(stage->heap) != NULL);
}

static void warm_hit(struct stage *stage) {
    void *blocks[2];
    for (int i = 0; i < 2; i++) {
        blocks[i] = sharena_malloc(stage->heap, stage->bytes);
        NEED(blocks[i] != NULL);
    }
    for (int i = 0; i < 2; i++) {
        sharena_free(stage->heap, blocks[i]);
    }
}

static void warm_published(struct stage *stage) {
    NEED(sharena_malloc_to(stage->heap, stage->bytes, stage->cell) == 0);
}

/* The stack of the block's class is full. */
static void warm_published_full(struct stage *stage) {
    struct thread_slot *self = heap_enter(stage->heap);
    NEED(self != NULL);
    unsigned capacity = stack_capacity(slot_tcache(self), sizeclass_of(stage->bytes) + 1);
    NEED(capacity < STAGE_BLOCKS_MAX);
    warm_published(stage);
    for (unsigned i = 0; i < capacity; i++) {
        stage->block[i] = sharena_mallocx(stage->heap, stage->bytes, SHARENA_TCACHE_NONE);
        NEED(stage->block[i] != NULL);
    }
    (void)sharena_ctl(stage->heap, "thread.tcache.flush", NULL, NULL, NULL, 0);
    for (unsigned i = 0; i < capacity; i++) {
        sharena_free(stage->heap, stage->block[i]);
    }
    const struct tcache_stack *stack = &slot_tcache(self)->stacks[sizeclass_of(stage->bytes) + 1];
    NEED(shared_get(&stack->top) == shared_get(&stack->full));
}

static void act_malloc_to(struct stage *stage) {
    (void)!sharena_malloc_to(stage->heap, stage->bytes, stage->cell);
}

static void act_free_from(struct stage *stage) {
    (void)sharena_free_from(stage->heap, stage->cell);
}

/* A block that is in the cell is the application's, whole. */
static void settle_cell(struct stage *stage) {
    if (*stage->cell != NULL) {
        NEED(sharena_usable_size(stage->heap, *stage->cell) >= stage->bytes);
        memset(*stage->cell, 0x5a, stage->bytes);
    }
}

/* ---- roots ---- */

#define ROOT_NAME "the root of all that is here"

/* The objects 0 and 1. */
static void prepare_objects(struct stage *stage) {
    NEED(stage_add(stage, stage->bytes) == 0 && stage_add(stage, stage->bytes) == 0);
}

static void prepare_root(struct stage *stage) {
    prepare_objects(stage);
    NEED(sharena_root_set(stage->heap, "another", stage->object[1].block) == 0);
    NEED(sharena_root_set(stage->heap, ROOT_NAME, stage->object[0].block) == 0);
}

static void act_root_set(struct stage *stage) {
    (void)sharena_root_set(stage->heap, ROOT_NAME, stage->object[1].block);
}

static void act_root_remove(struct stage *stage) {
    (void)sharena_root_set(stage->heap, ROOT_NAME, NULL);
}

static int init_root(void *ptr, void *arg) {
    struct stage *stage = arg;
    memset(ptr, 0x33, stage->bytes);
    return 0;
}

static void act_root_create(struct stage *stage) {
    (void)!sharena_root_create(stage->heap, ROOT_NAME, stage->bytes, init_root, stage);
}

/* The name means one of the two objects, or nothing. */
static void settle_root(struct stage *stage) {
    const void *object = sharena_root_get(stage->heap, ROOT_NAME);
    NEED(object == NULL || object == stage->object[0].block || object == stage->object[1].block);
    NEED(sharena_root_set(stage->heap, ROOT_NAME, NULL) == 0);
    NEED(sharena_root_set(stage->heap, "another", NULL) == 0);
}

/* Whoever asks next finds a whole object, or makes it; then it goes. */
static void settle_created(struct stage *stage) {
    char expected[256];
    memset(expected, 0x33, sizeof(expected));
    void *object = sharena_root_create(stage->heap, ROOT_NAME, stage->bytes, init_root, stage);
    NEED(object != NULL && stage->bytes <= sizeof(expected));
    NEED(memcmp(object, expected, stage->bytes) == 0);
    NEED(sharena_root_set(stage->heap, ROOT_NAME, NULL) == 0);
    sharena_free(stage->heap, object);
}

const struct scenario scenarios_steps[] = {
    {"malloc_to_hit", prepare_cell, warm_hit, act_malloc_to, settle_cell, .bytes = 64},
    {"malloc_to_miss", prepare_cell, warm_slot, act_malloc_to, settle_cell, .bytes = 64},
    {"malloc_to_large", prepare_cell, warm_slot, act_malloc_to, settle_cell, .bytes = 100 * KB},
    {"malloc_to_huge", prepare_cell, warm_slot, act_malloc_to, settle_cell, .bytes = 3 * MB},
    {"free_from_hit", prepare_cell, warm_published, act_free_from, settle_cell, .bytes = 64},
    {"free_from_flush", prepare_cell, warm_published_full, act_free_from, settle_cell,
     .bytes = 2048},
    {"free_from_large", prepare_cell, warm_published, act_free_from, settle_cell,
     .bytes = 100 * KB},
    {"free_from_huge", prepare_cell, warm_published, act_free_from, settle_cell, .bytes = 3 * MB},
    {"root_set_new", prepare_objects, warm_slot, act_root_set, settle_root, .bytes = 64},
    {"root_set_again", prepare_root, warm_slot, act_root_set, settle_root, .bytes = 64},
    {"root_set_remove", prepare_root, warm_slot, act_root_remove, settle_root, .bytes = 64},
    {"root_create_new", prepare_objects, warm_slot, act_root_create, settle_created, .bytes = 200},
    {.name = NULL},
};
