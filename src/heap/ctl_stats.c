/* ctl_stats.c -- names of sharena_ctl for each arena, bin, class, lock, process, and for the file.
 *
 * Most are fields of what the census or processes.c fills in: a row says which, by its offset.
 *
 * Holds:  every name is in doc/ctl.md                                                   (tested)
 * Lock:   none
 * Killed: nothing shared is changed
 * Not here: the other names (ctl_names.c), the adding up (census.c).
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "heap/census.h"
#include "heap/ctl.h"
#include "heap/geometry.h"
#include "heap/processes.h"
#include "heap/stats.h"
#include "ipc/errors.h"

struct stats_row {
    struct ctl_name name;
    size_t offset; /* of a uint64_t in what the row's read function looks at */
};

static int give_field(const struct ctl_query *query, const void *record, uint64_t *value) {
    const struct stats_row *row = (const struct stats_row *)(const void *)query->row;
    memcpy(value, (const char *)record + row->offset, sizeof(*value));
    return 0;
}

/* ---- how many there are ---- */

static uint32_t count_arenas(const struct ctl_query *query) {
    return census_arenas(query->heap);
}

static uint32_t count_arena_bins(const struct ctl_query *query) {
    return query->is_inner ? SIZE_CLASSES_SMALL : count_arenas(query);
}

static uint32_t count_arena_larges(const struct ctl_query *query) {
    return query->is_inner ? CENSUS_LARGES : count_arenas(query);
}

static uint32_t count_processes(const struct ctl_query *query) {
    (void)query;
    return PROCESSES_MAX;
}

/* ---- arenas ---- */

static int read_arena(const struct ctl_query *query, uint64_t *value) {
    struct census_arena arena;
    census_arena(query->heap, query->index, &arena);
    return give_field(query, &arena, value);
}

static int read_bin(const struct ctl_query *query, uint64_t *value) {
    struct census_bin bin = census_bin(query->heap, query->index, query->inner);
    return give_field(query, &bin, value);
}

static int read_large(const struct ctl_query *query, uint64_t *value) {
    const struct arena *arena = heap_arena(query->heap, query->index);
    struct census_blocks blocks =
        census_count(&arena->large[query->inner], SIZE_CLASSES_SMALL + query->inner);
    return give_field(query, &blocks, value);
}

/* ---- the heap as a whole ---- */

static int read_huge(const struct ctl_query *query, uint64_t *value) {
    struct census_blocks blocks = census_huge(query->heap, NULL);
    return give_field(query, &blocks, value);
}

/* A class that is large in arenas, huge in the pool where it was aligned, or huge. */
static int read_lextent(const struct ctl_query *query, uint64_t *value) {
    uint32_t i = query->index;
    const struct pool *pool = heap_pool(query->heap);
    struct census_blocks sum = census_count(&pool->huge[i], SIZE_CLASSES_SMALL + i);
    for (uint32_t a = 0; i < CENSUS_LARGES && a < census_arenas(query->heap); a++) {
        const struct arena *arena = heap_arena(query->heap, a);
        struct census_blocks blocks = census_count(&arena->large[i], SIZE_CLASSES_SMALL + i);
        census_add_blocks(&sum, &blocks);
    }
    return give_field(query, &sum, value);
}

static int read_pool_lock(const struct ctl_query *query, uint64_t *value) {
    struct census_lock lock = census_lock(&heap_pool(query->heap)->lock);
    return give_field(query, &lock, value);
}

static int read_roots_lock(const struct ctl_query *query, uint64_t *value) {
    struct census_lock lock = census_lock(&heap_roots(query->heap)->lock);
    return give_field(query, &lock, value);
}

static int read_limit(const struct ctl_query *query, uint64_t *value) {
    *value = heap_superblock(query->heap)->limit_bytes;
    return 0;
}

static int read_capacity(const struct ctl_query *query, uint64_t *value) {
    const struct superblock *superblock = heap_superblock(query->heap);
    *value = superblock->total_bytes - superblock->data_offset;
    return 0;
}

/* ---- the file ---- */

/* A string that was put together for a query lives until the thread's next one. */
static _Thread_local char text[UUID_TEXT_BYTES];

static int give_text(const char *string, uint64_t *value) {
    *value = (uint64_t)(uintptr_t)string;
    return 0;
}

static int read_path(const struct ctl_query *query, uint64_t *value) {
    const struct heap_file *file = &query->attachment->file;
    return give_text(file->name[0] != '\0' ? file->name : file->title, value);
}

