/* thread.h -- what one thread of this process knows: its caches, and its slot in each heap.
 *
 * The record lies in private memory that the kernel wipes in every child (MADV_WIPEONFORK), whether
 * or not fork handlers ran. So a child finds no heap in it and registers anew; the check that the
 * fast path makes anyway (is the hint of this heap?) is the whole cost.
 */
#ifndef SHARENA_IPC_THREAD_H
#define SHARENA_IPC_THREAD_H

#include <stdint.h>

#include "ipc/check.h"
#include "ipc/layout.h"
#include "ipc/registry.h"

struct thread_heap {
    sharena_t *heap; /* NULL: this entry is free */
    struct thread_slot *slot;
};

/* The hint of a thread that has none: no heap, and not what a careless caller passes either. */
#define HINT_NONE ((sharena_t *)1)

struct thread_record {    /* process-private; one per thread */
    sharena_t *hint_heap; /* the heap used last: what the fast paths need of it, in one line */
    void *hint_tcache;    /* this thread's tcache in it */
    /* Copies of heap_state's fields of the same names. data_bytes may be of the past, that is, too
     * small: then free takes the slow path, which renews it. */
    uint64_t data_begin;
    uint64_t data_bytes;
    const shared_u16 *data_page_map;
    uint64_t is_alive; /* 1; 0 after the kernel wiped it */
    /* Of the heap that the above is about, where hint_heap is none because what is allocated is
     * counted (conf_is_counting); else NULL. */
    const struct attachment *counted;
    struct thread_heap heaps[HEAPS_MAX];
};

/* This thread's record; a constant empty one before it is first needed. */
extern __thread struct thread_record *thread_record __attribute__((tls_model("initial-exec")))
__attribute__((visibility("hidden")));

/* The calling thread's slot in the heap, or NULL: it has none yet. */
struct thread_slot *thread_find_slot(const sharena_t *heap);

/* Remembers the slot; 0, or an errno value with error_set. From now on thread_exit_hook runs at the
 * thread's end. */
int thread_add_slot(sharena_t *heap, struct thread_slot *slot) __attribute__((warn_unused_result));

/* Forgets the heap in the calling thread's record. */
void thread_forget_heap(const sharena_t *heap);

/* Calls visit for every slot of the heap that another thread of this process has. The caller keeps
 * those threads from ending meanwhile (registry lock). */
void thread_visit_others(const sharena_t *heap, void (*visit)(struct thread_slot *slot));

/* What is done with each of a thread's slots when it ends: gives it back, and calls
 * thread_forget_heap(). Set once by the heap layer. */
extern void (*thread_exit_hook)(sharena_t *heap, struct thread_slot *slot);

/* 1 in a process whose memory was copied by a fork of any kind, until thread_after_fork ran. */
int thread_process_is_new(void);

/* In the child: forget what the parent's threads had. */
void thread_after_fork(void);

/* Private state, once per process: 0 or an errno value with error_set. */
int thread_init(void) __attribute__((warn_unused_result));

void thread_before_fork(void);
void thread_after_fork_parent(void);

#endif
