/* audit_counts.h -- the part of a check that proves the counts of blocks taken and given. */
#ifndef SHARENA_HEAP_AUDIT_COUNTS_H
#define SHARENA_HEAP_AUDIT_COUNTS_H

#include "heap/audit.h"

/* For every bin, every large class of an arena, and every class of huge blocks: what was taken and
 * not given is what is out. All locks are held, and the chunks are proved. */
void audit_counts(struct audit *audit);

#endif
