/* rm.c -- `sharena rm`: removes a heap that nobody uses. */
#include <errno.h>

#include "cli/cli.h"
#include "cli/commands.h"

static const struct cli_option options[] = {
    {'f', "force", NULL, "a file that does not exist is no error"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    int *is_forced = into;
    (void)argument;
    *is_forced |= letter == 'f';
    return 0;
}

static const struct cli_syntax syntax = {
    .name = "rm",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Removes a heap. Refuses while a process is attached, and what is not a heap.",
    .options = options,
    .take = take,
};

int command_rm(int argc, char **argv) {
    int is_forced = 0;
    char **operands = cli_parse(&syntax, argc, argv, &is_forced);
    int error = sharena_unlink(operands[0]);
    return error == 0 || (error == ENOENT && is_forced) ? CLI_FINE : cli_fail(syntax.name);
}
