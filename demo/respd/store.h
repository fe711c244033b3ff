/* store.h -- the dataset: a hash table in the heap that any worker reads and changes.
 *
 * How to use it: make a key, lock its shard, find/put/remove under the lock, unlock. An entry is
 * valid until the unlock, or until the unpin of a pin that was taken before the unlock.
 *
 * Kill: a worker may die at any instruction, with or without locks. Whoever gets its lock repairs
 * the shard; a change has then happened as a whole or not at all, and no block is lost.
 */
#ifndef RESPD_STORE_H
#define RESPD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "sharena/sharena.h"

/* One process's view of the dataset. */
struct store {
    sharena_t *heap;
    struct root *root;
    struct worker *worker; /* this worker's block; NULL in the parent */
    unsigned worker_idx;
    unsigned tend_next;      /* the shard that store_tend() sees next */
    unsigned free_pin_count; /* free_pins[0..count) are free; the last one goes first */
    uint16_t free_pins[PINS];
};

struct key {
    const char *bytes;
    size_t len;
    uint64_t hash;
};

/* A value in up to two pieces, so that APPEND need not join them first. */
struct value {
    const char *bytes[2];
    size_t len[2];
};

#define PIN_NONE UINT32_MAX

/* ---- the whole (store.c) ---- */

int64_t store_now_ms(void);

/* Finds or makes the dataset. 0, or an errno value: EUCLEAN where the heap holds another layout. */
int store_open(struct store *store, sharena_t *heap);

/* Makes every shard usable and clears all pins. For the server's parent while it has no workers and
 * nobody else can be using the dataset: the mutexes' words are of a past life. */
void store_recover(struct store *store);

/* Sees that `count` workers have their blocks; 0 or ENOMEM. Parent only. */
int store_prepare_workers(struct store *store, unsigned count);

/* Forgets what a dead worker was sending. Parent only, after waitpid(). */
void store_forget_worker(struct store *store, unsigned idx);

void store_become_worker(struct store *store, unsigned idx);

struct key store_key(const struct store *store, const char *bytes, size_t len);

struct shard *store_lock(struct store *store, const struct key *key);
struct shard *store_lock_shard(struct store *store, unsigned idx);
void store_unlock(struct shard *shard);

/* Several shards at once, in ascending order so that two workers cannot wait for each other. */
struct shard_set {
    uint64_t bits[SHARDS / 64];
};
void shard_set_add(struct shard_set *set, const struct key *key);
void store_lock_set(struct store *store, const struct shard_set *set);
void store_unlock_set(struct store *store, const struct shard_set *set);
struct shard *store_shard_of(const struct store *store, const struct key *key);

uint64_t store_count(const struct store *store, uint64_t *expires);

/* One slice of housekeeping, for a timer: expired keys, resizes, flushed and retired entries. */
void store_tend(struct store *store, int64_t now_ms);

/* Empties the dataset as one step for everybody, then frees it piece by piece. */
void store_flush(struct store *store);

/* ---- under a shard's lock (shard.c) ---- */

/* NULL where there is none; an entry that has expired is removed and not found. */
struct entry *shard_find(struct store *store, struct shard *shard, const struct key *key,
                         int64_t now_ms);

/* Sets the key to the value; replaces what was there (an entry found earlier stays readable until
 * the unlock only if it is pinned). 0, or what sharena_malloc() says; then nothing has changed. */
int shard_put(struct store *store, struct shard *shard, const struct key *key,
              const struct value *value, int64_t expire_ms);

/* The two halves of shard_put(): what can fail, and what cannot. Nothing else of the shard between
 * the two but looking. */
int shard_prepare(struct store *store, struct shard *shard, const struct key *key,
                  const struct value *value, int64_t expire_ms);
void shard_publish(struct store *store, struct shard *shard, const struct key *key);

/* True if there was one. */
bool shard_remove(struct store *store, struct shard *shard, const struct key *key, int64_t now_ms);

void shard_set_expiry(struct shard *shard, struct entry *entry, int64_t expire_ms);

static inline const char *entry_reply(const struct entry *entry) {
    return entry->bytes + entry->key_bytes;
}

static inline size_t entry_reply_bytes(const struct entry *entry) {
    return entry->head_bytes + (size_t)entry->value_bytes + 2;
}

static inline const char *entry_value(const struct entry *entry) {
    return entry->bytes + entry->key_bytes + entry->head_bytes;
}

static inline size_t entry_bytes(const struct entry *entry) {
    return sizeof *entry + entry->key_bytes + entry_reply_bytes(entry);
}

static inline bool entry_is_expired(const struct entry *entry, int64_t now_ms) {
    return entry->expire_ms != 0 && entry->expire_ms <= now_ms;
}

/* ---- walking (table.c) ---- */

typedef void (*entry_visit)(const struct entry *entry, void *arg);

/* Calls visit for all entries of some buckets, at least `count` entries if there are that many, and
 * returns where to go on; 0 = all seen. Begin with 0. As Redis's SCAN: what is there from the first
 * to the last call is visited at least once, whatever is resized meanwhile. */
uint64_t store_scan(struct store *store, uint64_t cursor, uint64_t count, entry_visit visit,
                    void *arg);

/* ---- pins (reclaim.c) ---- */

/* Keeps an entry readable after the unlock. PIN_NONE when this worker has none left. Shard lock. */
uint32_t store_pin(struct store *store, struct entry *entry);
void store_unpin(struct store *store, uint32_t pin);

#endif
