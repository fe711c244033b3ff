/* batch.c -- see batch.h; index.h says what a word is. */
#include "batch.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLACES_MIN 1024u

static struct batch_word *batch_place(const struct batch *batch, const struct batch_word *word) {
    for (size_t i = word->hash;; i++) {
        struct batch_word *place = &batch->places[i & (batch->nplaces - 1)];

        if (place->text == NULL ||
            (place->hash == word->hash && place->length_bytes == word->length_bytes &&
             memcmp(place->text, word->text, word->length_bytes) == 0)) {
            return place;
        }
    }
}

static int batch_grow(struct batch *batch) {
    struct batch larger = {.nplaces = batch->nplaces == 0 ? PLACES_MIN : batch->nplaces * 2};

    larger.places = calloc(larger.nplaces, sizeof *larger.places);
    if (larger.places == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < batch->nplaces; i++) {
        if (batch->places[i].text != NULL) {
            *batch_place(&larger, &batch->places[i]) = batch->places[i];
        }
    }
    free(batch->places);
    batch->places = larger.places;
    batch->nplaces = larger.nplaces;
    return 0;
}

static int batch_add(struct batch *batch, const struct batch_word *word) {
    struct batch_word *place;

    if ((batch->nwords + 1) * 2 > batch->nplaces && batch_grow(batch) != 0) {
        return ENOMEM;
    }
    place = batch_place(batch, word);
    if (place->text == NULL) {
        *place = *word;
        place->count = 0;
        batch->nwords++;
    }
    place->count++;
    return 0;
}

static bool word_is_indexed(const struct batch_word *word) {
    return word->length_bytes >= WORD_MIN_BYTES && word->length_bytes <= WORD_MAX_BYTES &&
           !isdigit((unsigned char)word->text[0]);
}

/* The word that begins at `text`, which may be of any length. */
static size_t word_scan(const char *text, const char *end, struct batch_word *word) {
    uint64_t hash = WORD_HASH_START;
    const char *next = text;

    while (next < end && word_has((unsigned char)*next)) {
        hash = word_hash_add(hash, (unsigned char)*next);
        next++;
    }
    word->text = text;
    word->hash = word_hash_finish(hash);
    word->length_bytes =
        next - text > WORD_MAX_BYTES ? WORD_MAX_BYTES + 1 : (uint32_t)(next - text);
    return (size_t)(next - text);
}

static int batch_scan(struct batch *batch, const char *text, size_t size_bytes) {
    const char *end = text + size_bytes;

    while (text < end) {
        struct batch_word word = {0};
        size_t length_bytes = word_scan(text, end, &word);

        if (word_is_indexed(&word) && batch_add(batch, &word) != 0) {
            return ENOMEM;
        }
        text += length_bytes == 0 ? 1 : length_bytes;
    }
    return 0;
}

/* Counting sort by shard, from `places` to `words`. */
static void batch_sort(struct batch *batch) {
    size_t next[INDEX_SHARDS] = {0};
    size_t start = 0;

    for (size_t i = 0; i < batch->nplaces; i++) {
        if (batch->places[i].text != NULL) {
            next[word_shard(batch->places[i].hash)]++;
        }
    }
    for (unsigned shard = 0; shard < INDEX_SHARDS; shard++) {
        size_t count = next[shard];

        batch->shard_start[shard] = start;
        next[shard] = start;
        start += count;
    }
    batch->shard_start[INDEX_SHARDS] = start;
    for (size_t i = 0; i < batch->nplaces; i++) {
        if (batch->places[i].text != NULL) {
            batch->words[next[word_shard(batch->places[i].hash)]++] = batch->places[i];
        }
    }
}

int batch_fill(struct batch *batch, const char *text, size_t size_bytes) {
    if (batch->nplaces > 0) {
        memset(batch->places, 0, batch->nplaces * sizeof *batch->places);
    }
    batch->nwords = 0;
    free(batch->words);
    batch->words = NULL;
    if (batch_scan(batch, text, size_bytes) != 0) {
        return ENOMEM;
    }
    batch->words = malloc((batch->nwords + 1) * sizeof *batch->words);
    if (batch->words == NULL) {
        return ENOMEM;
    }
    batch_sort(batch);
    return 0;
}

void batch_free(struct batch *batch) {
    free(batch->places);
    free(batch->words);
    *batch = (struct batch){0};
}
