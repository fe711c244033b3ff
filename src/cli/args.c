/* args.c -- the arguments of a command, read by its table of options.
 *
 * Not here: which options there are (each command's table), output (print.c).
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "ipc/errors.h"

#define OPTIONS_MAX 16

/* ---- help ---- */

static void print_option(const struct cli_option *option) {
    char text[48];
    char letter[8] = "    ";
    if (option->letter <= UCHAR_MAX) {
        (void)snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    }
    (void)snprintf(text, sizeof(text), "%s--%s%s%s", letter, option->name,
                   option->argument != NULL ? "=" : "",
                   option->argument != NULL ? option->argument : "");
    (void)printf("  %-26s %s\n", text, option->help);
}

static void print_help(const struct cli_syntax *syntax) {
    static const struct cli_option help = {'h', "help", NULL, "print this"};
    (void)printf("usage: sharena %s [OPTION...] %s\n\n%s\n\n", syntax->name, syntax->operands,
                 syntax->purpose);
    for (const struct cli_option *option = syntax->options; option->letter != 0; option++) {
        print_option(option);
    }
    print_option(&help);
}

/* ---- parse ---- */

static _Noreturn void refuse(const struct cli_syntax *syntax) {
    (void)cli_fail(syntax->name);
    (void)fprintf(stderr, "`sharena %s --help` says what it takes\n", syntax->name);
    exit(CLI_FAILED);
}

/* The table in getopt's own form. */
struct getopt_tables {
    char letters[2 * OPTIONS_MAX + 4];
    struct option names[OPTIONS_MAX + 2];
};

static void add_option(struct getopt_tables *tables, size_t index, const struct cli_option *from) {
    int has_argument = from->argument != NULL;
    tables->names[index] = (struct option){
        from->name, has_argument ? required_argument : no_argument, NULL, from->letter};
    if (from->letter <= UCHAR_MAX) {
        size_t used = strlen(tables->letters);
        (void)snprintf(tables->letters + used, sizeof(tables->letters) - used, "%c%s", from->letter,
                       has_argument ? ":" : "");
    }
}

static void fill_tables(const struct cli_syntax *syntax, struct getopt_tables *tables) {
    static const struct cli_option help = {'h', "help", NULL, ""};
    size_t count = 0;
    memset(tables, 0, sizeof(*tables));
    tables->letters[0] = ':'; /* a missing argument is ':', and getopt prints nothing */
    while (count < OPTIONS_MAX && syntax->options[count].letter != 0) {
        add_option(tables, count, &syntax->options[count]);
        count++;
    }
    add_option(tables, count, &help);
}

char **cli_parse(const struct cli_syntax *syntax, int argc, char **argv, void *into) {
    struct getopt_tables tables;
    int letter;
    fill_tables(syntax, &tables);
    opterr = 0;
    while ((letter = getopt_long(argc, argv, tables.letters, tables.names, NULL)) != -1) {
        int error = 0;
        if (letter == 'h') {
            print_help(syntax);
            exit(cli_finish(CLI_FINE));
        } else if (letter == ':') {
            error = error_set(EINVAL, "%s needs an argument", argv[optind - 1]);
        } else if (letter == '?') {
            error =
                error_set(EINVAL, "%s is not an option, or takes no argument", argv[optind - 1]);
        } else {
            error = syntax->take(letter, optarg, into);
        }
        if (error != 0) {
            refuse(syntax);
        }
    }
    if (argc - optind != syntax->operands_count) {
        (void)error_set(EINVAL, "%d arguments where it takes %s", argc - optind, syntax->operands);
        refuse(syntax);
    }
    return argv + optind;
}

int cli_take_json(int letter, const char *argument, void *into) {
    int *is_json = into;
    (void)argument;
    *is_json = letter == 'j';
    return 0;
}

/* ---- values ---- */

/* Digits of that base, and nothing else up to *end. */
static int parse_digits(const char *text, int base, uint64_t *value, const char **end) {
    char *stop;
    errno = 0;
    *value = strtoull(text, &stop, base);
    *end = stop;
    return stop != text && isxdigit((unsigned char)text[0]) && errno == 0;
}

/* The power of two of a suffix, or -1. */
static int shift_of(const char *suffix) {
    static const char letters[] = "KMGT";
    if (suffix[0] == '\0') {
        return 0;
    }
    const char *found = strchr(letters, toupper((unsigned char)suffix[0]));
    return found != NULL && suffix[1] == '\0' ? 10 * (int)(found - letters + 1) : -1;
}

int cli_parse_size(const char *text, uint64_t *bytes) {
    const char *suffix;
    uint64_t number;
    int is_number = parse_digits(text, 10, &number, &suffix);
    int shift = is_number ? shift_of(suffix) : -1;
    if (shift < 0 || number > UINT64_MAX >> shift) {
        return error_set(EINVAL, "'%s' is not a size: a whole number of bytes, or of K, M, G, T",
                         text);
    }
    *bytes = number << shift;
    return 0;
}

int cli_parse_number(const char *text, uint64_t *value) {
    const char *end;
    int is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (!parse_digits(text, is_hex ? 16 : 10, value, &end) || *end != '\0') {
        return error_set(EINVAL, "'%s' is not a number, such as 4096 or 0x1000", text);
    }
    return 0;
}

int cli_parse_mode(const char *text, uint32_t *mode) {
    const char *end;
    uint64_t value;
    if (!parse_digits(text, 8, &value, &end) || *end != '\0' || value == 0 || value > 0777) {
        return error_set(EINVAL, "'%s' is not a mode of a file: octal, such as 600 or 660", text);
    }
    *mode = (uint32_t)value;
    return 0;
}

/* ---- errors ---- */

int cli_fail(const char *command) {
    (void)fflush(stdout); /* what was found comes before what went wrong */
    (void)fprintf(stderr, "sharena: %s: %s\n", command, error_message());
    return CLI_FAILED;
}

int cli_finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("sharena: the output cannot be written");
        return CLI_FAILED;
    }
    return status;
}

sharena_t *cli_open(const char *command, const char *path, uint32_t flags) {
    const struct sharena_options options = {.flags = flags};
    sharena_t *heap;
    if (sharena_open(path, &options, &heap) != 0) {
        (void)cli_fail(command);
        return NULL;
    }
    return heap;
}