static int read_uuid(const struct ctl_query *query, uint64_t *value) {
    stats_uuid(query->heap, text);
    return give_text(text, value);
}

static int read_superblock(const struct ctl_query *query, uint64_t *value) {
    return give_field(query, heap_superblock(query->heap), value);
}

static int read_format_version(const struct ctl_query *query, uint64_t *value) {
    *value = heap_superblock(query->heap)->format_version;
    return 0;
}

static int read_readonly(const struct ctl_query *query, uint64_t *value) {
    *value = query->attachment->mapping.is_readonly != 0;
    return 0;
}

static int read_sync(const struct ctl_query *query, uint64_t *value) {
    *value = query->attachment->mapping.is_sync != 0;
    return 0;
}

/* ---- processes ---- */

static int read_count(const struct ctl_query *query, uint64_t *value) {
    *value = 0;
    for (uint32_t i = 0; i < heap_processes_used(query->heap); i++) {
        *value += process_is_attached(query->attachment, i) ? 1 : 0;
    }
    return 0;
}

static int describe(const struct ctl_query *query, struct process_info *info) {
    return process_describe(query->attachment, query->index, info)
               ? 0
               : error_set(ENOENT, "%s: no process has this slot now; processes.count have one",
                           query->name);
}

static int read_process(const struct ctl_query *query, uint64_t *value) {
    struct process_info info;
    int error = describe(query, &info);
    return error == 0 ? give_field(query, &info, value) : error;
}

static int read_pid(const struct ctl_query *query, uint64_t *value) {
    struct process_info info;
    int error = describe(query, &info);
    *value = info.pid;
    return error;
}

static int read_threads(const struct ctl_query *query, uint64_t *value) {
    struct process_info info;
    int error = describe(query, &info);
    *value = info.threads;
    return error;
}

static int read_name(const struct ctl_query *query, uint64_t *value) {
    struct process_info info;
    int error = describe(query, &info);
    (void)snprintf(text, sizeof(text), "%s", info.name);
    return error == 0 ? give_text(text, value) : error;
}

static int read_state(const struct ctl_query *query, uint64_t *value) {
    struct process_info info;
    int error = describe(query, &info);
    return error == 0 ? give_text(process_state_name(info.state), value) : error;
}

/* ---- the table ---- */

#define IN_ARENA(field) offsetof(struct census_arena, field)
#define IN_BIN(field) offsetof(struct census_bin, field)
#define IN_BLOCKS(field) offsetof(struct census_blocks, field)
#define IN_LOCK(field) offsetof(struct census_lock, field)
#define IN_SUPERBLOCK(field) offsetof(struct superblock, field)
#define IN_PROCESS(field) offsetof(struct process_info, field)

