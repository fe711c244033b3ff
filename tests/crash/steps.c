/* steps.c -- kills a process at every instruction of every operation, from outside.
 *
 *     crash_steps                                everything: every instruction of every scenario
 *     crash_steps --most 5000                    of longer operations, evenly spread, that many
 *     crash_steps --seconds 60 [--seed N]        as much as fits, at random
 *     crash_steps --scenario malloc_miss         all of one
 *     crash_steps --scenario reap --at 1200 --order newcomer [--then open:300 --then lock:7]
 *
 * A point is one death: a victim executes an operation (scenario.h) up to its n-th instruction and is
 * killed there. In a recovery point, others then come to mend the heap and are killed at that, one or
 * two in a row. Survivors go on: one that was attached before, one that attaches only now, one that
 * waits for the lock at the moment of the kill; in turns each is the first to meet what the dead left.
 * Then every byte is accounted for (stage.c).
 *
 * Exit status: 0 if every point was fine, 1 if not, 2 for a mistake in the arguments, 77 where ptrace()
 * is forbidden.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "point.h"

#define EXIT_SKIPPED 77
#define JOBS_MAX 64
#define SCENARIOS_MAX 128
#define FAILURES_MAX 20u
#define POINT_SECONDS_MAX 60u
/* A sample is taken of that many instructions of an operation and of a recovery: to record one costs
 * 20 us. */
#define SAMPLED_MAX 12000u
#define SAMPLED_RECOVERY_MAX 4000u

struct job { /* shared with the main process */
    pid_t pid;
    int is_done;
    unsigned scenario; /* in all[] */
    size_t next;
    uint64_t random;
    struct point point; /* the one that runs */
    unsigned long long longest_wait_ns;
    struct tally tally[SCENARIOS_MAX];
};

struct settings {
    const char *scenario;
    long seconds; /* 0: everything */
    uint64_t seed;
    unsigned jobs;
    unsigned passes;     /* times every instruction is killed, with another order each time */
    unsigned recoveries; /* recovery points per scenario */
    size_t most;         /* instructions of a scenario, per pass; 0: all */
    struct point single; /* --at */
    int is_single;
};

static struct settings settings = {.passes = 1, .recoveries = 200};
static const struct scenario *all[SCENARIOS_MAX];
static unsigned all_count;
static struct job *jobs;

static uint64_t draw(struct job *job, uint64_t below) {
    uint64_t mixed = job->random += 0x9e3779b97f4a7c15ull; /* splitmix64; S. Vigna */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    return (mixed ^ mixed >> 31) % below;
}

/* ---- a job: a share of all points ---- */

/* A failed point leaves processes and a heap in any state: the job ends, and another goes on. */
static void require_point(struct stage *stage, struct job *job, const struct point *point,
                          const struct recording *recording, struct recording *record) {
    struct tally *tally = &job->tally[job->scenario];
    job->point = *point;
    (void)alarm(POINT_SECONDS_MAX * (record != NULL ? 4 : 1));
    if (point_run(stage, point, tally, recording, record) != 0) {
        stage_free(stage);
        _exit(1);
    }
    tally->points++;
    tally->recovery_points += point->links != 0;
    job->longest_wait_ns = stage->longest_wait_ns;
}

static size_t record_limit(size_t sampled) {
    return settings.seconds == 0 ? SIZE_MAX : sampled;
}

/* A recovery is recorded, then killed at some of its instructions; of one of these deaths the next
 * recovery is killed as well. */
static void run_recoveries(struct stage *stage, struct job *job, const struct recording *recording,
                           unsigned points) {
    struct recording records[LINKS_MAX];
    struct point point = {.scenario = all[job->scenario], .order = (enum order)draw(job, 2)};
    point.at = draw(job, recording->count);
    point.record_limit = record_limit(SAMPLED_RECOVERY_MAX);
    for (unsigned depth = 0; depth < LINKS_MAX; depth++) {
        struct link *link = &point.link[depth];
        point.links = depth + 1;
        link->kind = (enum recoverer)draw(job, RECOVERERS);
        link->at = SIZE_MAX;
        require_point(stage, job, &point, recording, &records[depth]);
        link->recording = &records[depth];
        for (unsigned i = 0; i < points; i++) {
            link->at = draw(job, records[depth].count);
            require_point(stage, job, &point, recording, NULL);
        }
    }
    for (unsigned depth = 0; depth < LINKS_MAX; depth++) {
        recording_free(&records[depth]);
    }
}

