/* storm_work.c -- what the threads of a worker do; see storm_work.h.
 *
 * One step: try a guard at random; with it, allocate, check, resize, or free what is there, whoever
 * put it there. Each thread ends after some thousand steps, in the middle of nothing, and starts
 * its successor.
 *
 * Holds:  a thread has at most one guard; no block is known to a thread alone, except within the
 *         plain calls, which the group accounts for
 * Killed: see storm_table.h
 */
#include "storm_work.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storm_table.h"

struct work { /* one place for a thread; its threads follow one another */
    struct storm_control *control;
    struct storm_worker *worker;
    struct storm_thread *shared;
    sharena_t *heap;
    struct table *table;
    uint32_t index; /* of the worker */
    int may_lose;   /* plain calls are allowed: not killed, or the loss is accounted for */
    uint64_t random;
};

static struct work places[STORM_THREADS_MAX];

static uint64_t draw(struct work *work, uint64_t below) {
    return storm_random(&work->random) % below;
}

static uint64_t draw_bytes(struct work *work) {
    uint64_t dice = draw(work, 1000);
    uint64_t most = dice < 900 ? 600 : dice < 985 ? 14336 : dice < 996 ? 1u << 18 : 1u << 21;
    return 1 + draw(work, dice < 999 ? most : 6u << 20);
}

static void begin(struct work *work, enum storm_kind kind) {
    storm_begin(work->shared, kind);
}

static void end(struct work *work) {
    storm_end(work->control, work->index, work->shared);
}

/* ---- cells ---- */

static void must(int error, const char *what) {
    if (error != 0) {
        storm_fail("%s failed with %d", what, error);
    }
}

static void fill_cell(struct work *work, struct cell *cell) {
    if (cell->block == NULL) {
        storm_fail("no block of %llu bytes", (unsigned long long)cell->bytes);
    }
    cell_fill(cell, storm_random(&work->random) | 1);
}

static void publish(struct work *work, struct cell *cell) {
    cell->bytes = draw_bytes(work);
    begin(work, KIND_MALLOC_TO);
    int error = sharena_malloc_to(work->heap, cell->bytes, &cell->block);
    end(work);
    must(error, "malloc_to");
    fill_cell(work, cell);
}

static void unpublish(struct work *work, struct cell *cell) {
    cell_verify(cell);
    __atomic_store_n(&cell->stamp, 0, __ATOMIC_RELEASE);
    begin(work, KIND_FREE_FROM);
    int error = sharena_free_from(work->heap, &cell->block);
    end(work);
    must(error, "free_from");
}

/* From here to flight_ends() a kill may lose up to that much. */
static void flight_begins(struct group *group, uint64_t blocks, uint64_t bytes) {
    __atomic_store_n(&group->bytes_in_flight, bytes, __ATOMIC_SEQ_CST);
    __atomic_store_n(&group->blocks_in_flight, blocks, __ATOMIC_SEQ_CST);
}

static void flight_ends(struct group *group) {
    flight_begins(group, 0, 0);
}

static void *malloc_plainly(struct work *work, uint64_t bytes) {
    static const enum storm_kind kinds[] = {KIND_MALLOC, KIND_CALLOC, KIND_ALIGNED};
    enum storm_kind kind = kinds[draw(work, 3)];
    uint64_t alignment = draw(work, 64) == 0 ? 1u << 22 : 1u << (4 + draw(work, 13));
    void *block = NULL;
    begin(work, kind);
    switch (kind) {
    case KIND_CALLOC:
        block = sharena_calloc(work->heap, 1, bytes);
        break;
    case KIND_ALIGNED:
        block = sharena_aligned_alloc(work->heap, alignment, bytes);
        break;
    default:
        block = sharena_malloc(work->heap, bytes);
        break;
    }
    end(work);
    if (kind == KIND_CALLOC && block != NULL &&
        (*(char *)block != 0 || memcmp(block, (char *)block + 1, bytes - 1) != 0)) {
        storm_fail("calloc gave a block of %llu bytes that are not all zero",
                   (unsigned long long)bytes);
    }
    if (kind == KIND_ALIGNED && (uintptr_t)block % alignment != 0) {
        storm_fail("block %p is no multiple of %llu", block, (unsigned long long)alignment);
    }
    return block;
}

/* An aligned block of any size may be a chunk longer than asked for. */
#define FLIGHT_SLACK (1u << 22)

