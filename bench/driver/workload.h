/* workload.h -- what a workload is given, and what it reports.
 *
 * The driver runs one workload once, in a process of its own, and prints what it measured: lines of
 * name, value and unit, separated by tabs. Repeating, comparing and drawing is left to run.py.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "backend.h"

#include <stdint.h>

#define ARGS_MAX 3

struct job {
    const char *path;     /* of the heap's file, which does not exist yet */
    uint64_t duration_ns; /* to measure for, where a workload has no end of its own */
    uint64_t args[ARGS_MAX];
};

/* Each leaves the heap closed. Failures end the program. */
void run_pairs(const struct job *job);
void run_batches(const struct job *job);
void run_replacements(const struct job *job);
void run_larson(const struct job *job);
void run_messages(const struct job *job);
void run_exchange(const struct job *job);
void run_growth(const struct job *job);
void run_touch(const struct job *job);
void run_threads(const struct job *job);
void run_processes(const struct job *job);
void run_flushes(const struct job *job);
void run_scale(const struct job *job);
void run_deaths(const struct job *job);
void run_fragmentation(const struct job *job);

/* Prints one result. */
void report(const char *name, double value, const char *unit);

/* Says why on stderr, and ends the program. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The workload makes no sense with this backend: ends the program with the status that says so. */
#define EXIT_NOT_APPLICABLE 77
void not_applicable(const char *why) __attribute__((noreturn));

/* backend_open(), or the end. */
void heap_open(const struct job *job, size_t blocks, size_t bytes);

uint64_t now_ns(void);

/* Processor time of the calling thread. What one thread does without waiting is measured by it, so
 * that other load disturbs less. It takes a system call: not for short stretches. */
uint64_t cpu_ns(void);

/* Pages that no allocator knows of, zeroed and present; workers that are forked share them. */
void *table_make(size_t bytes);

/* xorshift64*; G. Marsaglia, S. Vigna. */
static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* A number below `count`, which is below 2^32; without a division. */
static inline uint32_t random_below(uint64_t *state, uint64_t count) {
    return (uint32_t)((next_random(state) >> 32) * count >> 32);
}

#define RANDOM_SEED 88172645463325252ull

#endif
