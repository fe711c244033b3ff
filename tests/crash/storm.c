/* storm.c -- processes x threads on one heap, killed at random and replaced: no byte may be
 * missing.
 *
 *     crash_storm [--processes N] [--threads N] [--kills N] [--rate KILLS_PER_SECOND] [--seconds S]
 *                 [--rounds N] [--seed N] [--unpublished]
 *
 * Calm and stormy rounds of S seconds alternate in one run; with --kills the stormy ones last until
 * each had its share. --rate 0 (the default) kills as fast as workers can be replaced. After each
 * round all threads rest, and blocks and bytes that sharena_check() finds must be exactly those of
 * the table; at the end all are killed at once, everything is freed, and the file must be as empty
 * as its books. --unpublished lets those who are killed use plain malloc, free and realloc as well,
 * which may lose the blocks in flight: then up to what was in flight may be missing.
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "storm_fleet.h"
#include "storm_table.h"
#include "storm_work.h"

#define ROUNDS_MAX 1000u
#define BACKED_EARLY                                                                               \
    (1u << 18)        /* bytes of a next slot or table, whose maker died before it was one */
#define POLL_US 5000u /* at most, between two looks at the workers */

struct storm {
    struct fleet fleet;
    struct table *table;
    uint64_t random;
    uint64_t kills_wanted; /* in all; 0: rounds end by time */
    double rate;
    double seconds;
    uint32_t rounds;
    uint64_t kills;
    uint64_t kills_early; /* of these, while the worker opened the heap */
    uint64_t leaves;
    double steps_per_s[PHASES][ROUNDS_MAX];
};

static struct storm storm = {.seconds = 1, .rounds = 3};
static struct storm_control *control;

/* ---- options ---- */

enum {
    OPTION_PROCESSES = 1,
    OPTION_THREADS,
    OPTION_KILLS,
    OPTION_RATE,
    OPTION_SECONDS,
    OPTION_ROUNDS,
    OPTION_SEED,
    OPTION_UNPUBLISHED
};

static _Noreturn void usage(void) {
    (void)fprintf(stderr,
                  "usage: crash_storm [--processes 2..%d] [--threads 1..%d] [--kills N] "
                  "[--rate KILLS_PER_SECOND]\n"
                  "                   [--seconds S] [--rounds 1..%u] [--seed N] [--unpublished]\n",
                  STORM_PROCESSES_MAX, STORM_THREADS_MAX, ROUNDS_MAX);
    exit(1);
}

static void take_option(int option, const char *text) {
    switch (option) {
    case OPTION_PROCESSES:
        control->processes = (uint32_t)strtoul(text, NULL, 10);
        break;
    case OPTION_THREADS:
        control->threads = (uint32_t)strtoul(text, NULL, 10);
        break;
    case OPTION_KILLS:
        storm.kills_wanted = strtoull(text, NULL, 10);
        break;
    case OPTION_RATE:
        storm.rate = strtod(text, NULL);
        break;
    case OPTION_SECONDS:
        storm.seconds = strtod(text, NULL);
        break;
    case OPTION_ROUNDS:
        storm.rounds = (uint32_t)strtoul(text, NULL, 10);
        break;
    case OPTION_SEED:
        control->seed = strtoull(text, NULL, 10);
        break;
    case OPTION_UNPUBLISHED:
        control->unpublished = 1;
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
        {"rate", required_argument, NULL, OPTION_RATE},
        {"seconds", required_argument, NULL, OPTION_SECONDS},
        {"rounds", required_argument, NULL, OPTION_ROUNDS},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"unpublished", no_argument, NULL, OPTION_UNPUBLISHED},
        {NULL, 0, NULL, 0},
    };
    int option;
    control->processes = 8;
    control->threads = 4;
    control->has_gentle = 1;
    control->seed = storm_now_ns() ^ (uint64_t)getpid() << 32;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        take_option(option, optarg);
    }
    int is_sane = control->processes >= 2 && control->processes <= STORM_PROCESSES_MAX &&
                  control->threads >= 1 && control->threads <= STORM_THREADS_MAX &&
                  storm.rounds >= 1 && storm.rounds <= ROUNDS_MAX && storm.seconds > 0 &&
                  storm.rate >= 0;
    if (optind != argc || !is_sane) {
        usage();
    }
}

/* ---- kills ---- */

static uint64_t draw(uint64_t below) {
    return storm_random(&storm.random) % below;
}

/* The gentle one leaves by itself. */
static void replace_gentle(void) {
    if (fleet_is_working(&storm.fleet, STORM_GENTLE) &&
        !atomic_exchange(&control->workers[STORM_GENTLE].leave, 1)) {
        storm.leaves++;
    }
}