static void record_scenario(struct stage *stage, struct job *job, struct recording *recording) {
    struct point point = {
        .scenario = all[job->scenario], .at = SIZE_MAX, .record_limit = record_limit(SAMPLED_MAX)};
    require_point(stage, job, &point, NULL, recording);
    job->tally[job->scenario].instructions = recording->count;
}

/* How far apart the instructions are that are looked at in one pass. */
static size_t stride_of(size_t count) {
    return settings.most == 0 || count <= settings.most
               ? 1
               : (count + settings.most - 1) / settings.most;
}

/* Every job-th of them, `passes` times. */
static void run_all(struct stage *stage, struct job *job, const struct recording *recording) {
    size_t stride = stride_of(recording->count);
    size_t per_pass = recording->count / stride;
    unsigned number = (unsigned)(job - jobs);
    for (; job->next < per_pass * settings.passes; job->next++) {
        if (job->next % settings.jobs == number) {
            size_t pass = job->next / per_pass;
            struct point point = {
                .scenario = all[job->scenario],
                .at = job->next % per_pass * stride + (settings.seed + pass) % stride,
                .order = (enum order)((job->next / settings.jobs + pass) % ORDERS)};
            require_point(stage, job, &point, recording, NULL);
        }
    }
    while (job->tally[job->scenario].recovery_points < settings.recoveries / settings.jobs) {
        run_recoveries(stage, job, recording, 10);
    }
}

static void run_some(struct stage *stage, struct job *job, const struct recording *recording,
                     uint64_t until_ns) {
    uint64_t begin_ns = stage_now_ns();
    uint64_t half_ns = until_ns > begin_ns ? (until_ns - begin_ns) / 2 : 0;
    while (stage_now_ns() < until_ns) {
        struct point point = {.scenario = all[job->scenario],
                              .at = draw(job, recording->count),
                              .order = (enum order)draw(job, ORDERS)};
        require_point(stage, job, &point, recording, NULL);
        if (half_ns != 0 && stage_now_ns() > begin_ns + half_ns) {
            half_ns = 0;
            run_recoveries(stage, job, recording, 3);
        }
    }
}

/* Breakpoints are quick if victim and tracer share a processor. */
static void stay_on_processor(unsigned number) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(number % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static _Noreturn void be_job(struct job *job, uint64_t end_ns) {
    char name[32];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    stay_on_processor((unsigned)(job - jobs));
    (void)snprintf(name, sizeof(name), "steps-%u", (unsigned)(job - jobs));
    struct stage *stage = stage_make(name);
    if (stage == NULL || stage_start_newcomer(stage) != 0) {
        _exit(1);
    }
    stage->longest_wait_ns = job->longest_wait_ns;
    while (job->scenario < all_count) {
        struct recording recording;
        uint64_t now_ns = stage_now_ns();
        if (settings.seconds != 0 && job->scenario % settings.jobs != (unsigned)(job - jobs)) {
            job->scenario++; /* another job's */
            continue;
        }
        record_scenario(stage, job, &recording);
        if (settings.seconds == 0) {
            run_all(stage, job, &recording);
        } else if (now_ns < end_ns) {
            run_some(stage, job, &recording,
                     now_ns + (end_ns - now_ns) / (all_count - job->scenario));
        }
        recording_free(&recording);
        job->next = 0;
        job->scenario++;
    }
    stage_free(stage);
    job->is_done = 1;
    _exit(0);
}

/* ---- all jobs ---- */

static void start_job(struct job *job, uint64_t end_ns) {
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        be_job(job, end_ns);
    }
    job->pid = pid;
}

static struct job *find_job(pid_t pid) {
    for (unsigned i = 0; i < settings.jobs; i++) {
        if (jobs[i].pid == pid) {
            return &jobs[i];
        }
    }
    return NULL;
}

