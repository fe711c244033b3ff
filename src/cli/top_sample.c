/* top_sample.c -- what a heap's counters say at one moment, and what happened between two.
 *
 * Counters only grow, but for those of threads, which end with them: a difference below zero is 0.
 *
 * Lock:   none: the heap goes on meanwhile, and each number is of its own moment
 * Killed: nothing shared is changed
 * Not here: what it looks like (top_lines.c, top_json.c).
 */
#include "cli/top_sample.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "heap/geometry.h"

/* ---- one moment ---- */

static void add_flow(struct top_flow *flow, const struct census_blocks *blocks,
                     uint64_t block_bytes) {
    flow->taken += blocks->nmalloc;
    flow->given += blocks->ndalloc;
    flow->taken_bytes += blocks->nmalloc * block_bytes;
    flow->given_bytes += blocks->ndalloc * block_bytes;
}

static void add_class(struct top_sample *sample, uint32_t size_class,
                      const struct census_blocks *blocks, uint64_t held_bytes) {
    struct top_class *of = &sample->classes[size_class];
    of->blocks += blocks->out;
    of->held_bytes += held_bytes;
    add_flow(&of->flow, blocks, sizeclass_bytes(size_class));
    add_flow(&sample->flow, blocks, sizeclass_bytes(size_class));
}

static void take_arena(const sharena_t *heap, uint32_t index, struct top_sample *sample) {
    struct census_arena arena;
    census_arena(heap, index, &arena);
    sample->active_bytes += arena.pages_active * PAGE_BYTES;
    sample->dirty_bytes += arena.pages_dirty * PAGE_BYTES;
    sample->clean_bytes += arena.pages_clean * PAGE_BYTES;
    sample->purged_pages += shared_get(&heap_arena(heap, index)->decay.purged);
    census_add_lock(&sample->arena_locks, &arena.lock);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        uint64_t run_bytes = (uint64_t)sizeclass_run_shape(i)->pages * PAGE_BYTES;
        census_add_lock(&sample->bins, &arena.bins[i].lock);
        add_class(sample, i, &arena.bins[i].blocks, arena.bins[i].runs * run_bytes);
    }
    for (uint32_t i = 0; i < CENSUS_LARGES; i++) {
        add_class(sample, SIZE_CLASSES_SMALL + i, &arena.larges[i], arena.larges[i].bytes);
    }
}

static void take_pool(sharena_t *heap, struct top_sample *sample) {
    struct census_blocks huges[CENSUS_HUGES];
    struct census_spans spans;
    (void)census_huge(heap, huges);
    for (uint32_t i = 0; i < CENSUS_HUGES; i++) {
        add_class(sample, SIZE_CLASSES_SMALL + i, &huges[i], huges[i].bytes);
    }
    census_spans(heap, NULL, &spans);
    sample->active_bytes += spans.huge_pages * PAGE_BYTES;
    sample->dirty_bytes += spans.free_dirty * PAGE_BYTES;
    sample->clean_bytes += (spans.free_chunks * CHUNK_PAGES - spans.free_dirty) * PAGE_BYTES;
    sample->purged_pages += shared_get(&heap_pool(heap)->decay.purged);
    sample->used_chunks = spans.used_chunks;
    sample->free_chunks = spans.free_chunks;
    sample->pool = census_lock(&heap_pool(heap)->lock);
    sample->names = census_lock(&heap_roots(heap)->lock);
}

/* A block in a cache is not the application's. */
static void take_caches(const sharena_t *heap, struct top_sample *sample) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        for (uint32_t c = 0; c < SIZE_CLASSES_CACHED && shared_get(&slot->state) == SLOT_USED;
             c++) {
            sample->classes[c].cached += census_cache(slot, c).out;
        }
    }
}

