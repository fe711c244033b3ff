/* index.c -- the index as a whole: made, found, repaired, counted. See index.h. */
#include "index.h"

#include "../common/report.h"
#include "shard.h"

#include <errno.h>
#include <string.h>

#define INDEX_ROOT "wordindex"
#define INDEX_LAYOUT (0x7769640000000000u + sizeof(struct index) + sizeof(struct file))

static int index_init(void *ptr, void *arg) {
    struct index *index = ptr; /* zeroed: INDEX_EMPTY */
    const char *dir = arg;

    if (strlen(dir) >= INDEX_DIR_MAX) {
        return ENAMETOOLONG;
    }
    memcpy(index->dir, dir, strlen(dir));
    index->layout = INDEX_LAYOUT;
    return 0;
}

static struct index *index_known(struct index *index) {
    if (index != NULL && index->layout != INDEX_LAYOUT) {
        report_error("the heap's index was made by another version of this program: build --force");
        return NULL;
    }
    return index;
}

struct index *index_create(sharena_t *heap, const char *dir) {
    char name[INDEX_DIR_MAX] = "";
    struct index *index;

    strncpy(name, dir, sizeof name - 1);
    index = sharena_root_create(heap, INDEX_ROOT, sizeof(struct index), index_init, name);
    if (index == NULL) {
        report_error("cannot make the index: %s", sharena_errormsg());
    }
    return index_known(index);
}

struct index *index_find(sharena_t *heap) {
    struct index *index = sharena_root_get(heap, INDEX_ROOT);

    if (index == NULL) {
        report_error("this heap holds no index: %s", sharena_errormsg());
    }
    return index_known(index);
}

int index_repair(sharena_t *heap, struct index *index) {
    sharena_reap(heap); /* whatever a dead builder's malloc_to or free_from still had open */
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        int error = shard_renew(heap, &index->shards[i]);

        if (error != 0) {
            report_error("cannot make a robust mutex: %s", strerror(error));
            return error;
        }
    }
    if (atomic_load(&index->state) == INDEX_EMPTY) {
        sharena_free_from(heap, &index->files);
        sharena_free_from(heap, &index->names);
    } else {
        index_release_claims(index, INDEX_ANY_WORKER);
    }
    return 0;
}

struct file *index_file(const struct index *index, uint64_t idx) {
    struct file *files = index->files;

    return &files[idx];
}

const char *index_file_name(const struct index *index, uint64_t idx) {
    const char *names = index->names;

    return names + index_file(index, idx)->name_off;
}

enum file_state index_file_state(const struct index *index, uint64_t idx) {
    return (enum file_state)atomic_load_explicit(&index_file(index, idx)->state,
                                                 memory_order_relaxed);
}

bool file_state_is_final(enum file_state state) {
    return state >= FILE_DONE;
}

uint64_t index_files_final(const struct index *index) {
    uint64_t nfinal = 0;

    for (uint64_t i = 0; i < index->nfiles; i++) {
        nfinal += file_state_is_final(index_file_state(index, i));
    }
    return nfinal;
}

uint64_t index_release_claims(struct index *index, uint32_t worker) {
    uint64_t nreleased = 0;

    for (uint64_t i = 0; i < index->nfiles; i++) {
        struct file *file = index_file(index, i);

        if (index_file_state(index, i) == FILE_CLAIMED &&
            (worker == INDEX_ANY_WORKER || file->worker == worker)) {
            atomic_store(&file->state, FILE_REDO);
            nreleased++;
        }
    }
    return nreleased;
}

/* ---- counting ------------------------------------------------------------------------------ */

/* One posting. Files are listed in the order of their names, so their numbers stand for them. */
static uint64_t posting_digest(const struct word *word, const struct posting *posting) {
    uint64_t fields[] = {word->hash, posting->file, posting->count};
    uint64_t hash = WORD_HASH_START;

    for (size_t i = 0; i < 3 * sizeof fields[0]; i++) {
        hash = word_hash_add(hash, (unsigned char)(fields[i / 8] >> i % 8 * 8));
    }
    return word_hash_finish(hash);
}

static void word_count(const struct word *word, struct index_totals *totals) {
    totals->words++;
    totals->blocks++;
    for (const struct chunk *chunk = word->chunks; chunk != NULL; chunk = chunk->older) {
        totals->blocks++;
        totals->postings += chunk->used;
        for (uint32_t i = 0; i < chunk->used; i++) {
            totals->occurrences += chunk->postings[i].count;
            totals->digest += posting_digest(word, &chunk->postings[i]);
        }
    }
}

static void shard_count(const struct shard *shard, struct index_totals *totals) {
    const struct table *table = shard->table;

    totals->blocks += table != NULL ? 1 : 0;
    /* What a killed build left unfinished, until the next one repairs it. */
    totals->blocks += shard->pending != NULL && *shard->home != shard->pending ? 1 : 0;
    totals->blocks += shard->retired != NULL && shard->retired != shard->table ? 1 : 0;
    for (uint64_t i = 0; table != NULL && i < table->nslots; i++) {
        if (table->slots[i] != NULL) {
            word_count(table->slots[i], totals);
        }
    }
}

void index_count(const struct index *index, struct index_totals *totals) {
    *totals = (struct index_totals){0};
    totals->blocks = 1; /* the root's own */
    totals->blocks += index->files != NULL ? 1 : 0;
    totals->blocks += index->names != NULL ? 1 : 0;
    for (uint64_t i = 0; i < index->nfiles; i++) {
        enum file_state state = index_file_state(index, i);

        totals->files[state]++;
        totals->text_bytes += state == FILE_DONE ? index_file(index, i)->size_bytes : 0;
    }
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        shard_count(&index->shards[i], totals);
    }
}
