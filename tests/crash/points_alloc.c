/* points_alloc.c -- scenarios: blocks that are allocated, freed, resized, published.
 *
 * A name says the operation and the state that it meets: where its memory comes from, or goes to.
 * All that the survivor allocates itself goes past its cache, so the state is that of the heap.
 */
#include "points.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "heap/huge.h"
#include "ipc/thread.h"

#define SMALL_LAST (SIZE_CLASSES_SMALL - 1)
#define LARGE_LAST (SIZE_CLASSES_LARGE_END - 1)
#define CACHED_LAST (SIZE_CLASSES_CACHED - 1)

static int nothing(struct stage *stage) {
    (void)stage;
    return 0;
}

#define MEDIUM_FIRST 20u /* a run of it and of those above has few regions */

/* ---- states ---- */

/* A chunk stays with the arena, for a block of another class is in it. */
static int keep_chunk(struct stage *stage) {
    return stage_keep(stage, stage->size_class == 1 ? 48 : 16) != NULL ? 0 : -1;
}

/* A free run of that arena that has memory. */
static int with_dirty_run(struct stage *stage) {
    if (keep_chunk(stage) != 0) {
        return -1;
    }
    size_t bytes = stage->size_class < SIZE_CLASSES_SMALL ? 65536 : stage->bytes;
    void *block = sharena_mallocx(stage->heap, bytes, SHARENA_TCACHE_NONE);
    sharena_dallocx(stage->heap, block, SHARENA_TCACHE_NONE);
    return block != NULL ? 0 : stage_fail(stage, "no dirty run: %s", sharena_errormsg());
}

static int with_clean_run(struct stage *stage) {
    int error = keep_chunk(stage);
    return error == 0 ? sharena_purge(stage->heap) : error;
}

/* The bin has a run with free regions. */
static int with_regions(struct stage *stage) {
    return stage_keep(stage, stage->bytes) != NULL ? 0 : -1;
}

/* The bin has one run, with one free region, which is not its current one. */
static int with_nonfull_run(struct stage *stage) {
    void *gap = sharena_mallocx(stage->heap, stage->bytes, SHARENA_TCACHE_NONE);
    for (uint32_t i = 1; i < sizeclass_run_shape(stage->size_class)->regions; i++) {
        if (stage_keep(stage, stage->bytes) == NULL) {
            return -1;
        }
    }
    sharena_dallocx(stage->heap, gap, SHARENA_TCACHE_NONE);
    return gap != NULL ? 0 : stage_fail(stage, "no gap: %s", sharena_errormsg());
}

/* The pool has a chunk of which some pages have memory. */
static int with_dirty_chunk(struct stage *stage) {
    const int flags = SHARENA_LG_ALIGN(LG_CHUNK) | SHARENA_TCACHE_NONE;
    void *block = sharena_mallocx(stage->heap, 5 * LARGE_BYTES_MIN, flags);
    if (block != NULL) {
        memset(block, 0xee, 5 * LARGE_BYTES_MIN);
    }
    sharena_dallocx(stage->heap, block, SHARENA_TCACHE_NONE);
    return block != NULL ? 0 : stage_fail(stage, "no dirty chunk: %s", sharena_errormsg());
}

static int with_clean_chunk(struct stage *stage) {
    int error = with_dirty_chunk(stage);
    return error == 0 ? sharena_purge(stage->heap) : error;
}

/* The block that the victim will free, and others that stay. */
static int with_subject(struct stage *stage) {
    for (uint32_t i = 0; i < 3 && stage->note->known_count < 3; i++) {
        if (stage_keep(stage, stage->bytes) == NULL) {
            return -1;
        }
        if (stage->size_class > 48) {
            break;
        }
    }
    stage->note->known[0].at_risk = 1;
    return 0;
}

static int with_subject_alone(struct stage *stage) {
    struct known *known = stage_keep(stage, stage->bytes);
    if (known != NULL) {
        known->at_risk = 1;
    }
    return known != NULL ? 0 : -1;
}

/* A huge block, and behind it chunks that are free and have memory: they join when it is freed. */
static int with_subject_and_gap(struct stage *stage) {
    int error = with_subject_alone(stage);
    void *gap = sharena_mallocx(stage->heap, stage->bytes, SHARENA_TCACHE_NONE);
    sharena_dallocx(stage->heap, gap, SHARENA_TCACHE_NONE);
    return error == 0 && gap == NULL ? stage_fail(stage, "no gap: %s", sharena_errormsg()) : error;
}

