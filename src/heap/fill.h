/* fill.h -- what a block is filled with when it is handed out, by the caller's wish or the
 * configuration. */
#ifndef SHARENA_HEAP_FILL_H
#define SHARENA_HEAP_FILL_H

#include <stddef.h>

#include "ipc/conf.h"

enum fill { FILL_NOTHING, FILL_ZERO };

/* What a new block, or the new tail of one that grew, gets. zero: the caller asks for zeros. */
enum fill fill_for_new(const struct conf *conf, int zero);

/* Fills bytes [from, to) of the block; nothing if there are none. */
void fill_range(void *block, size_t from, size_t to, enum fill fill);

#endif
