/* ctl_names.c -- the names of sharena_ctl: one table, and who reads and writes each of them.
 *
 * Numbers come from the books of the heap (page tables, counters): there is no second bookkeeping,
 * and nothing to refresh. doc/ctl.md is the same table for people.
 *
 * Holds:  every name is in doc/ctl.md                                                   (tested)
 * Lock:   none held on entry or return
 * Killed: nothing shared is changed here
 * Not here: the calling convention (ctl.c), numbers of each arena, bin, class, process and of the
 *           file (ctl_stats.c), the adding up (census.c), binding (arena.c).
 */
#include <errno.h>
#include <string.h>

#include "heap/arena.h"
#include "heap/census.h"
#include "heap/ctl.h"
#include "heap/ctl_arena.h"
#include "heap/heap.h"
#include "heap/tcache.h"
#include "ipc/errors.h"

#define QUANTUM_BYTES 16u

/* ---- what is built in, and configured ---- */

static uint64_t epoch = 1; /* private to the process; atomic */

static int read_version(const struct ctl_query *query, uint64_t *value) {
    (void)query;
    *value = (uint64_t)(uintptr_t)SHARENA_VERSION;
    return 0;
}

static int read_epoch(const struct ctl_query *query, uint64_t *value) {
    (void)query;
    *value = __atomic_load_n(&epoch, __ATOMIC_RELAXED);
    return 0;
}

static int write_epoch(const struct ctl_query *query, uint64_t value) {
    (void)query;
    (void)value;
    __atomic_fetch_add(&epoch, 1, __ATOMIC_RELAXED);
    return 0;
}

/* opt.*: the index is that of the entry. */
static int read_opt(const struct ctl_query *query, uint64_t *value) {
    const struct conf_entry *entry = conf_entry(query->index);
    uint32_t number = conf_value(&query->attachment->conf, entry);
    *value = entry->type == CONF_ENUM ? (uint64_t)(uintptr_t)conf_word(entry, number)
             : entry->type == CONF_MS && number == CONF_MS_NEVER ? UINT64_MAX
                                                                 : number;
    return 0;
}

static int read_opt_source(const struct ctl_query *query, uint64_t *value) {
    const struct conf_entry *entry = conf_entry(query->index);
    enum conf_source source = conf_source_of(&query->attachment->conf, entry);
    *value = (uint64_t)(uintptr_t)conf_source_name(source);
    return 0;
}

/* ---- what a heap is made of ---- */

static int read_page(const struct ctl_query *query, uint64_t *value) {
    (void)query;
    *value = PAGE_BYTES;
    return 0;
}

static int read_chunk(const struct ctl_query *query, uint64_t *value) {
    (void)query;
    *value = CHUNK_BYTES;
    return 0;
}

static int read_quantum(const struct ctl_query *query, uint64_t *value) {
    (void)query;
    *value = QUANTUM_BYTES;
    return 0;
}

static uint32_t count_bins(const struct ctl_query *query) {
    (void)query;
    return SIZE_CLASSES_SMALL;
}

static int read_nbins(const struct ctl_query *query, uint64_t *value) {
    *value = count_bins(query);
    return 0;
}

static int read_bin_size(const struct ctl_query *query, uint64_t *value) {
    *value = sizeclass_run_shape(query->index)->region_bytes;
    return 0;
}

static int read_bin_nregs(const struct ctl_query *query, uint64_t *value) {
    *value = sizeclass_run_shape(query->index)->regions;
    return 0;
}

static int read_bin_run_size(const struct ctl_query *query, uint64_t *value) {
    *value = (uint64_t)sizeclass_run_shape(query->index)->pages * PAGE_BYTES;
    return 0;
}

/* Large and huge classes that the capacity has room for. */
uint32_t ctl_count_lextents(const struct ctl_query *query) {
    const struct superblock *superblock = heap_superblock(query->heap);
    uint64_t capacity = superblock->total_bytes - superblock->data_offset;
    uint32_t size_class = SIZE_CLASSES_SMALL;
    while (size_class < SIZE_CLASSES_MAX && sizeclass_bytes(size_class) <= capacity) {
        size_class++;
    }
    return size_class - SIZE_CLASSES_SMALL;
}

