/* processes.h -- who is attached, and what each of them caches: for statistics. */
#ifndef SHARENA_HEAP_PROCESSES_H
#define SHARENA_HEAP_PROCESSES_H

#include "heap/layout.h"
#include "ipc/registry.h"

enum process_state {
    PROCESS_NONE,    /* nobody has the slot */
    PROCESS_ALIVE,   /* holds its token */
    PROCESS_STOPPED, /* alive, but stopped by a signal or a debugger */
    PROCESS_DEAD     /* without a close, and not wholly reaped yet */
};

struct process_info {
    uint32_t slot;
    uint64_t generation; /* of the slot: counts the processes that had it */
    uint32_t pid;        /* in its own pid namespace */
    enum process_state state;
    uint32_t threads; /* that have a slot in this heap; their caches: */
    uint64_t cached_bytes;
    uint64_t attached_ns; /* CLOCK_REALTIME */
    char name[16];        /* its command, at attach; printable */
};

struct thread_info {
    uint32_t slot;
    uint32_t process;    /* its process's slot ... */
    uint64_t generation; /* ... and generation */
    uint32_t tid;        /* in the pid namespace of its process */
    uint32_t arena;      /* UINT32_MAX: none */
    uint64_t cached_bytes;
    uint64_t cached_blocks;
    uint64_t taken_bytes; /* that came from arenas and the pool, and went back, since it began */
    uint64_t given_bytes;
};

/* Whether a living process has slot `index`. */
int process_is_attached(const struct attachment *attachment, uint32_t index);

/* Fills *info for process slot `index`; 0 if nobody has it: PROCESS_NONE. */
int process_describe(const struct attachment *attachment, uint32_t index,
                     struct process_info *info);

/* Fills *info for thread slot `index`, below threads_high; 0 if no thread has it. */
int process_describe_thread(const struct attachment *attachment, uint32_t index,
                            struct thread_info *info);

/* "alive", "stopped", "dead". */
const char *process_state_name(enum process_state state);

#endif
