/* shard.c -- a hash table of words under one robust mutex, in steps that no kill can tear.
 *
 * Everything new is made in the same way. `target` is where its pointer belongs: a slot of the
 * table, a word's `chunks`, or the shard's `table`.
 *
 *     1. home = target                         nothing has happened
 *     2. sharena_malloc_to(&pending)           a block, to be freed by shard_repair
 *     3. fill it                               likewise
 *     4. *target = pending                     it counts
 *     5. pending = NULL                        likewise; shard_repair only does step 5
 *
 * A kill before 4 leaves the shard as it was, after 4 as it should be; shard_repair tells which by
 * *home == pending. A table replaces another one, so there:
 *
 *     3a. retired = the old table              retired == table: not replaced, retired = NULL
 *     5a. sharena_free_from(&retired)          retired != table: free it
 *
 * A posting needs no block of its own: it is written behind `used`, then one store moves `used`.
 *
 * Holds:  table->nslots >= 4/3 * nwords, so a probe ends; nwords is right while nobody has died
 * Lock:   shard->lock. Only sharena is called under it.
 * Killed: anywhere, shard_repair included: it can be begun again.
 */
#include "shard.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TABLE_SLOTS_MIN 64u
#define CHUNK_POSTINGS_MIN 2u
#define CHUNK_POSTINGS_MAX 512u
#define DEATH_PATIENCE_MS 1000

/* The stores above happen in the order in which they are written: each is a release. */
static void store_pointer(void **where, void *value) {
    __atomic_store_n(where, value, __ATOMIC_RELEASE);
}

/* ---- making -------------------------------------------------------------------------------- */

/* Steps 1 and 2. Returns the block, or NULL with errno. */
static void *pending_begin(sharena_t *heap, struct shard *shard, void **target, size_t size_bytes) {
    int error;

    __atomic_store_n(&shard->home, target, __ATOMIC_RELEASE);
    error = sharena_malloc_to(heap, size_bytes, &shard->pending);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return shard->pending;
}

/* Steps 4 and 5. */
static void pending_commit(struct shard *shard) {
    store_pointer(shard->home, shard->pending);
    store_pointer(&shard->pending, NULL);
}

/* ---- repair -------------------------------------------------------------------------------- */

static uint64_t table_count(const struct table *table) {
    uint64_t nwords = 0;

    for (uint64_t i = 0; table != NULL && i < table->nslots; i++) {
        nwords += table->slots[i] != NULL;
    }
    return nwords;
}

static void shard_repair(sharena_t *heap, struct shard *shard) {
    if (shard->pending != NULL && *shard->home == shard->pending) {
        store_pointer(&shard->pending, NULL);
    } else {
        sharena_free_from(heap, &shard->pending);
    }
    if (shard->retired == shard->table) {
        store_pointer(&shard->retired, NULL);
    } else {
        sharena_free_from(heap, &shard->retired);
    }
    shard->nwords = table_count(shard->table);
}

/* EOWNERDEAD comes while the dying process still has other locks to give back, those inside the
 * heap among them; sharena_reap() takes only from those who are dead through and through. A process
 * that is gone, or a zombie, has given back everything. */
static void wait_until_dead(uint32_t pid) {
    struct pollfd poll_fd = {.events = POLLIN};

    poll_fd.fd = pid == 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (poll_fd.fd >= 0) {
        poll(&poll_fd, 1, DEATH_PATIENCE_MS);
        close(poll_fd.fd);
    }
}

int shard_lock(sharena_t *heap, struct shard *shard) {
    int error = pthread_mutex_lock(&shard->lock);

    if (error == EOWNERDEAD) {
        wait_until_dead(shard->owner_pid);
        sharena_reap(heap); /* decides what is in `pending` and `retired` */
        shard->owner_pid = (uint32_t)getpid();
        shard_repair(heap, shard);
        return pthread_mutex_consistent(&shard->lock);
    }
    if (error == 0) {
        shard->owner_pid = (uint32_t)getpid();
    }
    return error;
}

void shard_unlock(struct shard *shard) {
    shard->owner_pid = 0;
    pthread_mutex_unlock(&shard->lock);
}

int shard_renew(sharena_t *heap, struct shard *shard) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);

    if (error == 0) {
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        error = pthread_mutex_init(&shard->lock, &attributes);
        pthread_mutexattr_destroy(&attributes);
    }
    shard->owner_pid = 0;
    shard_repair(heap, shard);
    return error;
}

/* ---- words --------------------------------------------------------------------------------- */

