/* stats_json.c -- statistics as JSON. doc/stats.md is the same schema for people.
 *
 * Each function makes one value, or NULL where memory ran out; json_pack() with a NULL inside gives
 * NULL in its turn, so that only the last result is looked at.
 *
 * Lock:   none
 * Killed: nothing shared is touched
 * Not here: what the numbers mean (doc/ctl.md), text for people (stats_text.c).
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "heap/stats.h"
#include "ipc/errors.h"

#define NUMBER(x) ((json_int_t)(x))

/* ---- pieces ---- */

/* A path may be anything; JSON is UTF-8. */
static json_t *text_of(const char *text) {
    json_t *string = json_string(text);
    if (string != NULL) {
        return string;
    }
    char copy[FILE_NAME_BYTES];
    size_t length = strnlen(text, sizeof(copy) - 1);
    for (size_t i = 0; i < length; i++) {
        copy[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    }
    return json_stringn(copy, length);
}

/* Takes the value over; the object, or NULL. */
static json_t *set(json_t *object, const char *key, json_t *value) {
    if (object != NULL && json_object_set_new(object, key, value) != 0) {
        json_decref(object);
        return NULL;
    }
    if (object == NULL) {
        json_decref(value);
    }
    return object;
}

/* Takes the item over; the list, or NULL. */
static json_t *append(json_t *list, json_t *item) {
    if (list != NULL && json_array_append_new(list, item) != 0) {
        json_decref(list);
        return NULL;
    }
    if (list == NULL) {
        json_decref(item);
    }
    return list;
}

static json_t *lock_of(const struct census_lock *lock) {
    return json_pack("{s:I,s:I}", "acquired", NUMBER(lock->acquired), "contended",
                     NUMBER(lock->contended));
}

static json_t *kind_of(const struct census_blocks *blocks) {
    return json_pack("{s:I,s:I,s:I,s:I}", "allocated", NUMBER(blocks->bytes), "nmalloc",
                     NUMBER(blocks->nmalloc), "ndalloc", NUMBER(blocks->ndalloc), "current",
                     NUMBER(blocks->out));
}

/* ---- the heap and its options ---- */

static json_t *path_of(const struct heap_file *file) {
    return text_of(file->name[0] != '\0' ? file->name : file->title);
}

static json_t *heap_of(const struct stats *stats) {
    const sharena_t *heap = stats->attachment->mapping.base;
    const struct superblock *superblock = heap_superblock(heap);
    char uuid[UUID_TEXT_BYTES];
    stats_uuid(heap, uuid);
    return json_pack("{s:o,s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:b,s:b}", "path",
                     path_of(&stats->attachment->file), "uuid", uuid, "base",
                     NUMBER(superblock->base_address), "created_ns", NUMBER(superblock->created_ns),
                     "capacity", NUMBER(superblock->total_bytes - superblock->data_offset), "limit",
                     NUMBER(superblock->limit_bytes), "format_version",
                     NUMBER(superblock->format_version), "page", (int)PAGE_BYTES, "chunk",
                     (int)CHUNK_BYTES, "readonly", stats->attachment->mapping.is_readonly, "sync",
                     stats->attachment->mapping.is_sync);
}

static json_t *value_of(const struct conf_entry *entry, uint32_t value) {
    switch (entry->type) {
    case CONF_BOOL:
        return json_boolean(value);
    case CONF_ENUM:
        return json_string(conf_word(entry, value));
    default:
        return json_integer(entry->type == CONF_MS && value == CONF_MS_NEVER ? -1 : NUMBER(value));
    }
}

static json_t *options_of(const struct conf *conf) {
    json_t *object = json_object();
    const struct conf_entry *entry;
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        json_t *value = value_of(entry, conf_value(conf, entry));
        const char *source = conf_source_name(conf_source_of(conf, entry));
        object = set(object, entry->name, json_pack("{s:o,s:s}", "value", value, "source", source));
    }
    return object;
}

/* ---- sums ---- */

static json_t *summary_of(const struct stats *stats) {
    const struct stats_summary s = stats_summary(stats);
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o}", "allocated",
                     NUMBER(s.allocated), "cached", NUMBER(s.cached), "active", NUMBER(s.active),
                     "metadata", NUMBER(s.metadata), "resident", NUMBER(s.resident), "mapped",
                     NUMBER(s.mapped), "retained", NUMBER(s.retained), "dirty", NUMBER(s.dirty),
                     "clean", NUMBER(s.clean), "limit", NUMBER(s.limit), "capacity",
                     NUMBER(s.capacity), "small", kind_of(&stats->merged.small), "large",
                     kind_of(&stats->merged.large), "huge", kind_of(&stats->huge));
}

