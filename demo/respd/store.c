/* store.c -- the dataset as a whole: opening, locks, workers, housekeeping.
 *
 * Locks:  A shard's mutex is process-shared and robust. Who holds several took them in ascending
 *         order. Under a lock only the heap is called, which calls nothing of ours.
 * Killed: The kernel hands a dead worker's lock to the next who asks, with EOWNERDEAD. That one
 *         first has the heap settle what the dead one had open, then repairs the shard.
 *         A mutex word holds a thread id. When all workers died, or the machine went down, it names
 *         a thread of the past; so the server's parent, alone by its lock file, makes all mutexes
 *         anew before it has workers.
 * Not here: what a shard does (shard.c), how a change survives a kill (change.c).
 */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "hash.h"
#include "shard.h"

#define TEND_SHARDS 16u  /* that one store_tend() visits ... */
#define TEND_BUCKETS 64u /* ... looking for expired keys in so many buckets of each ... */
#define TEND_DOOMED 512u /* ... and freeing so many flushed entries */

int64_t store_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- open ---- */

static int root_init(void *block, void *arg) {
    struct root *root = block;
    (void)arg;
    if (getrandom(root->hash_key, sizeof root->hash_key, 0) != (ssize_t)sizeof root->hash_key) {
        return errno != 0 ? errno : EIO;
    }
    root->size = sizeof *root;
    root->magic = ROOT_MAGIC;
    return 0;
}

int store_open(struct store *store, sharena_t *heap) {
    memset(store, 0, sizeof *store);
    struct root *root = sharena_root_create(heap, ROOT_NAME, sizeof(struct root), root_init, NULL);
    if (root == NULL) {
        return errno;
    }
    if (root->magic != ROOT_MAGIC || root->size != sizeof *root) {
        return EUCLEAN;
    }
    store->heap = heap;
    store->root = root;
    return 0;
}

static void mutex_make(pthread_mutex_t *mutex) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

void store_recover(struct store *store) {
    sharena_reap(store->heap);
    store->root->restarted = 0;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (store->root->worker[i] != NULL) {
            memset(store->root->worker[i], 0, sizeof(struct worker));
        }
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->root->shard[i];
        mutex_make(&shard->mutex);
        shard_repair(store, shard);
        shard_reclaim(store, shard, true);
    }
}

/* ---- workers ---- */

int store_prepare_workers(struct store *store, unsigned count) {
    struct root *root = store->root;
    for (unsigned i = 0; i < count; i++) {
        if (root->worker[i] != NULL) {
            continue;
        }
        int error = sharena_malloc_to(store->heap, sizeof(struct worker),
                                      (void **)(void *)&root->worker[i]);
        if (error != 0) {
            return error;
        }
        memset(root->worker[i], 0, sizeof(struct worker));
    }
    root->workers = count;
    return 0;
}

