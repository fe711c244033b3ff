/* main.c -- the driver: runs one workload once, with the backend that it is linked with.
 *
 * Exit status: 0 measured, 1 something failed or was found wrong, 2 bad usage, 77 the workload
 * makes no sense with this backend.
 */
#include "block.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct workload {
    const char *name;
    void (*run)(const struct job *job);
    unsigned args;
    uint64_t least; /* of each argument */
    const char *usage;
} workloads[] = {
    {"pair", run_pairs, 1, 1, "SIZE"},
    {"batch", run_batches, 2, 1, "SIZE COUNT"},
    {"replace", run_replacements, 3, 1, "MOST WORKERS LIVE"},
    {"larson", run_larson, 1, 1, "WORKERS"},
    {"messages", run_messages, 1, 1, "SIZE"},
    {"exchange", run_exchange, 1, 0, "PERCENT"},
    {"growth", run_growth, 1, 1, "MIB"},
    {"touch", run_touch, 1, 1, "MIB"},
    {"threads", run_threads, 0, 1, ""},
    {"processes", run_processes, 0, 1, ""},
    {"flushes", run_flushes, 1, 1, "SIZE"},
    {"scale", run_scale, 1, 1, "BLOCKS"},
    {"deaths", run_deaths, 2, 1, "BLOCKS TRIALS"},
    {"fragment", run_fragmentation, 1, 1, "MIB"},
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static void usage(FILE *to) {
    (void)fprintf(to,
                  "Usage: bench_%s [options] WORKLOAD ARGUMENT...\n\n"
                  "  --ms N        measure for N milliseconds (100)\n"
                  "  --file PATH   the heap's file, which must not exist, and is removed\n"
                  "                (/dev/shm/sharena-bench-PID)\n"
                  "  --verify      look that no block is handed out twice, and check the heap\n"
                  "  --version     print the version of the allocator\n"
                  "  --help        this text\n\n"
                  "Workloads; the source says what each does and reports:\n\n",
                  backend_name);
    for (size_t i = 0; i < WORKLOADS; i++) {
        (void)fprintf(to, "  %-9s %s\n", workloads[i].name, workloads[i].usage);
    }
}

static void usage_error(const char *what) {
    (void)fprintf(stderr, "bench_%s: %s (try --help)\n", backend_name, what);
    exit(2);
}

static uint64_t number(const char *text, uint64_t least) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text == '\0' || *text == '-' || *end != '\0' || value < least) {
        usage_error("an argument is not a number, or too low");
    }
    return value;
}

static const struct workload *workload_find(const char *name) {
    for (size_t i = 0; i < WORKLOADS; i++) {
        if (strcmp(workloads[i].name, name) == 0) {
            return &workloads[i];
        }
    }
    usage_error("no such workload");
    return NULL;
}

/* ---- the heap's file ---- */

static char heap_path[256];
static pid_t heap_owner;

static void heap_remove(void) {
    if (getpid() == heap_owner) {
        (void)unlink(heap_path);
    }
}

static void heap_name(const char *path) {
    if (path != NULL) {
        (void)snprintf(heap_path, sizeof(heap_path), "%s", path);
    } else {
        (void)snprintf(heap_path, sizeof(heap_path), "/dev/shm/sharena-bench-%d", (int)getpid());
    }
    if (access(heap_path, F_OK) == 0) {
        die("%s exists already", heap_path);
    }
    heap_owner = getpid();
    (void)atexit(heap_remove);
}

/* The heap that the workload left behind, as far as it can be checked. */
static void heap_check(const struct job *job) {
    if (backend_sharing != SHARING_PROCESSES || access(job->path, F_OK) != 0) {
        return;
    }
    heap_open(job, 1, 1);
    if (backend_check() == CHECK_DAMAGED) {
        die("the heap is damaged");
    }
    backend_close();
}

/* ---- */

static const struct option options[] = {
    {"ms", required_argument, NULL, 'm'}, {"file", required_argument, NULL, 'f'},
    {"verify", no_argument, NULL, 'v'},   {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},     {NULL, 0, NULL, 0},
};

int main(int argc, char **argv) {
    struct job job = {.path = heap_path, .duration_ns = 100000000};
    const char *path = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
        switch (option) {
        case 'm':
            job.duration_ns = number(optarg, 1) * 1000000;
            break;
        case 'f':
            path = optarg;
            break;
        case 'v':
            blocks_are_verified = true;
            break;
        case 'V':
            printf("%s\n", backend_version());
            return 0;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage_error("unknown option");
        }
    }
    if (optind == argc) {
        usage_error("no workload");
    }
    const struct workload *workload = workload_find(argv[optind]);
    if ((unsigned)(argc - optind - 1) != workload->args) {
        usage_error("not as many arguments as the workload has");
    }
    for (unsigned i = 0; i < workload->args; i++) {
        job.args[i] = number(argv[optind + 1 + (int)i], workload->least);
    }
    heap_name(path);
    workload->run(&job);
    if (blocks_are_verified) {
        heap_check(&job);
    }
    return 0;
}
