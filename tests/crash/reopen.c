/* reopen.c -- all workers of a heap are killed at a random instant; the next open recovers it,
 * however much lives in it.
 *
 *     crash_reopen [--processes N] [--threads N] [--kills N] [--objects MOST] [--seed N]
 *
 * For 1 000, 10 000 ... MOST live objects: workers work on the table (storm_table.c) until SIGKILL
 * takes all of them; then a new process opens the file, which is a cold open, allocates a block,
 * and accounts for every block and byte. The times of that open and of that first malloc are
 * reported by number of objects: they depend on what the dead had in their caches, not on what
 * lives. With more than 100 000 objects the accounts, which do take their time, are made every 50th
 * time and at the end.
 *
 * Exit status 0, or 1: then the heap file is kept, and what was found is on stderr.
 *
 * Not here: the workers (storm_work.c), what they know (storm_table.c), their life (storm_fleet.c).
 */
#include <sharena/sharena.h>

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storm_fleet.h"
#include "storm_table.h"

#define OBJECTS_FEW 1000u
#define OBJECTS_TO_ALWAYS_COUNT 100000u
#define COUNT_EVERY 50u
#define WORK_US 10000u /* at most, before the end of all */
#define CYCLES_MAX 100000u

struct times { /* of one size of the heap, in memory shared with the openers */
    double open_ms[CYCLES_MAX];
    double malloc_ms[CYCLES_MAX];
    uint64_t undone; /* open sections, by the statistics of the heap */
    uint64_t reaped;
};

static struct storm_control *control;
static struct fleet fleet;
static struct times *times;
static uint64_t random_state;
static uint32_t kills = 200; /* of all workers, for each number of objects */
static uint64_t objects_most = 10000000;

/* ---- options ---- */

enum { OPTION_PROCESSES = 1, OPTION_THREADS, OPTION_KILLS, OPTION_OBJECTS, OPTION_SEED };

static _Noreturn void usage(void) {
    (void)fprintf(stderr,
                  "usage: crash_reopen [--processes 1..%d] [--threads 1..%d] [--kills 1..%u]\n"
                  "                    [--objects MOST] [--seed N]\n",
                  STORM_PROCESSES_MAX, STORM_THREADS_MAX, CYCLES_MAX);
    exit(1);
}

static void take_option(int option, const char *text) {
    uint64_t number = text != NULL ? strtoull(text, NULL, 10) : 0;
    switch (option) {
    case OPTION_PROCESSES:
        control->processes = (uint32_t)number;
        break;
    case OPTION_THREADS:
        control->threads = (uint32_t)number;
        break;
    case OPTION_KILLS:
        kills = (uint32_t)number;
        break;
    case OPTION_OBJECTS:
        objects_most = number;
        break;
    case OPTION_SEED:
        control->seed = number;
        break;
    default:
        usage();
    }
}

static void read_options(int argc, char **argv) {
    static const struct option options[] = {
        {"processes", required_argument, NULL, OPTION_PROCESSES},
        {"threads", required_argument, NULL, OPTION_THREADS},
        {"kills", required_argument, NULL, OPTION_KILLS},
        {"objects", required_argument, NULL, OPTION_OBJECTS},
        {"seed", required_argument, NULL, OPTION_SEED},
        {NULL, 0, NULL, 0},
    };
    int option;
    control->processes = 4;
    control->threads = 4;
    control->seed = storm_now_ns() ^ (uint64_t)getpid() << 32;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        take_option(option, optarg);
    }
    if (optind != argc || control->processes < 1 || control->processes > STORM_PROCESSES_MAX ||
        control->threads < 1 || control->threads > STORM_THREADS_MAX || kills < 1 ||
        kills > CYCLES_MAX) {
        usage();
    }
}

/* ---- the opener: each one a process of its own, which starts with nobody attached ---- */

struct opening {
    uint32_t cycle;
    uint64_t objects; /* to be added up to this number */
    int counts;       /* everything is accounted for */
    int empties;      /* and freed */
    int closes;       /* else it just ends, and the next open is a cold one too */
};

static double ms_since(uint64_t begin_ns) {
    return (double)(storm_now_ns() - begin_ns) / 1e6;
}

static sharena_t *open_timed(uint32_t cycle) {
    static const struct sharena_options options = {.capacity_bytes = 1ull << 36};
    sharena_t *heap = NULL;
    uint64_t begin = storm_now_ns();
    if (sharena_open(control->path, &options, &heap) != 0) {
        storm_fail("the heap cannot be opened");
    }
    times->open_ms[cycle] = ms_since(begin);
    begin = storm_now_ns();
    void *block = sharena_malloc(heap, 64);
    times->malloc_ms[cycle] = ms_since(begin);
    if (block == NULL) {
        storm_fail("no block after the open");
    }
    sharena_free(heap, block);
    return heap;
}

static uint64_t ask(sharena_t *heap, const char *name) {
    uint64_t value = 0;
    size_t length = sizeof(value);
    if (sharena_ctl(heap, name, &value, &length, NULL, 0) != 0) {
        storm_fail("%s cannot be asked", name);
    }
    return value;
}

static void count(sharena_t *heap, const struct table *table) {
    struct sharena_report report;
    if (table_account(heap, table, &report) != 0) {
        storm_fail("the accounts are wrong");
    }
}