/* Returns the number of failures. */
static unsigned run_jobs(uint64_t end_ns) {
    unsigned failures = 0;
    unsigned running = settings.jobs;
    for (unsigned i = 0; i < settings.jobs; i++) {
        jobs[i].random = settings.seed + i;
        start_job(&jobs[i], end_ns);
    }
    while (running > 0) {
        int status;
        struct job *job = find_job(wait(&status));
        if (job == NULL) {
            perror("crash_steps: a job is lost");
            return failures + 1;
        }
        running--;
        if (job->is_done) {
            continue;
        }
        failures++;
        (void)printf("%s: ",
                     WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "HUNG" : "FAILED");
        point_print(stdout, &job->point);
        if (failures < FAILURES_MAX) {
            job->next++;
            job->scenario += job->point.at == SIZE_MAX; /* cannot even be recorded */
            running++;
            start_job(job, end_ns);
        }
    }
    return failures;
}

static int report(unsigned failures) {
    struct tally total = {0};
    unsigned long long longest_wait_ns = 0;
    (void)printf("%-24s %12s %10s %10s %8s\n", "scenario", "instructions", "kills", "recovery",
                 "waiters");
    for (unsigned i = 0; i < all_count; i++) {
        struct tally sum = {0};
        for (unsigned j = 0; j < settings.jobs; j++) {
            const struct tally *tally = &jobs[j].tally[i];
            sum.instructions += settings.seconds == 0 && j > 0 ? 0 : tally->instructions;
            sum.points += tally->points;
            sum.recovery_points += tally->recovery_points;
            sum.waits += tally->waits;
            sum.drifts += tally->drifts;
        }
        (void)printf("%-24s %12zu %10zu %10zu %8zu\n", all[i]->name, sum.instructions, sum.points,
                     sum.recovery_points, sum.waits);
        total.instructions += sum.instructions;
        total.points += sum.points;
        total.recovery_points += sum.recovery_points;
        total.waits += sum.waits;
        total.drifts += sum.drifts;
    }
    for (unsigned j = 0; j < settings.jobs; j++) {
        if (jobs[j].longest_wait_ns > longest_wait_ns) {
            longest_wait_ns = jobs[j].longest_wait_ns;
        }
    }
    (void)printf("%-24s %12zu %10zu %10zu %8zu\n", "all", total.instructions, total.points,
                 total.recovery_points, total.waits);
    (void)printf("%zu kills at instructions, %zu of them in recovery as well; %zu came too late; "
                 "longest wait for a dead holder's lock %.1f ms; %u failures\n",
                 total.points, total.recovery_points, total.drifts, (double)longest_wait_ns / 1e6,
                 failures);
    return failures == 0 ? 0 : 1;
}

/* ---- a single point ---- */

static int run_single(void) {
    struct stage *stage = stage_make("steps-single");
    struct point point = settings.single;
    struct point partial = point;
    struct recording recording;
    struct recording records[LINKS_MAX];
    struct tally tally = {0};
    point.scenario = partial.scenario = all[0];
    partial.links = 0;
    partial.record_limit = SIZE_MAX;
    stay_on_processor(0);
    if (stage == NULL || stage_start_newcomer(stage) != 0 ||
        point_run(stage, &partial, &tally, NULL, &recording) != 0) {
        return 1;
    }
    for (unsigned i = 0; i < point.links; i++) {
        partial.links = i + 1;
        partial.link[i] = point.link[i];
        if (point_run(stage, &partial, &tally, &recording, &records[i]) != 0) {
            return 1;
        }
        partial.link[i].recording = point.link[i].recording = &records[i];
    }
    int error = point_run(stage, &point, &tally, &recording, NULL);
    (void)printf("%s%s: ", error == 0 ? "fine" : "FAILED",
                 tally.drifts != 0 ? ", but the victim came to the end before" : "");
    point_print(stdout, &point);
    stage_free(stage);
    return error == 0 ? 0 : 1;
}

/* ---- arguments ---- */

