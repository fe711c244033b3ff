/* backing.h -- which pages have storage, and how many may.
 *
 * Pages are counted (against limit_bytes) before they are backed, and discounted after they are
 * punched. In between they stand in hand.charged, so that whoever inherits the hand can settle it:
 * punch them, then discount them. No lock is held while the kernel works.
 */
#ifndef SHARENA_HEAP_BACKING_H
#define SHARENA_HEAP_BACKING_H

#include "heap/geometry.h"

/* Backs `count` pages from `first` on, which nothing backs yet and which are in self's hand (or
 * behind the end of a huge block that is: HAND_TAIL). They are zero then. On success hand.charged
 * is still set: the section that makes the pages somebody's clears it. 0, or ENOMEM with error_set
 * and nothing changed. */
int backing_add(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count)
    __attribute__((warn_unused_result));

/* Punches `count` backed pages from `first` on, which are in self's hand; of a span, the last ones
 * that are backed. 1; 0: a hook keeps them, and nothing has changed. */
int backing_remove(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t count);

/* Settles hand.charged of a slot whose thread died or failed: punch, then discount. */
void backing_settle(sharena_t *heap, struct thread_slot *self);

/* Backs metadata that lies in [from, to), rounded out to pages; may be repeated. */
int backing_add_metadata(sharena_t *heap, const void *from, const void *to)
    __attribute__((warn_unused_result));

#endif
