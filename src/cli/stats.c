/* stats.c -- `sharena stats`: all statistics of a heap.
 *
 * Lock:   none: the heap is attached for reading, so what changes meanwhile is counted less exactly
 * Not here: what the numbers are (doc/stats.md)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "ipc/errors.h"

#define PARTS "gmablxp"

struct wish {
    int is_json;
    const char *omitted;
};

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'o', "omit", "PARTS", "letters of what is left out"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    if (letter == 'j') {
        wish->is_json = 1;
        return 0;
    }
    if (strspn(argument, PARTS) != strlen(argument)) {
        return error_set(EINVAL, "'%s' has other letters than %s", argument, PARTS);
    }
    wish->omitted = argument;
    return 0;
}

static const struct cli_syntax syntax = {
    .name = "stats",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Prints all statistics of a heap. Parts can be left out: g heap and options, m all "
               "arenas\ntogether, a each arena, b bins, l large and huge classes, x locks, p "
               "processes and caches.",
    .options = options,
    .take = take,
};

static void write_text(void *arg, const char *text) {
    (void)fputs(text, arg);
}

int command_stats(int argc, char **argv) {
    struct wish wish = {.omitted = ""};
    char opts[256];
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap = cli_open(syntax.name, operands[0], SHARENA_READONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    (void)snprintf(opts, sizeof(opts), "%s%s", wish.is_json ? "J" : "", wish.omitted);
    int status = CLI_FINE;
    if (sharena_stats_print(heap, write_text, stdout, opts) != 0) {
        status = cli_fail(syntax.name);
    }
    (void)sharena_close(heap);
    return status;
}