static json_t *deaths_of(const struct heap_state *state) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "reaped",
                     NUMBER(shared_get(&state->reaped_threads)), "reaped_processes",
                     NUMBER(shared_get(&state->reaped_processes)), "reaped_bytes",
                     NUMBER(shared_get(&state->reaped_bytes)), "recovered",
                     NUMBER(shared_get(&state->recovered)), "recovered_cold",
                     NUMBER(shared_get(&state->recovered_cold)), "taken_over",
                     NUMBER(shared_get(&state->taken_over)));
}

static json_t *locks_of(const struct stats *stats) {
    return json_pack("{s:o,s:o,s:o,s:o}", "pool", lock_of(&stats->pool), "roots",
                     lock_of(&stats->names), "arenas", lock_of(&stats->merged.lock), "bins",
                     lock_of(&stats->bins));
}

/* ---- arenas ---- */

/* How much of the runs is blocks that are out. */
static double utilization(const struct census_bin *bin, uint32_t i) {
    uint64_t regions = bin->runs * sizeclass_run_shape(i)->regions;
    return regions != 0 ? (double)bin->blocks.out / (double)regions : 1.0;
}

static json_t *bin_of(const struct census_bin *bin, uint32_t i) {
    const struct run_shape *shape = sizeclass_run_shape(i);
    return json_pack("{s:i,s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:o}", "bin", (int)i,
                     "size", (int)shape->region_bytes, "nregs", (int)shape->regions, "run_size",
                     (int)(shape->pages * PAGE_BYTES), "allocated", NUMBER(bin->blocks.bytes),
                     "nmalloc", NUMBER(bin->blocks.nmalloc), "ndalloc", NUMBER(bin->blocks.ndalloc),
                     "curregs", NUMBER(bin->blocks.out), "curruns", NUMBER(bin->runs), "nruns",
                     NUMBER(bin->runs_made), "nreruns", NUMBER(bin->runs_again), "nfills",
                     NUMBER(bin->fills), "nflushes", NUMBER(bin->flushes), "utilization",
                     utilization(bin, i), "lock", lock_of(&bin->lock));
}

/* Those that were ever used. */
static json_t *bins_of(const struct census_arena *arena) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct census_bin *bin = &arena->bins[i];
        if (bin->blocks.nmalloc != 0 || bin->runs_made != 0) {
            list = append(list, bin_of(bin, i));
        }
    }
    return list;
}

/* Likewise, of large or huge classes. */
static json_t *extents_of(const struct census_blocks *counts, uint32_t count) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        if (counts[i].nmalloc != 0) {
            list = append(list,
                          json_pack("{s:i,s:I,s:I,s:I,s:I}", "lextent", (int)i, "size",
                                    NUMBER(sizeclass_bytes(SIZE_CLASSES_SMALL + i)), "nmalloc",
                                    NUMBER(counts[i].nmalloc), "ndalloc", NUMBER(counts[i].ndalloc),
                                    "curlextents", NUMBER(counts[i].out)));
        }
    }
    return list;
}

static json_t *arena_of(const struct stats *stats, const struct census_arena *arena) {
    json_t *object =
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "nthreads", NUMBER(arena->threads),
                  "chunks", NUMBER(arena->chunks), "pactive", NUMBER(arena->pages_active), "pdirty",
                  NUMBER(arena->pages_dirty), "pclean", NUMBER(arena->pages_clean), "npurge",
                  NUMBER(arena->purges.pieces), "purged", NUMBER(arena->purges.pages), "small",
                  kind_of(&arena->small), "large", kind_of(&arena->large));
    if ((stats->parts & STATS_LOCKS) != 0) {
        object = set(object, "lock", lock_of(&arena->lock));
    }
    if ((stats->parts & STATS_BINS) != 0) {
        object = set(object, "bins", bins_of(arena));
    }
    if ((stats->parts & STATS_LARGE) != 0) {
        object = set(object, "lextents", extents_of(arena->larges, CENSUS_LARGES));
    }
    return object;
}

static json_t *arenas_of(const struct stats *stats) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < stats->arena_count; i++) {
        json_t *arena = arena_of(stats, &stats->arenas[i]);
        list = append(list, set(arena, "arena", json_integer((json_int_t)i)));
    }
    return list;
}

/* ---- caches and processes ---- */

