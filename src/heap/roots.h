/* roots.h -- names for objects, found by every process (sharena_root_*). */
#ifndef SHARENA_HEAP_ROOTS_H
#define SHARENA_HEAP_ROOTS_H

#include "heap/geometry.h"

/* All locks of the root table anew: at creation and at a cold open. */
void roots_init_locks(sharena_t *heap);

#endif
