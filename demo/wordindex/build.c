/* build.c -- the supervisor: lists the files, starts workers, replaces those that are killed.
 *
 * Holds:  an flock on the heap's lock file, together with its workers, from before the heap is
 *         opened until the build is over: so whoever holds it alone knows that every earlier
 *         builder is dead.
 * Killed: the supervisor: its workers die with it (../common/child.h); the next build resumes.
 *         a worker: what it had claimed becomes FILE_REDO, and another takes its place. Files that
 *         nobody holds are taken in another pass, when all workers have ended.
 * Not here: what a worker does (worker.c), the repair after a death (index.c, shard.c).
 */
#include "build.h"

#include "../common/child.h"
#include "../common/clock.h"
#include "../common/lockfile.h"
#include "../common/progress.h"
#include "../common/report.h"
#include "listing.h"
#include "summary.h"
#include "worker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TURN_MS 10
#define REPLACEMENTS_MAX 1000u /* then something kills them systematically */

struct crew {
    struct worker_args args;
    pid_t pids[BUILD_WORKERS_MAX]; /* 0: ended */
    unsigned workers;
    unsigned nreplaced;
    struct progress progress;
};

static int crew_start_worker(struct crew *crew, unsigned worker) {
    pid_t pid = child_start(worker_run, &crew->args, worker);

    if (pid < 0) {
        report_error("cannot start a worker: %s", strerror(errno));
        return errno;
    }
    crew->pids[worker] = pid;
    return 0;
}

static int crew_replace_worker(struct crew *crew, unsigned worker) {
    if (++crew->nreplaced > REPLACEMENTS_MAX) {
        report_error("more than %u workers were killed", REPLACEMENTS_MAX);
        return ECHILD;
    }
    index_release_claims(crew->args.index, worker);
    return crew_start_worker(crew, worker);
}

static int crew_worker_ended(struct crew *crew, unsigned worker, int status) {
    crew->pids[worker] = 0;
    switch (child_end_of(status, "worker", worker)) {
    case CHILD_FINE:
        return 0;
    case CHILD_KILLED:
        return crew_replace_worker(crew, worker);
    case CHILD_FAILED:
        break;
    }
    return ECHILD;
}

/* Attends to the workers that have ended. *nrunning receives how many have not. */
static int crew_tend(struct crew *crew, unsigned *nrunning) {
    int error = 0;

    *nrunning = 0;
    for (unsigned worker = 0; worker < crew->workers && error == 0; worker++) {
        int status;

        if (crew->pids[worker] != 0 &&
            waitpid(crew->pids[worker], &status, WNOHANG) == crew->pids[worker]) {
            error = crew_worker_ended(crew, worker, status);
        }
        *nrunning += crew->pids[worker] != 0;
    }
    return error;
}

static void crew_dismiss(struct crew *crew) {
    for (unsigned worker = 0; worker < crew->workers; worker++) {
        if (crew->pids[worker] != 0) {
            kill(crew->pids[worker], SIGKILL);
            waitpid(crew->pids[worker], NULL, 0);
        }
    }
}

/* Every file that is not final is claimed once. */
static int crew_pass(struct crew *crew) {
    unsigned nrunning = crew->workers;
    int error = 0;

    atomic_store(&crew->args.index->cursor, 0);
    for (unsigned worker = 0; worker < crew->workers && error == 0; worker++) {
        error = crew_start_worker(crew, worker);
    }
    while (error == 0 && nrunning > 0) {
        clock_sleep_ms(TURN_MS);
        error = crew_tend(crew, &nrunning);
        progress_update(&crew->progress, index_files_final(crew->args.index));
    }
    if (error != 0) {
        crew_dismiss(crew);
    }
    return error;
}

static int build_files(sharena_t *heap, struct index *index, unsigned workers) {
    struct crew crew = {.args = {.heap = heap, .index = index}, .workers = workers};
    int error = 0;

    progress_begin(&crew.progress, "indexing", "files", index->nfiles);
    while (error == 0 && index_files_final(index) < index->nfiles) {
        error = crew_pass(&crew);
    }
    progress_end(&crew.progress, index_files_final(index));
    if (crew.nreplaced > 0) {
        printf("%u workers were killed and replaced\n", crew.nreplaced);
    }
    return error;
}

/* Does the index that is there belong to this directory, and what is left to do? */
static int build_inspect(const struct index *index, const char *dir) {
    if (strcmp(index->dir, dir) != 0) {
        report_error("the heap holds an index of %s, not of %s (--force replaces it)", index->dir,
                     dir);
        return EEXIST;
    }
    if (atomic_load(&index->state) == INDEX_LISTED) {
        printf("resuming: %llu of %llu files are done\n",
               (unsigned long long)index_files_final(index), (unsigned long long)index->nfiles);
    }
    return 0;
}

static int build_index(sharena_t *heap, struct index *index,
                       const struct build_settings *settings) {
    uint64_t start_ns = clock_now_ns();
    int error = index_repair(heap, index);

    if (error == 0 && atomic_load(&index->state) == INDEX_EMPTY) {
        error = listing_make(heap, index);
    }
    if (error == 0) {
        error = build_files(heap, index, settings->workers);
    }
    if (error == 0) {
        index->build_ns = clock_now_ns() - start_ns;
        atomic_store(&index->state, INDEX_DONE);
        sharena_purge(heap); /* the tables that were outgrown */
        error = sharena_sync(heap);
    }
    return error;
}

static int build_on_heap(sharena_t *heap, const char *dir, const struct build_settings *settings) {
    struct index *index = index_create(heap, dir);

    if (index == NULL || build_inspect(index, dir) != 0) {
        return EXIT_FAILED;
    }
    if (atomic_load(&index->state) == INDEX_DONE) {
        printf("the index is finished already (--force builds it anew)\n");
    } else if (build_index(heap, index, settings) != 0) {
        return EXIT_FAILED;
    }
    summary_print(settings->heap_path, index);
    return EXIT_FINE;
}

static int build_locked(const char *dir, const struct build_settings *settings) {
    struct sharena_options options = {.flags = SHARENA_CREATE};
    sharena_t *heap;
    int status;

    if (settings->is_forced) {
        options.flags |= SHARENA_TRUNCATE;
    }
    if (sharena_open(settings->heap_path, &options, &heap) != 0) {
        report_error("%s", sharena_errormsg());
        return EXIT_FAILED;
    }
    status = build_on_heap(heap, dir, settings);
    sharena_close(heap);
    return status;
}

int build(const struct build_settings *settings) {
    char dir[PATH_MAX];
    struct stat status;
    int lock;
    int error;
    int result;

    if (realpath(settings->dir, dir) == NULL || stat(dir, &status) != 0) {
        report_error("%s: %s", settings->dir, strerror(errno));
        return EXIT_FAILED;
    }
    if (!S_ISDIR(status.st_mode)) {
        report_error("%s is not a directory", dir);
        return EXIT_FAILED;
    }
    error = lockfile_take_alone(settings->heap_path, &lock);
    if (error != 0) {
        report_error("%s.lock: %s", settings->heap_path,
                     error == EWOULDBLOCK ? "somebody is building or asking this index"
                                          : strerror(error));
        return EXIT_FAILED;
    }
    result = build_locked(dir, settings);
    lockfile_release(lock);
    return result;
}
