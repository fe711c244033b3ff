/* fill.c -- what a block is filled with when it is handed out.
 *
 * Lock:   none; the block is the caller's, or nobody's yet
 * Killed: only contents of blocks that have no owner who knows them
 * Not here: when blocks change hands (alloc.c, api.c).
 */
#include "heap/fill.h"

#include <string.h>

enum fill fill_for_new(const struct conf *conf, int zero) {
    return zero || conf->zero ? FILL_ZERO : FILL_NOTHING;
}

void fill_range(void *block, size_t from, size_t to, enum fill fill) {
    if (fill != FILL_NOTHING && to > from) {
        memset((char *)block + from, 0, to - from);
    }
}
