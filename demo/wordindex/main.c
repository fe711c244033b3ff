/* main.c -- wordindex: an inverted index in a persistent heap.
 *
 * Not here: the index (index.h), who builds it (build.c), who asks it (query.c).
 */
#include "../common/args.h"
#include "../common/report.h"
#include "build.h"
#include "index.h"
#include "query.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_HEAP "/dev/shm/sharena-wordindex.heap"
#define DEFAULT_DIR "/usr/include"

static const char usage_text[] =
    "Usage: wordindex build [-f HEAP] [-w N] [--force] [DIR]\n"
    "       wordindex query [-f HEAP] [-l N] WORD...\n"
    "       wordindex info  [-f HEAP]\n"
    "       wordindex check [-f HEAP]\n"
    "\n"
    "build  reads the text files below DIR (" DEFAULT_DIR ") with several processes and makes\n"
    "       one index of their words in a heap file; resumes where a killed build stopped\n"
    "query  prints the files that hold all of the words, with the number of occurrences\n"
    "info   prints what the index holds\n"
    "check  proves that heap and index are whole and that no block is lost\n"
    "\n"
    "  -f, --heap PATH   the heap's file (" DEFAULT_HEAP ")\n"
    "  -w, --workers N   processes that read, 1 to 64 (one per CPU)\n"
    "      --force       build anew, whatever the heap holds\n"
    "  -l, --limit N     print at most N files, 0 for all (20)\n"
    "  -h, --help        this text\n"
    "\n"
    "A word is a row of ASCII letters, digits and underscores, 2 to 64 of them, that does not\n"
    "begin with a digit; case matters. Files with a NUL byte are left out, symbolic links are\n"
    "not followed.\n"
    "\n"
    "Exit status: 0 fine, 1 something failed or was found wrong, 2 bad usage.\n";

struct settings {
    struct build_settings build;
    uint64_t limit;
};

static const struct option options[] = {
    {"heap", required_argument, NULL, 'f'}, {"workers", required_argument, NULL, 'w'},
    {"force", no_argument, NULL, 'F'},      {"limit", required_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};

static unsigned default_workers(void) {
    long ncpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (ncpus < 1) {
        return 1;
    }
    return ncpus > (long)BUILD_WORKERS_MAX ? BUILD_WORKERS_MAX : (unsigned)ncpus;
}

static int parse_option(int letter, struct settings *settings) {
    uint64_t number = 0;
    int error = 0;

    switch (letter) {
    case 'f':
        settings->build.heap_path = optarg;
        return 0;
    case 'w':
        error = args_parse_u64("--workers", optarg, 1, BUILD_WORKERS_MAX, &number);
        settings->build.workers = (unsigned)number;
        return error;
    case 'F':
        settings->build.is_forced = true;
        return 0;
    case 'l':
        return args_parse_u64("--limit", optarg, 0, UINT64_MAX, &settings->limit);
    default:
        return EINVAL; /* getopt_long() has said what is wrong */
    }
}

static int parse(int argc, char **argv, struct settings *settings) {
    int letter;

    while ((letter = getopt_long(argc, argv, "f:w:l:h", options, NULL)) != -1) {
        if (letter == 'h') {
            fputs(usage_text, stdout);
            exit(EXIT_FINE);
        }
        if (parse_option(letter, settings) != 0) {
            return EINVAL;
        }
    }
    return 0;
}

/* A query that can never have an answer is a mistake. */
static int check_word(const char *word) {
    size_t length_bytes = strlen(word);
    bool is_word = length_bytes >= WORD_MIN_BYTES && length_bytes <= WORD_MAX_BYTES &&
                   !isdigit((unsigned char)word[0]);

    for (size_t i = 0; i < length_bytes; i++) {
        is_word = is_word && word_has((unsigned char)word[i]);
    }
    if (!is_word) {
        report_error("'%s' is not a word that is indexed (see --help)", word);
        return EINVAL;
    }
    return 0;
}

static int usage_error(const char *text) {
    if (text != NULL) {
        report_error("%s", text);
    }
    fputs("Try 'wordindex --help'.\n", stderr);
    return EXIT_USAGE;
}

static int run_build(struct settings *settings, int argc, char **argv) {
    if (argc > 1) {
        return usage_error("build takes one directory");
    }
    settings->build.dir = argc == 1 ? argv[0] : DEFAULT_DIR;
    return build(&settings->build);
}

static int run_query(const struct settings *settings, int argc, char **argv) {
    if (argc < 1) {
        return usage_error("query needs a word");
    }
    for (int i = 0; i < argc; i++) {
        if (check_word(argv[i]) != 0) {
            return usage_error(NULL);
        }
    }
    return query(settings->build.heap_path, argv, (unsigned)argc, settings->limit);
}

static int run_plain(int (*command)(const char *heap_path), const struct settings *settings,
                     int argc) {
    return argc > 0 ? usage_error("too many arguments") : command(settings->build.heap_path);
}

static int run(struct settings *settings, int argc, char **argv) {
    const char *command = argc > 0 ? argv[0] : "";

    if (strcmp(command, "build") == 0) {
        return run_build(settings, argc - 1, argv + 1);
    }
    if (strcmp(command, "query") == 0) {
        return run_query(settings, argc - 1, argv + 1);
    }
    if (strcmp(command, "info") == 0) {
        return run_plain(query_info, settings, argc - 1);
    }
    if (strcmp(command, "check") == 0) {
        return run_plain(query_check, settings, argc - 1);
    }
    return usage_error(argc > 0 ? "the command must be build, query, info or check"
                                : "a command is needed: build, query, info or check");
}

int main(int argc, char **argv) {
    struct settings settings = {.build = {.heap_path = DEFAULT_HEAP, .workers = default_workers()},
                                .limit = 20};

    if (parse(argc, argv, &settings) != 0) {
        return usage_error(NULL);
    }
    return run(&settings, argc - optind, argv + optind);
}