void store_forget_worker(struct store *store, unsigned idx) {
    struct worker *worker = store->root->worker[idx];
    if (worker == NULL) {
        return;
    }
    worker->pid = 0;
    worker->clients = 0;
    for (unsigned i = 0; i < PINS; i++) {
        __atomic_store_n(&worker->pin[i], NULL, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&worker->pin_top, 0, __ATOMIC_RELEASE);
}

void store_become_worker(struct store *store, unsigned idx) {
    store->worker = store->root->worker[idx];
    store->worker_idx = idx;
    store->tend_next = idx;
    store->worker->pid = (uint64_t)getpid();
    pins_reset(store);
}

/* ---- locks ---- */

struct key store_key(const struct store *store, const char *bytes, size_t len) {
    struct key key = {bytes, len, hash_bytes(store->root->hash_key, bytes, len)};
    return key;
}

static unsigned key_shard_idx(const struct key *key) {
    return (unsigned)(key->hash >> 56);
}

struct shard *store_shard_of(const struct store *store, const struct key *key) {
    return &store->root->shard[key_shard_idx(key)];
}

/* The caller has the lock of one who died. */
static void shard_inherit(struct store *store, struct shard *shard) {
    sharena_reap(store->heap);
    shard_repair(store, shard);
    if (store->worker != NULL) {
        store->worker->repaired++;
    }
    pthread_mutex_consistent(&shard->mutex);
}

struct shard *store_lock_shard(struct store *store, unsigned idx) {
    struct shard *shard = &store->root->shard[idx];
    int error = pthread_mutex_lock(&shard->mutex);
    if (error == EOWNERDEAD) {
        shard_inherit(store, shard);
    } else if (error != 0) {
        fprintf(stderr, "respd: the lock of shard %u: %s\n", idx, strerror(error));
        abort();
    }
    table_step(store, shard);
    return shard;
}

void store_unlock(struct shard *shard) {
    pthread_mutex_unlock(&shard->mutex);
}

struct shard *store_lock(struct store *store, const struct key *key) {
    return store_lock_shard(store, key_shard_idx(key));
}

void shard_set_add(struct shard_set *set, const struct key *key) {
    unsigned idx = key_shard_idx(key);
    set->bits[idx / 64] |= (uint64_t)1 << (idx % 64);
}

static bool shard_set_has(const struct shard_set *set, unsigned idx) {
    return (set->bits[idx / 64] >> (idx % 64) & 1) != 0;
}

void store_lock_set(struct store *store, const struct shard_set *set) {
    for (unsigned i = 0; i < SHARDS; i++) {
        if (shard_set_has(set, i)) {
            store_lock_shard(store, i);
        }
    }
}

void store_unlock_set(struct store *store, const struct shard_set *set) {
    for (unsigned i = 0; i < SHARDS; i++) {
        if (shard_set_has(set, i)) {
            store_unlock(&store->root->shard[i]);
        }
    }
}

/* ---- the whole ---- */

uint64_t store_count(const struct store *store, uint64_t *expires) {
    uint64_t keys = 0;
    *expires = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        keys += __atomic_load_n(&store->root->shard[i].keys, __ATOMIC_RELAXED);
        *expires += __atomic_load_n(&store->root->shard[i].expires, __ATOMIC_RELAXED);
    }
    return keys;
}

/* Each worker tends the shards whose number leaves its own when divided by the number of workers:
 * so all are tended, and two workers seldom want the same one. */
void store_tend(struct store *store, int64_t now_ms) {
    unsigned workers = (unsigned)store->root->workers;
    for (unsigned i = 0; i < TEND_SHARDS; i++) {
        if (store->tend_next >= SHARDS) {
            store->tend_next = store->worker_idx;
        }
        struct shard *shard = store_lock_shard(store, store->tend_next);
        shard_expire_some(store, shard, TEND_BUCKETS, now_ms);
        shard_drain_doomed(store, shard, TEND_DOOMED);
        shard_reclaim(store, shard, true);
        table_resize(store, shard);
        store_unlock(shard);
        store->tend_next += workers;
    }
}

/* before  tables -> t0, t1      doomed -> d
 * after   tables -> NULL        doomed -> t0 -> t1 -> d       in one change per shard */
static void shard_doom(struct shard *shard) {
    struct change change = {0};
    struct table *doomed = shard->doomed;
    for (int i = 1; i >= 0; i--) {
        if (shard->tables[i] != NULL) {
            change_set_ptr(&change, &shard->tables[i]->next, doomed);
            change_set_ptr(&change, &shard->tables[i], NULL);
            doomed = shard->tables[i];
        }
    }
    change_set_ptr(&change, &shard->doomed, doomed);
    change_set(&change, &shard->keys, 0);
    change_set(&change, &shard->expires, 0);
    change_commit(shard, &change);
}

void store_flush(struct store *store) {
    struct shard_set all;
    memset(&all, 0xff, sizeof all);
    store_lock_set(store, &all);
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_doom(&store->root->shard[i]);
    }
    store_unlock_set(store, &all);
    for (unsigned i = 0; i < SHARDS; i++) {
        bool more = true;
        while (more) {
            struct shard *shard = store_lock_shard(store, i);
            more = shard_drain_doomed(store, shard, TEND_DOOMED);
            store_unlock(shard);
        }
    }
}
