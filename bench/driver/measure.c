/* measure.c -- the clock, tables, results. */
#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

bool blocks_are_verified;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cpu_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void report(const char *name, double value, const char *unit) {
    printf("%s\t%.6g\t%s\n", name, value, unit);
    (void)fflush(stdout);
}

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "bench_%s: ", backend_name);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void not_applicable(const char *why) {
    (void)fprintf(stderr, "bench_%s: %s\n", backend_name, why);
    exit(EXIT_NOT_APPLICABLE);
}

void heap_open(const struct job *job, size_t blocks, size_t bytes) {
    if (backend_open(job->path, &(struct needs){blocks, bytes}) != 0) {
        die("no heap");
    }
}

void *table_make(size_t bytes) {
    void *table =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (table == MAP_FAILED) {
        die("no table of %zu bytes", bytes);
    }
    return table;
}

void block_verify(uint64_t *block) {
    if (backend_sharing == SHARING_BARE) {
        return; /* promises nothing */
    }
    if (*block != block_stamp(block)) {
        die("the block at %p was changed, or handed out twice", (void *)block);
    }
    *block = 0;
}
