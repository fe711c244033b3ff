/* reap.c -- `sharena reap` and `sharena purge`: what comes back, from the dead and to the system.
 *
 * Lock:   what the library takes; others go on meanwhile
 * Killed: as any process that reaps or purges: the next one goes on
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "ipc/errors.h"
#include "ipc/file.h"
#include "ipc/layout.h"

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {0},
};

/* ---- reap ---- */

static const struct cli_syntax reap_syntax = {
    .name = "reap",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Takes back what dead processes and threads held: their caches, their slots, their "
               "open steps.\nProcesses that use the heap do so by themselves in time.",
    .options = options,
    .take = cli_take_json,
};

/* Before it is opened: an open recovers as well. */
static int read_state(const char *path, struct heap_state *state) {
    struct heap_file file;
    int made;
    int error = file_open_path(path, 1, 0, 0, 0, &file, &made);
    if (error == 0) {
        ssize_t got = pread(file.fd, state, sizeof(*state), STATE_OFFSET);
        error = got == (ssize_t)sizeof(*state)
                    ? 0
                    : error_set(EUCLEAN, "%s is not a heap: it is too short", path);
        file_close(&file);
    }
    return error;
}

static void print_reaped(const struct heap_state *before, const struct heap_state *after, int slots,
                         int is_json) {
    json_t *facts = json_object();
    cli_set_count(facts, "slots", (uint64_t)slots);
    cli_set_count(facts, "processes",
                  shared_get(&after->reaped_processes) - shared_get(&before->reaped_processes));
    cli_set_count(facts, "cached_bytes",
                  shared_get(&after->reaped_bytes) - shared_get(&before->reaped_bytes));
    cli_set_count(facts, "sections",
                  shared_get(&after->recovered) - shared_get(&before->recovered));
    cli_print(facts, is_json);
}

int command_reap(int argc, char **argv) {
    int is_json = 0;
    char **operands = cli_parse(&reap_syntax, argc, argv, &is_json);
    struct heap_state before;
    if (read_state(operands[0], &before) != 0) {
        return cli_fail(reap_syntax.name);
    }
    sharena_t *heap = cli_open(reap_syntax.name, operands[0], SHARENA_OPEN_ONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    int slots = sharena_reap(heap);
    print_reaped(&before, heap_state(heap), slots, is_json);
    return sharena_close(heap) == 0 ? CLI_FINE : cli_fail(reap_syntax.name);
}

/* ---- purge ---- */

static const struct cli_syntax purge_syntax = {
    .name = "purge",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Gives all free pages of a heap back to the file system, after reaping the dead.",
    .options = options,
    .take = cli_take_json,
};

static uint64_t backed_bytes(const sharena_t *heap) {
    return shared_get(&heap_state(heap)->backed_pages) * PAGE_BYTES;
}

static uint64_t stored_bytes(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
}

int command_purge(int argc, char **argv) {
    int is_json = 0;
    char **operands = cli_parse(&purge_syntax, argc, argv, &is_json);
    sharena_t *heap = cli_open(purge_syntax.name, operands[0], SHARENA_OPEN_ONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    uint64_t before = backed_bytes(heap);
    int error = sharena_purge(heap);
    uint64_t after = backed_bytes(heap);
    if (error == 0) {
        json_t *facts = json_object();
        cli_set_count(facts, "purged_bytes", before > after ? before - after : 0);
        cli_set_count(facts, "backed_bytes", after);
        cli_set_count(facts, "stored_bytes", stored_bytes(operands[0]));
        cli_print(facts, is_json);
    } else {
        (void)cli_fail(purge_syntax.name);
    }
    int closed = sharena_close(heap);
    return error == 0 && closed == 0 ? CLI_FINE : CLI_FAILED;
}
