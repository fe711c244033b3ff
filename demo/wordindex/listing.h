/* listing.h -- the regular files below a directory, put into the index. */
#ifndef DEMO_WORDINDEX_LISTING_H
#define DEMO_WORDINDEX_LISTING_H

#include "index.h"

/* Fills index->files and ->names, then makes the index INDEX_LISTED. It must be INDEX_EMPTY, and
 * the caller alone. Symbolic links are not followed. Returns 0, or an errno value and a message. */
int listing_make(sharena_t *heap, struct index *index);

#endif