/* Mostly one that works, if any; one of eight times whoever it is, one of sixteen several at once.
 * */
static void kill_at_random(void) {
    uint32_t mortals = control->processes - 1;
    uint32_t first = (uint32_t)draw(mortals);
    uint32_t count = draw(16) == 0 ? 1 + (uint32_t)draw(mortals) : 1;
    int anybody = draw(8) == 0;
    for (uint32_t i = 0; i < mortals && count > 0; i++) {
        uint32_t victim = 1 + (first + i) % mortals;
        int works = fleet_is_working(&storm.fleet, victim);
        if ((works || anybody) && fleet_kill(&storm.fleet, victim)) {
            storm.kills++;
            storm.kills_early += !works;
            count--;
        }
    }
    if (draw(100) == 0) {
        replace_gentle();
    }
}

/* ---- rounds ---- */

static uint64_t next_kill_ns(void) {
    uint64_t mean_ns = storm.rate > 0 ? (uint64_t)(1e9 / storm.rate) : 2000000;
    return storm_now_ns() + mean_ns / 2 + draw(mean_ns);
}

/* Until `end_ns`, or until so many kills were done where that is not 0. */
static int let_it_rage(uint64_t end_ns, uint64_t kills_end) {
    uint64_t next = next_kill_ns();
    uint64_t now;
    while ((now = storm_now_ns()) < end_ns || storm.kills < kills_end) {
        if (fleet_poll(&storm.fleet) != 0) {
            return 1;
        }
        fleet_start_missing(&storm.fleet);
        if (now >= next) {
            kill_at_random();
            next = next_kill_ns();
        } else {
            uint64_t us = (next - now) / 1000;
            storm_sleep_us(us < POLL_US ? us : POLL_US);
        }
    }
    return 0;
}

static int let_it_rest(uint64_t end_ns) {
    uint64_t now;
    while ((now = storm_now_ns()) < end_ns) {
        uint64_t us = (end_ns - now) / 1000 + 1;
        storm_sleep_us(us < POLL_US ? us : POLL_US);
        if (fleet_poll(&storm.fleet) != 0) {
            return 1;
        }
    }
    return 0;
}

static int all_are_parked(void) {
    for (uint32_t i = 0; i < control->processes; i++) {
        if (atomic_load(&control->workers[i].parked) != control->threads) {
            return 0;
        }
    }
    return 1;
}

static int wait_until_parked(void) {
    uint64_t begin = storm_now_ns();
    while (!all_are_parked()) {
        if (fleet_poll(&storm.fleet) != 0) {
            return 1;
        }
        fleet_start_missing(&storm.fleet);
        if (storm_now_ns() - begin > 3 * STORM_HANG_NS) {
            (void)fprintf(stderr, "FAILED: not all threads come to rest\n");
            return 1;
        }
        storm_sleep_us(1000);
    }
    return 0;
}

static int account(struct sharena_report *report) {
    (void)sharena_reap(storm.fleet.heap);
    table_settle(storm.fleet.heap, storm.table);
    return table_account(storm.fleet.heap, storm.table, report);
}

static int run_round(uint32_t number, enum storm_phase phase) {
    struct sharena_report report;
    uint64_t kills_before = storm.kills;
    uint64_t kills_end =
        phase == PHASE_STORM ? storm.kills_wanted * (number + 1) / storm.rounds : 0;
    atomic_store(&control->phase, phase);
    atomic_store(&control->paused, 0);
    uint64_t begin = storm_now_ns();
    uint64_t end = begin + (kills_end != 0 ? 0 : (uint64_t)(storm.seconds * 1e9));
    uint64_t steps = fleet_steps(&storm.fleet);
    int trouble = phase == PHASE_STORM ? let_it_rage(end, kills_end) : let_it_rest(end);
    double took = (double)(storm_now_ns() - begin) / 1e9;
    storm.steps_per_s[phase][number] = (double)(fleet_steps(&storm.fleet) - steps) / took;
    atomic_store(&control->paused, 1);
    if (trouble != 0 || wait_until_parked() != 0 || account(&report) != 0) {
        return 1;
    }
    (void)printf("round %u %s: %.1f s, %.0f steps/s, %" PRIu64 " kills; then %" PRIu64
                 " blocks of %" PRIu64 " KiB live, all accounted for\n",
                 number + 1, phase == PHASE_STORM ? "storm" : "calm ", took,
                 storm.steps_per_s[phase][number], storm.kills - kills_before, report.blocks_live,
                 report.bytes_live / 1024);
    (void)fflush(stdout);
    return 0;
}

