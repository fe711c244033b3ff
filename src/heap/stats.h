/* stats.h -- all statistics of a heap, taken at once, and written as text or JSON. */
#ifndef SHARENA_HEAP_STATS_H
#define SHARENA_HEAP_STATS_H

#include "heap/census.h"
#include "heap/processes.h"

enum stats_part {
    STATS_GENERAL = 1u,
    STATS_MERGED = 2u,
    STATS_ARENAS = 4u,
    STATS_BINS = 8u,
    STATS_LARGE = 16u,
    STATS_LOCKS = 32u,
    STATS_PROCESSES = 64u,
    STATS_JSON = 128u
};

struct stats { /* private to its taker */
    const struct attachment *attachment;
    unsigned parts; /* enum stats_part, or-ed */
    uint32_t arena_count;
    uint32_t process_count;
    uint32_t thread_count;
    struct census_arena *arenas;
    struct process_info *processes;
    struct thread_info *threads;
    struct census_arena merged;
    struct census_blocks huge;
    struct census_blocks huges[CENSUS_HUGES];
    struct census_blocks caches[SIZE_CLASSES_CACHED]; /* of all threads; bytes and out only */
    struct census_blocks cached;
    struct census_spans spans;
    struct census_purges pool_purges;
    struct census_lock bins; /* locks: all bins of all arenas */
    struct census_lock pool;
    struct census_lock names; /* of the root table */
};

/* The sums of one set of statistics, in bytes, by the names of sharena_ctl's stats.*. */
struct stats_summary {
    uint64_t allocated;
    uint64_t cached;
    uint64_t active;
    uint64_t metadata;
    uint64_t resident;
    uint64_t mapped;
    uint64_t retained;
    uint64_t dirty;
    uint64_t clean;
    uint64_t limit;
    uint64_t capacity;
};

/* Where the text goes: write(arg, text) for each piece. */
struct stats_out {
    void (*write)(void *arg, const char *text);
    void *arg;
};

struct stats_summary stats_summary(const struct stats *stats);

/* 0, or ENOMEM with error_set: no private memory. */
int stats_write_json(const struct stats *stats, const struct stats_out *out)
    __attribute__((warn_unused_result));
void stats_write_text(const struct stats *stats, const struct stats_out *out);

/* "6f9619ff-8b86-d011-b42d-00c04fc964ff" */
#define UUID_TEXT_BYTES 37
void stats_uuid(const sharena_t *heap, char text[UUID_TEXT_BYTES]);

/* Writes the statistics of every heap that was opened with stats_print:true to stderr. */
void stats_at_exit(void);
/* The same for one heap, at its last close. */
void stats_at_close(struct attachment *attachment);

#endif
