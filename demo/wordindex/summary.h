/* summary.h -- what there is in an index, for people. */
#ifndef DEMO_WORDINDEX_SUMMARY_H
#define DEMO_WORDINDEX_SUMMARY_H

#include "index.h"

/* Prints files, words, postings, build time and size on stdout. Nobody may be building. */
void summary_print(const char *heap_path, const struct index *index);

#endif
