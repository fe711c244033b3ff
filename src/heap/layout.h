/* layout.h -- what lies in the file, as far as memory is concerned.
 *
 *     offset            what                                        one entry per
 *     IPC_END           struct pool             (1 page)            heap
 *     ROOTS_OFFSET      struct root_table                           heap
 *     ARENAS_OFFSET     struct arena            8 KiB each          arena
 *     MODULES_OFFSET    struct module           512 bytes each      program or library of a profile
 *     SAMPLES_OFFSET    struct sample           352 bytes each      sampled block
 *     QUARANTINES_OFFSET  shared_ptr []         64 KiB each         thread slot
 *     GROWN_OFFSET      shared_ptr []           4 MiB each          thread slot: stacks that grew
 *     PAGE_MAP_OFFSET   uint16_t page_map[]     what free needs     page of the file
 *     kinds             uint16_t page_kind[]    where its run is    page of the file
 *     runs              struct run[]            64 bytes each       page of the file
 *     chunks            struct chunk[]          32 bytes each       chunk of the file
 *     data              chunk 0, chunk 1, ...   user data, nothing else
 *
 * Pages and chunks are numbered from the beginning of the file, so that an address gives both by a
 * subtraction and a shift; metadata has numbers too, and entries that say "not a block". Number 0
 * is never user data: it serves as "none" in links.
 *
 * The offsets themselves are in offsets.h.
 *
 * Owners (DESIGN: one owner at every commit) and where each is written:
 *
 *     a chunk     the pool, an arena, a hand, a huge block          chunk.state
 *     a page      its arena, a hand, a bin, a large block           run.state of its run
 *     a region    its bin (bit set) or a cache or the application (bit clear)
 *                 a cache: the pointer stands in that tcache's stack, between bottom and top,
 *                 or in that slot's quarantine, between head and tail
 *     a sample    the pool's list, a hand, the run or span of a sampled block
 */
#ifndef SHARENA_HEAP_LAYOUT_H
#define SHARENA_HEAP_LAYOUT_H

#include "heap/prof_layout.h"
#include "heap/sizeclass.h"
#include "heap/tcache_layout.h"
#include "ipc/layout.h"

#define LG_CHUNK 21
#define CHUNK_BYTES (1u << LG_CHUNK)
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_BYTES)
#define ARENAS_MAX 1024u

/* ---- runs: consecutive pages of one chunk, used for one purpose ---- */

enum run_state {
    RUN_NONE,
    RUN_FREE_CLEAN, /* not backed; in arena.free_clean */
    RUN_FREE_DIRTY, /* backed; in arena.free_dirty */
    RUN_HAND,       /* in some thread's hand */
    RUN_BIN,        /* cut into regions; belongs to the bin of (arena, size_class) */
    RUN_LARGE       /* one block of the application, or of a cache */
};

/* The entry of a run's first page. The bitmap of a run with more than 320 regions goes on in the
 * entries of its following pages, which are otherwise unused. Lock: that of the owner by state. */
struct run {
    shared_u32 left; /* tree node: pages, 0 none; of a sampled block: its sample + 1 */
    shared_u32 right;
    shared_u32 size; /* in pages; with the page number, the order in a tree */
    shared_u16 arena;
    shared_u16 size_class;
    shared_u16 state;        /* enum run_state */
    shared_u16 free_regions; /* RUN_BIN: bits set */
    shared_u32 extra;     /* RUN_FREE_*: RUN_ZERO; RUN_LARGE: offset of the block in its first page;
                                RUN_BIN: enum bin_place */
    shared_u64 bitmap[5]; /* RUN_BIN: a set bit is a region that the bin has */
};
#define RUN_ZERO 1u

enum bin_place { BIN_CURRENT = 1, BIN_NONFULL, BIN_FULL };

/* page_kind: valid for the first and last page of every run, and for every page of a
 * RUN_BIN run. */
#define KIND_FREE 0x8000u
#define KIND_DIRTY 0x4000u
#define KIND_DISTANCE 0x01ffu /* pages back to the first page of the run */

/* page_map: 0, or the byte offset in the tcache of the stack that caches this block's class. It is
 * set for every page of a RUN_BIN run, and for the first page of a large or huge block. A sampled
 * block has a run of its own whatever its size, and the offset of a stack that caches nothing, so
 * that every free of it takes the slow path. */

/* ---- decay: when free pages that are backed go back to the file system ---- */

#define DECAY_STEPS 200u /* epochs until a page that became dirty is due */

/* Lock: that of the arena, or of the pool. What has no other lock than that is stored without a
 * journal: it says when to purge, and nothing depends on it. */
struct decay {
    shared_u64 start_ns; /* CLOCK_REALTIME: when the current epoch began */
    shared_u32 newest;   /* the entry of the current epoch in the backlog, which is a ring */
    shared_u32 limit;    /* most pages that may be dirty, of those seen ... */
    shared_u32 seen;     /* ... when the epoch began, less those that were purged since */
    shared_u32 period;   /* DECAY_*, or milliseconds + 1: set for all processes */
    shared_u64 purges;   /* statistics: pieces given back, ... */
    shared_u64 purged;   /* ... and their pages */
    shared_u64 reserved[3];
    shared_u32 backlog[DECAY_STEPS]; /* pages that became dirty in each epoch */
};

#define DECAY_BY_OPTION 0u /* of the process that looks */
#define DECAY_NEVER UINT32_MAX