static json_t *caches_of(const struct stats *stats) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        if (stats->caches[i].out != 0) {
            list = append(list, json_pack("{s:I,s:I,s:I}", "size", NUMBER(sizeclass_bytes(i)),
                                          "blocks", NUMBER(stats->caches[i].out), "bytes",
                                          NUMBER(stats->caches[i].bytes)));
        }
    }
    return list;
}

static json_t *thread_of(const struct thread_info *info) {
    return json_pack("{s:i,s:i,s:i,s:I,s:I,s:I,s:I}", "slot", (int)info->slot, "tid",
                     (int)info->tid, "arena", (int)info->arena, "cached",
                     NUMBER(info->cached_bytes), "cached_blocks", NUMBER(info->cached_blocks),
                     "allocated", NUMBER(info->taken_bytes), "deallocated",
                     NUMBER(info->given_bytes + info->cached_bytes));
}

static json_t *threads_of(const struct stats *stats, const struct process_info *process) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < stats->thread_count; i++) {
        const struct thread_info *info = &stats->threads[i];
        if (info->process == process->slot && info->generation == process->generation) {
            list = append(list, thread_of(info));
        }
    }
    return list;
}

static json_t *processes_of(const struct stats *stats) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < stats->process_count; i++) {
        const struct process_info *info = &stats->processes[i];
        list = append(list,
                      json_pack("{s:i,s:i,s:o,s:s,s:I,s:i,s:I,s:o}", "slot", (int)info->slot, "pid",
                                (int)info->pid, "name", text_of(info->name), "state",
                                process_state_name(info->state), "attached_ns",
                                NUMBER(info->attached_ns), "nthreads", (int)info->threads, "cached",
                                NUMBER(info->cached_bytes), "threads", threads_of(stats, info)));
    }
    return list;
}

/* ---- the whole ---- */

static json_t *opt_of(const struct stats *stats) {
    return options_of(&stats->attachment->conf);
}

static json_t *death_of(const struct stats *stats) {
    return deaths_of(heap_state(stats->attachment->mapping.base));
}

static json_t *merged_of(const struct stats *stats) {
    return arena_of(stats, &stats->merged);
}

static json_t *pool_of(const struct stats *stats) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "used_chunks", NUMBER(stats->spans.used_chunks),
                     "free_chunks", NUMBER(stats->spans.free_chunks), "pdirty",
                     NUMBER(stats->spans.free_dirty), "npurge", NUMBER(stats->pool_purges.pieces),
                     "purged", NUMBER(stats->pool_purges.pages));
}

static json_t *huges_of(const struct stats *stats) {
    return extents_of(stats->huges, CENSUS_HUGES);
}

/* A part of what is asked for, made by its function. */
struct part {
    unsigned part; /* enum stats_part; 0: always there */
    const char *key;
    json_t *(*make)(const struct stats *stats);
};

static json_t *whole_of(const struct stats *stats) {
    static const struct part parts[] = {
        {STATS_GENERAL, "heap", heap_of},
        {STATS_GENERAL, "opt", opt_of},
        {0, "summary", summary_of},
        {0, "deaths", death_of},
        {STATS_LOCKS, "locks", locks_of},
        {STATS_PROCESSES, "processes", processes_of},
        {STATS_PROCESSES, "caches", caches_of},
        {0, "pool", pool_of},
        {STATS_MERGED, "merged", merged_of},
        {STATS_LARGE, "huge", huges_of},
        {STATS_ARENAS, "arenas", arenas_of},
    };
    json_t *object = json_pack("{s:s}", "version", SHARENA_VERSION);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if ((stats->parts & parts[i].part) == parts[i].part) {
            object = set(object, parts[i].key, parts[i].make(stats));
        }
    }
    return json_pack("{s:o}", "sharena", object);
}

/* json_dump_callback()'s pieces have no end of their own. */
static int pass_on(const char *piece, size_t length, void *arg) {
    const struct stats_out *out = arg;
    char text[512];
    while (length > 0) {
        size_t part = length < sizeof(text) - 1 ? length : sizeof(text) - 1;
        memcpy(text, piece, part);
        text[part] = '\0';
        out->write(out->arg, text);
        piece += part;
        length -= part;
    }
    return 0;
}

int stats_write_json(const struct stats *stats, const struct stats_out *out) {
    json_t *whole = whole_of(stats);
    struct stats_out copy = *out;
    int failed = whole == NULL || json_dump_callback(whole, pass_on, &copy,
                                                     JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0;
    json_decref(whole);
    if (failed) {
        return error_set(ENOMEM, "no private memory for the statistics as JSON");
    }
    out->write(out->arg, "\n");
    return 0;
}
