/* main.c -- the command `sharena`: finds the command that is asked for, and calls it.
 *
 * Holds:  every command has one row in the table, which is also what --help lists
 * Not here: reading arguments (args.c), what commands do (their files).
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *purpose;
};

static const struct command commands[] = {
    {"create", command_create, "make a new heap"},
    {"info", command_info, "what a file is, and what was fixed when the heap was made"},
    {"stats", command_stats, "all statistics"},
    {"check", command_check, "prove that every page and block has one owner"},
    {"ps", command_ps, "processes and threads that are attached"},
    {"top", command_top, "what happens in a heap, as it happens"},
    {"map", command_map, "the heap as a picture: what each page is, and how much of it is used"},
    {"ls", command_ls, "roots, with their addresses and sizes"},
    {"reap", command_reap, "take back what the dead held"},
    {"purge", command_purge, "give free memory back to the file system"},
    {"prof", command_prof, "who holds memory: processes, also gone ones, and sites"},
    {"snapshot", command_snapshot, "copy a heap, also one that is in use"},
    {"rm", command_rm, "remove a heap that nobody uses"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *stream) {
    (void)fprintf(stream, "usage: sharena COMMAND [OPTION...] FILE\n"
                          "       sharena --help | --version\n\n"
                          "Looks after heaps that many processes share. Commands:\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].purpose);
    }
    (void)fprintf(stream, "\n`sharena COMMAND --help` says more about one of them.\n"
                          "Exit status: 0 all is well, 1 something is wrong with the heap, 2 it "
                          "could not be done.\n");
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return cli_finish(CLI_FINE);
    }
    if (strcmp(name, "--version") == 0) {
        (void)printf("sharena %s\n", SHARENA_VERSION);
        return cli_finish(CLI_FINE);
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return cli_finish(commands[i].run(argc - 1, argv + 1));
        }
    }
    if (name[0] == '\0') {
        print_help(stderr);
    } else {
        (void)fprintf(stderr,
                      "sharena: there is no command %s; `sharena --help` lists those there are\n",
                      name);
    }
    return CLI_FAILED;
}
