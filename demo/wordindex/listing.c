/* listing.c -- see listing.h.
 *
 * Killed: before the last store: the index is INDEX_EMPTY, and index_repair frees both blocks.
 */
#include "listing.h"

#include "../common/report.h"

#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>

/* Paths one after the other, in private memory. */
struct listing {
    char *names;
    size_t names_bytes;
    size_t capacity_bytes;
    uint64_t nfiles;
};

static int listing_add(struct listing *listing, const char *path) {
    size_t size_bytes = strlen(path) + 1;

    if (listing->names_bytes + size_bytes > listing->capacity_bytes) {
        size_t capacity_bytes = (listing->names_bytes + size_bytes) * 2;
        char *names = realloc(listing->names, capacity_bytes);

        if (names == NULL) {
            return ENOMEM;
        }
        listing->names = names;
        listing->capacity_bytes = capacity_bytes;
    }
    memcpy(listing->names + listing->names_bytes, path, size_bytes);
    listing->names_bytes += size_bytes;
    listing->nfiles++;
    return 0;
}

static int compare_names(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* What cannot be entered is left out, with a word about it. */
static int listing_walk(struct listing *listing, FTS *tree) {
    FTSENT *entry;

    while ((entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            report_error("%s: %s (left out)", entry->fts_path, strerror(entry->fts_errno));
        }
        if (entry->fts_info == FTS_F && listing_add(listing, entry->fts_path) != 0) {
            return ENOMEM;
        }
    }
    return listing->nfiles > UINT32_MAX / 2 ? EFBIG : 0;
}

static int listing_read(struct listing *listing, const char *dir) {
    char name[INDEX_DIR_MAX];
    char *const roots[] = {name, NULL};
    FTS *tree;
    int error;

    memcpy(name, dir, sizeof name);
    tree = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, compare_names);
    if (tree == NULL) {
        return errno;
    }
    error = listing_walk(listing, tree);
    fts_close(tree);
    return error;
}

static int listing_store(sharena_t *heap, struct index *index, const struct listing *listing) {
    uint64_t name_off = 0;
    int error = sharena_malloc_to(heap, listing->names_bytes, &index->names);

    if (error == 0) {
        error = sharena_malloc_to(heap, listing->nfiles * sizeof(struct file), &index->files);
    }
    if (error != 0) {
        return error;
    }
    if (listing->names_bytes > 0) {
        memcpy(index->names, listing->names, listing->names_bytes);
    }
    for (uint64_t i = 0; i < listing->nfiles; i++) {
        struct file *file = index_file(index, i);

        memset(file, 0, sizeof *file); /* FILE_NEW */
        file->name_off = name_off;
        name_off += strlen(listing->names + name_off) + 1;
    }
    index->nfiles = listing->nfiles;
    atomic_store(&index->state, INDEX_LISTED);
    return 0;
}

int listing_make(sharena_t *heap, struct index *index) {
    struct listing listing = {0};
    int error = listing_read(&listing, index->dir);

    if (error != 0) {
        report_error("%s: cannot list the files: %s", index->dir, strerror(error));
    } else {
        error = listing_store(heap, index, &listing);
        if (error != 0) {
            report_error("cannot store the list of files: %s", sharena_errormsg());
        }
    }
    free(listing.names);
    return error;
}