static _Noreturn void usage(int status) {
    (void)fprintf(status == 0 ? stdout : stderr,
                  "usage: crash_steps [--scenario NAME] [--jobs N] [--passes N] [--recoveries N]\n"
                  "                   [--most N]\n"
                  "                   [--seconds S] [--seed N] [--list]\n"
                  "       crash_steps --scenario NAME --at N [--order survivor|newcomer|waiter]\n"
                  "                   [--then lock|reap|open:N]...\n");
    exit(status);
}

static unsigned find_name(const char *name, size_t bytes, const char *const *names,
                          unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (strlen(names[i]) == bytes && strncmp(names[i], name, bytes) == 0) {
            return i;
        }
    }
    (void)fprintf(stderr, "crash_steps: what is %s?\n", name);
    usage(2);
}

static void parse_link(const char *text) {
    struct point *point = &settings.single;
    size_t bytes = strcspn(text, ":");
    if (point->links == LINKS_MAX || text[bytes] != ':') {
        usage(2);
    }
    struct link *link = &point->link[point->links++];
    link->kind = (enum recoverer)find_name(text, bytes, recoverer_names, RECOVERERS);
    link->at = strtoull(text + bytes + 1, NULL, 10);
}

static void parse_option(int option) {
    switch (option) {
    case 's':
        settings.scenario = optarg;
        break;
    case 'a':
        settings.single.at = strtoull(optarg, NULL, 10);
        settings.is_single = 1;
        break;
    case 'o':
        settings.single.order = (enum order)find_name(optarg, strlen(optarg), order_names, ORDERS);
        break;
    case 't':
        parse_link(optarg);
        break;
    case 'j':
        settings.jobs = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'p':
        settings.passes = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'm':
        settings.most = strtoull(optarg, NULL, 10);
        break;
    case 'r':
        settings.recoveries = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'n':
        settings.seconds = strtol(optarg, NULL, 10);
        break;
    case 'e':
        settings.seed = strtoull(optarg, NULL, 10);
        break;
    default:
        usage(option == 'h' ? 0 : 2);
    }
}

static void add_scenarios(const struct scenario *scenarios) {
    for (; scenarios->name != NULL; scenarios++) {
        if (settings.scenario == NULL || strcmp(settings.scenario, scenarios->name) == 0) {
            all[all_count++] = scenarios;
        }
    }
}

static void list_scenarios(void) {
    for (unsigned i = 0; i < all_count; i++) {
        (void)printf("%s\n", all[i]->name);
    }
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"scenario", required_argument, NULL, 's'},
                                            {"at", required_argument, NULL, 'a'},
                                            {"order", required_argument, NULL, 'o'},
                                            {"then", required_argument, NULL, 't'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"passes", required_argument, NULL, 'p'},
                                            {"recoveries", required_argument, NULL, 'r'},
                                            {"most", required_argument, NULL, 'm'},
                                            {"seconds", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 'e'},
                                            {"list", no_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;
    int is_list = 0;
    settings.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    settings.seed = stage_now_ns() % 1000000;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'l') {
            is_list = 1;
        } else {
            parse_option(option);
        }
    }
    add_scenarios(scenarios_small);
    add_scenarios(scenarios_big);
    add_scenarios(scenarios_steps);
    add_scenarios(scenarios_life);
    add_scenarios(scenarios_debug);
    add_scenarios(scenarios_prof);
    if (all_count == 0 || optind != argc || settings.jobs == 0 || settings.jobs > JOBS_MAX ||
        (settings.is_single && all_count != 1)) {
        usage(2);
    }
    if (is_list) {
        list_scenarios();
        return 0;
    }
    if (!trace_is_allowed()) {
        (void)fprintf(stderr, "crash_steps: skipped: this system forbids ptrace()\n");
        return EXIT_SKIPPED;
    }
    if (settings.is_single) {
        return run_single();
    }
    jobs = mmap(NULL, JOBS_MAX * sizeof(*jobs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    if (jobs == MAP_FAILED) {
        perror("crash_steps");
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)printf("seed %llu, %u jobs\n", (unsigned long long)settings.seed, settings.jobs);
    return report(run_jobs(stage_now_ns() + (uint64_t)settings.seconds * 1000000000u));
}
