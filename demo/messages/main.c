/* main.c -- messages: zero-copy message buffers between processes, beside a pipe and a socket.
 *
 * Not here: the protocol (ring.h says what a kill leaves), the processes (fleet.h).
 */
#include "../common/args.h"
#include "../common/lockfile.h"
#include "../common/report.h"
#include "exchange.h"
#include "stream.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_HEAP "/dev/shm/sharena-messages.heap"
#define DEFAULT_KILL_SIZE_BYTES 4096u

static const char usage_text[] =
    "Usage: messages [options]\n"
    "\n"
    "Publishers and subscribers in separate processes pass pointers to messages through rings\n"
    "that live in a heap they share; the receiver frees what the publisher allocated. Prints the\n"
    "rate beside the same job through a pipe and a Unix stream socket.\n"
    "\n"
    "  -p, --publishers N   publishing processes, 1 to 8 (1)\n"
    "  -s, --subscribers M  subscribing processes, 1 to 8 (1)\n"
    "  -z, --size BYTES     only messages of this size, 64 to 4M, a multiple of 8\n"
    "                       (64, 1K, 16K, 256K and 4M, one after the other)\n"
    "  -t, --seconds S      how long to send, for each size and way (1)\n"
    "  -c, --count N        instead: how many messages each publisher sends\n"
    "  -a, --all-words      receivers look at every word, not at one in each page\n"
    "  -k, --kills N        send through the rings only, for --seconds, kill N processes\n"
    "                       meanwhile, publishers and subscribers in turn, replace them, and\n"
    "                       show that no message is lost or repeated (implies --all-words)\n"
    "  -f, --heap PATH      the heap's file; it is kept if it was there before\n"
    "                       (" DEFAULT_HEAP ")\n"
    "  -h, --help           this text\n"
    "\n"
    "Exit status: 0 fine, 1 something failed or was found wrong, 2 bad usage.\n";

struct settings {
    struct fleet_job job; /* size_bytes 0: all sizes */
    const char *heap_path;
    bool is_heap_new; /* made by this run, and removed at its end */
};

/* ---- the table ----------------------------------------------------------------------------- */

enum way { WAY_RINGS, WAY_PIPE, WAY_SOCKET, WAYS };

static const char *size_text(uint64_t size_bytes, char text[32]) {
    if (size_bytes >= 1u << 20 && size_bytes % (1u << 20) == 0) {
        snprintf(text, 32, "%llu MiB", (unsigned long long)(size_bytes >> 20));
    } else if (size_bytes >= 1u << 10 && size_bytes % (1u << 10) == 0) {
        snprintf(text, 32, "%llu KiB", (unsigned long long)(size_bytes >> 10));
    } else {
        snprintf(text, 32, "%llu B", (unsigned long long)size_bytes);
    }
    return text;
}

static double per_second(const struct fleet_result *result) {
    return result->seconds > 0 ? (double)result->messages / result->seconds : 0;
}

static double ratio(const struct fleet_result *rings, const struct fleet_result *other) {
    return per_second(other) > 0 ? per_second(rings) / per_second(other) : 0;
}

static void table_print_head(void) {
    printf("%8s | %22s | %22s | %22s | %17s\n", "message", "sharena rings", "pipe", "unix socket",
           "rings compared to");
    printf("%8s | %12s %9s | %12s %9s | %12s %9s | %8s %8s\n", "size", "messages/s", "GB/s",
           "messages/s", "GB/s", "messages/s", "GB/s", "pipe", "socket");
}

static int way_run(enum way way, sharena_t *heap, struct exchange *exchange,
                   const struct fleet_job *job, struct fleet_result *result) {
    if (way == WAY_RINGS) {
        return exchange_run(heap, exchange, job, result);
    }
    return stream_run(way == WAY_PIPE ? STREAM_PIPE : STREAM_SOCKET, job, result);
}

