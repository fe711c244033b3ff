/* stats_text.c -- statistics as text for people: tables that fit a terminal of 100 columns.
 *
 * Lock:   none
 * Killed: nothing shared is touched
 * Not here: what the numbers mean (doc/ctl.md), JSON (stats_json.c).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "heap/stats.h"

/* ---- pieces ---- */

static void say(const struct stats_out *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(const struct stats_out *out, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    out->write(out->arg, text);
}

#define SIZE_TEXT_BYTES 16

/* "1.5 MiB": four figures at most. */
static const char *size_text(uint64_t bytes, char text[SIZE_TEXT_BYTES]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, SIZE_TEXT_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

#define TIME_TEXT_BYTES 32

static const char *time_text(uint64_t ns, char text[TIME_TEXT_BYTES]) {
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(text, TIME_TEXT_BYTES, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
        (void)snprintf(text, TIME_TEXT_BYTES, "?");
    }
    return text;
}

/* ---- the heap and its options ---- */

static void write_heap(const struct stats *stats, const struct stats_out *out) {
    const sharena_t *heap = stats->attachment->mapping.base;
    const struct superblock *superblock = heap_superblock(heap);
    char uuid[UUID_TEXT_BYTES];
    char made[TIME_TEXT_BYTES];
    stats_uuid(heap, uuid);
    say(out, "heap %s\n", stats->attachment->file.title);
    say(out, "  uuid %s, made %s, format %u, sharena %s\n", uuid,
        time_text(superblock->created_ns, made), superblock->format_version, SHARENA_VERSION);
    say(out, "  mapped at %#" PRIx64 "%s%s\n", superblock->base_address,
        stats->attachment->mapping.is_readonly ? ", read-only" : "",
        stats->attachment->mapping.is_sync ? ", MAP_SYNC" : "");
}

static void write_options(const struct conf *conf, const struct stats_out *out) {
    const struct conf_entry *entry;
    say(out, "\noptions of this process for this heap\n");
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        uint32_t value = conf_value(conf, entry);
        char number[16];
        (void)snprintf(number, sizeof(number), "%u", value);
        const char *text = entry->type == CONF_BOOL   ? value ? "true" : "false"
                           : entry->type == CONF_ENUM ? conf_word(entry, value)
                           : entry->type == CONF_MS && value == CONF_MS_NEVER ? "-1"
                                                                              : number;
        say(out, "  %-26s %12s  %s\n", entry->name, text,
            conf_source_name(conf_source_of(conf, entry)));
    }
}

/* ---- sums ---- */

static void write_bytes(const struct stats_out *out, const char *name, uint64_t bytes,
                        const char *meaning) {
    char size[SIZE_TEXT_BYTES];
    say(out, "  %-10s %16" PRIu64 "  %10s  %s\n", name, bytes, size_text(bytes, size), meaning);
}

static void write_summary(const struct stats *stats, const struct stats_out *out) {
    const struct stats_summary sum = stats_summary(stats);
    say(out, "\nsummary                bytes\n");
    write_bytes(out, "allocated", sum.allocated, "blocks that the application has");
    write_bytes(out, "cached", sum.cached, "blocks in the caches of threads");
    write_bytes(out, "active", sum.active, "pages that hold blocks");
    write_bytes(out, "mapped", sum.mapped, "chunks in use");
    write_bytes(out, "retained", sum.retained, "chunks that are free");
    write_bytes(out, "dirty", sum.dirty, "free pages with storage");
    write_bytes(out, "clean", sum.clean, "free pages without");
    write_bytes(out, "metadata", sum.metadata, "tables, slots, roots, arenas");
    write_bytes(out, "resident", sum.resident, "storage of the file");
    write_bytes(out, "limit", sum.limit, sum.limit == 0 ? "none" : "most storage it may have");
    write_bytes(out, "capacity", sum.capacity, "address space for blocks");
}

static void write_kind(const struct stats_out *out, const char *name,
                       const struct census_blocks *blocks) {
    char size[SIZE_TEXT_BYTES];
    say(out, "  %-10s %10s %12" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n", name,
        size_text(blocks->bytes, size), blocks->out, blocks->nmalloc, blocks->ndalloc);
}

static void write_kinds(const struct stats *stats, const struct stats_out *out) {
    say(out, "\nblocks, cached ones included\n"
             "  kind            bytes      current          taken          given\n");
    write_kind(out, "small", &stats->merged.small);
    write_kind(out, "large", &stats->merged.large);
    write_kind(out, "huge", &stats->huge);
}

static void write_deaths(const struct heap_state *state, const struct stats_out *out) {
    char size[SIZE_TEXT_BYTES];
    say(out,
        "\ndeaths: %" PRIu64 " processes, %" PRIu64 " threads reaped, %s back from their caches;\n"
        "  %" PRIu64 " sections undone (%" PRIu64 " at a cold open), %" PRIu64
        " locks taken over\n",
        shared_get(&state->reaped_processes), shared_get(&state->reaped_threads),
        size_text(shared_get(&state->reaped_bytes), size), shared_get(&state->recovered),
        shared_get(&state->recovered_cold), shared_get(&state->taken_over));
}

static void write_lock(const struct stats_out *out, const char *name,
                       const struct census_lock *lock) {
    say(out, "  %-10s %16" PRIu64 " %14" PRIu64 "\n", name, lock->acquired, lock->contended);
}

static void write_locks(const struct stats *stats, const struct stats_out *out) {
    say(out, "\nlocks              acquired      contended\n");
    write_lock(out, "bins", &stats->bins);
    write_lock(out, "arenas", &stats->merged.lock);
    write_lock(out, "pool", &stats->pool);
    write_lock(out, "roots", &stats->names);
}

/* ---- processes and caches ---- */

static void write_thread(const struct thread_info *info, const struct stats_out *out) {
    char arena[16];
    char cached[SIZE_TEXT_BYTES];
    (void)snprintf(arena, sizeof(arena), info->arena == UINT32_MAX ? "-" : "%u", info->arena);
    say(out, "        thread %-8u arena %-5s %10s in %" PRIu64 " blocks\n", info->tid, arena,
        size_text(info->cached_bytes, cached), info->cached_blocks);
}

static void write_process(const struct stats *stats, const struct process_info *info,
                          const struct stats_out *out) {
    char cached[SIZE_TEXT_BYTES];
    char since[TIME_TEXT_BYTES];
    say(out, "  %4u %8u %-15s %-8s %7u %10s  %s\n", info->slot, info->pid, info->name,
        process_state_name(info->state), info->threads, size_text(info->cached_bytes, cached),
        time_text(info->attached_ns, since));
    for (uint32_t i = 0; i < stats->thread_count; i++) {
        const struct thread_info *thread = &stats->threads[i];
        if (thread->process == info->slot && thread->generation == info->generation) {
            write_thread(thread, out);
        }
    }
}

static void write_processes(const struct stats *stats, const struct stats_out *out) {
    say(out, "\nprocesses\n"
             "  slot      pid name            state    threads     cached  attached\n");
    for (uint32_t i = 0; i < stats->process_count; i++) {
        write_process(stats, &stats->processes[i], out);
    }
}

static void write_caches(const struct stats *stats, const struct stats_out *out) {
    char bytes[SIZE_TEXT_BYTES];
    say(out, "\ncaches of all threads\n        size       blocks      bytes\n");
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        const struct census_blocks *cached = &stats->caches[i];
        if (cached->out != 0) {
            say(out, "  %10zu %12" PRIu64 " %10s\n", sizeclass_bytes(i), cached->out,
                size_text(cached->bytes, bytes));
        }
    }
}

