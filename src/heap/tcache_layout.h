/* tcache_layout.h -- what lies in the file: a thread's cache, the heap's part of a thread slot.
 *
 * Lock: none; the thread's own, or its reaper's
 */
#ifndef SHARENA_HEAP_TCACHE_LAYOUT_H
#define SHARENA_HEAP_TCACHE_LAYOUT_H

#include "heap/sizeclass.h"
#include "ipc/layout.h"

struct tcache_stack {  /* 32 bytes; all four point into the stack's storage */
    shared_ptr top;    /* behind the newest; the store that pops or pushes */
    shared_ptr base;   /* a pop at this point takes the slow path: bottom, or the low-water mark */
    shared_ptr full;   /* a push at this point takes the slow path */
    shared_ptr bottom; /* the oldest: the thread owns what is in [bottom, top) */
};

/* stacks[0] is always empty and full: what page_map 0 leads to. Class c has stacks[c + 1]. The next
 * two are like the first, and stand for all classes without a cache and for all sampled blocks; the
 * last one holds the blocks of a small class that are on their way to their bins. */
#define TCACHE_STACKS (SIZE_CLASSES_CACHED + 4u)
#define TCACHE_UNCACHED (SIZE_CLASSES_CACHED + 1u)
#define TCACHE_SAMPLED (SIZE_CLASSES_CACHED + 2u)
#define TCACHE_FLUSHING (SIZE_CLASSES_CACHED + 3u)
#define FLUSH_ENTRIES 1024u  /* that go to their bins in one turn */
#define TCACHE_STORAGE 6528u /* entries, all stacks together; the last ones for TCACHE_FLUSHING */

struct tcache {
    struct tcache_stack stacks[TCACHE_STACKS];
    shared_ptr first[TCACHE_STACKS]; /* where the storage begins: here, or in the part that grew */
    shared_u32 flushing_class;       /* of what stacks[TCACHE_FLUSHING] holds */
    shared_u32 gc_class; /* next to be looked at by the GC; private to the thread, as the rest */
    shared_u32 gc_ticks;
    uint32_t reserved;
    shared_u64 taken_bytes; /* statistics: of blocks that came from an arena or the pool ... */
    shared_u64 given_bytes; /* ... and went back, through the cache or past it */
    shared_u64 grown_bytes; /* sum of (capacity - least) x size of all classes ... */
    shared_u64 grown_most;  /* ... and what it may become */
    shared_u32 capacity[TCACHE_STACKS];   /* full - first, in entries */
    shared_u32 backed[TCACHE_STACKS];     /* entries of its part that grew that may have storage */
    shared_u32 least[TCACHE_STACKS];      /* what the GC leaves of it */
    shared_u32 most[TCACHE_STACKS];       /* what it may grow to */
    shared_u32 demand[TCACHE_STACKS];     /* TCACHE_* */
    shared_u32 lg_divisor[TCACHE_STACKS]; /* a fill takes capacity >> lg_divisor */
    shared_u32 low_water[TCACHE_STACKS];  /* 1: the mark was reached since the last GC step */
    shared_ptr storage[TCACHE_STORAGE];
};
#define TCACHE_RAN_DRY 1u  /* since it was full: only such a stack gains from being bigger */
#define TCACHE_RAN_FULL 2u /* since the last GC step */

#endif