static int table_print_row(sharena_t *heap, struct exchange *exchange,
                           const struct fleet_job *job) {
    struct fleet_result results[WAYS];
    char size[32];

    printf("%8s |", size_text(job->size_bytes, size));
    for (enum way way = WAY_RINGS; way < WAYS; way++) {
        const struct fleet_result *result = &results[way];

        fflush(stdout);
        if (way_run(way, heap, exchange, job, &results[way]) != 0) {
            printf("\n");
            return EXIT_FAILED;
        }
        printf(" %12.0f %9.3f |", per_second(result),
               (double)result->bytes / 1e9 / result->seconds);
    }
    printf(" %7.1fx %7.1fx\n", ratio(&results[WAY_RINGS], &results[WAY_PIPE]),
           ratio(&results[WAY_RINGS], &results[WAY_SOCKET]));
    return EXIT_FINE;
}

static int table_print(sharena_t *heap, struct exchange *exchange,
                       const struct settings *settings) {
    static const uint64_t sizes[] = {64, 1u << 10, 16u << 10, 256u << 10, 4u << 20};
    struct fleet_job job = settings->job;
    int status = EXIT_FINE;

    table_print_head();
    if (job.size_bytes != 0) {
        return table_print_row(heap, exchange, &job);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == EXIT_FINE; i++) {
        job.size_bytes = sizes[i];
        status = table_print_row(heap, exchange, &job);
    }
    return status;
}

/* ---- the kills ----------------------------------------------------------------------------- */

