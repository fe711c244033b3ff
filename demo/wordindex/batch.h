/* batch.h -- the words of one file, counted and sorted by shard, in private memory. */
#ifndef DEMO_WORDINDEX_BATCH_H
#define DEMO_WORDINDEX_BATCH_H

#include "index.h"

#include <stddef.h>

struct batch_word {
    const char *text; /* into the file's text; NULL: an empty place */
    uint64_t hash;
    uint32_t length_bytes;
    uint32_t count;
};

struct batch {
    struct batch_word *places; /* hash table, open addressing */
    size_t nplaces;            /* a power of two */
    struct batch_word *words;  /* the nwords of them, those of shard i at shard_start[i] */
    size_t nwords;
    size_t shard_start[INDEX_SHARDS + 1];
};

/* Replaces what the batch held by the words of `text`, which must live as long as they are used.
 * Begin with a zeroed batch. Returns 0 or ENOMEM. */
int batch_fill(struct batch *batch, const char *text, size_t size_bytes);

void batch_free(struct batch *batch);

#endif