static void *subject(const struct stage *stage) {
    return stage->note->known[0].block;
}

/* Fills what the limit allows. */
static int with_no_memory(struct stage *stage) {
    for (size_t bytes = 7 * LARGE_BYTES_MIN; bytes >= LARGE_BYTES_MIN;) {
        void *block = sharena_mallocx(stage->heap, bytes, SHARENA_TCACHE_NONE);
        if (block != NULL) {
            stage_know(stage, block, 0, 0);
        } else {
            bytes = bytes > LARGE_BYTES_MIN ? LARGE_BYTES_MIN : 0;
        }
    }
    return 0;
}

/* ---- allocation ---- */

static int told(struct stage *stage, void *block) {
    stage->note->results[0] = block;
    return block != NULL ? 0 : stage_fail(stage, "the victim got nothing: %s", sharena_errormsg());
}

static int act_malloc(struct stage *stage) {
    return told(stage, sharena_malloc(stage->heap, stage->bytes));
}

static int act_malloc_directly(struct stage *stage) {
    return told(stage, sharena_mallocx(stage->heap, stage->bytes, SHARENA_TCACHE_NONE));
}

static int act_calloc(struct stage *stage) {
    const char *block = sharena_calloc(stage->heap, 1, stage->bytes);
    for (size_t i = 0; block != NULL && i < stage->bytes && i < 8 * LARGE_BYTES_MIN; i += 8) {
        if (block[i] != 0) {
            return stage_fail(stage, "calloc: byte %zu is not zero", i);
        }
    }
    return told(stage, (void *)(uintptr_t)block);
}

static int act_aligned(struct stage *stage) {
    static const size_t alignments[] = {64, 4096, 65536, CHUNK_BYTES};
    size_t alignment = alignments[stage->size_class % 4];
    return told(stage, sharena_aligned_alloc(stage->heap, alignment, stage->bytes));
}

static int act_malloc_in_vain(struct stage *stage) {
    stage->note->results[0] = sharena_malloc(stage->heap, stage->bytes);
    return 0;
}

static int act_malloc_batch(struct stage *stage) {
    size_t made = sharena_malloc_batch(stage->heap, stage->bytes, BATCH, stage->note->results);
    return made == BATCH ? 0 : stage_fail(stage, "only %zu blocks", made);
}

static struct tcache_stack *own_stack(const struct stage *stage) {
    return &slot_tcache(thread_find_slot(stage->heap))->stacks[stage->size_class + 1];
}

/* A stack of large blocks, which begins with room for none, as it is when it grew to two. */
static int ready_room(struct stage *stage) {
    if (stage_flush(stage) != 0) { /* so that there is a slot */
        return -1;
    }
    struct tcache *tcache = slot_tcache(thread_find_slot(stage->heap));
    uint32_t stack = stage->size_class + 1;
    if ((stage->scenario->flags & CACHE_ALL) != 0 && stack > SIZE_CLASSES_SMALL) {
        shared_ptr *first = shared_get(&tcache->first[stack]);
        shared_store(&tcache->capacity[stack], 2u);
        shared_store(&tcache->stacks[stack].full, first + 2);
    }
    return 0;
}

static int ready_cached(struct stage *stage) {
    if (ready_room(stage) != 0) {
        return -1;
    }
    void *block = sharena_malloc(stage->heap, stage->bytes);
    sharena_free(stage->heap, block);
    return block != NULL ? 0 : stage_fail(stage, "nothing to cache: %s", sharena_errormsg());
}

/* ---- free ---- */

static int is_full(const struct stage *stage) {
    const struct tcache_stack *stack = own_stack(stage);
    return shared_get(&stack->top) == shared_get(&stack->full);
}

/* Frees blocks until the next free will find the cache full; from the victim's arena or, where it
 * has two, from both: few of the other's, early, so that to sort them takes many swaps. */
