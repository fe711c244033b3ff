/* snapshot.c -- `sharena snapshot`: a consistent copy of a heap that is in use, which opens.
 *
 * Processes must stand still while the file is copied: a thread's cache is changed without a lock,
 * so no lock keeps the copy consistent. If the stack of free blocks were copied first, and then the
 * page where the application has published a block that was taken from it meanwhile, the copy would
 * hand that block out a second time. A heap whose processes stand still is, for who opens its copy,
 * one whose processes were all killed at that moment, and the library recovers that.
 *
 *     open lock -> guardian -> stop all -> copy -> continue all -> unlock
 *     -> open the copy with SHARENA_RECOVER, check it, close it -> give it its name
 *
 * Lock:   the open lock of the source, so that nobody attaches or leaves meanwhile
 * Killed: anywhere: the guardian continues the stopped and removes the temporary file
 * Not here: how to stop processes (stop.c), how to copy (copy.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/stop.h"
#include "heap/heap.h"
#include "ipc/errors.h"
#include "ipc/superblock.h"
#include "ipc/token.h"

struct wish {
    int is_json;
    int is_forced;
};

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'f', "force", NULL, "replace DEST if it exists, and nobody is attached to it"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    (void)argument;
    wish->is_json |= letter == 'j';
    wish->is_forced |= letter == 'f';
    return 0;
}

static const struct cli_syntax syntax = {
    .name = "snapshot",
    .operands = "SOURCE DEST",
    .operands_count = 2,
    .purpose = "Copies a heap, also one that is in use: the processes that use it are stopped "
               "(SIGSTOP) while\nits file is copied, and go on then. The copy is checked, and "
               "opens like any heap.",
    .options = options,
    .take = take,
};

/* One run of the command. */
struct snapshot {
    const char *source_path;
    const char *dest_path;
    struct heap_file source;
    char *temporary; /* the name that the copy has until it is complete */
    int fd;          /* of the copy */
    struct standstill standstill;
    struct copied copied;
    uint64_t stopped_us; /* how long */
};

static uint64_t now_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- before ---- */

/* Whether the name may be given away. */
static int verify_dest(const char *path, int is_forced) {
    struct stat status;
    struct heap_file file;
    int made;
    if (lstat(path, &status) != 0) {
        return errno == ENOENT ? 0 : error_set(errno, "%s: %s", path, strerror(errno));
    }
    if (!is_forced) {
        return error_set(EEXIST, "%s exists; --force replaces it", path);
    }
    int error = file_open_path(path, 1, 0, 0, 0, &file, &made);
    if (error == 0) {
        error =
            token_anyone_attached(&file)
                ? error_set(EBUSY, "%s is in use; it can be replaced when all have closed it", path)
                : 0;
        file_close(&file);
    }
    return error;
}

static int verify_source(const struct heap_file *source) {
    struct superblock superblock;
    enum file_state state = FILE_EMPTY;
    int error = superblock_read(source, &state, &superblock);
    if (error == 0 && state != FILE_HEAP) {
        error = error_set(EUCLEAN, "%s is not a heap: %s", source->title,
                          state == FILE_EMPTY ? "it is empty" : "its creation was never finished");
    }
    return error;
}

static int make_temporary(struct snapshot *snapshot) {
    if (asprintf(&snapshot->temporary, "%s.XXXXXX", snapshot->dest_path) < 0) {
        snapshot->temporary = NULL;
        return error_set(ENOMEM, "no memory");
    }
    snapshot->fd = mkostemp(snapshot->temporary, O_CLOEXEC);
    if (snapshot->fd < 0) {
        return error_set(errno, "no file can be made beside %s: %s", snapshot->dest_path,
                         strerror(errno));
    }
    return 0;
}

/* ---- the copy ---- */

static int copy_at_rest(struct snapshot *snapshot, const struct guardian *guardian) {
    uint64_t begin = now_us();
    int error = stop_all(&snapshot->source, guardian, &snapshot->standstill);
    if (error == 0) {
        error = copy_file(snapshot->source.fd, snapshot->fd, &snapshot->copied);
        if (error != 0) {
            error = error_set(error, "%s cannot be copied to %s: %s", snapshot->source_path,
                              snapshot->dest_path, strerror(error));
        }
    }
    if (error == 0) {
        error = stop_verify(&snapshot->standstill);
    }
    guardian_continue_all(guardian);
    snapshot->stopped_us = now_us() - begin;
    return error;
}