static int read_nlextents(const struct ctl_query *query, uint64_t *value) {
    *value = ctl_count_lextents(query);
    return 0;
}

static int read_lextent_size(const struct ctl_query *query, uint64_t *value) {
    *value = sizeclass_bytes(SIZE_CLASSES_SMALL + query->index);
    return 0;
}

/* ---- stats.* ---- */

/* Attached for reading only there is no slot to lock with, and the census does without. */
static struct census_spans take_spans(const struct ctl_query *query) {
    struct census_spans spans;
    int is_readonly = query->attachment->mapping.is_readonly;
    census_spans(query->heap, is_readonly ? NULL : heap_enter(query->heap), &spans);
    return spans;
}

static int read_allocated(const struct ctl_query *query, uint64_t *value) {
    uint64_t out = census_out_bytes(query->heap);
    uint64_t cached = census_cached_bytes(query->heap);
    *value = out > cached ? out - cached : 0;
    return 0;
}

static int read_cached(const struct ctl_query *query, uint64_t *value) {
    *value = census_cached_bytes(query->heap);
    return 0;
}

static int read_active(const struct ctl_query *query, uint64_t *value) {
    uint64_t pages = take_spans(query).huge_pages;
    for (uint32_t i = 0; i < census_arenas(query->heap); i++) {
        pages += shared_get(&heap_arena(query->heap, i)->pages_used);
    }
    *value = pages * PAGE_BYTES;
    return 0;
}

static int read_mapped(const struct ctl_query *query, uint64_t *value) {
    *value = take_spans(query).used_chunks * CHUNK_BYTES;
    return 0;
}

static int read_retained(const struct ctl_query *query, uint64_t *value) {
    *value = take_spans(query).free_chunks * CHUNK_BYTES;
    return 0;
}

static int read_dirty(const struct ctl_query *query, uint64_t *value) {
    uint64_t pages = take_spans(query).free_dirty;
    for (uint32_t i = 0; i < census_arenas(query->heap); i++) {
        pages += shared_get(&heap_arena(query->heap, i)->pages_dirty);
    }
    *value = pages * PAGE_BYTES;
    return 0;
}

static int read_clean(const struct ctl_query *query, uint64_t *value) {
    struct census_spans spans = take_spans(query);
    uint64_t pages = spans.free_chunks * CHUNK_PAGES - spans.free_dirty;
    for (uint32_t i = 0; i < census_arenas(query->heap); i++) {
        struct census_arena arena;
        census_arena(query->heap, i, &arena);
        pages += arena.pages_clean;
    }
    *value = pages * PAGE_BYTES;
    return 0;
}

static int read_metadata(const struct ctl_query *query, uint64_t *value) {
    *value = census_fixed_bytes(query->heap) + census_table_bytes(query->heap);
    return 0;
}

static int read_resident(const struct ctl_query *query, uint64_t *value) {
    uint64_t backed = shared_get(&heap_state(query->heap)->backed_pages);
    *value = census_fixed_bytes(query->heap) + backed * PAGE_BYTES;
    return 0;
}

static int read_reaped(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->reaped_threads);
    return 0;
}

static int read_reaped_processes(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->reaped_processes);
    return 0;
}

static int read_reaped_bytes(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->reaped_bytes);
    return 0;
}

static int read_recovered_cold(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->recovered_cold);
    return 0;
}

static int read_taken_over(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->taken_over);
    return 0;
}

static int read_recovered(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_state(query->heap)->recovered);
    return 0;
}

static uint32_t count_made(const struct ctl_query *query) {
    return shared_get(&heap_pool(query->heap)->arenas_made);
}

static int read_narenas(const struct ctl_query *query, uint64_t *value) {
    *value = count_made(query);
    return 0;
}

static int read_arena_nthreads(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_arena(query->heap, query->index)->threads);
    return 0;
}

static int read_arena_pdirty(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_arena(query->heap, query->index)->pages_dirty);
    return 0;
}

static int read_arena_pactive(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_arena(query->heap, query->index)->pages_used);
    return 0;
}

static int read_arena_chunks(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_arena(query->heap, query->index)->chunks);
    return 0;
}

