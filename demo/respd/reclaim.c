/* reclaim.c -- when may an entry that was replaced or deleted be freed?
 *
 * Replies point into entries, and a slow client may take minutes. So a worker that sends an entry
 * pins it: it stores the pointer in its own block while it holds the shard's lock, and takes it out
 * when the last byte is with the kernel. There is no count that a kill could leave wrong:
 *
 *     - An entry is pinned only while it is linked, under the lock; after it has been unlinked
 *       under that lock, no new pin of it can appear, and every old one is visible.
 *     - So whoever holds the lock may free each retired entry that is in no worker's pins.
 *     - A worker that dies leaves its pins. Nothing is freed wrongly: they only delay. The parent
 *       clears them once waitpid() has shown that nobody sends from there any more.
 *
 * Looking at all pins for every overwrite would make workers wait for each other's cache lines, so
 * retired entries are collected and looked at by the few kilobytes.
 *
 * Lock:   the shard's for all but store_unpin().
 * Killed: an entry goes retired -> dying -> freed, each step whole (change.c).
 */
#include "shard.h"

#include <string.h>

#define RETIRED_BYTES_MIN 4096u
#define FILTER_BITS 16384u
#define PIN_TOP_HIGH 128u /* from here on it pays to put the free pins in order again */

/* ---- pins ---- */

uint32_t store_pin(struct store *store, struct entry *entry) {
    struct worker *worker = store->worker;
    if (store->free_pin_count == 0) {
        return PIN_NONE;
    }
    uint32_t pin = store->free_pins[--store->free_pin_count];
    __atomic_store_n(&worker->pin[pin], entry, __ATOMIC_RELEASE);
    if (worker->pin_top <= pin) {
        __atomic_store_n(&worker->pin_top, pin + 1, __ATOMIC_RELEASE);
    }
    return pin;
}

void pins_reset(struct store *store) {
    __atomic_store_n(&store->worker->pin_top, 0, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < PINS; i++) {
        store->free_pins[i] = (uint16_t)(PINS - 1 - i); /* the low ones are taken first */
    }
    store->free_pin_count = PINS;
}

void store_unpin(struct store *store, uint32_t pin) {
    struct worker *worker = store->worker;
    __atomic_store_n(&worker->pin[pin], NULL, __ATOMIC_RELEASE);
    store->free_pins[store->free_pin_count++] = (uint16_t)pin;
    if (store->free_pin_count == PINS && worker->pin_top > PIN_TOP_HIGH) {
        pins_reset(store);
    }
}

/* All pins at once: a bit per hash of the pointer. A false hit only delays. */
struct filter {
    uint64_t bits[FILTER_BITS / 64];
};

static unsigned filter_bit(const struct entry *entry) {
    return (unsigned)(((uint64_t)(uintptr_t)entry * 0x9e3779b97f4a7c15u) >> 50); /* 14 bits */
}

static bool filter_has(const struct filter *filter, const struct entry *entry) {
    unsigned bit = filter_bit(entry);
    return (filter->bits[bit / 64] >> (bit % 64) & 1) != 0;
}

static void filter_fill(const struct store *store, struct filter *filter) {
    memset(filter, 0, sizeof *filter);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        const struct worker *worker = __atomic_load_n(&store->root->worker[i], __ATOMIC_ACQUIRE);
        uint64_t top = worker == NULL ? 0 : __atomic_load_n(&worker->pin_top, __ATOMIC_ACQUIRE);
        for (uint64_t pin = 0; pin < top; pin++) {
            const struct entry *entry = __atomic_load_n(&worker->pin[pin], __ATOMIC_ACQUIRE);
            if (entry != NULL) {
                unsigned bit = filter_bit(entry);
                filter->bits[bit / 64] |= (uint64_t)1 << (bit % 64);
            }
        }
    }
}

/* ---- retired entries ---- */

void retire_steps(struct change *change, struct shard *shard, struct entry *entry) {
    change_set_ptr(change, &entry->next, shard->retired);
    change_set_ptr(change, &shard->retired, entry);
    change_set(change, &shard->retired_bytes, shard->retired_bytes + entry_bytes(entry));
}

void shard_reclaim(struct store *store, struct shard *shard, bool now) {
    if (shard->retired == NULL || (!now && shard->retired_bytes < shard->retired_limit)) {
        return;
    }
    struct filter filter;
    filter_fill(store, &filter);
    struct entry **link = &shard->retired;
    while (*link != NULL) {
        struct entry *entry = *link;
        if (filter_has(&filter, entry)) {
            link = &entry->next;
            continue;
        }
        struct change change = {0};
        change_set_ptr(&change, link, entry->next);
        change_set(&change, &shard->retired_bytes, shard->retired_bytes - entry_bytes(entry));
        change_set_ptr(&change, &shard->dying, entry);
        change_commit(shard, &change);
        shard_free_dying(store, shard);
    }
    shard->retired_limit = RETIRED_BYTES_MIN + 2 * shard->retired_bytes;
}

/* ---- FLUSHALL ---- */

bool shard_drain_doomed(struct store *store, struct shard *shard, unsigned count) {
    struct table *table = shard->doomed;
    for (unsigned i = 0; i < count && table != NULL; i++) {
        struct change change = {0};
        if (table->done == table->buckets) {
            change_set_ptr(&change, &shard->doomed, table->next);
            change_set_ptr(&change, &shard->dying, table);
            change_commit(shard, &change);
            shard_free_dying(store, shard);
            table = shard->doomed;
            continue;
        }
        struct entry **bucket = &table->bucket[table->done];
        if (*bucket == NULL) {
            table->done++;
            continue;
        }
        struct entry *entry = *bucket;
        change_set_ptr(&change, bucket, entry->next);
        retire_steps(&change, shard, entry);
        change_commit(shard, &change);
    }
    shard_reclaim(store, shard, false);
    return shard->doomed != NULL;
}