static int ready_full(struct stage *stage) {
    static void *blocks[512];
    const int other = SHARENA_ARENA(0);
    uint32_t count = 0;
    if (ready_room(stage) != 0) {
        return -1;
    }
    const struct tcache_stack *stack = own_stack(stage);
    uint32_t capacity = (uint32_t)((shared_ptr *)shared_get(&stack->full) -
                                   (shared_ptr *)shared_get(&stack->bottom));
    for (; count < capacity; count++) {
        int is_other = (stage->scenario->flags & TWO_ARENAS) != 0 && count % 8 == 1;
        blocks[count] =
            sharena_mallocx(stage->heap, stage->bytes, is_other ? other : SHARENA_TCACHE_NONE);
    }
    sharena_free_batch(stage->heap, count, blocks);
    return is_full(stage) ? 0 : stage_fail(stage, "the cache is not full: %u blocks", count);
}

/* ... and the next free will make it bigger, which moves the bigger ones. */
static int ready_grow(struct stage *stage) {
    if (ready_full(stage) != 0) {
        return -1;
    }
    struct tcache *tcache = slot_tcache(thread_find_slot(stage->heap));
    shared_store(&tcache->grown_most, (uint64_t)1 << 30);
    shared_store(&tcache->demand[stage->size_class + 1], TCACHE_RAN_DRY);
    return 0;
}

static int act_free(struct stage *stage) {
    sharena_free(stage->heap, subject(stage));
    return 0;
}

static int act_free_directly(struct stage *stage) {
    sharena_dallocx(stage->heap, subject(stage), SHARENA_TCACHE_NONE);
    return 0;
}

static int act_flush(struct stage *stage) {
    return stage_flush(stage);
}

static int act_toggle_cache(struct stage *stage) {
    for (unsigned char wanted = 0; wanted < 2; wanted++) {
        int error = sharena_ctl(stage->heap, "thread.tcache.enabled", NULL, NULL, &wanted, 1);
        if (error != 0) {
            return stage_fail(stage, "thread.tcache.enabled: %d, %s", error, sharena_errormsg());
        }
    }
    return 0;
}

/* The cache is full, nothing of it was needed for long, and the next slow path looks at it. */
static int ready_gc(struct stage *stage) {
    if (ready_full(stage) != 0) {
        return -1;
    }
    struct tcache *tcache = slot_tcache(thread_find_slot(stage->heap));
    struct tcache_stack *stack = own_stack(stage);
    shared_store(&stack->base, shared_get(&stack->top));
    shared_store(&tcache->gc_class, stage->size_class);
    shared_store(&tcache->gc_ticks, 1000u);
    return 0;
}

/* ---- with another thread, which dies beside the victim, outside of any section ---- */

struct neighbour {
    struct stage *stage;
    int is_ready; /* 1: its cache is full; -1: it is not */
};

static void *be_neighbour(void *arg) {
    struct neighbour *neighbour = arg;
    int state = ready_full(neighbour->stage) == 0 ? 1 : -1;
    __atomic_store_n(&neighbour->is_ready, state, __ATOMIC_RELEASE);
    for (;;) {
        (void)pause();
    }
    return NULL;
}

/* Its slot comes first, so it is reaped first, into the bins that the victim was changing. */
static int ready_beside(struct stage *stage) {
    static struct neighbour neighbour;
    pthread_t thread;
    int state = 0;
    neighbour = (struct neighbour){stage, 0};
    int error = pthread_create(&thread, NULL, be_neighbour, &neighbour);
    while (error == 0 && (state = __atomic_load_n(&neighbour.is_ready, __ATOMIC_ACQUIRE)) == 0) {
        (void)sched_yield();
    }
    return error == 0 && state == 1 ? ready_full(stage) : stage_fail(stage, "no neighbour");
}

static int with_batch(struct stage *stage) {
    for (uint32_t i = 0; i < BATCH; i++) {
        struct known *known = stage_keep(stage, stage->bytes);
        if (known == NULL) {
            return -1;
        }
        known->at_risk = 1;
    }
    return keep_chunk(stage);
}

static int act_free_batch(struct stage *stage) {
    void *blocks[BATCH];
    for (uint32_t i = 0; i < BATCH; i++) {
        blocks[i] = stage->note->known[i].block;
    }
    sharena_free_batch(stage->heap, BATCH, blocks);
    return 0;
}

/* A second chunk with nothing but the subject, while the first is the arena's spare. In between,
 * the second has clean and dirty pages in turn, so it cannot leave as it is. */
