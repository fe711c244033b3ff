/* decay.h -- how many free pages may stay backed: the rule, and what it remembers.
 *
 * A space is an arena, or the chunk pool. Time goes by in epochs, DECAY_STEPS to a period. Pages
 * that became dirty in one epoch are due along a smooth curve: first few, after a period all.
 * jemalloc 4's; its limit is the sum over the backlog of pages times what the curve leaves of them.
 */
#ifndef SHARENA_HEAP_DECAY_H
#define SHARENA_HEAP_DECAY_H

#include "heap/layout.h"
#include "ipc/conf.h"

/* Milliseconds until a dirty page is due, CONF_MS_NEVER: none is. */
uint32_t decay_period_ms(const struct decay *decay, const struct conf *conf);

/* How many of a space's `dirty` pages are to be given back now; `used`: its pages in use. Reads
 * only, so that most who ask need no lock. */
uint64_t decay_excess(const struct decay *decay, const struct conf *conf, uint64_t dirty,
                      uint64_t used);

/* Whether the current epoch of that period has ended. */
int decay_is_due(const struct decay *decay, uint32_t period_ms, uint64_t now_ns);

/* Begins the epoch that it is by now. Under the lock of the space. A clock that went back begins
 * one as well. */
void decay_advance(struct decay *decay, uint32_t period_ms, uint64_t now_ns, uint64_t dirty);

/* Section: these pages are not dirty any more, because they were taken to be purged. */
void decay_note_purge(struct thread_slot *self, struct decay *decay, uint32_t pages);

/* What the curve leaves of (1 << LG_DECAY_ONE) after DECAY_STEPS - `left` epochs. */
#define LG_DECAY_ONE 20
uint64_t decay_curve(uint32_t left);

#endif
