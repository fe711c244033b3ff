/* layout.h -- what respd keeps in the heap, and who may touch it.
 *
 *     root "respd" -> struct root --- shard[0..255] --> tables --> entries (one block per key)
 *                              \----- worker[i] -----> a worker's pins and counters
 *
 *   entry    One key with its value, one block. What it says never changes once it is linked in;
 *            only `next` and `expire_ms` do, under the shard's lock. A new value is a new entry.
 *   retired  Entries that nobody can find any more, but that a worker may still be sending.
 *   pin      "This worker is sending that entry": one pointer in the worker's block.
 *
 * Every block belongs to exactly one of: a chain, `retired`, a doomed table, `fresh`, `dying`, the
 * root. sharena_check() counts blocks, so test_store.c can prove that none is lost.
 *
 * Not here: how a shard changes (change.c), what is private to a process (store.h).
 */
#ifndef RESPD_LAYOUT_H
#define RESPD_LAYOUT_H

#include <pthread.h>
#include <stdint.h>

#define ROOT_NAME "respd"
#define ROOT_MAGIC 0x3130647073657221u /* "!respd01", changes with the layout */
#define SHARDS 256u                    /* a key's shard is the top byte of its hash */
#define WORKERS_MAX 64u
#define PINS 4096u
#define CHANGE_STEPS 9u
#define TABLE_BUCKETS_MIN 16u

/* A chain's element. The bytes are the key, and then the value as the reply that a GET sends:
 * "$<length>\r\n<value>\r\n"; so that a value goes from here to the socket in one piece. */
struct entry {
    struct entry *next;   /* in its chain, or in `retired`; shard lock */
    uint64_t hash;        /* of the key */
    int64_t expire_ms;    /* CLOCK_REALTIME; 0 = never; shard lock */
    uint64_t value_bytes; /* of the value alone */
    uint32_t key_bytes;
    uint32_t head_bytes; /* of "$<length>\r\n" */
    char bytes[];
};

/* A power of two of chains. `done`: all buckets below are empty for good, because their entries
 * went to the next table, or to `retired` when the table is doomed. Shard lock. */
struct table {
    struct table *next; /* doomed tables form a list */
    uint64_t buckets;
    uint64_t done;
    struct entry *bucket[];
};

/* One store of a change: see change.c. */
struct change_step {
    uint64_t *where;
    uint64_t value;
};

/* A slice of the dataset; everything in it is guarded by `mutex`. */
struct shard {
    pthread_mutex_t mutex;   /* process-shared, robust */
    void *fresh;             /* being filled; sharena_malloc_to() puts it here */
    void *dying;             /* being freed; sharena_free_from() takes it from here */
    struct table *tables[2]; /* [1]: where a resize moves the entries of [0] */
    struct table *doomed;    /* emptied by FLUSHALL: entries still to be freed */
    struct entry *retired;   /* unlinked, freed as soon as no worker pins them */
    uint64_t retired_bytes;  /* what they hold ... */
    uint64_t retired_limit;  /* ... and when it is time to look: a hint */
    uint64_t keys;           /* read without the lock by DBSIZE: moments differ, each was true */
    uint64_t expires;        /* of these, with an expiry */
    uint64_t tend_bucket;    /* where the slow expiry cycle goes on: a hint */
    uint64_t log_steps;      /* 0, or how many of `log` are to be stored */
    struct change_step log[CHANGE_STEPS];
};

/* A worker's own block. Only that worker stores to it, or the parent while there is none; the
 * others read `pin` to see what must not be freed, and add the counters up. */
struct worker {
    uint64_t pid;
    uint64_t clients;
    uint64_t connections;
    uint64_t commands;
    uint64_t hits;
    uint64_t misses;
    uint64_t expired;
    uint64_t repaired; /* shards inherited from the dead */
    uint64_t pin_top;  /* pins at and above are NULL */
    struct entry *pin[PINS];
};

struct root {
    uint64_t magic;
    uint64_t size; /* sizeof(struct root): another build's layout is refused */
    uint64_t hash_key[2];
    uint64_t workers;   /* how many the running server has */
    uint64_t restarted; /* workers replaced since the server started */
    struct worker *worker[WORKERS_MAX];
    struct shard shard[SHARDS];
};

#endif
