/* top_sample.h -- what a heap's counters say at one moment, and what happened between two. */
#ifndef SHARENA_CLI_TOP_SAMPLE_H
#define SHARENA_CLI_TOP_SAMPLE_H

#include "heap/census.h"
#include "heap/processes.h"

struct top_flow { /* blocks that arenas and the pool gave to caches and callers, and got back */
    uint64_t taken;
    uint64_t given;
    uint64_t taken_bytes;
    uint64_t given_bytes;
};

struct top_class {
    uint64_t blocks;     /* that the application has */
    uint64_t cached;     /* and those in caches */
    uint64_t bytes;      /* that the application has */
    uint64_t held_bytes; /* of runs, or of the blocks themselves if they are large or huge */
    struct top_flow flow;
};

struct top_process {
    struct process_info info;
    uint64_t taken_bytes; /* by its threads that live */
    uint64_t given_bytes;
};

struct top_sample {
    uint64_t at_ns; /* CLOCK_MONOTONIC */
    int is_gone;    /* the path leads to another file, or to none */
    uint64_t allocated_bytes;
    uint64_t cached_bytes;
    uint64_t active_bytes; /* runs that are not free, and huge blocks */
    uint64_t dirty_bytes;
    uint64_t clean_bytes;
    uint64_t resident_bytes;
    uint64_t metadata_bytes;
    uint64_t limit_bytes; /* 0: none */
    uint64_t used_chunks;
    uint64_t free_chunks;
    uint64_t small_bytes; /* allocated in small blocks ... */
    uint64_t small_held_bytes;
    uint64_t arenas;
    struct census_lock bins; /* locks */
    struct census_lock arena_locks;
    struct census_lock pool;
    struct census_lock names;
    uint64_t purged_pages; /* given back to the file system, ever */
    uint64_t recovered;
    uint64_t reaped_threads;
    uint64_t reaped_processes;
    struct top_flow flow;
    struct top_class classes[SIZE_CLASSES_MAX];
    uint32_t process_count;
    struct top_process processes[PROCESSES_MAX];
};

/* Reads all of it from an attached heap. */
void top_take(const struct attachment *attachment, struct top_sample *sample);

/* ---- between two samples ---- */

struct top_rates { /* each a second */
    double seconds;
    double taken, given;
    double taken_bytes, given_bytes;
    double purged_bytes;
    double acquired, contended;
    double contended_bins, contended_arenas, contended_pool, contended_names;
};

struct top_class_row {
    uint32_t size_class;
    const struct top_class *now;
    double taken, given; /* blocks a second */
};

struct top_process_row {
    const struct top_process *now;
    double taken_bytes, given_bytes; /* a second */
};

enum top_order { TOP_BY_BYTES, TOP_BY_RATE, TOP_BY_WASTE, TOP_BY_SIZE, TOP_ORDERS };
const char *top_order_name(enum top_order order);

void top_rates(const struct top_sample *before, const struct top_sample *now,
               struct top_rates *rates);

/* The classes that hold anything or were in use meanwhile, in that order. Returns how many. */
uint32_t top_classes(const struct top_sample *before, const struct top_sample *now,
                     enum top_order order, struct top_class_row rows[SIZE_CLASSES_MAX]);

/* All processes, most bytes a second first, then most cached. Returns how many. */
uint32_t top_processes(const struct top_sample *before, const struct top_sample *now,
                       struct top_process_row rows[PROCESSES_MAX]);

#endif