static void allocate_plainly(struct work *work, struct group *group, struct cell *cell) {
    cell->bytes = draw_bytes(work);
    flight_begins(group, 1, 2 * cell->bytes + FLIGHT_SLACK);
    __atomic_store_n(&cell->block, malloc_plainly(work, cell->bytes), __ATOMIC_SEQ_CST);
    flight_ends(group);
    fill_cell(work, cell);
}

static void free_plainly(struct work *work, struct group *group, struct cell *cell) {
    void *block = cell->block;
    cell_verify(cell);
    __atomic_store_n(&cell->stamp, 0, __ATOMIC_RELEASE);
    flight_begins(group, 1, sharena_usable_size(work->heap, block));
    __atomic_store_n(&cell->block, NULL, __ATOMIC_SEQ_CST);
    begin(work, KIND_FREE);
    sharena_free(work->heap, block);
    end(work);
    flight_ends(group);
}

/* What is common to both lengths must have come along. */
static void resize_plainly(struct work *work, struct group *group, struct cell *cell) {
    uint64_t bytes = draw_bytes(work);
    uint64_t stamp = cell->stamp;
    void *block = cell->block;
    unsigned char kept[64];
    uint64_t common = bytes < cell->bytes ? bytes : cell->bytes;
    common = common < sizeof(kept) ? common : sizeof(kept);
    cell_verify(cell);
    memcpy(kept, block, common);
    __atomic_store_n(&cell->stamp, 0, __ATOMIC_RELEASE);
    flight_begins(group, 2, sharena_usable_size(work->heap, block) + 2 * bytes + FLIGHT_SLACK);
    __atomic_store_n(&cell->block, NULL, __ATOMIC_SEQ_CST);
    begin(work, KIND_REALLOC);
    block = sharena_realloc(work->heap, block, bytes);
    end(work);
    cell->bytes = bytes;
    __atomic_store_n(&cell->block, block, __ATOMIC_SEQ_CST);
    flight_ends(group);
    if (block == NULL || memcmp(kept, block, common) != 0) {
        storm_fail("realloc to %llu bytes did not keep the contents of stamp %#llx",
                   (unsigned long long)bytes, (unsigned long long)stamp);
    }
    fill_cell(work, cell);
}

static int step_cell(struct work *work) {
    struct group *group = &work->table->groups[draw(work, TABLE_GROUPS)];
    struct cell *cell = &group->cells[draw(work, TABLE_CELLS)];
    uint64_t dice = draw(work, 4);
    int plainly = work->may_lose && dice < 3;
    if (!group_try_lock(work->heap, work->table, group)) {
        return 0;
    }
    if (cell->block == NULL && plainly) {
        allocate_plainly(work, group, cell);
    } else if (cell->block == NULL) {
        publish(work, cell);
    } else if (plainly && dice == 0) {
        free_plainly(work, group, cell);
    } else if (plainly) {
        resize_plainly(work, group, cell);
    } else {
        unpublish(work, cell);
    }
    guard_unlock(&group->guard);
    return 1;
}

/* ---- roots ---- */

/* Names a cell, or nothing. */
static int step_name(struct work *work) {
    uint32_t number = (uint32_t)draw(work, TABLE_NAMES);
    struct named *named = &work->table->names[number];
    char name[16];
    table_name(name, "name", number);
    if (!named_try_lock(work->heap, work->table, number)) {
        return 0;
    }
    begin(work, KIND_ROOT_GET);
    void *found = sharena_root_get(work->heap, name);
    end(work);
    if (found != named->before) {
        storm_fail("root %s is %p, not %p", name, found, named->before);
    }
    struct group *group = &work->table->groups[draw(work, TABLE_GROUPS)];
    void *value = draw(work, 3) == 0 ? NULL : &group->cells[draw(work, TABLE_CELLS)];
    __atomic_store_n(&named->after, value, __ATOMIC_SEQ_CST);
    begin(work, KIND_ROOT_SET);
    int error = sharena_root_set(work->heap, name, value);
    end(work);
    must(error, "root_set");
    __atomic_store_n(&named->before, value, __ATOMIC_SEQ_CST);
    guard_unlock(&named->guard);
    return 1;
}

static void remove_made(struct work *work, struct made *made, const char *name, void *object) {
    __atomic_store_n(&made->removed, object, __ATOMIC_SEQ_CST);
    begin(work, KIND_ROOT_SET);
    int error = sharena_root_set(work->heap, name, NULL);
    end(work);
    must(error, "removal of a root");
    begin(work, KIND_FREE_FROM);
    error = sharena_free_from(work->heap, &made->removed);
    end(work);
    must(error, "free_from of a root's object");
}

