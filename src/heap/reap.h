/* reap.h -- the end of a slot: by its thread, or by whoever finds the thread dead. */
#ifndef SHARENA_HEAP_REAP_H
#define SHARENA_HEAP_REAP_H

#include "heap/geometry.h"
#include "ipc/registry.h"

/* Everything that the slot owns goes back: open section, pending step, hand, tcache, place in an
 * arena. The caller holds the token. */
void reap_empty(sharena_t *heap, struct thread_slot *slot);

/* Marks every lock that names the dead thread as its holder: one that died in a check held them
 * all, and the kernel marks 2048 of one thread at most. For slot_dead_hook. */
void reap_mark_locks(sharena_t *heap, const struct thread_slot *dead);

/* Undoes the open sections that dead threads had in their own slots, which no lock covers; their
 * number. Follows nothing of what the slots own. No lock may be held. */
uint32_t reap_undo(struct attachment *attachment);

/* Takes back all slots whose threads are dead; their number. No lock may be held. */
uint32_t reap_dead(struct attachment *attachment);

/* The same, and waits for every step that is open elsewhere (malloc_to, free_from) to end or to
 * prove dead: the kernel marks what a dying thread held one by one, its token last, so the guard of
 * a step may be inherited before its thread is known to be dead. Not longer than half a second: a
 * stopped thread is alive. */
uint32_t reap_settled(struct attachment *attachment);

/* reap_dead() if a look that takes some microseconds finds somebody dead; how many slots came back.
 * Keeps errno. No lock may be held, but the caller may be in the middle of an allocation. */
uint32_t reap_look(struct attachment *attachment);

/* For each slow path: reap_dead() if a dead owner was met since the last time, else reap_look()
 * once per opt.reap_interval_ms of this process. Keeps errno. */
void reap_tick(struct attachment *attachment);

/* Before any mutex is initialised anew at a cold open: undoes the open sections of all slots, which
 * needs no lock because nobody else is attached. */
void reap_roll_back_all(sharena_t *heap);

#endif