/* ---- chunks ---- */

enum chunk_state {
    CHUNK_NONE,       /* never used, or metadata */
    CHUNK_FREE_CLEAN, /* in pool.clean */
    CHUNK_FREE_DIRTY, /* in pool.dirty: `backed` > 0 */
    CHUNK_HAND,
    CHUNK_ARENA, /* its 512 pages are runs of one arena */
    CHUNK_HUGE   /* first chunk of a huge block */
};

/* Of a span of chunks, the first entry tells all, and the last one tells the first. */
struct chunk {
    shared_u32 left; /* tree node: chunks, 0 none; of a sampled block: its sample + 1 */
    shared_u32 right;
    shared_u32 size;       /* in chunks */
    shared_u32 first;      /* valid in the last chunk of a free span */
    shared_u16 state;      /* enum chunk_state; valid in the first and last chunk of a span */
    shared_u16 arena;      /* CHUNK_ARENA; lock ARENA */
    shared_u16 size_class; /* CHUNK_HUGE */
    shared_u16 free_pages; /* CHUNK_ARENA: of its pages, those in free runs; lock ARENA */
    shared_u32 backed;     /* leading pages of the span that are backed; CHUNK_ARENA: unused */
    shared_u32 has_runs;   /* 1: this chunk's part of the run table is backed and counted */
};

/* Blocks of one class, ever; what is out is the difference (audited). */
struct block_count {
    shared_u64 taken;
    shared_u64 given;
};

/* Free spans, by size then address. Lock POOL; chunk entries of free spans and huge blocks too. */
struct pool {
    struct shared_lock lock;
    shared_u32 dirty; /* roots of trees */
    shared_u32 clean;
    shared_u32 arenas_made;     /* arenas[0..arenas_made) are initialised */
    shared_u32 samples_free;    /* the list of unused samples: the first + 1, 0 none */
    shared_u32 samples_high;    /* samples ever used, which are backed; only grows */
    shared_u32 samples_used;    /* of them, those that a block or a hand has */
    shared_u32 modules;         /* entries of the table that are valid; only grows */
    shared_u64 samples_dropped; /* statistics: blocks that found no sample; atomic */
    shared_u32 periods_set;     /* 1: some decay.period was set, once */
    shared_u64 pages_dirty;     /* in the spans of `dirty` */
    struct decay decay;
    /* Huge blocks. Those that a big alignment made huge are of a large class. */
    struct block_count huge[SIZE_CLASSES_MAX - SIZE_CLASSES_SMALL];
};

/* ---- arenas ---- */

struct bin { /* lock: its own */
    struct shared_lock lock;
    shared_u32 current; /* run that regions are taken from, 0 none */
    shared_u32 nonfull; /* root: other runs with free regions, by address */
    shared_u32 runs;    /* runs that the bin has, full ones too */
    uint32_t reserved;
    shared_u64 regions_taken; /* ever; what is out is the difference (audited); lock BIN */
    shared_u64 regions_given;
    shared_u64 fills;      /* statistics; lock BIN */
    shared_u64 flushes;    /* sections that gave a cache's regions back */
    shared_u64 runs_made;  /* runs that became the bin's */
    shared_u64 runs_again; /* times that a run with regions of old became current */
};

struct arena {
    struct shared_lock lock;
    shared_u32 free_dirty; /* roots: free runs by size then address */
    shared_u32 free_clean;
    shared_u32 spare;       /* an empty chunk kept for the next need, 0 none */
    shared_u32 chunks;      /* chunks that the arena has */
    shared_u32 pages_dirty; /* in free_dirty */
    shared_u32 pages_used;  /* in runs that are not free */
    shared_u32 threads;     /* thread slots that use this arena; lock POOL */
    uint32_t reserved;
    uint8_t padding[32];
    struct bin bins[SIZE_CLASSES_SMALL];
    struct block_count large[SIZE_CLASSES_LARGE_END - SIZE_CLASSES_SMALL]; /* lock ARENA */
    struct decay decay;
};

/* ---- roots ---- */

enum root_state { ROOT_FREE, ROOT_SET, ROOT_MAKING };

struct root {
    struct shared_lock lock;              /* held while its object is being made; outermost rank */
    char name[SHARENA_ROOT_NAME_MAX + 1]; /* the rest: lock NAMES */
    shared_ptr object;                    /* ROOT_SET */
    shared_ptr block; /* ROOT_MAKING: what root_create allocated, by malloc_to */
    shared_u32 state; /* enum root_state */
    uint32_t reserved[11];
};

struct root_table {
    struct shared_lock lock; /* rank NAMES */
    shared_u32 high;         /* entries ever used */
    uint32_t reserved[15];
    struct root roots[SHARENA_ROOTS_MAX];
};

/* ---- quarantine: freed blocks of a thread that wait before they go back ---- */

#define QUARANTINE_ENTRIES 8192u /* a power of two */

/* Lies at the end of the thread slot; its storage is apart, because few threads have one. */
struct quarantine {
    shared_u32 head;      /* how many went out, modulo 2^32: the oldest is entry head % ENTRIES */
    shared_u32 tail;      /* how many came in: the slot owns what is in [head, tail) */
    shared_u32 is_backed; /* 1: the storage has been backed, and stays so */
    uint32_t reserved;
    shared_u64 bytes; /* of the blocks that are in it */
};

#endif
