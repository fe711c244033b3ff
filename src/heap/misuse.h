/* misuse.h -- what happens when the application hands in a pointer that is not a live block.
 *
 * Source of every report: the pointer was looked up in page map and run table, and no shared word
 * has changed since (sections are rolled back first).
 */
#ifndef SHARENA_HEAP_MISUSE_H
#define SHARENA_HEAP_MISUSE_H

#include "heap/geometry.h"

/* Says on stderr what was wrong with which pointer of which heap, in which process and thread;
 * aborts. */
__attribute__((noreturn, cold)) void misuse(const sharena_t *heap, const void *ptr,
                                            const char *what);

/* Whether `self` is the slot of a dead thread that is being reaped: what that one handed in wrongly
 * is dropped and lost, because the reaper did no wrong. */
int misuse_is_inherited(const sharena_t *heap, const struct thread_slot *self);

#endif
