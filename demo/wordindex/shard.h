/* shard.h -- one part of the dictionary: find a word, add a word, add a posting. */
#ifndef DEMO_WORDINDEX_SHARD_H
#define DEMO_WORDINDEX_SHARD_H

#include "index.h"

/* Locks. If the last owner died inside, repairs the shard first. Returns 0, or an errno value. */
int shard_lock(sharena_t *heap, struct shard *shard);
void shard_unlock(struct shard *shard);

/* The word in the shard, or NULL. The caller holds the lock, or knows that nobody builds. */
struct word *shard_find(const struct shard *shard, uint64_t hash, const char *text,
                        uint32_t length_bytes);

/* The word, which is added first if need be; NULL with errno as sharena_malloc_to(). Locked. */
struct word *shard_find_or_add(sharena_t *heap, struct shard *shard, uint64_t hash,
                               const char *text, uint32_t length_bytes);

/* Adds a posting to a word of the shard. Locked. Returns 0, or an errno value. */
int shard_add_posting(sharena_t *heap, struct shard *shard, struct word *word,
                      struct posting posting);

/* Has the word a posting for the file? Locked. */
bool word_has_posting(const struct word *word, uint32_t file);

/* A new mutex, and a shard as if nobody had died in it. Everybody else who might use it is dead,
 * and sharena_reap() has been called since. Returns 0, or an errno value. */
int shard_renew(sharena_t *heap, struct shard *shard);

#endif