static void empty(sharena_t *heap, struct table *table) {
    struct sharena_report report;
    table_free(heap, table);
    if (sharena_purge(heap) != 0 || sharena_check(heap, &report) != 0) {
        print_findings(&report);
        storm_fail("emptied, the heap is not clean");
    }
    if (report.blocks_live != 0 || report.blocks_cached != 0 || report.pages_dirty != 0) {
        storm_fail("emptied, the heap has %" PRIu64 " blocks live, %" PRIu64 " cached, %" PRIu64
                   " pages dirty",
                   report.blocks_live, report.blocks_cached, report.pages_dirty);
    }
}

static void be_opener(const struct opening *opening) {
    sharena_t *heap = open_timed(opening->cycle);
    struct table *table = table_make(heap);
    if (sharena_reap(heap) != 0) {
        storm_fail("the open left somebody to be reaped");
    }
    table_rearm(heap, table);
    table_add_objects(heap, table, opening->objects);
    times->undone = ask(heap, "stats.recovered");
    times->reaped = ask(heap, "stats.reaped");
    if (opening->counts) {
        count(heap, table);
    }
    if (opening->empties) {
        empty(heap, table);
    }
    if (opening->closes && sharena_close(heap) != 0) {
        storm_fail("the heap cannot be closed");
    }
}

static int run_opener(const struct opening *opening) {
    int status = -1;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        be_opener(opening);
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

/* ---- the end of all ---- */

static int all_work(void) {
    for (uint32_t i = 0; i < control->processes; i++) {
        if (!fleet_is_working(&fleet, i)) {
            return 0;
        }
    }
    return 1;
}

/* Workers come, and go all at once; one of eight times before all have begun. */
static int kill_all(void) {
    int waits = storm_random(&random_state) % 8 != 0;
    fleet_start_missing(&fleet);
    while (waits && !all_work()) {
        storm_sleep_us(200);
        if (fleet_poll(&fleet) != 0) {
            return 1;
        }
    }
    storm_sleep_us(storm_random(&random_state) % WORK_US);
    for (uint32_t i = 0; i < control->processes; i++) {
        (void)fleet_kill(&fleet, i);
    }
    return fleet_wait_for_the_dead(&fleet);
}

/* ---- the report ---- */

static int compare_doubles(const void *a, const void *b) {
    double first = *(const double *)a;
    double second = *(const double *)b;
    return (first > second) - (first < second);
}

static void print_times(uint64_t objects, uint64_t undone, uint64_t reaped) {
    qsort(times->open_ms, kills, sizeof(double), compare_doubles);
    qsort(times->malloc_ms, kills, sizeof(double), compare_doubles);
    (void)printf("%10" PRIu64 " %8u %10.2f %10.2f %10.3f %10.3f %10" PRIu64 " %10" PRIu64 "\n",
                 objects, kills, times->open_ms[kills / 2], times->open_ms[kills - 1],
                 times->malloc_ms[kills / 2], times->malloc_ms[kills - 1], times->reaped - reaped,
                 times->undone - undone);
    (void)fflush(stdout);
}

/* ---- the whole ---- */

static int run_size(uint64_t objects) {
    struct opening first = {.objects = objects, .closes = 1};
    if (run_opener(&first) != 0) {
        return 1;
    }
    uint64_t undone = times->undone;
    uint64_t reaped = times->reaped;
    for (uint32_t i = 0; i < kills; i++) {
        struct opening opening = {.cycle = i, .closes = (int)(i % 2)};
        opening.counts =
            objects <= OBJECTS_TO_ALWAYS_COUNT || i % COUNT_EVERY == 0 || i + 1 == kills;
        if (kill_all() != 0 || run_opener(&opening) != 0) {
            return 1;
        }
    }
    print_times(objects, undone, reaped);
    return 0;
}

static int run(void) {
    struct opening last = {.counts = 1, .empties = 1, .closes = 1};
    (void)printf("%10s %8s %10s %10s %10s %10s %10s %10s\n%10s %8s %10s %10s %10s %10s\n",
                 "objects", "killed", "open ms", "open ms", "malloc ms", "malloc ms", "slots",
                 "sections", "live", "all", "median", "max", "median", "max");
    for (uint64_t objects = OBJECTS_FEW; objects <= objects_most; objects *= 10) {
        if (run_size(objects) != 0) {
            return 1;
        }
    }
    return run_opener(&last);
}

static void at_interrupt(int number) {
    (void)unlink(control->path);
    _exit(128 + number);
}

int main(int argc, char **argv) {
    control = storm_control_make(&fleet.control_fd);
    fleet.control = control;
    times = mmap(NULL, sizeof(*times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (times == MAP_FAILED) {
        storm_fail("no memory to share with the openers");
    }
    read_options(argc, argv);
    random_state = control->seed;
    (void)snprintf(control->path, sizeof(control->path), "/dev/shm/sharena-reopen-%d",
                   (int)getpid());
    (void)signal(SIGINT, at_interrupt);
    (void)signal(SIGTERM, at_interrupt);
    (void)printf("reopen: %u processes x %u threads, --seed %" PRIu64 ", heap %s\n",
                 control->processes, control->threads, control->seed, control->path);
    if (run() != 0) {
        fleet_end(&fleet);
        (void)fprintf(stderr, "reopen: FAILED; the heap is kept: %s\n", control->path);
        return 1;
    }
    if (sharena_unlink(control->path) != 0) {
        storm_fail("the file cannot be removed");
    }
    (void)printf("reopen: ok\n");
    return 0;
}
