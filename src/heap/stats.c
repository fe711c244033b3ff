/* stats.c -- sharena_stats_print: takes all statistics of a heap, then lets them be written.
 *
 * Lock:   the pool's, while the chunk table is walked, and no other; none on a read-only attach, or
 *         where the thread can get no slot
 * Killed: nothing shared is changed
 * Not here: the formats (stats_json.c, stats_text.c), the sums (census.c).
 */
#include "heap/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap/heap.h"
#include "ipc/errors.h"
#include "ipc/forking.h"

/* ---- taking ---- */

static void take_arenas(const sharena_t *heap, struct stats *stats) {
    for (uint32_t i = 0; i < stats->arena_count; i++) {
        census_arena(heap, i, &stats->arenas[i]);
        census_add_arena(&stats->merged, &stats->arenas[i]);
    }
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        census_add_lock(&stats->bins, &stats->merged.bins[i].lock);
    }
}

static void take_processes(const struct attachment *attachment, struct stats *stats) {
    uint32_t room = stats->process_count;
    stats->process_count = 0;
    for (uint32_t i = 0; i < room; i++) {
        struct process_info *info = &stats->processes[stats->process_count];
        stats->process_count += process_describe(attachment, i, info) ? 1 : 0;
    }
}

static void take_threads(const struct attachment *attachment, struct stats *stats) {
    uint32_t room = stats->thread_count;
    stats->thread_count = 0;
    for (uint32_t i = 0; i < room; i++) {
        struct thread_info *info = &stats->threads[stats->thread_count];
        if (!process_describe_thread(attachment, i, info)) {
            continue;
        }
        stats->thread_count++;
        for (uint32_t c = 0; c < SIZE_CLASSES_CACHED; c++) {
            struct census_blocks cached = census_cache(heap_thread(attachment->mapping.base, i), c);
            census_add_blocks(&stats->caches[c], &cached);
            census_add_blocks(&stats->cached, &cached);
        }
    }
}

/* calloc() of nothing may be NULL. */
static void *array(uint32_t count, size_t size) {
    return calloc(count != 0 ? count : 1, size);
}

static int make_room(const sharena_t *heap, struct stats *stats) {
    uint32_t threads = shared_get(&heap_state(heap)->threads_high);
    stats->arena_count = census_arenas(heap);
    stats->process_count = heap_processes_used(heap);
    stats->thread_count = threads < THREADS_MAX ? threads : THREADS_MAX;
    stats->arenas = array(stats->arena_count, sizeof(stats->arenas[0]));
    stats->processes = array(stats->process_count, sizeof(stats->processes[0]));
    stats->threads = array(stats->thread_count, sizeof(stats->threads[0]));
    return stats->arenas != NULL && stats->processes != NULL && stats->threads != NULL
               ? 0
               : error_set(ENOMEM,
                           "no private memory for the statistics of %u arenas and %u "
                           "threads",
                           stats->arena_count, stats->thread_count);
}

static void drop(struct stats *stats) {
    free(stats->arenas);
    free(stats->processes);
    free(stats->threads);
    free(stats);
}

/* self NULL: locks nothing. */
static struct stats *take(const struct attachment *attachment, struct thread_slot *self,
                          unsigned parts) {
    sharena_t *heap = attachment->mapping.base;
    struct stats *stats = calloc(1, sizeof(*stats));
    if (stats == NULL) {
        return error_null(ENOMEM, "no private memory for statistics");
    }
    stats->attachment = attachment;
    stats->parts = parts;
    int error = make_room(heap, stats);
    if (error != 0) {
        drop(stats);
        errno = error;
        return NULL;
    }
    take_threads(attachment, stats); /* what goes back to an arena meanwhile is missed, not twice */
    take_arenas(heap, stats);
    take_processes(attachment, stats);
    stats->huge = census_huge(heap, stats->huges);
    stats->pool_purges = census_purges(&heap_pool(heap)->decay);
    stats->pool = census_lock(&heap_pool(heap)->lock);
    stats->names = census_lock(&heap_roots(heap)->lock);
    census_spans(heap, self, &stats->spans);
    return stats;
}

