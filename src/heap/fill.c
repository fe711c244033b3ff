/* fill.c -- what a block is filled with when it changes hands.
 *
 * Lock:   none; the block is the caller's, or nobody's
 * Killed: only contents of blocks that have no owner who knows them; but a block that shrinks may
 *         have lost its tail and not shrunk
 * Not here: when blocks change hands (alloc.c, api.c, watch.c).
 */
#include "heap/fill.h"

#include <string.h>

enum fill fill_for_new(const struct conf *conf, int zero) {
    if (zero) {
        return FILL_ZERO;
    }
    if ((conf->junk & JUNK_ALLOC) != 0) {
        return FILL_NEW;
    }
    return conf->zero ? FILL_ZERO : FILL_NOTHING;
}

enum fill fill_for_freed(const struct conf *conf) {
    return (conf->junk & JUNK_FREE) != 0 ? FILL_FREED : FILL_NOTHING;
}

void fill_range(void *block, size_t from, size_t to, enum fill fill) {
    static const unsigned char bytes[] = {
        [FILL_ZERO] = 0, [FILL_NEW] = FILL_BYTE_NEW, [FILL_FREED] = FILL_BYTE_FREED};
    if (fill != FILL_NOTHING && to > from) {
        memset((char *)block + from, bytes[fill], to - from);
    }
}

size_t fill_broken_at(const void *block, size_t bytes) {
    const unsigned char *byte = block;
    if (bytes == 0 || (byte[0] == FILL_BYTE_FREED && memcmp(byte, byte + 1, bytes - 1) == 0)) {
        return bytes;
    }
    size_t at = 0;
    while (at < bytes && byte[at] == FILL_BYTE_FREED) { /* somebody may be storing there still */
        at++;
    }
    return at;
}