/* ---- thread.*: of the calling thread, which gets a slot if it has none ---- */

static int read_thread_arena(const struct ctl_query *query, uint64_t *value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    *value = shared_get(&self->arena) - 1;
    return 0;
}

static int write_thread_arena(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    tcache_flush(query->heap, self);
    return arena_bind(query->heap, self, (uint32_t)value);
}

static int read_thread_allocated(const struct ctl_query *query, uint64_t *value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    *value = shared_get(&slot_tcache(self)->taken_bytes);
    return 0;
}

static int read_thread_deallocated(const struct ctl_query *query, uint64_t *value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    *value = shared_get(&slot_tcache(self)->given_bytes) + census_cached_by(self);
    return 0;
}

static int read_thread_cached(const struct ctl_query *query, uint64_t *value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    *value = census_cached_by(self);
    return 0;
}

static int read_tcache_enabled(const struct ctl_query *query, uint64_t *value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    *value = stack_capacity(slot_tcache(self), 1) != 0;
    return 0;
}

static int write_tcache_enabled(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    tcache_enable(query->heap, self, &query->attachment->conf, value != 0);
    return 0;
}

static int write_tcache_flush(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    (void)value;
    if (self == NULL) {
        return errno;
    }
    tcache_flush(query->heap, self);
    return 0;
}

/* ---- prof.*: active is this process's, the others are the heap's ---- */

static int read_prof_active(const struct ctl_query *query, uint64_t *value) {
    *value = __atomic_load_n(&query->attachment->prof_active, __ATOMIC_RELAXED);
    return 0;
}

static int write_prof_active(const struct ctl_query *query, uint64_t value) {
    if (value != 0 && !query->attachment->conf.prof) {
        return error_set(EINVAL, "%s: this process opened the heap without prof:true", query->name);
    }
    __atomic_store_n(&query->attachment->prof_active, value != 0, __ATOMIC_RELAXED);
    return 0;
}

static int read_prof_samples(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_pool(query->heap)->samples_used);
    return 0;
}

static int read_prof_dropped(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_pool(query->heap)->samples_dropped);
    return 0;
}

static int read_prof_lg_sample(const struct ctl_query *query, uint64_t *value) {
    *value = query->attachment->conf.lg_prof_sample;
    return 0;
}

/* ---- the table ---- */

