/* verify.h -- what an open looks at before it follows a number of the file. */
#ifndef SHARENA_HEAP_VERIFY_H
#define SHARENA_HEAP_VERIFY_H

#include "heap/geometry.h"

/* All return 0, or EUCLEAN with error_set, naming the field; `title` is the file. None changes
 * anything. */

/* Before it is mapped: the parts of the file lie where this build looks for them. */
int verify_superblock(const struct superblock *superblock, const char *title)
    __attribute__((warn_unused_result));

/* The numbers that say how many slots, arenas, roots and chunks there are. For every attach. */
int verify_state(const sharena_t *heap, const char *title) __attribute__((warn_unused_result));

/* At a cold open, before journals are rolled back: slots and journal entries are such that no entry
 * changes a slot but its own. */
int verify_journals(const sharena_t *heap, const char *title) __attribute__((warn_unused_result));

/* Thereafter: a slot that nobody uses owns nothing, so that it can be taken. */
int verify_unused_slots(sharena_t *heap, const char *title) __attribute__((warn_unused_result));

#endif