/* ---- the end ---- */

static int kill_all(void) {
    atomic_store(&control->paused, 0);
    storm_sleep_us(20000 + draw(20000));
    atomic_store(&control->workers[STORM_GENTLE].leave, 1);
    for (uint32_t i = 0; i < control->processes; i++) {
        storm.kills += i != STORM_GENTLE && fleet_kill(&storm.fleet, i);
    }
    return fleet_wait_for_the_dead(&storm.fleet);
}

static size_t ask(const char *name) {
    size_t value = 0;
    size_t length = sizeof(value);
    if (sharena_ctl(storm.fleet.heap, name, &value, &length, NULL, 0) != 0) {
        storm_fail("%s cannot be asked", name);
    }
    return value;
}

static unsigned ask_unsigned(const char *name) {
    unsigned value = 0;
    size_t length = sizeof(value);
    if (sharena_ctl(storm.fleet.heap, name, &value, &length, NULL, 0) != 0) {
        storm_fail("%s cannot be asked", name);
    }
    return value;
}

/* A bin keeps its last run, even if all of it is free. */
static size_t most_kept(void) {
    size_t bytes = 0;
    unsigned bins = ask_unsigned("arenas.nbins");
    for (unsigned i = 0; i < bins; i++) {
        char name[40];
        (void)snprintf(name, sizeof(name), "arenas.bin.%u.run_size", i);
        bytes += ask(name);
    }
    return bytes * ask_unsigned("arenas.narenas");
}

static int is_so(int condition, const char *text) {
    if (!condition) {
        (void)fprintf(stderr, "FAILED: not so at the end: %s\n", text);
    }
    return condition;
}

/* Nothing is left but what was lost in flight, and the file holds what its books say: metadata. */
static int is_empty(const struct sharena_report *report) {
    struct stat status;
    int lost_none = !control->unpublished;
    if (stat(control->path, &status) != 0) {
        return is_so(0, "the file is there");
    }
    size_t stored = (size_t)status.st_blocks * 512;
    (void)printf("at the end: %" PRIu64 " blocks of %" PRIu64 " bytes live, %" PRIu64
                 " cached, %" PRIu64 " pages dirty; the file holds %zu KiB, metadata %zu KiB\n",
                 report->blocks_live, report->bytes_live, report->blocks_cached,
                 report->pages_dirty, stored / 1024, ask("stats.metadata") / 1024);
    return is_so(!lost_none || report->blocks_live == 0, "no block is live") &
           is_so(report->blocks_cached == 0, "the caches are empty") &
           is_so(report->pages_dirty == 0, "no free page has storage") &
           is_so(!lost_none || report->pages_backed * ask("arenas.page") <= most_kept(),
                 "one run of each bin at most has storage") &
           is_so(stored <= ask("stats.resident") + BACKED_EARLY,
                 "the file holds what its books say") &
           is_so(ask_unsigned("processes.count") == 1, "this process alone is attached");
}

/* Everything is freed. */
static int finish(struct table *table) {
    struct sharena_report report;
    if (kill_all() != 0 || account(&report) != 0) {
        return 1;
    }
    uint64_t lost = table->blocks_lost;
    (void)printf("all killed: %" PRIu64 " blocks of %" PRIu64 " bytes live, all accounted for\n",
                 report.blocks_live, report.bytes_live);
    table_free(storm.fleet.heap, table);
    if (sharena_purge(storm.fleet.heap) != 0 || sharena_check(storm.fleet.heap, &report) != 0) {
        (void)fprintf(stderr, "FAILED: emptied, the heap is not clean: %s\n", sharena_errormsg());
        print_findings(&report);
        return 1;
    }
    return !is_empty(&report) ||
           !is_so(report.blocks_live <= lost, "what is missing was in flight");
}

/* ---- the report ---- */

static int compare_doubles(const void *a, const void *b) {
    double first = *(const double *)a;
    double second = *(const double *)b;
    return (first > second) - (first < second);
}

static double print_steps(const char *name, double *steps_per_s) {
    qsort(steps_per_s, storm.rounds, sizeof(*steps_per_s), compare_doubles);
    double median = steps_per_s[storm.rounds / 2];
    (void)printf("  %-6s median %.0f steps/s (%.0f to %.0f)\n", name, median, steps_per_s[0],
                 steps_per_s[storm.rounds - 1]);
    return median;
}

static void print_throughput(void) {
    (void)printf("throughput in %u rounds each:\n", storm.rounds);
    double calm = print_steps("calm", storm.steps_per_s[PHASE_CALM]);
    double stormy = print_steps("storm", storm.steps_per_s[PHASE_STORM]);
    (void)printf("  with kills %.1f %% of that without\n", 100 * stormy / calm);
}