static int with_two_chunks(struct stage *stage) {
    void *filler = sharena_mallocx(stage->heap, LARGE_BYTES_MAX, SHARENA_TCACHE_NONE);
    struct known *first = stage_keep(stage, LARGE_BYTES_MAX / 2);
    int is_other = first != NULL && chunk_of_page(page_of(stage->heap, first->block)) !=
                                        chunk_of_page(page_of(stage->heap, filler));
    struct known *second = is_other ? stage_keep(stage, LARGE_BYTES_MAX / 4) : NULL;
    if (filler == NULL || second == NULL) {
        return stage_fail(stage, "no two chunks: %s", sharena_errormsg());
    }
    void *gap = first->block;
    *first = *second;
    first->at_risk = 1;
    stage->note->known_count = 1;
    sharena_dallocx(stage->heap, gap, SHARENA_TCACHE_NONE);
    if (stage->size_class % 2 != 0) {
        (void)sharena_purge(stage->heap);
    }
    sharena_dallocx(stage->heap, filler, SHARENA_TCACHE_NONE);
    return 0;
}

/* ---- realloc ---- */

/* By the name of the scenario: what the block becomes. */
enum change { TO_NEXT, TO_LESS, TO_HUGE, TO_LARGE };

static size_t changed_bytes(const struct stage *stage, enum change change) {
    switch (change) {
    case TO_NEXT:
        return sizeclass_bytes(stage->size_class + 1);
    case TO_LESS:
        return sizeclass_bytes(stage->size_class > 2 ? stage->size_class - 2 : 0);
    case TO_HUGE:
        return CHUNK_BYTES;
    default:
        return LARGE_BYTES_MIN;
    }
}

/* Only the content that survives the change is looked at. */
static int with_subject_of(struct stage *stage, enum change change) {
    if (with_subject_alone(stage) != 0) {
        return -1;
    }
    struct known *known = &stage->note->known[0];
    size_t bytes = changed_bytes(stage, change);
    known->bytes = bytes < known->bytes ? bytes : known->bytes;
    stage_fill(known);
    return 0;
}

static int with_next(struct stage *stage) {
    return with_subject_of(stage, TO_NEXT);
}

static int with_next_blocked(struct stage *stage) {
    return with_next(stage) == 0 && stage_keep(stage, stage->bytes) != NULL ? 0 : -1;
}

/* What is behind the block has memory. */
static int with_next_dirty(struct stage *stage) {
    if (with_next(stage) != 0) {
        return -1;
    }
    void *behind = sharena_mallocx(stage->heap, LARGE_BYTES_MIN * 4, SHARENA_TCACHE_NONE);
    sharena_dallocx(stage->heap, behind, SHARENA_TCACHE_NONE);
    return behind != NULL ? 0 : -1;
}

static int with_less(struct stage *stage) {
    return with_subject_of(stage, TO_LESS);
}

static int with_huge(struct stage *stage) {
    return with_subject_of(stage, TO_HUGE);
}

static int with_large(struct stage *stage) {
    return with_subject_of(stage, TO_LARGE);
}

static int resize(struct stage *stage, enum change change) {
    return told(stage, sharena_realloc(stage->heap, subject(stage), changed_bytes(stage, change)));
}

static int act_next(struct stage *stage) {
    return resize(stage, TO_NEXT);
}

static int act_less(struct stage *stage) {
    return resize(stage, TO_LESS);
}

static int act_huge(struct stage *stage) {
    return resize(stage, TO_HUGE);
}

static int act_large(struct stage *stage) {
    return resize(stage, TO_LARGE);
}

#define COMPARED_BYTES 256u

/* Both blocks may be there, but one of them must be, with the content. */
static int judge_resized(struct stage *stage) {
    const struct known *old = &stage->note->known[0];
    if (stage->note->known_count != 0 && old->seed == 1) {
        return 0; /* its content was compared */
    }
    for (uint32_t i = 0; i < stage->note->known_count; i++) {
        struct known moved = stage->note->known[i];
        size_t usable = sharena_usable_size(stage->heap, moved.block);
        moved.bytes = usable < stage->bytes ? usable : stage->bytes;
        moved.bytes = moved.bytes < COMPARED_BYTES ? moved.bytes : COMPARED_BYTES;
        moved.seed = 1;
        if (stage_is_filled(&moved)) {
            return 0;
        }
    }
    return stage_fail(stage, "neither the old block nor the new one has the content");
}

/* ---- in one step ---- */

static void **where_of(const struct stage *stage) {
    return stage->note->known[0].block;
}

