/* layout.h -- what lies in the file, as far as processes are concerned.
 *
 *     offset        what                                   written by
 *     0             struct superblock        (1 page)      its creator, once; `magic` last
 *     4 KiB         struct heap_state        (1 page)      see each field
 *     8 KiB         struct process_slot x PROCESSES_MAX    the holder of the process token
 *     1 MiB         struct thread_slot  x THREADS_MAX      the holder of the thread token
 *     IPC_END       what src/heap/layout.h lays out
 *
 * All offsets are compile-time constants. Every struct here enters the layout fingerprint
 * (superblock.c): a change of any size makes old files unreadable, and says so.
 */
#ifndef SHARENA_IPC_LAYOUT_H
#define SHARENA_IPC_LAYOUT_H

#include <pthread.h>
#include <stdint.h>

#include "ipc/shared.h"
#include "sharena/sharena.h"

#define PAGE_BYTES 4096u
#define LG_PAGE 12
#define FORMAT_VERSION 1u
#define PROCESSES_MAX 1024u
#define THREADS_MAX 4096u

/* ---- superblock: what never changes after creation, guarded by a checksum ---- */

#define MAGIC_HEAP 0x31616e6572616873ull     /* "sharena1" in the file, little endian */
#define MAGIC_CREATING 0x30616e6572616873ull /* "sharena0": creation was not finished */

struct superblock {
    uint64_t magic;          /* MAGIC_*; the store that turns it into MAGIC_HEAP ends creation */
    uint32_t endian;         /* 0x01020304 as the creator stored it */
    uint32_t format_version; /* FORMAT_VERSION */
    uint64_t fingerprint;    /* of every struct size and constant of the layout */
    uint8_t uuid[16];        /* names the heap */
    uint64_t base_address;   /* where every process maps it */
    uint64_t total_bytes;    /* length of the file = of the mapping = of the capacity */
    uint64_t limit_bytes;    /* most that may be backed; 0 = no limit */
    uint64_t data_offset;    /* chunk 0 */
    uint64_t created_ns;     /* CLOCK_REALTIME */
    uint64_t checksum;       /* of all of the above with magic = MAGIC_HEAP */
};

/* ---- locks ---- */

/* Ranked; a thread that holds one may only take one of a higher rank (asserted). */
enum lock_rank { RANK_NONE, RANK_ROOT, RANK_BIN, RANK_ARENA, RANK_POOL, RANK_NAMES };

struct shared_lock {       /* 64 bytes */
    pthread_mutex_t mutex; /* NORMAL, process-shared, robust */
    shared_u32 owner;      /* thread slot + 1, stored after acquiring, 0 before unlocking */
    uint32_t rank;         /* enum lock_rank, fixed at initialisation */
    shared_u64 acquired;   /* statistics, written by the holder */
    shared_u64 contended;
};

/* ---- journal: what a thread changed since its last commit ---- */

#define JOURNAL_ENTRIES 256u

struct journal_entry {
    uint64_t where; /* address of the field << 4 | its size in bytes */
    uint64_t old;   /* what it held */
};

struct journal {
    shared_u64 lock; /* heap offset of the lock that covers the entries; 0: the thread's own slot */
    shared_u32 count; /* entries in use; the store of 0 is the commit */
    uint32_t reserved;
    struct journal_entry entries[JOURNAL_ENTRIES];
};

/* ---- hand: what travels between two locks, owned by the thread that carries it ---- */

enum hand_kind {
    HAND_EMPTY,
    HAND_RUN,  /* pages of one arena: go back to it */
    HAND_SPAN, /* chunks: go back to the chunk pool */
    HAND_TAIL  /* pages behind the end of a huge block, being backed: they stay where they are */
};

struct hand {
    shared_u32 kind;  /* enum hand_kind */
    shared_u32 arena; /* HAND_RUN: the arena the run belongs to */
    shared_u32 first; /* HAND_RUN: its first page; HAND_SPAN: its first chunk */
    shared_u32 count; /* pages, or chunks */
    shared_u32 flags; /* HAND_* below */
    shared_u32
        charged_first;  /* pages counted in heap_state.backed_pages that are being backed or */
    shared_u32 charged; /* ... punched, how many: a reaper punches, then discharges them */
    shared_u32 sample;  /* + 1, of the profile's, between the pool and a block; 0 none. Beside
                           whatever else is carried */
};

#define HAND_DIRTY 1u /* HAND_RUN: the pages are backed (HAND_SPAN: chunk.backed says how many) */
#define HAND_ZERO 2u  /* HAND_RUN: they are known to be zero */

/* ---- pending: the recoverable step of malloc_to and free_from ---- */

enum pending_kind { PENDING_NONE, PENDING_MALLOC, PENDING_FREE };

struct pending {
    shared_u32 kind; /* enum pending_kind; the store that arms the step comes last */
    uint32_t reserved;
    shared_ptr where; /* void **: the guarded pointer; NULL: the block is in flight to its caller */
    shared_ptr block; /* the block; NULL until there is one */
};

/* ---- slots ---- */

enum slot_state {
    SLOT_RAW, /* thread slots: the token is not initialised yet */
    SLOT_FREE,
    SLOT_USED
};