static uint64_t longest(enum storm_phase phase, enum storm_kind kind) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < control->processes; i++) {
        uint64_t ns = atomic_load(&control->workers[i].longest_ns[phase][kind]);
        most = ns > most ? ns : most;
    }
    return most;
}

static void print_waits(void) {
    uint64_t most[PHASES] = {0};
    (void)printf("longest calls that returned (wall clock around each, waits for a CPU included):\n"
                 "  %-12s %12s %12s %12s\n",
                 "", "calls", "calm ms", "storm ms");
    for (uint32_t kind = KIND_OPEN; kind < KINDS; kind++) {
        uint64_t calls = 0;
        for (uint32_t i = 0; i < control->processes; i++) {
            calls += atomic_load(&control->workers[i].calls[kind]);
        }
        for (uint32_t phase = 0; phase < PHASES; phase++) {
            most[phase] = longest(phase, kind) > most[phase] ? longest(phase, kind) : most[phase];
        }
        (void)printf("  %-12s %12" PRIu64 " %12.1f %12.1f\n", storm_kind_name(kind), calls,
                     (double)longest(PHASE_CALM, kind) / 1e6,
                     (double)longest(PHASE_STORM, kind) / 1e6);
    }
    (void)printf("  %-12s %12s %12.1f %12.1f\n", "any", "", (double)most[PHASE_CALM] / 1e6,
                 (double)most[PHASE_STORM] / 1e6);
}

static void print_recovery(void) {
    (void)printf("%" PRIu64 " kills, %" PRIu64 " of them while attaching; %" PRIu64
                 " clean ends; %zu thread slots reaped, %zu open sections undone\n",
                 storm.kills, storm.kills_early, storm.leaves, ask("stats.reaped"),
                 ask("stats.recovered"));
    if (control->unpublished) {
        (void)printf("plain calls: at most %" PRIu64 " blocks of %" PRIu64
                     " bytes were in flight\n",
                     storm.table->blocks_lost, storm.table->bytes_lost);
    }
}

/* ---- the whole ---- */

static void at_interrupt(int number) {
    (void)unlink(control->path);
    _exit(128 + number);
}

static int open_heap(void) {
    static const struct sharena_options options = {.flags = SHARENA_CREATE | SHARENA_EXCL,
                                                   .capacity_bytes = 1ull << 36};
    (void)snprintf(control->path, sizeof(control->path), "/dev/shm/sharena-storm-%d",
                   (int)getpid());
    if (sharena_open(control->path, &options, &storm.fleet.heap) != 0) {
        (void)fprintf(stderr, "FAILED: no heap: %s\n", sharena_errormsg());
        return 1;
    }
    (void)signal(SIGINT, at_interrupt);
    (void)signal(SIGTERM, at_interrupt);
    storm.table = table_make(storm.fleet.heap);
    return 0;
}

static int run(void) {
    atomic_store(&control->paused, 1);
    if (wait_until_parked() != 0) {
        return 1;
    }
    for (uint32_t i = 0; i < storm.rounds; i++) {
        if (run_round(i, PHASE_CALM) != 0 || run_round(i, PHASE_STORM) != 0) {
            return 1;
        }
    }
    print_recovery();
    return finish(storm.table);
}

static int say_what_was_kept(void) {
    struct sharena_report report;
    fleet_end(&storm.fleet);
    (void)sharena_reap(storm.fleet.heap);
    if (sharena_check(storm.fleet.heap, &report) != 0) {
        print_findings(&report);
    }
    (void)fprintf(stderr, "storm: FAILED after %" PRIu64 " kills; the heap is kept: %s\n",
                  storm.kills, control->path);
    return 1;
}

int main(int argc, char **argv) {
    int worker = fleet_be_worker(argc, argv);
    if (worker >= 0) {
        return worker;
    }
    control = storm_control_make(&storm.fleet.control_fd);
    storm.fleet.control = control;
    read_options(argc, argv);
    storm.random = control->seed;
    if (open_heap() != 0) {
        return 1;
    }
    (void)printf("storm: %u processes x %u threads, --seed %" PRIu64 ", heap %s\n",
                 control->processes, control->threads, control->seed, control->path);
    if (run() != 0) {
        return say_what_was_kept();
    }
    print_throughput();
    print_waits();
    if (sharena_close(storm.fleet.heap) != 0 || sharena_unlink(control->path) != 0) {
        (void)fprintf(stderr, "FAILED: the file cannot be removed: %s\n", sharena_errormsg());
        return 1;
    }
    (void)printf("storm: ok\n");
    return 0;
}