static const struct ctl_name names[] = {
    {"version", CTL_STRING, read_version, NULL, NULL},
    {"epoch", CTL_U64, read_epoch, write_epoch, NULL},
    {"arenas.narenas", CTL_UNSIGNED, read_narenas, NULL, NULL},
    {"arenas.page", CTL_SIZE, read_page, NULL, NULL},
    {"arenas.chunk", CTL_SIZE, read_chunk, NULL, NULL},
    {"arenas.quantum", CTL_SIZE, read_quantum, NULL, NULL},
    {"arenas.nbins", CTL_UNSIGNED, read_nbins, NULL, NULL},
    {"arenas.bin.#.size", CTL_SIZE, read_bin_size, NULL, count_bins},
    {"arenas.bin.#.nregs", CTL_UNSIGNED, read_bin_nregs, NULL, count_bins},
    {"arenas.bin.#.run_size", CTL_SIZE, read_bin_run_size, NULL, count_bins},
    {"arenas.nlextents", CTL_UNSIGNED, read_nlextents, NULL, NULL},
    {"arenas.lextent.#.size", CTL_SIZE, read_lextent_size, NULL, ctl_count_lextents},
    {"thread.arena", CTL_UNSIGNED, read_thread_arena, write_thread_arena, NULL},
    {"thread.allocated", CTL_U64, read_thread_allocated, NULL, NULL},
    {"thread.deallocated", CTL_U64, read_thread_deallocated, NULL, NULL},
    {"thread.cached", CTL_SIZE, read_thread_cached, NULL, NULL},
    {"thread.tcache.enabled", CTL_BOOL, read_tcache_enabled, write_tcache_enabled, NULL},
    {"thread.tcache.flush", CTL_ACTION, NULL, write_tcache_flush, NULL},
    {"stats.allocated", CTL_SIZE, read_allocated, NULL, NULL},
    {"stats.cached", CTL_SIZE, read_cached, NULL, NULL},
    {"stats.active", CTL_SIZE, read_active, NULL, NULL},
    {"stats.mapped", CTL_SIZE, read_mapped, NULL, NULL},
    {"stats.retained", CTL_SIZE, read_retained, NULL, NULL},
    {"stats.resident", CTL_SIZE, read_resident, NULL, NULL},
    {"stats.metadata", CTL_SIZE, read_metadata, NULL, NULL},
    {"stats.dirty", CTL_SIZE, read_dirty, NULL, NULL},
    {"stats.clean", CTL_SIZE, read_clean, NULL, NULL},
    {"stats.arenas.#.nthreads", CTL_UNSIGNED, read_arena_nthreads, NULL, count_made},
    {"stats.arenas.#.pdirty", CTL_SIZE, read_arena_pdirty, NULL, count_made},
    {"stats.arenas.#.pactive", CTL_SIZE, read_arena_pactive, NULL, count_made},
    {"stats.arenas.#.chunks", CTL_SIZE, read_arena_chunks, NULL, count_made},
    {"stats.arenas.#.npurge", CTL_U64, ctl_read_npurge, NULL, count_made},
    {"stats.arenas.#.purged", CTL_U64, ctl_read_purged, NULL, count_made},
    {"stats.pool.pdirty", CTL_SIZE, ctl_read_pool_pdirty, NULL, NULL},
    {"stats.pool.npurge", CTL_U64, ctl_read_pool_npurge, NULL, NULL},
    {"stats.pool.purged", CTL_U64, ctl_read_pool_purged, NULL, NULL},
    {"stats.reaped", CTL_U64, read_reaped, NULL, NULL},
    {"stats.reaped_processes", CTL_U64, read_reaped_processes, NULL, NULL},
    {"stats.reaped_bytes", CTL_U64, read_reaped_bytes, NULL, NULL},
    {"stats.recovered", CTL_U64, read_recovered, NULL, NULL},
    {"stats.recovered_cold", CTL_U64, read_recovered_cold, NULL, NULL},
    {"stats.taken_over", CTL_U64, read_taken_over, NULL, NULL},
    {"prof.active", CTL_BOOL, read_prof_active, write_prof_active, NULL},
    {"prof.lg_sample", CTL_SIZE, read_prof_lg_sample, NULL, NULL},
    {"prof.samples", CTL_SIZE, read_prof_samples, NULL, NULL},
    {"prof.dropped", CTL_U64, read_prof_dropped, NULL, NULL},
    {"arena.#.purge", CTL_ACTION, NULL, ctl_purge_arena, count_made},
    {"arena.#.decay", CTL_ACTION, NULL, ctl_decay_arena, count_made},
    {"arena.#.hooks", CTL_HOOKS, ctl_read_hooks, ctl_write_hooks, count_made},
    {"arena.#.dirty_decay_ms", CTL_SIZE, ctl_read_decay_ms, ctl_write_decay_ms, count_made},
};

const struct ctl_name *ctl_name(size_t index) {
    const size_t count = sizeof(names) / sizeof(names[0]);
    return index < count ? &names[index] : ctl_stats_name(index - count);
}

static enum ctl_type type_of_opt(const struct conf_entry *entry) {
    switch (entry->type) {
    case CONF_BOOL:
        return CTL_BOOL;
    case CONF_MS:
        return CTL_SIZE;
    case CONF_ENUM:
        return CTL_STRING;
    default:
        return CTL_UNSIGNED;
    }
}

int ctl_find_opt(const char *option, struct ctl_name *found, uint32_t *index) {
    const struct conf_entry *entry;
    for (*index = 0; (entry = conf_entry(*index)) != NULL; ++*index) {
        size_t length = strlen(entry->name);
        if (strncmp(entry->name, option, length) != 0) {
            continue;
        }
        if (option[length] == '\0') {
            *found = (struct ctl_name){entry->name, type_of_opt(entry), read_opt, NULL, NULL};
            return 1;
        }
        if (strcmp(option + length, ".source") == 0) {
            *found = (struct ctl_name){entry->name, CTL_STRING, read_opt_source, NULL, NULL};
            return 1;
        }
    }
    return 0;
}