static const struct stats_row rows[] = {
    {{"stats.arenas.#.pclean", CTL_SIZE, read_arena, NULL, count_arenas}, IN_ARENA(pages_clean)},
    {{"stats.arenas.#.small.allocated", CTL_SIZE, read_arena, NULL, count_arenas},
     IN_ARENA(small.bytes)},
    {{"stats.arenas.#.small.nmalloc", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(small.nmalloc)},
    {{"stats.arenas.#.small.ndalloc", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(small.ndalloc)},
    {{"stats.arenas.#.large.allocated", CTL_SIZE, read_arena, NULL, count_arenas},
     IN_ARENA(large.bytes)},
    {{"stats.arenas.#.large.nmalloc", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(large.nmalloc)},
    {{"stats.arenas.#.large.ndalloc", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(large.ndalloc)},
    {{"stats.arenas.#.lock.acquired", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(lock.acquired)},
    {{"stats.arenas.#.lock.contended", CTL_U64, read_arena, NULL, count_arenas},
     IN_ARENA(lock.contended)},
    {{"stats.arenas.#.bins.#.nmalloc", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(blocks.nmalloc)},
    {{"stats.arenas.#.bins.#.ndalloc", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(blocks.ndalloc)},
    {{"stats.arenas.#.bins.#.curregs", CTL_SIZE, read_bin, NULL, count_arena_bins},
     IN_BIN(blocks.out)},
    {{"stats.arenas.#.bins.#.nfills", CTL_U64, read_bin, NULL, count_arena_bins}, IN_BIN(fills)},
    {{"stats.arenas.#.bins.#.nflushes", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(flushes)},
    {{"stats.arenas.#.bins.#.nruns", CTL_U64, read_bin, NULL, count_arena_bins}, IN_BIN(runs_made)},
    {{"stats.arenas.#.bins.#.nreruns", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(runs_again)},
    {{"stats.arenas.#.bins.#.curruns", CTL_SIZE, read_bin, NULL, count_arena_bins}, IN_BIN(runs)},
    {{"stats.arenas.#.bins.#.lock.acquired", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(lock.acquired)},
    {{"stats.arenas.#.bins.#.lock.contended", CTL_U64, read_bin, NULL, count_arena_bins},
     IN_BIN(lock.contended)},
    {{"stats.arenas.#.lextents.#.nmalloc", CTL_U64, read_large, NULL, count_arena_larges},
     IN_BLOCKS(nmalloc)},
    {{"stats.arenas.#.lextents.#.ndalloc", CTL_U64, read_large, NULL, count_arena_larges},
     IN_BLOCKS(ndalloc)},
    {{"stats.arenas.#.lextents.#.curlextents", CTL_SIZE, read_large, NULL, count_arena_larges},
     IN_BLOCKS(out)},
    {{"stats.lextents.#.nmalloc", CTL_U64, read_lextent, NULL, ctl_count_lextents},
     IN_BLOCKS(nmalloc)},
    {{"stats.lextents.#.ndalloc", CTL_U64, read_lextent, NULL, ctl_count_lextents},
     IN_BLOCKS(ndalloc)},
    {{"stats.lextents.#.curlextents", CTL_SIZE, read_lextent, NULL, ctl_count_lextents},
     IN_BLOCKS(out)},
    {{"stats.huge.allocated", CTL_SIZE, read_huge, NULL, NULL}, IN_BLOCKS(bytes)},
    {{"stats.huge.nmalloc", CTL_U64, read_huge, NULL, NULL}, IN_BLOCKS(nmalloc)},
    {{"stats.huge.ndalloc", CTL_U64, read_huge, NULL, NULL}, IN_BLOCKS(ndalloc)},
    {{"stats.pool.lock.acquired", CTL_U64, read_pool_lock, NULL, NULL}, IN_LOCK(acquired)},
    {{"stats.pool.lock.contended", CTL_U64, read_pool_lock, NULL, NULL}, IN_LOCK(contended)},
    {{"stats.roots.lock.acquired", CTL_U64, read_roots_lock, NULL, NULL}, IN_LOCK(acquired)},
    {{"stats.roots.lock.contended", CTL_U64, read_roots_lock, NULL, NULL}, IN_LOCK(contended)},
    {{"stats.limit", CTL_SIZE, read_limit, NULL, NULL}, 0},
    {{"stats.capacity", CTL_SIZE, read_capacity, NULL, NULL}, 0},
    {{"heap.path", CTL_STRING, read_path, NULL, NULL}, 0},
    {{"heap.uuid", CTL_STRING, read_uuid, NULL, NULL}, 0},
    {{"heap.base", CTL_SIZE, read_superblock, NULL, NULL}, IN_SUPERBLOCK(base_address)},
    {{"heap.created_ns", CTL_U64, read_superblock, NULL, NULL}, IN_SUPERBLOCK(created_ns)},
    {{"heap.format_version", CTL_UNSIGNED, read_format_version, NULL, NULL}, 0},
    {{"heap.readonly", CTL_BOOL, read_readonly, NULL, NULL}, 0},
    {{"heap.sync", CTL_BOOL, read_sync, NULL, NULL}, 0},
    {{"processes.count", CTL_UNSIGNED, read_count, NULL, NULL}, 0},
    {{"process.#.pid", CTL_UNSIGNED, read_pid, NULL, count_processes}, 0},
    {{"process.#.name", CTL_STRING, read_name, NULL, count_processes}, 0},
    {{"process.#.state", CTL_STRING, read_state, NULL, count_processes}, 0},
    {{"process.#.threads", CTL_UNSIGNED, read_threads, NULL, count_processes}, 0},
    {{"process.#.cached", CTL_SIZE, read_process, NULL, count_processes}, IN_PROCESS(cached_bytes)},
    {{"process.#.attached_ns", CTL_U64, read_process, NULL, count_processes},
     IN_PROCESS(attached_ns)},
};

const struct ctl_name *ctl_stats_name(size_t index) {
    return index < sizeof(rows) / sizeof(rows[0]) ? &rows[index].name : NULL;
}
