/* prof.h -- the sampling profile: which allocations are recorded, and what of them.
 *
 * A process with prof:true in its configuration has no fast path in that heap, so each of its
 * allocations passes here. The distance from one sample to the next, in bytes, is random with a
 * mean of 2^lg_prof_sample, so a block of b bytes is sampled with probability 1 - exp(-b / mean);
 * dividing by that gives unbiased sums. Source: jemalloc's and tcmalloc's heap profiles.
 *
 * A sampled block has a run of its own and the page map entry of a class without cache, so whoever
 * frees it, profiling or not, takes the slow path, and the section that frees it takes its sample.
 */
#ifndef SHARENA_HEAP_PROF_H
#define SHARENA_HEAP_PROF_H

#include "heap/prof_samples.h"
#include "ipc/registry.h"

/* Once per open of a heap that profiles, outside of all locks but the registry's: what backtraces
 * need is loaded. */
void prof_init(struct attachment *attachment);

/* Whether an allocation of so many bytes by the calling thread would be sampled. */
int prof_would_sample(const struct attachment *attachment, uint64_t bytes);

/* The same, and it counts. Each allocation is asked about once. */
int prof_wants_sample(const struct attachment *attachment, uint64_t bytes);

/* Takes a sample into self's hand and writes down who asks for asked_bytes, served by a class of
 * `bytes`, from where and when. 1; 0 if there is none left. No lock may be held. */
int prof_begin(const struct attachment *attachment, struct thread_slot *self, uint64_t asked_bytes,
               uint64_t bytes);

#endif
