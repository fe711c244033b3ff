/* query.c -- see query.h.
 *
 * Holds:  a shared flock on the heap's lock file, so that nobody builds meanwhile.
 */
#include "query.h"

#include "../common/clock.h"
#include "../common/lockfile.h"
#include "../common/report.h"
#include "shard.h"
#include "summary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An index that is open. */
struct reader {
    sharena_t *heap;
    struct index *index;
    int lock;
    uint64_t open_ns; /* how long that took */
};

static void reader_close(struct reader *reader) {
    if (reader->heap != NULL) {
        sharena_close(reader->heap);
    }
    lockfile_release(reader->lock);
}

static int reader_lock(struct reader *reader, const char *heap_path, uint32_t flags) {
    int error = (flags & SHARENA_READONLY) != 0 ? lockfile_take_shared(heap_path, &reader->lock)
                                                : lockfile_take_alone(heap_path, &reader->lock);

    if (error != 0) {
        report_error("%s.lock: %s", heap_path,
                     error == EWOULDBLOCK ? "the index is in use" : strerror(error));
    }
    return error;
}

/* flags: SHARENA_READONLY or SHARENA_OPEN_ONLY. */
static int reader_open(struct reader *reader, const char *heap_path, uint32_t flags) {
    const struct sharena_options options = {.flags = flags};
    uint64_t start_ns;

    *reader = (struct reader){.lock = -1};
    if (reader_lock(reader, heap_path, flags) != 0) {
        return EXIT_FAILED;
    }
    start_ns = clock_now_ns();
    if (sharena_open(heap_path, &options, &reader->heap) != 0) {
        report_error("%s", sharena_errormsg());
    } else {
        reader->index = index_find(reader->heap);
    }
    reader->open_ns = clock_now_ns() - start_ns;
    if (reader->index == NULL) {
        reader_close(reader);
        return EXIT_FAILED;
    }
    if (atomic_load(&reader->index->state) != INDEX_DONE) {
        report_error("the index is not finished; 'build' resumes it");
    }
    return EXIT_FINE;
}

/* ---- query --------------------------------------------------------------------------------- */

/* What a file has of the words so far. */
struct hit {
    uint32_t file;
    uint32_t nwords;
    uint64_t count;
};

static const struct word *index_word(const struct index *index, const char *text) {
    size_t length_bytes = strlen(text);
    uint64_t hash = WORD_HASH_START;

    for (size_t i = 0; i < length_bytes; i++) {
        hash = word_hash_add(hash, (unsigned char)text[i]);
    }
    hash = word_hash_finish(hash);
    return shard_find(&index->shards[word_shard(hash)], hash, text, (uint32_t)length_bytes);
}

/* Adds word number `nwords` to the files that hold all the words before it. */
static void hits_add(struct hit *hits, const struct word *word, uint32_t nwords) {
    const struct chunk *chunk = word == NULL ? NULL : word->chunks;

    for (; chunk != NULL; chunk = chunk->older) {
        for (uint32_t i = 0; i < chunk->used; i++) {
            struct hit *hit = &hits[chunk->postings[i].file];

            if (hit->nwords == nwords) {
                hit->nwords++;
                hit->count += chunk->postings[i].count;
            }
        }
    }
}

/* By count, then in the order of the listing. */
static int compare_hits(const void *a, const void *b) {
    const struct hit *one = a;
    const struct hit *other = b;

    if (one->count != other->count) {
        return one->count > other->count ? -1 : 1;
    }
    return one->file < other->file ? -1 : one->file > other->file;
}

/* Leaves those with all the words at the front, sorted. Returns how many they are. */
static uint64_t hits_choose(struct hit *hits, uint64_t nfiles, unsigned nwords) {
    uint64_t nhits = 0;

    for (uint64_t i = 0; i < nfiles; i++) {
        if (hits[i].nwords == nwords) {
            hits[nhits] = hits[i];
            hits[nhits++].file = (uint32_t)i;
        }
    }
    qsort(hits, nhits, sizeof *hits, compare_hits);
    return nhits;
}

static void hits_print(const struct index *index, const struct hit *hits, uint64_t nhits,
                       uint64_t limit) {
    uint64_t nprinted = limit == 0 || limit > nhits ? nhits : limit;

    for (uint64_t i = 0; i < nprinted; i++) {
        printf("%llu\t%s\n", (unsigned long long)hits[i].count,
               index_file_name(index, hits[i].file));
    }
    fflush(stdout);
}