struct stats_summary stats_summary(const struct stats *stats) {
    const sharena_t *heap = stats->attachment->mapping.base;
    const struct superblock *superblock = heap_superblock(heap);
    const struct census_arena *merged = &stats->merged;
    uint64_t fixed = census_fixed_bytes(heap);
    uint64_t out = merged->small.bytes + merged->large.bytes + stats->huge.bytes;
    uint64_t free_pages = stats->spans.free_chunks * CHUNK_PAGES;
    return (struct stats_summary){
        .allocated = out > stats->cached.bytes ? out - stats->cached.bytes : 0,
        .cached = stats->cached.bytes,
        .active = (merged->pages_active + stats->spans.huge_pages) * PAGE_BYTES,
        .metadata = fixed + census_table_bytes(heap),
        .resident = fixed + shared_get(&heap_state(heap)->backed_pages) * PAGE_BYTES,
        .mapped = stats->spans.used_chunks * CHUNK_BYTES,
        .retained = stats->spans.free_chunks * CHUNK_BYTES,
        .dirty = (merged->pages_dirty + stats->spans.free_dirty) * PAGE_BYTES,
        .clean = (merged->pages_clean + free_pages - stats->spans.free_dirty) * PAGE_BYTES,
        .limit = superblock->limit_bytes,
        .capacity = superblock->total_bytes - superblock->data_offset,
    };
}

void stats_uuid(const sharena_t *heap, char text[UUID_TEXT_BYTES]) {
    const uint8_t *uuid = heap_superblock(heap)->uuid;
    char *at = text;
    for (int i = 0; i < 16; i++) {
        at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
    }
}

/* ---- writing ---- */

static void write_stderr(void *arg, const char *text) {
    size_t length = strlen(text);
    (void)arg;
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written < 0 && errno != EINTR) {
            return; /* there is nobody else to tell */
        }
        text += written > 0 ? written : 0;
        length -= written > 0 ? (size_t)written : 0;
    }
}

/* jemalloc's letters: all but J leave a part out; what is not known is ignored. */
static unsigned parts_of(const char *opts) {
    unsigned parts = STATS_GENERAL | STATS_MERGED | STATS_ARENAS | STATS_BINS | STATS_LARGE |
                     STATS_LOCKS | STATS_PROCESSES;
    static const struct {
        char letter;
        unsigned part;
    } letters[] = {{'g', STATS_GENERAL},  {'m', STATS_MERGED}, {'a', STATS_ARENAS},
                   {'b', STATS_BINS},     {'l', STATS_LARGE},  {'x', STATS_LOCKS},
                   {'p', STATS_PROCESSES}};
    for (size_t i = 0; opts != NULL && i < sizeof(letters) / sizeof(letters[0]); i++) {
        if (strchr(opts, letters[i].letter) != NULL) {
            parts &= ~letters[i].part;
        }
    }
    return opts != NULL && strchr(opts, 'J') != NULL ? parts | STATS_JSON : parts;
}

static int print(const struct attachment *attachment, struct thread_slot *self,
                 const struct stats_out *out, const char *opts) {
    struct stats *stats = take(attachment, self, parts_of(opts));
    int error = 0;
    if (stats == NULL) {
        return errno;
    }
    if ((stats->parts & STATS_JSON) != 0) {
        error = stats_write_json(stats, out);
    } else {
        stats_write_text(stats, out);
    }
    drop(stats);
    return error;
}

/* Who gets no slot in a heap that is full of threads looks without one. */
SHARENA_API int sharena_stats_print(sharena_t *heap, void (*write)(void *arg, const char *text),
                                    void *arg, const char *opts) {
    struct stats_out out = {write != NULL ? write : write_stderr, arg};
    forking_notice_child();
    const struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return EINVAL;
    }
    int is_readonly = attachment->mapping.is_readonly;
    return print(attachment, is_readonly ? NULL : heap_enter(heap), &out, opts);
}

/* ---- stats_print:true ---- */

void stats_at_close(struct attachment *attachment) {
    const struct stats_out out = {write_stderr, NULL};
    if (attachment->conf.stats_print) {
        (void)print(attachment, NULL, &out, NULL);
    }
}

/* Other threads may go on: what they do meanwhile is met or missed. */
void stats_at_exit(void) {
    registry_lock();
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        struct attachment *attachment = registry_entry(i);
        if (attachment != NULL && registry_is_open(attachment)) {
            stats_at_close(attachment);
        }
    }
    registry_unlock();
}
