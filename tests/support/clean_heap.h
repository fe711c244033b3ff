/* clean_heap.h -- for tests of the public contract: heaps in files that go away again, and the proof
 * that a heap is clean.
 */
#ifndef TESTS_SUPPORT_CLEAN_HEAP_H
#define TESTS_SUPPORT_CLEAN_HEAP_H

#include <sharena/sharena.h>

#include "scratch.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* The thread sanitizer lets an application map in one window only: there heap `index` has its place. */
static inline uint64_t clean_base(unsigned index) {
#ifdef __SANITIZE_THREAD__
    return 0x7e8000000000ull + index * 4 * GIB;
#else
    (void)index;
    return 0;
#endif
}

static inline struct sharena_options clean_options(void) {
    return (struct sharena_options){.capacity_bytes = GIB, .base_address = clean_base(0)};
}

/* Opens, or makes, the heap in `path`. */
static inline sharena_t *clean_open_with(const char *path, const struct sharena_options *options) {
    sharena_t *heap = NULL;
    if (sharena_open(path, options, &heap) != 0) {
        fail_msg("no heap in %s: %s", path, sharena_errormsg());
    }
    assert_non_null(heap);
    return heap;
}

static inline sharena_t *clean_open(const char *path) {
    const struct sharena_options options = clean_options();
    return clean_open_with(path, &options);
}

/* The heap keeps its ownership rule, and the application owns that many blocks. */
static inline void clean_check(sharena_t *heap, uint64_t blocks_live) {
    struct sharena_report report;
    if (sharena_check(heap, &report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    assert_int_equal(report.findings, 0);
    assert_int_equal(report.blocks_live, blocks_live);
}

/* The same, then the last close, and the file goes. */
static inline void clean_end(sharena_t *heap, const char *path, uint64_t blocks_live) {
    clean_check(heap, blocks_live);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(sharena_unlink(path), 0);
}

/* For children: 0 if the heap is clean; says what it is otherwise. */
static inline int clean_is_not(sharena_t *heap) {
    int error = sharena_check(heap, NULL);
    if (error != 0) {
        (void)fprintf(stderr, "child: not clean: %s\n", sharena_errormsg());
    }
    return error;
}

/* Words that tell their block and their place in it; the last one may be cut off. */
static inline uint64_t clean_word(uint64_t seed, size_t at) {
    return (seed * 31 + at + 1) * 0x9e3779b97f4a7c15ull;
}

static inline size_t clean_part(size_t bytes, size_t at) {
    return bytes - at < sizeof(uint64_t) ? bytes - at : sizeof(uint64_t);
}

static inline void clean_fill(void *block, size_t bytes, uint64_t seed) {
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = clean_word(seed, at);
        memcpy((char *)block + at, &word, clean_part(bytes, at));
    }
}

/* The place of the first word that is another, `bytes` if there is none. */
static inline size_t clean_compare(const void *block, size_t bytes, uint64_t seed) {
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = clean_word(seed, at);
        if (memcmp((const char *)block + at, &word, clean_part(bytes, at)) != 0) {
            return at;
        }
    }
    return bytes;
}

static inline int clean_is_zero(const void *block, size_t bytes) {
    const unsigned char *byte = block;
    return bytes == 0 || (byte[0] == 0 && memcmp(byte, byte + 1, bytes - 1) == 0);
}

/* A random number; the seed is a test's own, so that its run can be repeated. */
static inline uint64_t clean_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15ull; /* splitmix64; S. Vigna */
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    return mixed ^ mixed >> 31;
}

#endif
