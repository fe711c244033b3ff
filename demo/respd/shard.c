/* shard.c -- one slice of the dataset: find, put, remove, expire.
 *
 * Holds:  an entry is in exactly one chain of tables[0] or tables[1], or on `retired`
 *         keys == entries in the chains; expires == those of them with an expiry
 * Lock:   the shard's, for every function.
 * Killed: anywhere: a new entry is complete before the change that links it in, and that change
 *         also retires the one it replaces (change.c).
 * Not here: the chains themselves (table.c), freeing (reclaim.c).
 */
#include "shard.h"

#include <string.h>

#include "number.h"

void shard_unlink(struct shard *shard, struct entry **link) {
    struct entry *entry = *link;
    struct change change = {0};
    change_set_ptr(&change, link, entry->next);
    change_set(&change, &shard->keys, shard->keys - 1);
    if (entry->expire_ms != 0) {
        change_set(&change, &shard->expires, shard->expires - 1);
    }
    retire_steps(&change, shard, entry);
    change_commit(shard, &change);
}

/* The link to a live entry; one that has expired is retired on the way. */
static struct entry **find_live(struct store *store, struct shard *shard, const struct key *key,
                                int64_t now_ms) {
    struct entry **link = table_find(shard, key);
    if (link != NULL && entry_is_expired(*link, now_ms)) {
        shard_unlink(shard, link);
        if (store->worker != NULL) {
            store->worker->expired++;
        }
        return NULL;
    }
    return link;
}

struct entry *shard_find(struct store *store, struct shard *shard, const struct key *key,
                         int64_t now_ms) {
    struct entry **link = find_live(store, shard, key, now_ms);
    return link == NULL ? NULL : *link;
}

bool shard_remove(struct store *store, struct shard *shard, const struct key *key, int64_t now_ms) {
    struct entry **link = find_live(store, shard, key, now_ms);
    if (link == NULL) {
        return false;
    }
    shard_unlink(shard, link);
    shard_reclaim(store, shard, false);
    table_resize(store, shard);
    return true;
}

void shard_set_expiry(struct shard *shard, struct entry *entry, int64_t expire_ms) {
    struct change change = {0};
    uint64_t others = shard->expires - (entry->expire_ms != 0 ? 1 : 0);
    change_set(&change, &entry->expire_ms, (uint64_t)expire_ms);
    change_set(&change, &shard->expires, others + (expire_ms != 0 ? 1 : 0));
    change_commit(shard, &change);
}

/* Fills the block in shard->fresh, which nobody else sees yet. */
static void entry_fill(struct entry *entry, const struct key *key, const struct value *value,
                       const char *head, size_t head_bytes) {
    entry->next = NULL;
    entry->hash = key->hash;
    entry->value_bytes = value->len[0] + value->len[1];
    entry->key_bytes = (uint32_t)key->len;
    entry->head_bytes = (uint32_t)head_bytes;
    char *to = entry->bytes;
    memcpy(to, key->bytes, key->len);
    to += key->len;
    memcpy(to, head, head_bytes);
    to += head_bytes;
    for (int i = 0; i < 2; i++) {
        if (value->len[i] != 0) {
            memcpy(to, value->bytes[i], value->len[i]);
            to += value->len[i];
        }
    }
    memcpy(to, "\r\n", 2);
}

int shard_prepare(struct store *store, struct shard *shard, const struct key *key,
                  const struct value *value, int64_t expire_ms) {
    char head[NUMBER_HEAD_MAX];
    size_t value_bytes = value->len[0] + value->len[1];
    size_t head_bytes = number_head(head, '$', (int64_t)value_bytes);
    int error = table_need(store, shard);
    if (error == 0) {
        error = shard_allocate(store, shard,
                               sizeof(struct entry) + key->len + head_bytes + value_bytes + 2);
    }
    if (error == 0) {
        struct entry *entry = shard->fresh;
        entry_fill(entry, key, value, head, head_bytes);
        entry->expire_ms = expire_ms;
    }
    return error;
}

/* before  link --> old --> next     fresh -> entry     retired -> r
 * after   link --> entry --> next   fresh -> NULL      retired -> old -> r     in one change */
void shard_publish(struct store *store, struct shard *shard, const struct key *key) {
    struct entry *entry = shard->fresh;
    struct change change = {0};
    uint64_t expires = shard->expires + (entry->expire_ms != 0 ? 1 : 0);
    struct entry **link = table_find(shard, key);
    if (link != NULL) {
        struct entry *old = *link;
        entry->next = old->next;
        expires -= old->expire_ms != 0 ? 1 : 0;
        retire_steps(&change, shard, old);
    } else {
        link = table_place(shard, key->hash);
        entry->next = *link;
        change_set(&change, &shard->keys, shard->keys + 1);
    }
    change_set_ptr(&change, link, entry);
    change_set_ptr(&change, &shard->fresh, NULL);
    if (expires != shard->expires) {
        change_set(&change, &shard->expires, expires);
    }
    change_commit(shard, &change);

    shard_reclaim(store, shard, false);
    table_resize(store, shard);
}

int shard_put(struct store *store, struct shard *shard, const struct key *key,
              const struct value *value, int64_t expire_ms) {
    int error = shard_prepare(store, shard, key, value, expire_ms);
    if (error == 0) {
        shard_publish(store, shard, key);
    }
    return error;
}

void shard_expire_some(struct store *store, struct shard *shard, unsigned buckets, int64_t now_ms) {
    struct table *table = shard->tables[0];
    if (table == NULL || shard->expires == 0) {
        return;
    }
    for (unsigned i = 0; i < buckets; i++) {
        uint64_t idx = shard->tend_bucket++ & (table->buckets - 1);
        struct entry **link = &table->bucket[idx];
        while (*link != NULL) {
            if (entry_is_expired(*link, now_ms)) {
                shard_unlink(shard, link);
                store->worker->expired++;
            } else {
                link = &(*link)->next;
            }
        }
    }
}
