/* audit_prof.h -- the audit of the profile's samples. */
#ifndef SHARENA_HEAP_AUDIT_PROF_H
#define SHARENA_HEAP_AUDIT_PROF_H

#include "heap/audit.h"

/* Whether the page map has the entry of a large or huge block of that class, or of a sampled one,
 * whose run or span then has the sample in its link. */
int audit_is_entry(struct audit *audit, const void *block, uint32_t size_class, uint32_t link);

/* Each sample has one owner; after the walk over chunks found nothing. */
void audit_samples(struct audit *audit);

#endif
