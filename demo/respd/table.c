/* table.c -- the chains of a shard, and how their number follows the number of keys.
 *
 * A table has a power of two of buckets. When it has more keys than buckets, or eight times more
 * buckets than keys, a second table is made and each later lock of the shard moves a few buckets
 * over; no operation waits for the whole. New entries go to the second table meanwhile.
 *
 * Holds:  tables[0] is NULL only before the first key and after a flush
 *         while tables[1] is there, the buckets of tables[0] below its `done` are empty
 * Lock:   the shard's, except store_scan(), which takes it.
 * Killed: anywhere: each entry moves by one change; a table is zeroed before it is linked in.
 * Not here: the entries' life (shard.c, reclaim.c).
 */
#include "shard.h"

#include <string.h>

#define STEP_BUCKETS 4u       /* moved by one lock of the shard ... */
#define STEP_BUCKETS_SEEN 64u /* ... not counting empty ones, up to here */

static struct entry **table_bucket(struct table *table, uint64_t hash) {
    return &table->bucket[hash & (table->buckets - 1)];
}

struct entry **table_find(struct shard *shard, const struct key *key) {
    for (int i = 0; i < 2 && shard->tables[i] != NULL; i++) {
        struct entry **link = table_bucket(shard->tables[i], key->hash);
        for (; *link != NULL; link = &(*link)->next) {
            const struct entry *entry = *link;
            if (entry->hash == key->hash && entry->key_bytes == key->len &&
                memcmp(entry->bytes, key->bytes, key->len) == 0) {
                return link;
            }
        }
    }
    return NULL;
}

struct entry **table_place(struct shard *shard, uint64_t hash) {
    struct table *table = shard->tables[1] != NULL ? shard->tables[1] : shard->tables[0];
    return table == NULL ? NULL : table_bucket(table, hash);
}

/* tables[which] = an empty table. */
static int table_make(struct store *store, struct shard *shard, int which, uint64_t buckets) {
    size_t bytes = sizeof(struct table) + buckets * sizeof(struct entry *);
    int error = shard_allocate(store, shard, bytes);
    if (error != 0) {
        return error;
    }
    struct table *table = shard->fresh;
    memset(table, 0, bytes);
    table->buckets = buckets;
    struct change change = {0};
    change_set_ptr(&change, &shard->tables[which], table);
    change_set_ptr(&change, &shard->fresh, NULL);
    change_commit(shard, &change);
    return 0;
}

int table_need(struct store *store, struct shard *shard) {
    return shard->tables[0] != NULL ? 0 : table_make(store, shard, 0, TABLE_BUCKETS_MIN);
}

void table_resize(struct store *store, struct shard *shard) {
    const struct table *table = shard->tables[0];
    if (table == NULL || shard->tables[1] != NULL) {
        return;
    }
    if (shard->keys <= table->buckets &&
        (shard->keys >= table->buckets / 8 || table->buckets == TABLE_BUCKETS_MIN)) {
        return;
    }
    uint64_t buckets = TABLE_BUCKETS_MIN;
    while (buckets < shard->keys + shard->keys / 2) {
        buckets *= 2;
    }
    if (table_make(store, shard, 1, buckets) != 0) {
        return; /* longer chains will do */
    }
}

/* before  tables[0] --bucket--> e --> f    tables[1] --bucket--> x
 * after   tables[0] --bucket--> f          tables[1] --bucket--> e --> x       in one change */
static void entry_move(struct shard *shard, struct entry **from) {
    struct entry *entry = *from;
    struct entry **to = table_bucket(shard->tables[1], entry->hash);
    struct change change = {0};
    change_set_ptr(&change, from, entry->next);
    change_set_ptr(&change, &entry->next, *to);
    change_set_ptr(&change, to, entry);
    change_commit(shard, &change);
}

