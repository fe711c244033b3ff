/* options.c -- what the command line says. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "args.h"
#include "layout.h"
#include "report.h"

static const char help[] =
    "usage: respd [options]\n"
    "An object store whose worker processes share one heap; speaks the Redis protocol.\n"
    "\n"
    "  -H, --heap PATH      the heap file; made if there is none, served again if there is\n"
    "                       (default /dev/shm/respd.heap; PATH.lock is the server's lock)\n"
    "  -p, --port PORT      TCP port (default 6379)\n"
    "  -b, --bind ADDRESS   address to listen on (default 127.0.0.1)\n"
    "  -w, --workers N      worker processes, 1 to 64 (default 4)\n"
    "  -l, --limit BYTES    most memory for a heap that is made; K, M and G may follow\n"
    "                       (default: no limit)\n"
    "  -h, --help           this text\n"
    "\n"
    "SIGTERM ends the server; the data stays in the heap file.\n";

static void mistake(void) __attribute__((noreturn));

static void mistake(void) {
    fputs("Try 'respd --help'.\n", stderr);
    exit(EXIT_USAGE);
}

static uint64_t parse(const char *option, const char *text, uint64_t low, uint64_t high) {
    uint64_t value = 0;
    if (args_parse_u64(option, text, low, high, &value) != 0) {
        mistake();
    }
    return value;
}

void options_parse(int argc, char **argv, struct options *options) {
    static const struct option known[] = {
        {"heap", required_argument, NULL, 'H'},
        {"port", required_argument, NULL, 'p'},
        {"bind", required_argument, NULL, 'b'},
        {"workers", required_argument, NULL, 'w'},
        {"limit", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *options = (struct options){
        .heap = "/dev/shm/respd.heap", .bind = "127.0.0.1", .port = 6379, .workers = 4};
    int option;
    while ((option = getopt_long(argc, argv, "H:p:b:w:l:h", known, NULL)) != -1) {
        switch (option) {
        case 'H':
            options->heap = optarg;
            break;
        case 'p':
            options->port = (uint16_t)parse("--port", optarg, 1, 65535);
            break;
        case 'b':
            options->bind = optarg;
            break;
        case 'w':
            options->workers = (unsigned)parse("--workers", optarg, 1, WORKERS_MAX);
            break;
        case 'l':
            options->limit_bytes = parse("--limit", optarg, 1, UINT64_MAX);
            break;
        case 'h':
            fputs(help, stdout);
            exit(EXIT_FINE);
        default:
            mistake();
        }
    }
    if (optind < argc) {
        report_error("unexpected argument '%s'", argv[optind]);
        mistake();
    }
    if (options->heap[0] == '\0') {
        report_error("--heap: the path is empty");
        mistake();
    }
}