/* ---- arenas ---- */

static void write_bin(const struct census_bin *bin, uint32_t i, const struct stats_out *out) {
    const struct run_shape *shape = sizeclass_run_shape(i);
    uint64_t regions = bin->runs * shape->regions;
    double used = regions != 0 ? (double)bin->blocks.out / (double)regions : 1.0;
    say(out,
        "  %7u %5u %10" PRIu64 " %12" PRIu64 " %12" PRIu64 " %8" PRIu64 " %5.3f %9" PRIu64
        " %9" PRIu64 " %9" PRIu64 "\n",
        shape->region_bytes, shape->regions, bin->blocks.out, bin->blocks.nmalloc,
        bin->blocks.ndalloc, bin->runs, used, bin->fills, bin->flushes, bin->lock.contended);
}

static void write_bins(const struct census_arena *arena, const struct stats_out *out) {
    say(out, "  bins of nregs    current        taken        given     runs  util     fills"
             "   flushes contended\n");
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        const struct census_bin *bin = &arena->bins[i];
        if (bin->blocks.nmalloc != 0 || bin->runs_made != 0) {
            write_bin(bin, i, out);
        }
    }
}

/* The title goes before the first that was ever used. */
static void write_extents(const char *title, const struct census_blocks *counts, uint32_t count,
                          const struct stats_out *out) {
    char size[SIZE_TEXT_BYTES];
    int is_first = 1;
    for (uint32_t i = 0; i < count; i++) {
        if (counts[i].nmalloc == 0) {
            continue;
        }
        if (is_first) {
            say(out, "%s     current        taken        given\n", title);
            is_first = 0;
        }
        say(out, "  %11s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n",
            size_text(sizeclass_bytes(SIZE_CLASSES_SMALL + i), size), counts[i].out,
            counts[i].nmalloc, counts[i].ndalloc);
    }
}

