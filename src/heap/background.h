/* background.h -- a thread of this process that looks after a heap while nobody calls. */
#ifndef SHARENA_HEAP_BACKGROUND_H
#define SHARENA_HEAP_BACKGROUND_H

#include "ipc/registry.h"

/* For each slow path: starts the thread if the options want one and there is none. Keeps errno. */
void background_tick(struct attachment *attachment);

/* Whether there is that thread, or it is being made, or ended. */
static inline int background_exists(const struct attachment *attachment) {
    return __atomic_load_n(&attachment->background, __ATOMIC_ACQUIRE) != BACKGROUND_NONE;
}

/* At the last close, under the registry lock, which is given up while the thread ends. 1: go on
 * with the close; 0: the heap was opened again meanwhile, or another thread is at this, and goes
 * on. */
int background_end(struct attachment *attachment) __attribute__((warn_unused_result));

#endif
