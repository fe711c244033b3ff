/* worker.c -- claim a file, read it, count its words privately, publish them, mark it done.
 *
 * Lock:   at most one shard at a time.
 * Killed: after the cursor moved, before the claim: the file is still FILE_NEW or FILE_REDO, and
 *         the next pass finds it. After the claim: FILE_CLAIMED, which becomes FILE_REDO. While
 *         publishing: the postings that are there are right, and are skipped the next time.
 */
#include "worker.h"

#include "../common/report.h"
#include "batch.h"
#include "shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (256u << 20)

struct worker {
    sharena_t *heap;
    struct index *index;
    uint32_t number;
    char *text; /* of the current file */
    size_t text_bytes;
    size_t capacity_bytes;
    struct batch batch;
};

/* ---- reading ------------------------------------------------------------------------------- */

static int text_reserve(struct worker *worker, size_t size_bytes) {
    char *larger;

    if (size_bytes <= worker->capacity_bytes) {
        return 0;
    }
    larger = realloc(worker->text, size_bytes);
    if (larger == NULL) {
        return ENOMEM;
    }
    worker->text = larger;
    worker->capacity_bytes = size_bytes;
    return 0;
}

/* Reads up to the size that the file had when it was opened. */
static int text_read(struct worker *worker, int fd, size_t size_bytes) {
    int error = text_reserve(worker, size_bytes);

    worker->text_bytes = 0;
    while (error == 0 && worker->text_bytes < size_bytes) {
        ssize_t got = read(fd, worker->text + worker->text_bytes, size_bytes - worker->text_bytes);

        if (got == 0) {
            break;
        }
        if (got > 0) {
            worker->text_bytes += (size_t)got;
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    return error;
}

/* The state that the file ends in, as far as reading it decides; FILE_DONE if its text is there. */
static enum file_state file_read(struct worker *worker, const char *name) {
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    enum file_state state = FILE_UNREADABLE;
    struct stat status;

    if (fd < 0) {
        return FILE_UNREADABLE;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        if (status.st_size > FILE_MAX_BYTES) {
            state = FILE_TOO_LARGE;
        } else if (text_read(worker, fd, (size_t)status.st_size) == 0) {
            bool is_binary =
                worker->text_bytes > 0 && memchr(worker->text, '\0', worker->text_bytes) != NULL;

            state = is_binary ? FILE_BINARY : FILE_DONE;
        }
    }
    close(fd);
    return state;
}

/* ---- publishing ---------------------------------------------------------------------------- */

static int word_publish(struct worker *worker, struct shard *shard, const struct batch_word *entry,
                        uint32_t file_idx, bool is_redone) {
    struct word *word =
        shard_find_or_add(worker->heap, shard, entry->hash, entry->text, entry->length_bytes);

    if (word == NULL) {
        return errno;
    }
    if (is_redone && word_has_posting(word, file_idx)) {
        return 0;
    }
    return shard_add_posting(worker->heap, shard, word,
                             (struct posting){.file = file_idx, .count = entry->count});
}

static int shard_publish(struct worker *worker, unsigned shard_idx, uint32_t file_idx,
                         bool is_redone) {
    const struct batch *batch = &worker->batch;
    struct shard *shard = &worker->index->shards[shard_idx];
    int error;

    if (batch->shard_start[shard_idx] == batch->shard_start[shard_idx + 1]) {
        return 0;
    }
    error = shard_lock(worker->heap, shard);
    if (error != 0) {
        return error;
    }
    for (size_t i = batch->shard_start[shard_idx];
         i < batch->shard_start[shard_idx + 1] && error == 0; i++) {
        error = word_publish(worker, shard, &batch->words[i], file_idx, is_redone);
    }
    shard_unlock(shard);
    return error;
}

/* Each worker begins with another shard, so that they do not queue up behind one another. */
static int file_publish(struct worker *worker, uint32_t file_idx, bool is_redone) {
    int error = batch_fill(&worker->batch, worker->text, worker->text_bytes);

    for (unsigned i = 0; i < INDEX_SHARDS && error == 0; i++) {
        error =
            shard_publish(worker, (i + worker->number * 17) % INDEX_SHARDS, file_idx, is_redone);
    }
    return error;
}

/* ---- the loop ------------------------------------------------------------------------------ */

static int file_index(struct worker *worker, uint32_t file_idx) {
    struct file *file = index_file(worker->index, file_idx);
    bool is_redone = index_file_state(worker->index, file_idx) == FILE_REDO;
    enum file_state state;
    int error = 0;

    file->worker = worker->number;
    atomic_store(&file->state, FILE_CLAIMED);
    state = file_read(worker, index_file_name(worker->index, file_idx));
    if (state == FILE_DONE) {
        file->size_bytes = worker->text_bytes;
        error = file_publish(worker, file_idx, is_redone);
    }
    if (error == 0) {
        atomic_store(&file->state, state);
    }
    return error;
}

/* Within a pass the cursor gives every file to one worker only. */
static int worker_loop(struct worker *worker) {
    struct index *index = worker->index;

    for (;;) {
        uint32_t file_idx = atomic_fetch_add(&index->cursor, 1);

        if (file_idx >= index->nfiles) {
            return 0;
        }
        if (!file_state_is_final(index_file_state(index, file_idx))) {
            int error = file_index(worker, file_idx);

            if (error != 0) {
                const char *reason = sharena_errormsg();

                report_error("%s: %s", index_file_name(index, file_idx),
                             error == ENOMEM && reason[0] != '\0' ? reason : strerror(error));
                return error;
            }
        }
    }
}

int worker_run(void *arg, unsigned worker) {
    const struct worker_args *args = arg;
    struct worker self = {.heap = args->heap, .index = args->index, .number = worker};
    int error = worker_loop(&self);

    batch_free(&self.batch);
    free(self.text);
    sharena_close(self.heap);
    return error == 0 ? EXIT_FINE : EXIT_FAILED;
}