struct process_slot {       /* 128 bytes; written by the holder of the token */
    shared_u32 state;       /* enum slot_state */
    shared_u32 pid;         /* in the pid namespace of the process: for people */
    shared_u64 generation;  /* counts the processes that have held this slot */
    shared_u64 attached_ns; /* CLOCK_REALTIME */
    char name[16];          /* /proc/self/comm at attach */
    shared_u64 died;        /* generations up to this one are known to be dead; only grows (CAS) */
    shared_u32 seizing;     /* threads of the process that are in slot_seize_dead(); atomic */
    uint8_t reserved[76];
};

#define THREAD_SLOT_BYTES 65536u
#define THREAD_SLOT_HEAP_OFFSET 8192u /* where the heap's part (the tcache) begins */

/* Written by the holder of `token` only. Whoever reaps a dead thread takes its token and goes on as
 * that thread, with its journal and its hand, to the end of its life. So a killed reaper leaves
 * what a killed thread leaves. */
struct thread_slot {
    pthread_mutex_t token; /* robust: held for the thread's life, or by its reaper */
    shared_u32 state;      /* enum slot_state */
    shared_u32 index;      /* of this slot, fixed */
    shared_u32 process;    /* process slot */
    shared_u32 tid;        /* for people */
    shared_u64 process_generation;
    shared_u64 generation;  /* counts the threads that have held this slot */
    shared_u32 arena;       /* arena index + 1 that counts this thread, 0 none; lock POOL */
    shared_u32 held_rank;   /* debug: rank of the innermost lock held */
    shared_u64 lock_wanted; /* heap offset of the lock being waited for or held, 0 none */
    struct hand hand;
    struct pending pending;
    struct journal journal;
};

/* ---- mutable state of the whole heap ---- */

struct heap_state {
    /* What free looks at, in one line: the user data that exists, and its page map. */
    uint64_t data_begin;    /* address of chunk 0; fixed */
    shared_u64 data_bytes;  /* up to the last chunk ever used: metadata of all that is backed; only
                                  grows; lock POOL */
    uint64_t data_page_map; /* address of chunk 0's first entry; fixed */
    uint8_t padding[40];
    uint8_t boot_id[16];         /* of the machine's boot when somebody last attached, and of the
                                      file: a copy has another; open lock */
    shared_u32 in_use;           /* 1 from the first attach to the last close; open lock */
    shared_u32 processes_high;   /* process slots ever used; only grows */
    shared_u32 threads_high;     /* thread slots ever used: those below exist; only grows */
    shared_u64 backed_pages;     /* pages of chunks, and of the tables that describe them, that are
                                  backed: what limit_bytes limits; lock POOL */
    shared_u64 recovered;        /* statistics: critical sections rolled back */
    shared_u64 recovered_cold;   /* statistics: of these, those that a cold open rolled back */
    shared_u64 taken_over;       /* statistics: locks of the dead that the kernel had not marked */
    shared_u64 reaped_threads;   /* statistics: thread slots taken back from the dead */
    shared_u64 reaped_processes; /* statistics: processes that died without a close */
    shared_u64 reaped_bytes;     /* statistics: bytes that came back from their caches */
};

#define STATE_OFFSET 4096u
#define PROCESSES_OFFSET 8192u
#define THREADS_OFFSET (1u << 20)
#define IPC_END (THREADS_OFFSET + (uint64_t)THREADS_MAX * THREAD_SLOT_BYTES)

/* ---- bytes of the file that are only ever locked (F_OFD_SETLK), far behind its end ---- */

#define TOKEN_BYTE_FIRST (1ll << 62) /* + process slot */
#define OPEN_LOCK_BYTE (TOKEN_BYTE_FIRST - 1)

/* ---- from the handle to each part ---- */

static inline char *heap_bytes(const sharena_t *heap) {
    return (char *)(uintptr_t)heap;
}

static inline uint64_t heap_offset(const sharena_t *heap, const volatile void *field) {
    return (uint64_t)((uintptr_t)field - (uintptr_t)heap);
}

static inline const struct superblock *heap_superblock(const sharena_t *heap) {
    return (const struct superblock *)(const void *)heap_bytes(heap);
}

static inline struct heap_state *heap_state(const sharena_t *heap) {
    return (struct heap_state *)(void *)(heap_bytes(heap) + STATE_OFFSET);
}

static inline struct process_slot *heap_process(const sharena_t *heap, uint32_t index) {
    return (struct process_slot *)(void *)(heap_bytes(heap) + PROCESSES_OFFSET) + index;
}

/* How many of the process slots have ever been used: the first ones. */
static inline uint32_t heap_processes_used(const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->processes_high);
    return high < PROCESSES_MAX ? high : PROCESSES_MAX;
}

static inline struct thread_slot *heap_thread(const sharena_t *heap, uint32_t index) {
    return (struct thread_slot *)(void *)(heap_bytes(heap) + THREADS_OFFSET +
                                          (uint64_t)index * THREAD_SLOT_BYTES);
}

_Static_assert(sizeof(struct superblock) <= PAGE_BYTES, "one page");
_Static_assert(sizeof(struct heap_state) <= PAGE_BYTES, "one page");
_Static_assert(sizeof(struct process_slot) == 128, "padded");
_Static_assert(PROCESSES_OFFSET + sizeof(struct process_slot) * PROCESSES_MAX <= THREADS_OFFSET,
               "process slots end before thread slots begin");
_Static_assert(sizeof(struct thread_slot) <= THREAD_SLOT_HEAP_OFFSET, "leaves room for the tcache");
_Static_assert(sizeof(struct shared_lock) == 64, "one line");

#endif