static void add_up_classes(struct top_sample *sample) {
    for (uint32_t i = 0; i < SIZE_CLASSES_MAX; i++) {
        struct top_class *of = &sample->classes[i];
        uint64_t block_bytes = sizeclass_bytes(i);
        of->blocks = of->blocks > of->cached ? of->blocks - of->cached : 0;
        of->bytes = of->blocks * block_bytes;
        sample->allocated_bytes += of->bytes;
        sample->cached_bytes += of->cached * block_bytes;
        if (i < SIZE_CLASSES_SMALL) {
            sample->small_bytes += of->bytes;
            sample->small_held_bytes += of->held_bytes;
        }
    }
}

/* Its threads' shares are told apart by its slot, and the generation of that. */
static void take_processes(const struct attachment *attachment, struct top_sample *sample) {
    uint32_t place[PROCESSES_MAX] = {0};
    struct thread_info thread;
    uint32_t high = shared_get(&heap_state(attachment->mapping.base)->threads_high);
    for (uint32_t i = 0; i < heap_processes_used(attachment->mapping.base); i++) {
        struct top_process *process = &sample->processes[sample->process_count];
        if (process_describe(attachment, i, &process->info)) {
            place[i] = ++sample->process_count;
        }
    }
    for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
        if (!process_describe_thread(attachment, i, &thread) || thread.process >= PROCESSES_MAX ||
            place[thread.process] == 0) {
            continue;
        }
        struct top_process *process = &sample->processes[place[thread.process] - 1];
        if (process->info.generation == thread.generation) {
            process->taken_bytes += thread.taken_bytes;
            process->given_bytes += thread.given_bytes;
        }
    }
}

/* A heap that was opened by a descriptor has no name that could lead elsewhere. */
static int is_gone(const struct heap_file *file) {
    struct stat there;
    struct stat ours;
    if (fstat(file->fd, &ours) != 0 || file->name[0] == '\0') {
        return 0;
    }
    return stat(file->name, &there) != 0 || there.st_ino != ours.st_ino ||
           there.st_dev != ours.st_dev;
}

static uint64_t monotonic_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void top_take(const struct attachment *attachment, struct top_sample *sample) {
    sharena_t *heap = attachment->mapping.base;
    const struct heap_state *state = heap_state(heap);
    memset(sample, 0, sizeof(*sample));
    sample->at_ns = monotonic_ns();
    sample->arenas = census_arenas(heap);
    for (uint32_t i = 0; i < sample->arenas; i++) {
        take_arena(heap, i, sample);
    }
    take_pool(heap, sample);
    take_caches(heap, sample);
    add_up_classes(sample);
    take_processes(attachment, sample);
    uint64_t fixed = census_fixed_bytes(heap);
    sample->metadata_bytes = fixed + census_table_bytes(heap);
    sample->resident_bytes = fixed + shared_get(&state->backed_pages) * PAGE_BYTES;
    sample->limit_bytes = heap_superblock(heap)->limit_bytes;
    sample->recovered = shared_get(&state->recovered);
    sample->reaped_threads = shared_get(&state->reaped_threads);
    sample->reaped_processes = shared_get(&state->reaped_processes);
    sample->is_gone = is_gone(&attachment->file);
}

/* ---- between two ---- */

