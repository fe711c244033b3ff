/* cli.h -- what the commands share: arguments, errors, output, and what a command is.
 *
 * A command is one file and one row of the table in main.c. It reads its arguments with
 * cli_parse(), says what it found with cli_print(), and returns how it went.
 */
#ifndef SHARENA_CLI_CLI_H
#define SHARENA_CLI_CLI_H

#include <jansson.h>
#include <stdint.h>

#include "sharena/sharena.h"

/* The exit status of every command. */
enum cli_status {
    CLI_FINE,  /* done, and nothing is wrong */
    CLI_WRONG, /* done, and something is wrong with the heap: it was said */
    CLI_FAILED /* could not be done: why was said on stderr */
};

/* ---- arguments ---- */

struct cli_option {
    int letter;           /* "-c"; 0 ends a table. Above 255: it has no short form */
    const char *name;     /* "--capacity" without the dashes */
    const char *argument; /* what the help calls its argument; NULL: it takes none */
    const char *help;
};

/* The row of a command that prints data. */
#define CLI_OPTION_JSON                                                                            \
    { 'j', "json", NULL, "print JSON" }

struct cli_syntax {
    const char *name;     /* of the command */
    const char *operands; /* "FILE", or "SOURCE DEST" */
    int operands_count;
    const char *purpose; /* a sentence or a few, lines broken as they are printed */
    const struct cli_option *options;
    /* Takes one option into the command's own struct. 0, or an errno value with error_set(). */
    int (*take)(int letter, const char *argument, void *into);
};

/* Reads the arguments of a command: argv[0] is its name. The operands. Does not return after
 * --help (exit status 0), nor where an argument is wrong (CLI_FAILED). */
char **cli_parse(const struct cli_syntax *syntax, int argc, char **argv, void *into);

/* For cli_syntax.take of a command that has --json only: *into is an int, 1 with it. */
int cli_take_json(int letter, const char *argument, void *into);

/* Values of options. 0, or EINVAL with error_set(). */
int cli_parse_size(const char *text, uint64_t *bytes);   /* 4096, 64K, 64M, 1G, 2T */
int cli_parse_number(const char *text, uint64_t *value); /* 12, 0x12, 012 is 12 */
int cli_parse_mode(const char *text, uint32_t *mode);    /* octal */

/* ---- errors ---- */

/* "sharena: COMMAND: SENTENCE" on stderr, with the sentence of the thread's last error.
 * CLI_FAILED. */
int cli_fail(const char *command);

/* The exit status, after all output: what found no room is an error like any other. */
int cli_finish(int status);

/* ---- heaps ---- */

/* Opens the heap for looking (no store, no slot) or for care (flags: SHARENA_OPEN_ONLY, ...). NULL
 * after a message. */
sharena_t *cli_open(const char *command, const char *path, uint32_t flags);

/* ---- output ---- */

/* Prints the object, and drops the caller's reference: as JSON, or for people, a line for each
 * member and a table for each array of objects. The ends of names tell how a number is written for
 * people: "bytes" as KiB and so on; addresses and times are strings. */
void cli_print(json_t *object, int is_json);

/* Puts what json_sprintf() and its like return into the object. */
void cli_set(json_t *object, const char *name, json_t *value);
void cli_set_count(json_t *object, const char *name, uint64_t value);
void cli_set_text(json_t *object, const char *name, const char *text);
void cli_append_text(json_t *array, const char *text);
void cli_set_bool(json_t *object, const char *name, int value);
void cli_set_hex(json_t *object, const char *name, uint64_t value); /* "0x12" */
void cli_set_time(json_t *object, const char *name, uint64_t ns);   /* CLOCK_REALTIME: ISO 8601 */

/* "1.5 MiB" into text, which is returned. */
#define CLI_SIZE_BYTES 32
const char *cli_size_text(uint64_t bytes, char *text);

#endif
