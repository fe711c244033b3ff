/* prof_modules.h -- return addresses of this process, in words that outlive it: module and address
 * in its file. */
#ifndef SHARENA_HEAP_PROF_MODULES_H
#define SHARENA_HEAP_PROF_MODULES_H

#include "heap/geometry.h"

/* Once per process that profiles, before the first backtrace. */
void prof_modules_init(void);

/* Translates addresses[0..count) to frames (struct sample says how); programs and libraries that
 * the heap does not know yet are entered. An address in none, or in one that the table
 * has no room for, gets module 0. No lock may be held. */
void prof_modules_resolve(sharena_t *heap, struct thread_slot *self, void *const *addresses,
                          uint32_t count, uint64_t *frames);

#endif
