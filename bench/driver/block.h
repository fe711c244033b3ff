/* block.h -- to take a block and touch it, and to give it back; the loops are made of these two.
 *
 * With --verify a block is stamped while it is taken. One that is handed out twice is found when
 * the second owner, or the first, gives it back.
 */
#ifndef BENCH_BLOCK_H
#define BENCH_BLOCK_H

#include "workload.h"

#define STAMP 0x9e3779b97f4a7c15ull

extern bool blocks_are_verified;

static inline uint64_t block_stamp(const void *block) {
    return (uint64_t)(uintptr_t)block ^ STAMP;
}

static inline void *block_take(size_t size) {
    uint64_t *block = backend_alloc(size);
    if (__builtin_expect(block == NULL, 0)) {
        die("no %zu bytes", size);
    }
    *block = block_stamp(block);
    return block;
}

/* The cold half of block_give(): dies if the block is not as block_take() left it. */
void block_verify(uint64_t *block);

static inline void block_give(void *block) {
    if (__builtin_expect(blocks_are_verified, 0)) {
        block_verify(block);
    }
    backend_free(block);
}

#endif