static int with_where(struct stage *stage) {
    struct known *known = stage_keep(stage, stage->size_class == 1 ? 48 : 16);
    if (known != NULL) {
        known->bytes = 0;
        *(void **)known->block = NULL;
    }
    return known != NULL ? 0 : -1;
}

static int with_where_set(struct stage *stage) {
    if (with_where(stage) != 0 || stage_keep(stage, stage->bytes) == NULL) {
        return -1;
    }
    stage->note->known[1].at_risk = 1;
    *where_of(stage) = stage->note->known[1].block;
    return 0;
}

static int act_malloc_to(struct stage *stage) {
    int error = sharena_malloc_to(stage->heap, stage->bytes, where_of(stage));
    return error == 0 ? 0 : stage_fail(stage, "malloc_to: %s", sharena_errormsg());
}

static int act_free_from(struct stage *stage) {
    int error = sharena_free_from(stage->heap, where_of(stage));
    return error == 0 ? 0 : stage_fail(stage, "free_from: %s", sharena_errormsg());
}

/* What was published is the application's, and nothing else is. */
static int learn_where(struct stage *stage) {
    void *block = *where_of(stage);
    for (uint32_t i = 1; i < stage->note->known_count; i++) {
        if (stage->note->known[i].block == block && block != NULL) {
            stage->note->known[i].at_risk = 0;
            return 0;
        }
    }
    stage->note->results[1] = block;
    return 0;
}

static int judge_where(struct stage *stage) {
    const void *block = *where_of(stage);
    if (stage->note->known_count != (block != NULL ? 2u : 1u)) {
        return stage_fail(stage, "*where is %p, but %u blocks are live", block,
                          stage->note->known_count);
    }
    return 0;
}

/* ---- the table ---- */

