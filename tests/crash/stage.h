/* stage.h -- one heap, the objects that are known to live in it, and those who survive a death.
 *
 * A stage is used for one death: set up, an operation that is killed somewhere, survivors that go on,
 * and the account of every byte. It lies in memory that all processes of a test share, outside of
 * any heap.
 *
 * Functions return 0, or -1 with a message on stderr that tells what is wrong.
 */
#ifndef TESTS_CRASH_STAGE_H
#define TESTS_CRASH_STAGE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sharena/sharena.h>

#define STAGE_OBJECTS_MAX 512u
#define STAGE_BLOCKS_MAX 1024u

struct object {
    void *block;
    size_t bytes;
    uint64_t seed;
};

struct stage {
    char path[256];
    sharena_t *heap;  /* as this stage's first process has it; NULL where it is not attached */
    size_t bytes;     /* what the operation is about ... */
    size_t to_bytes;  /* ... and what it makes of it */
    unsigned objects; /* known to live, whatever happens */
    struct object object[STAGE_OBJECTS_MAX];
    void *block[STAGE_BLOCKS_MAX]; /* of the operation: nothing is known about them afterwards */
    void **cell; /* in the heap, an object of its own: what malloc_to and free_from change */
    atomic_int waiter_is_in;    /* the waiter has the lock */
    atomic_ullong waiter_in_ns; /* ... since then (CLOCK_MONOTONIC) */
    pid_t newcomer;             /* 0: not started */
    atomic_int command;         /* to the newcomer: how many times it was called */
    atomic_int answer;          /* of the newcomer */
    atomic_int result;
    int newcomer_is_first; /* nobody has looked at the heap since the death */
    unsigned long long longest_wait_ns;
};

/* What may be missing after a death. */
struct allowance {
    unsigned blocks;
    size_t bytes;
};

uint64_t stage_now_ns(void);

/* Memory that is shared with children, outside of heaps. */
struct stage *stage_make(const char *name);
/* Removes the heap and the newcomer too. */
void stage_free(struct stage *stage);

/* Makes the stage's heap: a small one with two arenas. */
int stage_open(struct stage *stage);

/* Forgets what is known, for the next death. */
void stage_reset(struct stage *stage);

/* Makes a known object, with contents that tell it. */
int stage_add(struct stage *stage, size_t bytes);

/* A block of the application from now on: known, and stamped. */
void stage_adopt(struct stage *stage, void *block, size_t bytes);

/* The cell, an object of its own that holds NULL. */
int stage_add_cell(struct stage *stage);

/* If somebody's section is open: the lock that it is under, as an offset in the heap, else 0. */
uint64_t stage_lock_of(const struct stage *stage, pid_t task);

/* A process that waits for that lock from now on; its pid. */
pid_t stage_start_waiter(struct stage *stage, uint64_t lock_offset);

/* After the death: it must come in within a second. */
int stage_await_waiter(struct stage *stage, pid_t pid, uint64_t killed_ns);

/* What a survivor does: reaps, checks, compares all objects, allocates of all kinds and frees it. */
int stage_go_on(struct stage *stage, sharena_t *heap);

/* A process that attaches for the first time, goes on, and closes. It is forked once, before any heap
 * is attached, and called any number of times. */
int stage_start_newcomer(struct stage *stage);
int stage_call_newcomer(struct stage *stage);

/* Frees everything that is known, and demands that nothing else is missing than what is allowed:
 * not a block in a bin, a cache, a hand, nor a page of the file. Then the last close, and the file
 * goes. */
int stage_account(struct stage *stage, struct allowance allowance);

#endif
