/* shard.h -- the pieces of the store among themselves; all need the shard's lock.
 *
 * Not here: what commands use (store.h).
 */
#ifndef RESPD_SHARD_H
#define RESPD_SHARD_H

#include "store.h"

/* ---- change.c: several stores that happen as one ---- */

struct change {
    unsigned steps;
    struct change_step step[CHANGE_STEPS];
};

void change_set(struct change *change, void *where, uint64_t value);
void change_set_ptr(struct change *change, void *where, const void *value);
void change_commit(struct shard *shard, const struct change *change);

/* Brings a shard whose holder died back to what it is between two operations. May be repeated. */
void shard_repair(struct store *store, struct shard *shard);

/* shard->fresh = a new block; 0 or an errno value. */
int shard_allocate(struct store *store, struct shard *shard, size_t bytes);

/* Frees what a committed change has put into shard->dying. */
void shard_free_dying(struct store *store, struct shard *shard);

/* ---- table.c: chains ---- */

/* The pointer that points at the key's entry, or NULL. */
struct entry **table_find(struct shard *shard, const struct key *key);

/* The head of the chain where a new entry belongs; NULL while there is no table. */
struct entry **table_place(struct shard *shard, uint64_t hash);

/* Sees that there is a table; 0 or an errno value. */
int table_need(struct store *store, struct shard *shard);

/* Starts a resize where the number of keys asks for one; no memory is no error. */
void table_resize(struct store *store, struct shard *shard);

/* Moves a few buckets on where a resize is under way. */
void table_step(struct store *store, struct shard *shard);

/* ---- reclaim.c: entries that are gone, but perhaps being sent ---- */

/* Adds the three steps that put `entry` on the retired list. */
void retire_steps(struct change *change, struct shard *shard, struct entry *entry);

/* Frees what is retired and not pinned, if there is enough of it or `now`. */
void shard_reclaim(struct store *store, struct shard *shard, bool now);

/* For a worker that has no pins. */
void pins_reset(struct store *store);

/* Retires up to `count` entries of doomed tables; true if there are more. */
bool shard_drain_doomed(struct store *store, struct shard *shard, unsigned count);

/* ---- shard.c ---- */

/* Unlinks the entry at `link` and retires it. */
void shard_unlink(struct shard *shard, struct entry **link);

/* Removes expired entries from some buckets. */
void shard_expire_some(struct store *store, struct shard *shard, unsigned buckets, int64_t now_ms);

#endif