static double rate(uint64_t before, uint64_t now, double seconds) {
    return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static double seconds_between(const struct top_sample *before, const struct top_sample *now) {
    return (double)(now->at_ns - before->at_ns) / 1e9;
}

void top_rates(const struct top_sample *before, const struct top_sample *now,
               struct top_rates *rates) {
    double s = seconds_between(before, now);
    *rates = (struct top_rates){
        .seconds = s,
        .taken = rate(before->flow.taken, now->flow.taken, s),
        .given = rate(before->flow.given, now->flow.given, s),
        .taken_bytes = rate(before->flow.taken_bytes, now->flow.taken_bytes, s),
        .given_bytes = rate(before->flow.given_bytes, now->flow.given_bytes, s),
        .purged_bytes = rate(before->purged_pages, now->purged_pages, s) * PAGE_BYTES,
        .contended_bins = rate(before->bins.contended, now->bins.contended, s),
        .contended_arenas = rate(before->arena_locks.contended, now->arena_locks.contended, s),
        .contended_pool = rate(before->pool.contended, now->pool.contended, s),
        .contended_names = rate(before->names.contended, now->names.contended, s),
    };
    rates->acquired = rate(before->bins.acquired, now->bins.acquired, s) +
                      rate(before->arena_locks.acquired, now->arena_locks.acquired, s) +
                      rate(before->pool.acquired, now->pool.acquired, s) +
                      rate(before->names.acquired, now->names.acquired, s);
    rates->contended = rates->contended_bins + rates->contended_arenas + rates->contended_pool +
                       rates->contended_names;
}

/* ---- rows ---- */

const char *top_order_name(enum top_order order) {
    static const char *const names[TOP_ORDERS] = {"bytes", "rate", "waste", "size"};
    return names[order];
}

static uint64_t waste_of(const struct top_class *of) {
    return of->held_bytes > of->bytes ? of->held_bytes - of->bytes : 0;
}

/* Larger keys come first. */
static double key_of(const struct top_class_row *row, enum top_order order) {
    switch (order) {
    case TOP_BY_BYTES:
        return (double)row->now->bytes;
    case TOP_BY_RATE:
        return row->taken + row->given;
    case TOP_BY_WASTE:
        return (double)waste_of(row->now);
    default:
        return -(double)row->size_class;
    }
}

static enum top_order wanted; /* of compare_classes(): qsort() takes no argument */

static int compare_classes(const void *left, const void *right) {
    const struct top_class_row *a = left;
    const struct top_class_row *b = right;
    double first = key_of(a, wanted);
    double second = key_of(b, wanted);
    return first > second ? -1 : first < second ? 1 : a->size_class < b->size_class ? -1 : 1;
}

uint32_t top_classes(const struct top_sample *before, const struct top_sample *now,
                     enum top_order order, struct top_class_row rows[SIZE_CLASSES_MAX]) {
    double s = seconds_between(before, now);
    uint32_t count = 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_MAX; i++) {
        const struct top_class *of = &now->classes[i];
        const struct top_flow *then = &before->classes[i].flow;
        if (of->blocks != 0 || of->cached != 0 || of->held_bytes != 0 ||
            of->flow.taken != then->taken) {
            rows[count++] = (struct top_class_row){.size_class = i,
                                                   .now = of,
                                                   .taken = rate(then->taken, of->flow.taken, s),
                                                   .given = rate(then->given, of->flow.given, s)};
        }
    }
    wanted = order;
    qsort(rows, count, sizeof(rows[0]), compare_classes);
    return count;
}

static const struct top_process *find_process(const struct top_sample *sample,
                                              const struct process_info *info) {
    for (uint32_t i = 0; i < sample->process_count; i++) {
        const struct top_process *process = &sample->processes[i];
        if (process->info.slot == info->slot && process->info.generation == info->generation) {
            return process;
        }
    }
    return NULL;
}

static int compare_processes(const void *left, const void *right) {
    const struct top_process_row *a = left;
    const struct top_process_row *b = right;
    double first = a->taken_bytes + a->given_bytes;
    double second = b->taken_bytes + b->given_bytes;
    uint64_t first_cached = a->now->info.cached_bytes;
    uint64_t second_cached = b->now->info.cached_bytes;
    if (first != second) {
        return first > second ? -1 : 1;
    }
    if (first_cached != second_cached) {
        return first_cached > second_cached ? -1 : 1;
    }
    return a->now->info.slot < b->now->info.slot ? -1 : 1;
}

uint32_t top_processes(const struct top_sample *before, const struct top_sample *now,
                       struct top_process_row rows[PROCESSES_MAX]) {
    double s = seconds_between(before, now);
    for (uint32_t i = 0; i < now->process_count; i++) {
        const struct top_process *process = &now->processes[i];
        const struct top_process *then = find_process(before, &process->info);
        rows[i] = (struct top_process_row){.now = process};
        if (then != NULL) {
            rows[i].taken_bytes = rate(then->taken_bytes, process->taken_bytes, s);
            rows[i].given_bytes = rate(then->given_bytes, process->given_bytes, s);
        }
    }
    qsort(rows, now->process_count, sizeof(rows[0]), compare_processes);
    return now->process_count;
}