static int query_run(const struct reader *reader, char *const *words, unsigned nwords,
                     uint64_t limit) {
    const struct index *index = reader->index;
    uint64_t start_ns = clock_now_ns();
    struct hit *hits = calloc(index->nfiles + 1, sizeof *hits);
    uint64_t answer_ns;
    uint64_t nhits;

    if (hits == NULL) {
        report_error("no memory for %llu files", (unsigned long long)index->nfiles);
        return EXIT_FAILED;
    }
    for (unsigned i = 0; i < nwords; i++) {
        hits_add(hits, index_word(index, words[i]), i);
    }
    nhits = hits_choose(hits, index->nfiles, nwords);
    answer_ns = clock_now_ns() - start_ns;
    hits_print(index, hits, nhits, limit);
    fprintf(stderr, "%llu files; heap opened in %.3f ms, answered in %.3f ms\n",
            (unsigned long long)nhits, (double)reader->open_ns / 1e6, (double)answer_ns / 1e6);
    free(hits);
    return EXIT_FINE;
}

int query(const char *heap_path, char *const *words, unsigned nwords, uint64_t limit) {
    struct reader reader;
    int status = reader_open(&reader, heap_path, SHARENA_READONLY);

    if (status == EXIT_FINE) {
        status = query_run(&reader, words, nwords, limit);
        reader_close(&reader);
    }
    return status;
}

int query_info(const char *heap_path) {
    struct reader reader;
    int status = reader_open(&reader, heap_path, SHARENA_READONLY);

    if (status == EXIT_FINE) {
        summary_print(heap_path, reader.index);
        printf("%-12s %.3f ms\n", "open time", (double)reader.open_ns / 1e6);
        reader_close(&reader);
    }
    return status;
}

/* ---- check --------------------------------------------------------------------------------- */

/* Is the word where a search finds it, and has it at most one posting per file? `seen` has a byte
 * for each file, all 0 before and after. */
static bool word_is_valid(const struct index *index, unsigned shard_idx, const struct word *word,
                          unsigned char *seen) {
    bool is_valid =
        word_shard(word->hash) == shard_idx &&
        shard_find(&index->shards[shard_idx], word->hash, word->text, word->length_bytes) == word;

    for (const struct chunk *chunk = word->chunks; chunk != NULL; chunk = chunk->older) {
        for (uint32_t i = 0; i < chunk->used; i++) {
            is_valid = is_valid && chunk->postings[i].file < index->nfiles &&
                       chunk->postings[i].count > 0 && seen[chunk->postings[i].file]++ == 0;
        }
    }
    for (const struct chunk *chunk = word->chunks; chunk != NULL; chunk = chunk->older) {
        for (uint32_t i = 0; i < chunk->used && chunk->postings[i].file < index->nfiles; i++) {
            seen[chunk->postings[i].file] = 0;
        }
    }
    if (!is_valid) {
        report_error("the word %.*s is in a wrong place, or has a file twice",
                     (int)word->length_bytes, word->text);
    }
    return is_valid;
}

static uint64_t index_findings(const struct index *index) {
    unsigned char *seen = calloc(index->nfiles + 1, 1);
    uint64_t nfindings = seen == NULL;

    for (unsigned shard = 0; seen != NULL && shard < INDEX_SHARDS; shard++) {
        const struct table *table = index->shards[shard].table;

        for (uint64_t i = 0; table != NULL && i < table->nslots; i++) {
            nfindings +=
                table->slots[i] != NULL && !word_is_valid(index, shard, table->slots[i], seen);
        }
    }
    free(seen);
    return nfindings;
}

static int check_run(const struct reader *reader) {
    struct sharena_report report;
    struct index_totals totals;
    uint64_t nfindings;

    sharena_reap(reader->heap);
    if (sharena_check(reader->heap, &report) != 0) {
        report_error("the heap is not clean: %llu findings, the first: %s",
                     (unsigned long long)report.findings,
                     report.findings != 0 ? report.messages[0] : sharena_errormsg());
        return EXIT_FAILED;
    }
    index_count(reader->index, &totals);
    nfindings = index_findings(reader->index);
    printf("heap check: clean, %llu blocks live; the index reaches %llu; %llu findings in it\n",
           (unsigned long long)report.blocks_live, (unsigned long long)totals.blocks,
           (unsigned long long)nfindings);
    if (report.blocks_live != totals.blocks) {
        report_error("blocks were lost");
        return EXIT_FAILED;
    }
    return nfindings == 0 ? EXIT_FINE : EXIT_FAILED;
}

int query_check(const char *heap_path) {
    struct reader reader;
    int status = reader_open(&reader, heap_path, SHARENA_OPEN_ONLY);

    if (status == EXIT_FINE) {
        status = check_run(&reader);
        reader_close(&reader);
    }
    return status;
}
