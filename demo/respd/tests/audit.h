/* audit.h -- for the kill tests: is everything in the dataset where it belongs, and nothing lost? */
#ifndef RESPD_TESTS_AUDIT_H
#define RESPD_TESTS_AUDIT_H

#include <stdio.h>
#include <string.h>

#include "shard.h"
#include "tests/trial.h"

static inline void audit_chain(const struct store *store, const struct shard *shard,
                               const struct table *table, uint64_t bucket, uint64_t counts[2]) {
    uint64_t idx = (uint64_t)(shard - store->root->shard);
    REQUIRE(bucket >= table->done || table->bucket[bucket] == NULL);
    for (const struct entry *e = table->bucket[bucket]; e != NULL; e = e->next) {
        struct key key = store_key(store, e->bytes, e->key_bytes);
        struct key *where = &key;
        REQUIRE(key.hash == e->hash && e->hash >> 56 == idx);
        REQUIRE((e->hash & (table->buckets - 1)) == bucket);
        REQUIRE(*table_find((struct shard *)(uintptr_t)shard, where) == e);
        REQUIRE(memcmp(entry_reply(e) + entry_reply_bytes(e) - 2, "\r\n", 2) == 0);
        counts[0]++;
        counts[1] += e->expire_ms != 0 ? 1 : 0;
    }
}

/* Returns how many blocks the shard owns. */
static inline uint64_t audit_shard(const struct store *store, const struct shard *shard) {
    uint64_t counts[2] = {0, 0};
    uint64_t blocks = 0;
    uint64_t retired_bytes = 0;
    REQUIRE(shard->fresh == NULL && shard->dying == NULL && shard->log_steps == 0);
    for (int i = 0; i < 2 && shard->tables[i] != NULL; i++) {
        blocks++;
        for (uint64_t b = 0; b < shard->tables[i]->buckets; b++) {
            audit_chain(store, shard, shard->tables[i], b, counts);
        }
    }
    REQUIRE(counts[0] == shard->keys && counts[1] == shard->expires);
    blocks += counts[0];
    for (const struct entry *e = shard->retired; e != NULL; e = e->next) {
        retired_bytes += entry_bytes(e);
        blocks++;
    }
    REQUIRE(retired_bytes == shard->retired_bytes);
    for (const struct table *t = shard->doomed; t != NULL; t = t->next) {
        blocks++;
        for (uint64_t b = 0; b < t->buckets; b++) {
            for (const struct entry *e = t->bucket[b]; e != NULL; e = e->next) {
                blocks++;
            }
        }
    }
    return blocks;
}

static inline void audit(struct store *store) {
    struct sharena_report report;
    uint64_t blocks = 1; /* the root */
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = store_lock_shard(store, i);
        blocks += audit_shard(store, shard);
        store_unlock(shard);
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        blocks += store->root->worker[i] != NULL ? 1 : 0;
    }
    sharena_reap(store->heap);
    int error = sharena_check(store->heap, &report);
    if (error != 0 || report.blocks_live != blocks) {
        fprintf(stderr, "check %d, findings %llu (%s), blocks live %llu, known %llu\n", error,
                (unsigned long long)report.findings, report.messages[0],
                (unsigned long long)report.blocks_live, (unsigned long long)blocks);
        REQUIRE(!"the heap holds other blocks than the dataset");
    }
}

#endif
