/* audit.h -- the walk over a heap that proves the ownership rule. All locks of the
 * heap are held. */
#ifndef SHARENA_HEAP_AUDIT_H
#define SHARENA_HEAP_AUDIT_H

#include "heap/geometry.h"

struct audit { /* private to one check */
    const sharena_t *heap;
    struct sharena_report *report;
    uint32_t arenas;
    uint64_t backed_pages; /* as found: spans, runs, tables */
    uint32_t hand_runs;    /* runs and spans in state HAND that the walk met ... */
    uint32_t hand_spans;
    uint32_t hands;        /* ... and slots that say they carry one */
    uint64_t waits_end_ns; /* CLOCK_MONOTONIC: no second looks from then on; 0: none yet */
    uint64_t *marks;       /* one bit per 8 bytes of user data: seen in a cache, or begins what
                        a hand carries */
};

/* Sets the mark of what begins at that address of user data; 1 if it was not set before. */
int audit_mark(struct audit *audit, const void *block);
/* Takes it off; 1 if it was set. */
int audit_unmark(struct audit *audit, const void *block);

/* Remembers a broken rule. */
void audit_finding(struct audit *audit, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* How far the walk of this process's latest check is, in thousandths. Atomic: another thread shows
 * it meanwhile, for the walk holds all locks, and must not wait for a terminal. */
extern uint32_t audit_progress;

/* Every chunk, run, region and tree: walks the chunk table from the first to the last chunk ever
 * used. */
void audit_chunks(struct audit *audit);

/* Counts, trees and spare of each arena and bin agree with what the chunks contain. */
void audit_arenas(struct audit *audit);

#endif
