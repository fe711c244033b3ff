/* index.h -- the inverted index as it lies in the heap, under the root "wordindex".
 *
 *     root --> struct index --> files[nfiles] (with their states), names (one string after another)
 *                  |
 *                  +-- shards[]: lock, table --> slots[] --> word --> chunk --> older chunk --> ...
 *                                                                     {file, count} {file, count}
 *
 * Holds:  a word is in the table of the shard that its hash names, once
 *         a word has at most one posting per file
 *         a file that is FILE_DONE has a posting under each of its words
 *         every block of the index is reachable from the root at any instant, so none can get lost
 * Lock:   `cursor` and file states: atomics, stored by the worker that claimed the file; all of a
 *         shard and what hangs below it: shard->lock, a process-shared robust mutex, one at a time.
 *         Who may build at all: an flock on PATH.lock (../common/lockfile.h).
 * Killed: while files are listed: state is INDEX_EMPTY, the next build frees the list and makes
 *         another.
 *         a worker, after it took a file: the file is FILE_CLAIMED; the supervisor, or the next
 *         build, makes it FILE_REDO, and whoever does it again skips the postings that are there.
 *         a worker inside a shard: see shard.c; the next one to lock the shard repairs it.
 *         all of them: the mutex words hold threads of the past; the next build, alone behind the
 *         flock, makes them anew (index_repair).
 * Limits: a file that changes between a kill and its second reading keeps postings of both.
 */
#ifndef DEMO_WORDINDEX_INDEX_H
#define DEMO_WORDINDEX_INDEX_H

#include <pthread.h>
#include <sharena/sharena.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define INDEX_DIR_MAX 4096u
#define INDEX_SHARD_BITS 6u
#define INDEX_SHARDS (1u << INDEX_SHARD_BITS)

/* A word: letters, digits and underscores of ASCII, as many as there are in a row; case matters.
 * Not indexed: what begins with a digit, and what is shorter or longer than this. */
#define WORD_MIN_BYTES 2u
#define WORD_MAX_BYTES 64u

struct posting {
    uint32_t file;  /* an index of files[] */
    uint32_t count; /* how often the word occurs there, at least 1 */
};

struct chunk {
    void *older;   /* struct chunk, half as large; or NULL */
    uint32_t used; /* a posting counts when this has passed it */
    uint32_t capacity;
    struct posting postings[];
};

struct word {
    void *chunks; /* struct chunk, the newest; NULL while the word has no posting */
    uint64_t hash;
    uint32_t length_bytes;
    char text[]; /* not terminated */
};

struct table {
    uint64_t nslots; /* a power of two */
    void *slots[];   /* struct word or NULL; open addressing, linear probing, never a removal */
};

struct shard {
    pthread_mutex_t lock;
    uint32_t owner_pid; /* who is inside; 0: nobody, or nobody who has changed anything yet */
    uint64_t nwords;    /* counted again after a death */
    void *table;        /* struct table; NULL before the first word */
    void *pending;      /* a block that is being made */
    void **home;        /* where `pending` will be linked; means nothing while that is NULL */
    void *retired;      /* the table that the current one replaces, until it is freed */
};

enum file_state {
    FILE_NEW,
    FILE_CLAIMED,    /* `worker` is at it */
    FILE_REDO,       /* its worker died: some of its postings may be there */
    FILE_DONE,       /* this and all below are final */
    FILE_BINARY,     /* holds a NUL byte */
    FILE_UNREADABLE, /* gone, or no permission */
    FILE_TOO_LARGE,
    FILE_STATES
};

struct file {
    uint64_t name_off; /* of its path in `names` */
    uint64_t size_bytes;
    _Atomic uint32_t state; /* enum file_state */
    uint32_t worker;
};

enum index_state { INDEX_EMPTY, INDEX_LISTED, INDEX_DONE };

struct index {
    uint64_t layout;         /* INDEX_LAYOUT */
    _Atomic uint32_t state;  /* enum index_state */
    _Atomic uint32_t cursor; /* the next file to be claimed in this pass */
    uint64_t nfiles;
    void *files;       /* struct file[nfiles] */
    void *names;       /* their paths, NUL-terminated */
    uint64_t build_ns; /* how long the build took that finished it */
    char dir[INDEX_DIR_MAX];
    struct shard shards[INDEX_SHARDS];
};

/* What a walk over the index finds. */
struct index_totals {
    uint64_t files[FILE_STATES];
    uint64_t text_bytes; /* of the files that are done */
    uint64_t words;
    uint64_t postings;
    uint64_t occurrences;
    uint64_t blocks; /* that the index has allocated */
    uint64_t digest; /* of all postings with their words and files, in whatever order they lie */
};

/* The index of the heap, made for `dir` where there is none. NULL after a message. */
struct index *index_create(sharena_t *heap, const char *dir);

/* The index of a heap that may be open read-only. NULL after a message. */
struct index *index_find(sharena_t *heap);

/* Makes an index usable whose builders are all dead. The caller holds the flock alone. Returns 0,
 * or an errno value after a message. */
int index_repair(sharena_t *heap, struct index *index);

struct file *index_file(const struct index *index, uint64_t idx);
const char *index_file_name(const struct index *index, uint64_t idx);
enum file_state index_file_state(const struct index *index, uint64_t idx);

/* Is there nothing more to do for a file in this state? */
bool file_state_is_final(enum file_state state);

uint64_t index_files_final(const struct index *index);

/* Makes the files that `worker` has claimed, or everybody for INDEX_ANY_WORKER, FILE_REDO. They
 * must be dead. Returns how many there were. */
#define INDEX_ANY_WORKER UINT32_MAX
uint64_t index_release_claims(struct index *index, uint32_t worker);

/* Counts everything. Nobody may be building. */
void index_count(const struct index *index, struct index_totals *totals);

/* FNV-1a, finished so that all bits are good: the upper ones name the shard, the lower the slot. */
#define WORD_HASH_START 0xcbf29ce484222325u
static inline uint64_t word_hash_add(uint64_t hash, unsigned char letter) {
    return (hash ^ letter) * 0x100000001b3u;
}

static inline uint64_t word_hash_finish(uint64_t hash) {
    hash = (hash ^ (hash >> 32)) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static inline unsigned word_shard(uint64_t hash) {
    return (unsigned)(hash >> (64 - INDEX_SHARD_BITS));
}

/* May this byte be part of a word? */
static inline bool word_has(unsigned char letter) {
    return (unsigned char)((letter | 0x20) - 'a') < 26 || (unsigned char)(letter - '0') < 10 ||
           letter == '_';
}

#endif
