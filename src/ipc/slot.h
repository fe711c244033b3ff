/* slot.h -- what a process and a thread own in the file, and when it may be taken from them.
 *
 * A process slot belongs to the holder of its token (token.h). A thread slot belongs to the holder
 * of its robust mutex `token`: the thread, for its life, or whoever reaps it after its death.
 *
 *     RAW --first use--> FREE --slot_take--> USED --slot_give_back--> FREE
 *                          ^                  | thread or process dies
 *                          |                  v
 *                          +--slot_give_back-- seized by a reaper (still USED; its death: the same)
 */
#ifndef SHARENA_IPC_SLOT_H
#define SHARENA_IPC_SLOT_H

#include "ipc/layout.h"
#include "ipc/registry.h"

/* Takes a process slot for this process. 0 or an errno value with error_set (EUSERS: table full).
 * The caller holds the heap's open lock. */
int slot_register_process(struct attachment *attachment) __attribute__((warn_unused_result));

/* If the process of slot `index` died without giving it back, and nobody has counted that yet,
 * counts it: 1, else 0. */
uint32_t slot_note_dead_process(const struct attachment *attachment, uint32_t index);

/* Gives it back; no thread slot of this process may be in use any more. */
void slot_unregister_process(struct attachment *attachment);

/* A slot for the calling thread, USED and locked; NULL with errno and error_set: EUSERS (table full
 * of the living), EPERM (libc has a false thread id), ENOMEM (no room to back it). */
struct thread_slot *slot_take(struct attachment *attachment);

/* Ends the slot: it must own nothing any more. By its thread, or by the one that seized it. */
void slot_give_back(struct thread_slot *slot);

/* What else is done while a dead thread's slot still names it: the heap layer marks locks that the
 * kernel could not. Set once by the heap layer; NULL: nothing. May be repeated. */
extern void (*slot_dead_hook)(sharena_t *heap, const struct thread_slot *dead);

/* If the thread of slot `index` is dead, makes the slot the caller's, still USED, as the dead left
 * it, and of this process; else NULL. */
struct thread_slot *slot_seize_dead(struct attachment *attachment, uint32_t index);

/* Gives up a slot that was seized, and not emptied: the next reaper finds it. */
void slot_let_go(struct thread_slot *slot);

/* Whether a look that costs little finds a dead thread or process whose slot nobody has reaped: at
 * all thread slots, without a system call, and at the tokens of a few processes, others in turn. */
int slot_any_dead(struct attachment *attachment);

/* Whether `slot` is in use by a thread of this process (that a fork's child inherited does not
 * count). */
int slot_is_ours(const struct attachment *attachment, const struct thread_slot *slot);

/* Whether a living thread of this process holds its token: one that ended without a word has left
 * the slot to a reaper, who may be of any process. So this is looked up, not counted. */
int slot_is_held_by_us(const struct attachment *attachment, const struct thread_slot *slot);

/* How many slots such threads hold. None: the heap may be unmapped. */
uint32_t slot_count_held_by_us(const struct attachment *attachment);

/* Whether the caller's is the only slot of a living thread: nobody else changes the heap now. */
int slot_is_alone(const struct attachment *attachment);

/* Whether any slot is in use, by the living or the dead. */
int slot_any_used(const sharena_t *heap);

/* All mutexes of slots anew, at a cold open: nobody is attached, and their words are
 * of the past. */
void slot_init_tokens(sharena_t *heap);

#endif
