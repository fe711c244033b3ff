/* query.h -- looks at an index: read-only, without a lock inside the heap. */
#ifndef DEMO_WORDINDEX_QUERY_H
#define DEMO_WORDINDEX_QUERY_H

#include <stdint.h>

/* The files that hold all of the words, on stdout as "count<TAB>path", the most occurrences first;
 * the times on stderr. limit 0: all of them. Returns an exit status. */
int query(const char *heap_path, char *const *words, unsigned nwords, uint64_t limit);

/* What the index holds. Returns an exit status. */
int query_info(const char *heap_path);

/* Proves the heap and the index whole: sharena_check(), no word in a wrong place, no posting twice,
 * and not one block that the index does not reach. Needs the heap for itself. Returns an exit
 * status. */
int query_check(const char *heap_path);

#endif
