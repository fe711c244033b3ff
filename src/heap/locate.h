/* locate.h -- which block an address is in, for those who report on it. */
#ifndef SHARENA_HEAP_LOCATE_H
#define SHARENA_HEAP_LOCATE_H

#include "heap/geometry.h"

struct located {
    const char *block; /* NULL: in none */
    size_t bytes;      /* its usable size */
};

/* The block, live or (a small one) free, that `ptr` is in, as of a moment: no lock is taken, and
 * others may change what is read. Any address is fine. */
struct located locate_block(const sharena_t *heap, const void *ptr);

#endif