static void write_purges(const struct census_purges *purges, const struct stats_out *out) {
    say(out, "  purged: %" PRIu64 " pages, in %" PRIu64 " pieces\n", purges->pages, purges->pieces);
}

static void write_pool(const struct stats *stats, const struct stats_out *out) {
    say(out,
        "\nchunk pool\n  %" PRIu64 " chunks in use, %" PRIu64 " free; pages of these: %" PRIu64
        " dirty\n",
        stats->spans.used_chunks, stats->spans.free_chunks, stats->spans.free_dirty);
    write_purges(&stats->pool_purges, out);
}

static void write_arena(const struct stats *stats, const struct census_arena *arena,
                        const struct stats_out *out) {
    say(out,
        "  %" PRIu64 " threads, %" PRIu64 " chunks; pages: %" PRIu64 " active, %" PRIu64
        " dirty, %" PRIu64 " clean\n",
        arena->threads, arena->chunks, arena->pages_active, arena->pages_dirty, arena->pages_clean);
    write_purges(&arena->purges, out);
    if ((stats->parts & STATS_LOCKS) != 0) {
        say(out, "  lock: %" PRIu64 " acquired, %" PRIu64 " contended\n", arena->lock.acquired,
            arena->lock.contended);
    }
    if ((stats->parts & STATS_BINS) != 0 && arena->small.nmalloc != 0) {
        write_bins(arena, out);
    }
    if ((stats->parts & STATS_LARGE) != 0) {
        write_extents("  large blocks", arena->larges, CENSUS_LARGES, out);
    }
}

/* ---- the whole ---- */

void stats_write_text(const struct stats *stats, const struct stats_out *out) {
    unsigned parts = stats->parts;
    say(out, "___ begin sharena statistics ___\n");
    if ((parts & STATS_GENERAL) != 0) {
        write_heap(stats, out);
        write_options(&stats->attachment->conf, out);
    }
    write_summary(stats, out);
    write_kinds(stats, out);
    write_deaths(heap_state(stats->attachment->mapping.base), out);
    if ((parts & STATS_LOCKS) != 0) {
        write_locks(stats, out);
    }
    if ((parts & STATS_PROCESSES) != 0) {
        write_processes(stats, out);
        write_caches(stats, out);
    }
    write_pool(stats, out);
    if ((parts & STATS_MERGED) != 0 && (stats->arena_count != 1 || (parts & STATS_ARENAS) == 0)) {
        say(out, "\nall %u arenas together\n", stats->arena_count);
        write_arena(stats, &stats->merged, out);
    }
    if ((parts & STATS_LARGE) != 0) {
        write_extents("\n  huge blocks ", stats->huges, CENSUS_HUGES, out);
    }
    for (uint32_t i = 0; (parts & STATS_ARENAS) != 0 && i < stats->arena_count; i++) {
        say(out, "\narena %u\n", i);
        write_arena(stats, &stats->arenas[i], out);
    }
    say(out, "___ end sharena statistics ___\n");
}
