/* audit_slots.h -- the part of a check that is about what threads and roots own. All locks of the
 * heap are held, and audit_chunks() and audit_arenas() have found nothing. */
#ifndef SHARENA_HEAP_AUDIT_SLOTS_H
#define SHARENA_HEAP_AUDIT_SLOTS_H

#include "heap/audit.h"

/* Caches, hands and pending steps of all thread slots; `self` is the caller's. */
void audit_slots(struct audit *audit, const struct thread_slot *self);

/* Named objects, and those being made. */
void audit_roots(struct audit *audit);

/* The live block that begins at ptr: its size, or 0 if there is none. */
size_t audit_block_bytes(const sharena_t *heap, const void *ptr);

/* Whether a live block begins at ptr, of any size. */
int audit_is_block(const sharena_t *heap, const void *ptr);

#endif
