/* forking.h -- what a fork means for attached heaps.
 *
 * Shared locks are not taken around fork: the parent's other threads keep and release them. Private
 * state is prepared, released and reset by handlers. A child that was made without handlers (_Fork,
 * clone) is noticed on its first slow path, because its thread record was wiped, and does then what
 * the child's handler does.
 */
#ifndef SHARENA_IPC_FORKING_H
#define SHARENA_IPC_FORKING_H

#include "ipc/registry.h"

/* Installs the handlers, once per process: 0 or an errno value with error_set. */
int forking_init(void) __attribute__((warn_unused_result));

/* In a new child: resets private state and registers the process in every attached heap. Does
 * nothing in a process that is not new. To be called at the start of each slow path. */
void forking_notice_child(void);

/* Makes sure that this process holds a process slot of the heap: 0 or an errno value with
 * error_set. */
int forking_register(struct attachment *attachment) __attribute__((warn_unused_result));

#endif
