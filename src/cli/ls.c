/* ls.c -- `sharena ls`: the roots of a heap, by which processes find each other's objects.
 *
 * Lock:   none: the heap is attached for reading, and each root is seen as it is at that moment
 */
#include <stdint.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "heap/audit_slots.h"

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {0},
};

static const struct cli_syntax syntax = {
    .name = "ls",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Lists the roots of a heap: name, address, and size of the block (0: a root that "
               "is not the\nbeginning of a block).",
    .options = options,
    .take = cli_take_json,
};

struct listing {
    sharena_t *heap;
    json_t *roots;
};

static int add_root(const char *name, void *ptr, void *arg) {
    const struct listing *listing = arg;
    json_t *root = json_object();
    int is_block = audit_is_block(listing->heap, ptr);
    cli_set_text(root, "name", name);
    cli_set_hex(root, "address", (uintptr_t)ptr);
    cli_set_count(root, "bytes", is_block ? sharena_usable_size(listing->heap, ptr) : 0);
    return json_array_append_new(listing->roots, root);
}

int command_ls(int argc, char **argv) {
    int is_json = 0;
    char **operands = cli_parse(&syntax, argc, argv, &is_json);
    struct listing listing = {.heap = cli_open(syntax.name, operands[0], SHARENA_READONLY)};
    if (listing.heap == NULL) {
        return CLI_FAILED;
    }
    listing.roots = json_array();
    (void)sharena_root_foreach(listing.heap, add_root, &listing);
    json_t *facts = json_object();
    cli_set(facts, "roots", listing.roots);
    cli_print(facts, is_json);
    (void)sharena_close(listing.heap);
    return CLI_FINE;
}