/* The slot that holds the word, or the free one where it belongs. */
static void **table_slot(struct table *table, uint64_t hash, const char *text,
                         uint32_t length_bytes) {
    for (uint64_t i = hash;; i++) {
        void **slot = &table->slots[i & (table->nslots - 1)];
        const struct word *word = *slot;

        if (word == NULL || (word->hash == hash && word->length_bytes == length_bytes &&
                             memcmp(word->text, text, length_bytes) == 0)) {
            return slot;
        }
    }
}

struct word *shard_find(const struct shard *shard, uint64_t hash, const char *text,
                        uint32_t length_bytes) {
    struct table *table = shard->table;

    return table == NULL ? NULL : *table_slot(table, hash, text, length_bytes);
}

static void table_copy(struct table *to, const struct table *from) {
    for (uint64_t i = 0; from != NULL && i < from->nslots; i++) {
        const struct word *word = from->slots[i];

        if (word != NULL) {
            *table_slot(to, word->hash, word->text, word->length_bytes) = from->slots[i];
        }
    }
}

/* A table twice as large. */
static int shard_grow(sharena_t *heap, struct shard *shard) {
    struct table *old = shard->table;
    uint64_t nslots = old == NULL ? TABLE_SLOTS_MIN : old->nslots * 2;
    size_t slots_bytes = nslots * sizeof(void *);
    struct table *table =
        pending_begin(heap, shard, &shard->table, sizeof(struct table) + slots_bytes);

    if (table == NULL) {
        return errno;
    }
    table->nslots = nslots;
    memset(table->slots, 0, slots_bytes);
    table_copy(table, old);
    store_pointer(&shard->retired, old);
    pending_commit(shard);
    sharena_free_from(heap, &shard->retired);
    return 0;
}

static bool shard_is_full(const struct shard *shard) {
    const struct table *table = shard->table;

    return table == NULL || (shard->nwords + 1) * 4 > table->nslots * 3;
}

struct word *shard_find_or_add(sharena_t *heap, struct shard *shard, uint64_t hash,
                               const char *text, uint32_t length_bytes) {
    struct word *word = shard_find(shard, hash, text, length_bytes);
    void **slot;

    if (word != NULL) {
        return word;
    }
    if (shard_is_full(shard)) {
        int error = shard_grow(heap, shard);

        if (error != 0) {
            errno = error;
            return NULL;
        }
    }
    slot = table_slot(shard->table, hash, text, length_bytes);
    word = pending_begin(heap, shard, slot, sizeof(struct word) + length_bytes);
    if (word == NULL) {
        return NULL;
    }
    word->chunks = NULL;
    word->hash = hash;
    word->length_bytes = length_bytes;
    memcpy(word->text, text, length_bytes);
    pending_commit(shard);
    shard->nwords++;
    return word;
}

/* ---- postings ------------------------------------------------------------------------------ */

/* A chunk twice as large as the newest one, in front of it. */
static int word_add_chunk(sharena_t *heap, struct shard *shard, struct word *word) {
    const struct chunk *older = word->chunks;
    uint32_t capacity = older == NULL ? CHUNK_POSTINGS_MIN : older->capacity * 2;
    struct chunk *chunk;

    capacity = capacity > CHUNK_POSTINGS_MAX ? CHUNK_POSTINGS_MAX : capacity;
    chunk = pending_begin(heap, shard, &word->chunks,
                          sizeof(struct chunk) + capacity * sizeof(struct posting));
    if (chunk == NULL) {
        return errno;
    }
    chunk->older = word->chunks;
    chunk->used = 0;
    chunk->capacity = capacity;
    pending_commit(shard);
    return 0;
}

int shard_add_posting(sharena_t *heap, struct shard *shard, struct word *word,
                      struct posting posting) {
    struct chunk *chunk = word->chunks;

    if (chunk == NULL || chunk->used == chunk->capacity) {
        int error = word_add_chunk(heap, shard, word);

        if (error != 0) {
            return error;
        }
        chunk = word->chunks;
    }
    chunk->postings[chunk->used] = posting;
    __atomic_store_n(&chunk->used, chunk->used + 1, __ATOMIC_RELEASE);
    return 0;
}

bool word_has_posting(const struct word *word, uint32_t file) {
    for (const struct chunk *chunk = word->chunks; chunk != NULL; chunk = chunk->older) {
        for (uint32_t i = 0; i < chunk->used; i++) {
            if (chunk->postings[i].file == file) {
                return true;
            }
        }
    }
    return false;
}
