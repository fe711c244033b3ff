/* registry.h -- the heaps that this process has attached.
 *
 * One attachment per heap, in a fixed table (no malloc: it works while malloc is being set up),
 * linked in an RCU list: finding is lock-free, also against a concurrent close, and an entry is
 * reused only after a grace period. This is the one module that knows liburcu.
 */
#ifndef SHARENA_IPC_REGISTRY_H
#define SHARENA_IPC_REGISTRY_H

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>

#include "ipc/conf.h"
#include "ipc/mapping.h"
#include "ipc/token.h"

#define HEAPS_MAX 64u /* attached at once in one process */

/* A thread that the library has made for a heap: background.c. */
enum background_state {
    BACKGROUND_NONE,
    BACKGROUND_STARTING,
    BACKGROUND_RUNNING,
    BACKGROUND_STOPPING
};

struct attachment { /* process-private */
    struct heap_mapping mapping;
    struct heap_file file;
    struct token token;          /* of our process slot; page NULL: not registered (fork's child) */
    uint64_t process_generation; /* of our process slot */
    struct conf conf;
    uint32_t prof_active; /* with conf.prof: allocations are sampled now; atomic */
    uint32_t opens;       /* sharena_open() less sharena_close(); 0: lingers for its threads */
    uint32_t reap_wanted; /* a dead owner was met: reap when no lock is held; atomic */
    uint32_t next_probe;  /* the process slot that is looked at next (slot_any_dead); atomic */
    uint64_t reap_due_ms; /* CLOCK_MONOTONIC_COARSE of the next look for the dead; atomic */
    sharena_misuse_hook_t misuse_hook; /* NULL: the option `abort` decides; atomic */
    void *misuse_arg;                  /* atomic */
    uint64_t purge_due_ns; /* CLOCK_REALTIME_COARSE of the next look for old free pages; atomic */
    uint32_t purge_next;   /* the arena that is looked at then, besides the own; atomic */
    uint32_t background;   /* enum background_state; atomic */
    pthread_t background_thread;
    sem_t background_wake;     /* posted to end it */
    struct hooks_table *hooks; /* of all arenas; NULL: none was ever set; atomic */
};

/* Makes an entry and returns it, still invisible; NULL when HEAPS_MAX are in use. Registry lock. */
struct attachment *registry_reserve(void);
void registry_publish(struct attachment *attachment);
/* Hides it, waits for readers, and makes the entry free. Registry lock. */
void registry_remove(struct attachment *attachment);
/* For an entry that was never published. */
void registry_cancel(struct attachment *attachment);

/* The attachment of a heap by its handle, by address, by identity of its file; NULL if none. The
 * entry stays valid as long as the caller may use the heap. */
struct attachment *registry_find(const sharena_t *heap);
struct attachment *registry_find_address(const void *ptr);
struct attachment *registry_find_file(const struct heap_file *file);
/* The same as a handle, NULL also for an attachment that lingers. For callers that may race with a
 * close: nothing of the entry is looked at after the answer was found. */
sharena_t *registry_heap_of(const void *ptr);
/* Whether the attachment was opened and not closed as often. */
static inline int registry_is_open(const struct attachment *attachment) {
    return __atomic_load_n(&attachment->opens, __ATOMIC_RELAXED) != 0;
}
/* The i-th entry of the table, or NULL if it is not published. Registry lock. */
struct attachment *registry_entry(uint32_t index);

/* The process-private lock over opening and closing. Not taken by malloc and free. Its holder
 * cannot be cancelled. */
void registry_lock(void);
void registry_unlock(void);

/* For the fork handlers: prepare takes lock and liburcu's, the others give them back. The last one
 * is for a child that was made without handlers. */
void registry_before_fork(void);
void registry_after_fork_parent(void);
void registry_after_fork_child(void);
void registry_after_bare_fork(void);

#endif