static int kills_run(sharena_t *heap, struct exchange *exchange, const struct settings *settings) {
    struct fleet_job job = settings->job;
    struct fleet_result result;
    char size[32];

    if (job.size_bytes == 0) {
        job.size_bytes = DEFAULT_KILL_SIZE_BYTES;
    }
    job.is_every_word_checked = true;
    if (exchange_run(heap, exchange, &job, &result) != 0) {
        return EXIT_FAILED;
    }
    printf("%u processes killed and replaced while %llu messages of %s passed in %.1f s "
           "(%.0f/s):\n0 lost, 0 repeated: every message processed exactly once and in order\n",
           result.replaced, (unsigned long long)result.messages, size_text(job.size_bytes, size),
           result.seconds, per_second(&result));
    return EXIT_FINE;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static int heap_check(sharena_t *heap, struct sharena_report *report) {
    int error;

    sharena_reap(heap); /* the processes that were killed */
    error = sharena_check(heap, report);
    if (error != 0) {
        report_error("the heap is not clean: %llu findings, the first: %s",
                     (unsigned long long)report->findings,
                     report->findings != 0 ? report->messages[0] : sharena_errormsg());
        return EXIT_FAILED;
    }
    return EXIT_FINE;
}

/* Runs, and shows that the heap holds afterwards what it held before: the rings. */
static int work(sharena_t *heap, const struct settings *settings) {
    struct exchange *exchange = exchange_open(heap);
    struct sharena_report before;
    struct sharena_report after;

    if (exchange == NULL || heap_check(heap, &before) != EXIT_FINE) {
        return EXIT_FAILED;
    }
    if ((settings->job.kills > 0 ? kills_run : table_print)(heap, exchange, settings) !=
            EXIT_FINE ||
        heap_check(heap, &after) != EXIT_FINE) {
        return EXIT_FAILED;
    }
    if (after.blocks_live != before.blocks_live) {
        report_error("%llu blocks live before the run, %llu after it",
                     (unsigned long long)before.blocks_live, (unsigned long long)after.blocks_live);
        return EXIT_FAILED;
    }
    printf("all rings empty; heap check: clean, %llu blocks live as before the run\n",
           (unsigned long long)after.blocks_live);
    return EXIT_FINE;
}

static int run_on_heap(const struct settings *settings) {
    sharena_t *heap;
    int status;

    if (sharena_open(settings->heap_path, NULL, &heap) != 0) {
        report_error("%s", sharena_errormsg());
        return EXIT_FAILED;
    }
    status = work(heap, settings);
    sharena_close(heap);
    if (settings->is_heap_new && sharena_unlink(settings->heap_path) != 0) {
        report_error("%s", sharena_errormsg());
        status = EXIT_FAILED;
    }
    return status;
}

static int run(struct settings *settings) {
    int lock;
    int error = lockfile_take_alone(settings->heap_path, &lock);
    int status;

    if (error != 0) {
        report_error("%s.lock: %s", settings->heap_path,
                     error == EWOULDBLOCK ? "another run is using this heap" : strerror(error));
        return EXIT_FAILED;
    }
    settings->is_heap_new = access(settings->heap_path, F_OK) != 0;
    status = run_on_heap(settings);
    lockfile_remove(settings->heap_path);
    lockfile_release(lock);
    return status;
}

/* ---- the command line ---------------------------------------------------------------------- */

static const struct option options[] = {{"publishers", required_argument, NULL, 'p'},
                                        {"subscribers", required_argument, NULL, 's'},
                                        {"size", required_argument, NULL, 'z'},
                                        {"seconds", required_argument, NULL, 't'},
                                        {"count", required_argument, NULL, 'c'},
                                        {"all-words", no_argument, NULL, 'a'},
                                        {"kills", required_argument, NULL, 'k'},
                                        {"heap", required_argument, NULL, 'f'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static int parse_unsigned(const char *option, uint64_t max, unsigned *value) {
    uint64_t number = 0;
    int error = args_parse_u64(option, optarg, 1, max, &number);

    *value = (unsigned)number;
    return error;
}

static int parse_size(uint64_t *size_bytes) {
    int error = args_parse_u64("--size", optarg, MESSAGE_MIN_BYTES, MESSAGE_MAX_BYTES, size_bytes);

    if (error == 0 && *size_bytes % 8 != 0) {
        report_error("--size: %s is not a multiple of 8", optarg);
        error = EINVAL;
    }
    return error;
}

static int parse_option(int letter, struct settings *settings) {
    struct fleet_job *job = &settings->job;

    switch (letter) {
    case 'p':
        return parse_unsigned("--publishers", FLEET_SIDE_MAX, &job->publishers);
    case 's':
        return parse_unsigned("--subscribers", FLEET_SIDE_MAX, &job->subscribers);
    case 'z':
        return parse_size(&job->size_bytes);
    case 't':
        return args_parse_seconds("--seconds", optarg, 86400, &job->seconds);
    case 'c':
        return args_parse_u64("--count", optarg, 1, UINT64_MAX >> 16, &job->count);
    case 'a':
        job->is_every_word_checked = true;
        return 0;
    case 'k':
        return parse_unsigned("--kills", 1000000, &job->kills);
    case 'f':
        settings->heap_path = optarg;
        return 0;
    default:
        return EINVAL; /* getopt_long() has said what is wrong */
    }
}

static int parse(int argc, char **argv, struct settings *settings) {
    int letter;

    while ((letter = getopt_long(argc, argv, "p:s:z:t:c:ak:f:h", options, NULL)) != -1) {
        if (letter == 'h') {
            fputs(usage_text, stdout);
            exit(EXIT_FINE);
        }
        if (parse_option(letter, settings) != 0) {
            return EINVAL;
        }
    }
    if (optind < argc) {
        report_error("'%s' is one argument too many", argv[optind]);
        return EINVAL;
    }
    if (settings->job.kills > 0 && settings->job.count > 0) {
        report_error("--kills needs --seconds, not --count");
        return EINVAL;
    }
    return 0;
}

int main(int argc, char **argv) {
    struct settings settings = {.job = {.publishers = 1, .subscribers = 1, .seconds = 1},
                                .heap_path = DEFAULT_HEAP};

    if (parse(argc, argv, &settings) != 0) {
        fputs("Try 'messages --help'.\n", stderr);
        return EXIT_USAGE;
    }
    return run(&settings);
}
