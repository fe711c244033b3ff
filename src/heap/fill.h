/* fill.h -- what a block is filled with when it changes hands, by the caller's wish or the
 * configuration. */
#ifndef SHARENA_HEAP_FILL_H
#define SHARENA_HEAP_FILL_H

#include <stddef.h>

#include "ipc/conf.h"

#define FILL_BYTE_NEW 0xa5 /* junk, as jemalloc has it */
#define FILL_BYTE_FREED 0x5a

enum fill { FILL_NOTHING, FILL_ZERO, FILL_NEW, FILL_FREED };

/* What a new block, or the new tail of one that grew, gets. zero: the caller asks for zeros. */
enum fill fill_for_new(const struct conf *conf, int zero);

/* What a freed block, or the tail of one that shrinks, gets. */
enum fill fill_for_freed(const struct conf *conf);

/* Fills bytes [from, to) of the block; nothing if there are none. */
void fill_range(void *block, size_t from, size_t to, enum fill fill);

/* The first byte of the block that is not what a freed one is filled with; `bytes`: none. */
size_t fill_broken_at(const void *block, size_t bytes);

#endif