static int copy_locked(struct snapshot *snapshot, const struct guardian *guardian) {
    int lock = file_lock_open(&snapshot->source);
    if (lock < 0) {
        return errno;
    }
    int error = verify_source(&snapshot->source);
    if (error == 0) {
        error = copy_at_rest(snapshot, guardian);
    }
    file_unlock_open(lock);
    return error;
}

/* Recovers the copy, and proves it. EUCLEAN: the source was not sound. */
static int prove(const struct snapshot *snapshot, struct sharena_report *report) {
    const struct sharena_options open = {.flags = SHARENA_OPEN_ONLY | SHARENA_RECOVER};
    sharena_t *heap;
    memset(report, 0, sizeof(*report));
    int error = sharena_open(snapshot->temporary, &open, &heap);
    if (error != 0) {
        return error;
    }
    error = sharena_check(heap, report);
    int closed = sharena_close(heap);
    return error != 0 ? error : closed;
}

/* The copy gets the source's permissions, and its name. By link() it keeps the temporary one too,
 * which is the guardian's to remove. */
static int give_name(const struct snapshot *snapshot, int is_forced) {
    struct stat status;
    int result = fstat(snapshot->source.fd, &status);
    if (result == 0) {
        result = fchmod(snapshot->fd, status.st_mode & 0777);
    }
    if (result == 0) {
        result = is_forced ? rename(snapshot->temporary, snapshot->dest_path)
                           : link(snapshot->temporary, snapshot->dest_path);
    }
    return result == 0 ? 0
                       : error_set(errno, "the copy cannot be named %s: %s", snapshot->dest_path,
                                   strerror(errno));
}

/* ---- the whole ---- */

static void print(const struct snapshot *snapshot, const struct sharena_report *report,
                  int is_json) {
    json_t *facts = json_object();
    cli_set_text(facts, "source", snapshot->source_path);
    cli_set_text(facts, "copy", snapshot->dest_path);
    cli_set_count(facts, "copied_bytes", snapshot->copied.bytes);
    cli_set_bool(facts, "reflink", snapshot->copied.is_reflink);
    cli_set_count(facts, "processes", snapshot->standstill.stopped.count);
    cli_set_count(facts, "stopped_us", snapshot->stopped_us);
    cli_set_count(facts, "blocks_live", report->blocks_live);
    cli_set_count(facts, "bytes_live", report->bytes_live);
    cli_print(facts, is_json);
}

static int run(struct snapshot *snapshot, const struct wish *wish) {
    struct guardian guardian;
    struct sharena_report report = {0};
    int error = verify_source(&snapshot->source);
    if (error == 0) {
        error = verify_dest(snapshot->dest_path, wish->is_forced);
    }
    if (error == 0) {
        error = make_temporary(snapshot);
    }
    if (error == 0 && (error = guardian_start(&guardian, snapshot->temporary)) != 0) {
        (void)unlink(snapshot->temporary);
    }
    if (error != 0) {
        return error;
    }
    error = copy_locked(snapshot, &guardian);
    if (error == 0) {
        error = prove(snapshot, &report);
    }
    if (error == 0) {
        error = give_name(snapshot, wish->is_forced);
    }
    guardian_end(&guardian);
    if (error == 0) {
        print(snapshot, &report, wish->is_json);
    }
    return error;
}

int command_snapshot(int argc, char **argv) {
    static struct snapshot snapshot; /* too large for a stack */
    struct wish wish = {0};
    int made;
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    (void)signal(SIGPIPE, SIG_IGN); /* errors are to be met, not to be killed by */
    (void)signal(SIGXFSZ, SIG_IGN);
    superblock_expect(heap_fingerprint());
    snapshot.source_path = operands[0];
    snapshot.dest_path = operands[1];
    snapshot.fd = -1;
    if (file_open_path(operands[0], 1, 0, 0, 0, &snapshot.source, &made) != 0) {
        return cli_fail(syntax.name);
    }
    int error = run(&snapshot, &wish);
    if (snapshot.fd >= 0) {
        (void)close(snapshot.fd);
    }
    free(snapshot.temporary);
    file_close(&snapshot.source);
    if (error != 0) {
        (void)cli_fail(syntax.name);
    }
    return error == 0 ? CLI_FINE : error == EUCLEAN ? CLI_WRONG : CLI_FAILED;
}