const struct scenario alloc_scenarios[] = {
    {"malloc_hit", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 1, NULL, ready_cached, act_malloc, NULL,
     NULL},
    {"malloc_bin", 0, SMALL_LAST, ON_ALL, 0, 1, with_regions, NULL, act_malloc, NULL, NULL},
    {"malloc_nonfull", MEDIUM_FIRST, SMALL_LAST, ON_ALL, 0, 1, with_nonfull_run, NULL, act_malloc,
     NULL, NULL},
    {"malloc_run_dirty", 0, LARGE_LAST, ON_ALL, 0, 1, with_dirty_run, NULL, act_malloc, NULL, NULL},
    {"malloc_run_clean", 0, LARGE_LAST, ON_ALL, 0, 1, with_clean_run, NULL, act_malloc, NULL, NULL},
    {"malloc_chunk_clean", 0, CLASS_LAST, ON_ALL, 0, 1, with_clean_chunk, NULL, act_malloc, NULL,
     NULL},
    {"malloc_chunk_dirty", 0, CLASS_LAST, ON_ALL, 0, 1, with_dirty_chunk, NULL, act_malloc, NULL,
     NULL},
    {"malloc_chunk_new", 0, CLASS_LAST, ON_ALL, EVERY_FOURTH, 1, NULL, NULL, act_malloc, NULL,
     NULL},
    {"malloc_first", 0, SMALL_LAST, ON_ALL, EVERY_FOURTH, 1, NULL, nothing, act_malloc, NULL, NULL},
    {"malloc_first_ever", 0, SMALL_LAST, ON_ALL, TWO_ARENAS | EVERY_FOURTH, 1, NULL, nothing,
     act_malloc, NULL, NULL},
    {"malloc_forked", 0, SMALL_LAST, ON_BEFORE | ON_AFTER, ARMED_FORK | EVERY_FOURTH, 1, NULL, NULL,
     act_malloc, NULL, NULL},
    {"malloc_direct_bin", 0, SMALL_LAST, ON_ALL, 0, 1, with_regions, NULL, act_malloc_directly,
     NULL, NULL},
    {"malloc_direct", 0, CLASS_LAST, ON_ALL, 0, 1, NULL, NULL, act_malloc_directly, NULL, NULL},
    {"malloc_limit", 0, CLASS_LAST, ON_ALL, LIMITED | EVERY_FOURTH, 1, with_no_memory, NULL,
     act_malloc_in_vain, NULL, NULL},
    {"calloc", 0, CLASS_LAST, ON_ALL, 0, 1, with_dirty_chunk, NULL, act_calloc, NULL, NULL},
    {"aligned_alloc", 0, CLASS_LAST, ON_ALL, 0, 1, NULL, NULL, act_aligned, NULL, NULL},
    {"malloc_batch", 0, SMALL_LAST, ON_ALL, EVERY_FOURTH, 1, NULL, NULL, act_malloc_batch, NULL,
     NULL},
    {"free_hit", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_subject, ready_room, act_free, NULL,
     NULL},
    {"free_grow", 0, CACHED_LAST, ON_ALL, 0, 0, with_subject, ready_grow, act_free, NULL, NULL},
    {"free_full", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_subject, ready_full, act_free, NULL,
     NULL},
    {"free_full_beside", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_subject, ready_beside, act_free,
     NULL, NULL},
    {"free_full_others", 0, SMALL_LAST, ON_ALL, CACHE_ALL | TWO_ARENAS, 0, with_subject, ready_full,
     act_free, NULL, NULL},
    {"free_full_big", 0, SMALL_LAST, ON_BEFORE, EVERY_FOURTH, 0, with_subject, ready_full, act_free,
     NULL, NULL},
    {"free_direct", 0, CLASS_LAST, ON_ALL, 0, 0, with_subject, NULL, act_free_directly, NULL, NULL},
    {"free_direct_last", 0, CLASS_LAST, ON_ALL, 0, 0, with_subject_alone, NULL, act_free_directly,
     NULL, NULL},
    {"free_joined", LARGE_LAST + 1, CLASS_LAST, ON_ALL, 0, 0, with_subject_and_gap, NULL,
     act_free_directly, NULL, NULL},
    {"free_chunk", 36, 37, ON_ALL, 0, 0, with_two_chunks, NULL, act_free_directly, NULL, NULL},
    {"free_batch", 0, SMALL_LAST, ON_ALL, EVERY_FOURTH, 0, with_batch, NULL, act_free_batch, NULL,
     NULL},
    {"flush", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, NULL, ready_full, act_flush, NULL, NULL},
    {"flush_others", 0, SMALL_LAST, ON_ALL, TWO_ARENAS | EVERY_FOURTH, 0, NULL, ready_full,
     act_flush, NULL, NULL},
    {"cache_off_on", 0, SMALL_LAST, ON_ALL, CACHE_ALL | EVERY_FOURTH, 0, NULL, ready_cached,
     act_toggle_cache, NULL, NULL},
    {"gc_step", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_subject, ready_gc, act_free, NULL, NULL},
    {"realloc_up", 0, SMALL_LAST, ON_ALL, 0, 1, with_next, NULL, act_next, NULL, judge_resized},
    {"realloc_down", 3, SMALL_LAST, ON_ALL, 0, 1, with_less, NULL, act_less, NULL, judge_resized},
    {"realloc_grow", 36, CLASS_LAST, ON_ALL, 0, 1, with_next, NULL, act_next, NULL, judge_resized},
    {"realloc_grow_dirty", 36, LARGE_LAST - 8, ON_ALL, 0, 1, with_next_dirty, NULL, act_next, NULL,
     judge_resized},
    {"realloc_blocked", 36, LARGE_LAST, ON_ALL, EVERY_FOURTH, 1, with_next_blocked, NULL, act_next,
     NULL, judge_resized},
    {"realloc_shrink", 38, CLASS_LAST, ON_ALL, 0, 1, with_less, NULL, act_less, NULL,
     judge_resized},
    {"realloc_to_huge", 56, LARGE_LAST, ON_ALL, EVERY_FOURTH, 1, with_huge, NULL, act_huge, NULL,
     judge_resized},
    {"realloc_to_large", 64, CLASS_LAST, ON_ALL, EVERY_FOURTH, 1, with_large, NULL, act_large, NULL,
     judge_resized},
    {"malloc_to_hit", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_where, ready_cached, act_malloc_to,
     learn_where, judge_where},
    {"malloc_to_miss", 0, CLASS_LAST, ON_ALL, 0, 0, with_where, NULL, act_malloc_to, learn_where,
     judge_where},
    {"free_from", 0, CLASS_LAST, ON_ALL, 0, 0, with_where_set, NULL, act_free_from, learn_where,
     judge_where},
    {"free_from_full", 0, CACHED_LAST, ON_ALL, CACHE_ALL, 0, with_where_set, ready_full,
     act_free_from, learn_where, judge_where},
    {NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL},
};
