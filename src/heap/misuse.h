/* misuse.h -- what happens when the application hands in a pointer that is not a live block.
 *
 * Source of every report: the pointer was looked up in page map and run table, and no shared word
 * has changed for it. A report may return (a hook, or the option abort:false): then the caller goes
 * on as if the bad pointer had never been handed in.
 */
#ifndef SHARENA_HEAP_MISUSE_H
#define SHARENA_HEAP_MISUSE_H

#include "heap/geometry.h"

/* Lets the hook decide, or says on stderr what was wrong with which pointer of which heap, in which
 * process and thread, and aborts. The caller fills in kind, heap, ptr and text, freed_pid and
 * freed_tid if it knows them, and holds no lock. */
__attribute__((cold)) void misuse_report(const struct sharena_misuse *what);

/* The same in one line. */
__attribute__((cold)) void misuse(const sharena_t *heap, enum sharena_misuse_kind kind,
                                  const void *ptr, const char *text);

/* The same for what was found in the slot `self`, unless it is inherited. */
__attribute__((cold)) void misuse_in_slot(const sharena_t *heap, const struct thread_slot *self,
                                          enum sharena_misuse_kind kind, const void *ptr,
                                          const char *text);

/* Whether `self` is the slot of a dead thread that is being reaped: what that one handed in wrongly
 * is dropped and lost, because the reaper did no wrong. */
int misuse_is_inherited(const sharena_t *heap, const struct thread_slot *self);

#endif