void table_step(struct store *store, struct shard *shard) {
    struct table *old = shard->tables[0];
    if (shard->tables[1] == NULL) {
        return;
    }
    unsigned moved = 0;
    for (unsigned seen = 0; seen < STEP_BUCKETS_SEEN && moved < STEP_BUCKETS; seen++) {
        if (old->done == old->buckets) {
            struct change change = {0};
            change_set_ptr(&change, &shard->tables[0], shard->tables[1]);
            change_set_ptr(&change, &shard->tables[1], NULL);
            change_set_ptr(&change, &shard->dying, old);
            change_commit(shard, &change);
            shard_free_dying(store, shard);
            return;
        }
        struct entry **from = &old->bucket[old->done];
        moved += *from != NULL ? 1 : 0;
        while (*from != NULL) {
            entry_move(shard, from);
        }
        old->done++;
    }
}

/* ---- scan ---- */

static uint64_t bits_reversed(uint64_t x) {
    x = __builtin_bswap64(x);
    x = ((x >> 4) & 0x0f0f0f0f0f0f0f0fu) | ((x & 0x0f0f0f0f0f0f0f0fu) << 4);
    x = ((x >> 2) & 0x3333333333333333u) | ((x & 0x3333333333333333u) << 2);
    return ((x >> 1) & 0x5555555555555555u) | ((x & 0x5555555555555555u) << 1);
}

/* Counts in the bits of `mask`, the highest one first. A bucket of a small table is then followed,
 * in a larger one, by exactly the buckets that its entries spread to: so a cursor stays good when
 * the table is resized between two calls. */
static uint64_t cursor_next(uint64_t cursor, uint64_t mask) {
    return bits_reversed(bits_reversed(cursor | ~mask) + 1);
}

static uint64_t bucket_visit(const struct table *table, uint64_t cursor, entry_visit visit,
                             void *arg) {
    uint64_t seen = 0;
    const struct entry *entry = table->bucket[cursor & (table->buckets - 1)];
    for (; entry != NULL; entry = entry->next) {
        visit(entry, arg);
        seen++;
    }
    return seen;
}

/* Visits one bucket of the smaller table and all that belong to it in the larger. */
static uint64_t shard_scan(const struct shard *shard, uint64_t *cursor, entry_visit visit,
                           void *arg) {
    const struct table *small = shard->tables[0];
    const struct table *large = shard->tables[1];
    if (small == NULL) {
        *cursor = 0;
        return 0;
    }
    if (large == NULL) {
        uint64_t seen = bucket_visit(small, *cursor, visit, arg);
        *cursor = cursor_next(*cursor, small->buckets - 1);
        return seen;
    }
    if (small->buckets > large->buckets) {
        const struct table *other = small;
        small = large;
        large = other;
    }
    uint64_t small_mask = small->buckets - 1;
    uint64_t large_mask = large->buckets - 1;
    uint64_t seen = bucket_visit(small, *cursor, visit, arg);
    do {
        seen += bucket_visit(large, *cursor, visit, arg);
        *cursor = cursor_next(*cursor, large_mask);
    } while ((*cursor & (small_mask ^ large_mask)) != 0);
    return seen;
}

/* The cursor: the shard in the low byte, the bucket above it. */
uint64_t store_scan(struct store *store, uint64_t cursor, uint64_t count, entry_visit visit,
                    void *arg) {
    uint64_t seen = 0;
    uint64_t buckets_left = count < UINT64_MAX / 10 ? count * 10 : UINT64_MAX;
    uint64_t idx = cursor % SHARDS;
    uint64_t bucket = cursor / SHARDS;
    while (idx < SHARDS && seen < count && buckets_left != 0) {
        struct shard *shard = store_lock_shard(store, (unsigned)idx);
        do {
            seen += shard_scan(shard, &bucket, visit, arg);
            buckets_left--;
        } while (bucket != 0 && seen < count && buckets_left != 0);
        store_unlock(shard);
        idx += bucket == 0 ? 1 : 0;
    }
    return idx == SHARDS ? 0 : bucket * SHARDS + idx;
}
