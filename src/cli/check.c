/* check.c -- `sharena check`: proves a heap, attached or not, damaged or not.
 *
 * Lock:   all of the heap's, as long as the walk takes: others wait where they miss their caches
 * Killed: the locks say so to the next; there is nothing to undo
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "heap/audit.h"

struct wish {
    int is_json;
    uint32_t flags;
};

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'r', "recover", NULL, "also if it was in use when the machine went down, or was copied"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    (void)argument;
    if (letter == 'r') {
        wish->flags |= SHARENA_RECOVER;
    } else {
        wish->is_json = 1;
    }
    return 0;
}

static const struct cli_syntax syntax = {
    .name = "check",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Proves that every page and every block of a heap has exactly one owner, and that "
               "every count\nagrees with what it counts. Lists what is wrong, and ends with 1 "
               "then. Processes that use\nthe heap wait where they miss their caches.",
    .options = options,
    .take = take,
};

static void add_counts(const struct sharena_report *report, json_t *facts) {
    cli_set_count(facts, "blocks_live", report->blocks_live);
    cli_set_count(facts, "live_bytes", report->bytes_live);
    cli_set_count(facts, "blocks_cached", report->blocks_cached);
    cli_set_count(facts, "cached_bytes", report->bytes_cached);
    cli_set_count(facts, "pages_backed", report->pages_backed);
    cli_set_count(facts, "pages_dirty", report->pages_dirty);
    cli_set_count(facts, "chunks", report->chunks);
    cli_set_count(facts, "chunks_free", report->chunks_free);
}

/* `problem`: why the file could not even be attached; or NULL. */
static void print(const char *path, const char *problem, const struct sharena_report *report,
                  int is_json) {
    json_t *facts = json_object();
    json_t *messages = json_array();
    uint64_t findings = problem != NULL ? 1 : report->findings;
    uint64_t listed = findings < SHARENA_REPORT_MESSAGES ? findings : SHARENA_REPORT_MESSAGES;
    cli_set_text(facts, "file", path);
    cli_set_text(facts, "state", findings == 0 ? "clean" : "damaged");
    cli_set_count(facts, "findings", findings);
    if (problem == NULL) {
        add_counts(report, facts);
    }
    for (uint64_t i = 0; i < listed; i++) {
        cli_append_text(messages, problem != NULL ? problem : report->messages[i]);
    }
    cli_set(facts, "messages", messages);
    cli_print(facts, is_json);
}

/* ---- progress ---- */

/* A thread of its own shows it, for a terminal may keep its writer waiting. */
struct progress {
    pthread_t thread;
    int is_shown;
    atomic_int is_over;
};

#define PROGRESS_PERIOD_NS 100000000

static void *show_progress(void *arg) {
    struct progress *progress = arg;
    const struct timespec pause = {0, PROGRESS_PERIOD_NS};
    do {
        uint32_t done = __atomic_load_n(&audit_progress, __ATOMIC_RELAXED);
        (void)fprintf(stderr, "\rchecked: %3u %%", done / 10);
        (void)nanosleep(&pause, NULL);
    } while (!atomic_load(&progress->is_over));
    (void)fputs("\r\033[K", stderr);
    return NULL;
}

static void begin_progress(struct progress *progress) {
    atomic_init(&progress->is_over, 0);
    progress->is_shown = isatty(STDERR_FILENO) &&
                         pthread_create(&progress->thread, NULL, show_progress, progress) == 0;
}

static void end_progress(struct progress *progress) {
    if (progress->is_shown) {
        atomic_store(&progress->is_over, 1);
        (void)pthread_join(progress->thread, NULL);
    }
}

int command_check(int argc, char **argv) {
    struct wish wish = {.flags = SHARENA_OPEN_ONLY};
    struct sharena_report report = {0};
    struct progress progress;
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    const struct sharena_options open = {.flags = wish.flags};
    sharena_t *heap;
    int error = sharena_open(operands[0], &open, &heap);
    if (error == EUCLEAN) {
        print(operands[0], sharena_errormsg(), &report, wish.is_json);
        return CLI_WRONG;
    }
    if (error != 0) {
        return cli_fail(syntax.name);
    }
    begin_progress(&progress);
    error = sharena_check(heap, &report);
    end_progress(&progress);
    if (error == 0 || error == EUCLEAN) {
        print(operands[0], NULL, &report, wish.is_json);
    } else {
        (void)cli_fail(syntax.name);
    }
    (void)sharena_close(heap);
    return error == 0 ? CLI_FINE : error == EUCLEAN ? CLI_WRONG : CLI_FAILED;
}