static int step_made(struct work *work) {
    uint32_t number = (uint32_t)draw(work, TABLE_MADE);
    struct made *made = &work->table->mades[number];
    char name[16];
    table_name(name, "made", number);
    if (!made_try_lock(work->heap, work->table, number)) {
        return 0;
    }
    begin(work, KIND_ROOT_CREATE);
    void *object = sharena_root_create(work->heap, name, TABLE_MADE_BYTES, made_init, NULL);
    end(work);
    if (object == NULL) {
        storm_fail("root %s could not be made", name);
    }
    made_verify(object);
    if (draw(work, 2) == 0) {
        remove_made(work, made, name, object);
    }
    guard_unlock(&made->guard);
    return 1;
}

/* ---- care ---- */

static int step_reap(struct work *work) {
    begin(work, KIND_REAP);
    (void)sharena_reap(work->heap);
    end(work);
    return 1;
}

static int step_purge(struct work *work) {
    begin(work, KIND_PURGE);
    int error = sharena_purge(work->heap);
    end(work);
    must(error, "purge");
    return 1;
}

static int step_check(struct work *work) {
    struct sharena_report report;
    begin(work, KIND_CHECK);
    int error = sharena_check(work->heap, &report);
    end(work);
    if (error != 0) {
        print_findings(&report);
        storm_fail("the heap is not clean");
    }
    return 1;
}

static int step(struct work *work) {
    uint64_t dice = draw(work, 1000000);
    if (dice < 980000) {
        return step_cell(work);
    }
    if (dice < 990000) {
        return step_name(work);
    }
    if (dice < 999800) {
        return step_made(work);
    }
    if (dice < 999990) {
        return step_reap(work);
    }
    return dice < 999995 ? step_purge(work) : step_check(work);
}

/* ---- threads ---- */

static void park(struct work *work) {
    (void)atomic_fetch_add(&work->worker->parked, 1);
    while (atomic_load(&work->control->paused)) {
        storm_sleep_us(1000);
    }
    (void)atomic_fetch_sub(&work->worker->parked, 1);
}

static int is_wanted(const struct work *work) {
    return !atomic_load_explicit(&work->worker->leave, memory_order_relaxed);
}

static void start_thread(struct work *work);

/* Where a guard is busy another one is tried at once: a thread that waited would rarely die in the
 * library. */
static void *live(void *arg) {
    struct work *work = arg;
    uint64_t steps = 2000 + draw(work, 30000);
    while (steps > 0 && is_wanted(work)) {
        if (atomic_load_explicit(&work->control->paused, memory_order_relaxed)) {
            park(work);
        }
        if (step(work)) {
            (void)atomic_fetch_add_explicit(&work->shared->steps, 1, memory_order_relaxed);
            steps--;
        }
    }
    if (is_wanted(work)) {
        start_thread(work);
    } else {
        (void)atomic_fetch_sub(&work->worker->living, 1);
    }
    return NULL;
}

static void start_thread(struct work *work) {
    pthread_attr_t attributes;
    pthread_t thread;
    must(pthread_attr_init(&attributes), "pthread_attr_init");
    must(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED), "detach");
    must(pthread_create(&thread, &attributes, live, work), "pthread_create");
    (void)pthread_attr_destroy(&attributes);
}

static void begin_work(struct storm_control *control, uint32_t index, sharena_t *heap) {
    struct storm_worker *worker = &control->workers[index];
    struct table *table = table_make(heap);
    atomic_store(&worker->living, control->threads);
    for (uint32_t i = 0; i < control->threads; i++) {
        places[i] = (struct work){.control = control,
                                  .worker = worker,
                                  .shared = &worker->threads[i],
                                  .heap = heap,
                                  .table = table,
                                  .index = index,
                                  .may_lose = control->unpublished ||
                                              (control->has_gentle && index == STORM_GENTLE),
                                  .random = control->seed ^ (uint64_t)getpid() << 16 ^ i << 8};
        start_thread(&places[i]);
        (void)atomic_fetch_add(&worker->working, 1);
    }
}

int storm_work(struct storm_control *control, uint32_t index, sharena_t *heap) {
    struct storm_worker *worker = &control->workers[index];
    struct storm_thread *shared = &worker->threads[0];
    if (heap == NULL) {
        storm_begin(shared, KIND_OPEN);
        must(sharena_open(control->path, NULL, &heap), "open");
        storm_end(control, index, shared);
    }
    begin_work(control, index, heap);
    while (atomic_load(&worker->living) != 0) {
        storm_sleep_us(2000);
    }
    storm_begin(shared, KIND_CLOSE);
    must(sharena_close(heap), "close");
    storm_end(control, index, shared);
    return 0;
}
