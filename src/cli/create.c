/* create.c -- `sharena create`: a new heap, with what is fixed for its life.
 *
 * Killed: a creator that dies leaves nothing that an open takes for a heap
 */
#include <errno.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "ipc/errors.h"

static const struct cli_option options[] = {
    {'c', "capacity", "SIZE", "address space for its life (default 1T); costs nothing"},
    {'l', "limit", "SIZE", "most that may be backed (default: no limit)"},
    {'m', "mode", "MODE", "permission bits of the file (default 600)"},
    {'b', "base", "ADDRESS", "where all processes map it, a multiple of 1 GiB"},
    {'C', "conf", "TEXT", "configuration of this open, such as \"narenas:8\""},
    {'f', "force", NULL, "begin anew if it exists, and nobody is attached"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct sharena_options *wish = into;
    switch (letter) {
    case 'c':
        return cli_parse_size(argument, &wish->capacity_bytes);
    case 'l':
        return cli_parse_size(argument, &wish->limit_bytes);
    case 'm':
        return cli_parse_mode(argument, &wish->mode);
    case 'b':
        return cli_parse_number(argument, &wish->base_address);
    case 'C':
        wish->conf = argument;
        return 0;
    case 'f':
        wish->flags = SHARENA_CREATE | SHARENA_TRUNCATE;
        return 0;
    default:
        return EINVAL;
    }
}

static const struct cli_syntax syntax = {
    .name = "create",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Makes a new heap. It is an error if there is one, unless --force is given.",
    .options = options,
    .take = take,
};

int command_create(int argc, char **argv) {
    struct sharena_options wish = {.flags = SHARENA_CREATE | SHARENA_EXCL};
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap;
    if (sharena_open(operands[0], &wish, &heap) != 0 || sharena_close(heap) != 0) {
        return cli_fail(syntax.name);
    }
    return CLI_FINE;
}
