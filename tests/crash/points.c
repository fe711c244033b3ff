/* points.c -- crash_points: every operation is killed at every place where it stores.
 *
 *     crash_points                          every fault point of every scenario and size class, once
 *     crash_points --seconds S              a random sample; --seed N repeats its choice
 *     crash_points --scenario NAME          only this one
 *     crash_points --repeat SCENARIO:CLASS:SURVIVOR:K[:K2[:K3]]     one case, as a failure prints it
 *
 * A row is a scenario with a size class and a kind of survivor. It is played by a process of its
 * own, on a heap of its own, so a row that crashes or hangs is a failure, not the end.
 */
#include "points.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SCENARIOS_MAX 80u
#define ROWS_MAX 12000u /* less than the prime of mixed() */
#define JOBS_MAX 64u
#define ROW_FAILURES_MAX 3u
#define SAMPLE 16u /* cases of a row, in a random sample */
#define BEGINNING 64u
#define CASE_PATIENCE_S 60u /* longer than that of any process in it */

struct row {
    const struct scenario *scenario;
    uint32_t index; /* of the scenario */
    uint32_t size_class;
    enum survivor survivor;
};

struct tally {
    uint64_t points; /* of one pass over all rows */
    uint64_t cases;
    uint64_t kills;
    uint64_t recovery_kills; /* of these, inside recovery */
    uint64_t failures;
    uint64_t wait_ns; /* longest that a survivor needed */
};

/* Shared with the process that plays the row. */
struct job {
    struct note note;
    struct plan plan; /* of the case that is being played */
    uint32_t row;
    uint32_t failures;
    pid_t pid;
    char path[64];
};

static struct {
    uint64_t seed;
    uint64_t seconds; /* 0: everything */
    uint32_t jobs;
    uint32_t failures_max;
    int is_count;         /* no kills: how many points there are */
    const char *scenario; /* NULL: all of them */
    const char *survivor; /* likewise */
    char *repeat;
} options = {.jobs = 2, .failures_max = 20};

static const char *const survivor_names[SURVIVORS] = {"before", "after", "cold"};
static struct row rows[ROWS_MAX];
static uint32_t row_count;
static const struct scenario *scenarios[SCENARIOS_MAX];
static uint32_t scenario_count;
static struct tally *tallies; /* one per scenario, shared */
static struct job *jobs;      /* shared */

static void *share(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("crash_points: mmap");
        exit(1);
    }
    return memory;
}

static uint64_t next_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15ull; /* splitmix64; S. Vigna */
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    return mixed ^ mixed >> 31;
}

static uint64_t now_s(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

/* ---- rows ---- */

static void add_rows(uint32_t index) {
    const struct scenario *scenario = scenarios[index];
    uint32_t step = (scenario->flags & EVERY_FOURTH) != 0 ? 4 : 1;
    for (uint32_t c = scenario->first_class; c <= scenario->last_class; c += step) {
        for (uint32_t s = 0; s < SURVIVORS && row_count < ROWS_MAX; s++) {
            int is_wanted =
                options.survivor == NULL || strcmp(options.survivor, survivor_names[s]) == 0;
            if (is_wanted && (scenario->survivors & 1u << s) != 0) {
                rows[row_count++] = (struct row){scenario, index, c, (enum survivor)s};
            }
        }
    }
}

static void add_scenarios(const struct scenario *table) {
    for (; table->name != NULL && scenario_count < SCENARIOS_MAX; table++) {
        if (options.scenario == NULL || strcmp(options.scenario, table->name) == 0) {
            scenarios[scenario_count++] = table;
            add_rows(scenario_count - 1);
        }
    }
}

/* ---- playing a row, in its own process ---- */

static void count(const struct row *row, const struct outcome *outcome, uint64_t wait_ns) {
    struct tally *tally = &tallies[row->index];
    uint32_t in_recovery = outcome->kills > 1 ? outcome->kills - 1 : 0;
    (void)__atomic_fetch_add(&tally->cases, 1, __ATOMIC_RELAXED);
    (void)__atomic_fetch_add(&tally->kills, outcome->kills, __ATOMIC_RELAXED);
    (void)__atomic_fetch_add(&tally->recovery_kills, in_recovery, __ATOMIC_RELAXED);
    if (wait_ns > tally->wait_ns) { /* two at once may lose the smaller one */
        tally->wait_ns = wait_ns;
    }
}

static void report_failure(const struct job *job, const char *how) {
    const struct row *row = &rows[job->row];
    const struct plan *plan = &job->plan;
    (void)__atomic_fetch_add(&tallies[row->index].failures, 1, __ATOMIC_RELAXED);
    (void)dprintf(STDOUT_FILENO,
                  "FAILED: %s%s\n    the last that died did so at %s:%d; again: "
                  "crash_points --repeat %s:%u:%s:%llu:%llu:%llu\n",
                  how, job->note.why, job->note.file != NULL ? job->note.file : "-", job->note.line,
                  row->scenario->name, row->size_class, survivor_names[plan->survivor],
                  (unsigned long long)plan->deaths[0], (unsigned long long)plan->deaths[1],
                  (unsigned long long)plan->deaths[2]);
}

static struct outcome play_case(struct job *job, struct stage *stage) {
    const struct row *row = &rows[job->row];
    (void)alarm(CASE_PATIENCE_S);
    stage->wait_ns = 0;
    struct outcome outcome = case_play(stage, &job->plan);
    count(row, &outcome, stage->wait_ns);
    if (outcome.is_failed) {
        report_failure(job, "");
        _exit(1);
    }
    return outcome;
}

/* Deaths of recoverers, within about as many points as recovery was seen to have. */
static void draw_recovery(struct plan *plan, uint64_t *random, uint64_t span) {
    plan->deaths[1] = 1 + next_random(random) % span;
    plan->deaths[2] = next_random(random) % 4 == 0 ? 1 + next_random(random) % span : 0;
}

struct player {
    struct job *job;
    struct stage stage;
    uint64_t random;
    uint64_t span; /* points of a recovery */
};

/* The victim dies at its k-th point; 0 if it has no such point. Now and then others die as well. */
static int play_point(struct player *player, uint64_t k) {
    struct plan *plan = &player->job->plan;
    *plan = (struct plan){rows[player->job->row].survivor, {k, 0, 0}};
    struct outcome outcome = play_case(player->job, &player->stage);
    if (outcome.kills == 0) {
        return 0;
    }
    if (next_random(&player->random) % 4 == 0) {
        draw_recovery(plan, &player->random, player->span);
        outcome = play_case(player->job, &player->stage);
        if (outcome.kills == 1 && outcome.passed[1] > 0) {
            player->span = outcome.passed[1];
        }
    }
    return 1;
}

static uint64_t count_points(struct player *player) {
    player->job->plan = (struct plan){rows[player->job->row].survivor, {0, 0, 0}};
    return play_case(player->job, &player->stage).passed[0];
}

static void begin_row(struct player *player, struct job *job) {
    const struct row *row = &rows[job->row];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGTERM, SIG_IGN); /* may come to the whole group; the first process decides */
    (void)signal(SIGINT, SIG_IGN);
    *player = (struct player){.job = job, .span = 250};
    player->random = options.seed * 1000003 + job->row;
    player->stage.scenario = row->scenario;
    player->stage.size_class = row->size_class;
    player->stage.bytes = sizeclass_bytes(row->size_class);
    player->stage.note = &job->note;
    memcpy(player->stage.path, job->path, sizeof(job->path));
    (void)unlink(job->path);
}

static void end_row(struct player *player) {
    (void)stage_close(&player->stage);
    (void)unlink(player->job->path);
    _exit(0);
}

static void play_row(struct job *job, uint64_t k, uint64_t random) {
    struct player player;
    begin_row(&player, job);
    uint64_t points = count_points(&player);
    if (options.seconds == 0) {
        if (k <= 1) {
            (void)__atomic_fetch_add(&tallies[rows[job->row].index].points, points,
                                     __ATOMIC_RELAXED);
        }
        while (!options.is_count && play_point(&player, k)) {
            k++;
        }
    } else {
        player.random = random;
        for (uint32_t i = 0; i < SAMPLE && points > 0; i++) {
            /* Long operations repeat themselves; what happens once is often at the beginning. */
            uint64_t among = i % 4 == 0 && points > BEGINNING ? BEGINNING : points;
            (void)play_point(&player, 1 + next_random(&player.random) % among);
        }
    }
    end_row(&player);
}

/* ---- jobs ---- */

static volatile sig_atomic_t is_stopped; /* by SIGINT or SIGTERM: what there is is reported */

static struct {
    uint32_t next_row;
    uint64_t end_s;
    uint64_t random;
    uint32_t failures;
} progress;

static int is_more(void) {
    return !is_stopped && progress.failures < options.failures_max &&
           (options.seconds != 0 ? now_s() < progress.end_s : progress.next_row < row_count);
}

static void start(struct job *job, uint64_t k) {
    (void)fflush(stdout);
    uint64_t random = next_random(&progress.random);
    memset(&job->note, 0, sizeof(job->note));
    pid_t pid = fork();
    if (pid == 0) {
        play_row(job, k, random);
    }
    job->pid = pid;
    if (pid < 0) {
        perror("crash_points: fork");
        exit(1);
    }
}

/* An order of the rows that is not theirs, so that a run that is stopped has seen of everything. */
static uint32_t mixed(uint32_t index) {
    static const uint64_t prime = 1000003;
    return (uint32_t)(index * prime % row_count);
}

static void start_next(struct job *job) {
    job->failures = 0;
    job->row = options.seconds != 0 ? (uint32_t)(next_random(&progress.random) % row_count)
                                    : mixed(progress.next_row++);
    start(job, 1);
}

static struct job *job_of(pid_t pid) {
    for (uint32_t i = 0; i < options.jobs; i++) {
        if (jobs[i].pid == pid) {
            return &jobs[i];
        }
    }
    return NULL;
}

/* A row that failed goes on behind the point where it did, unless it failed often. */
static void take_result(struct job *job, int status) {
    char how[64];
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1) {
        (void)snprintf(how, sizeof(how), "%s (%s): ", "the survivor ended",
                       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "strangely");
        report_failure(job, how);
    }
    (void)unlink(job->path);
    progress.failures++;
    job->failures++;
    if (options.seconds == 0 && job->failures < ROW_FAILURES_MAX && is_more() &&
        job->plan.deaths[0] != 0) {
        start(job, job->plan.deaths[0] + 1);
    }
}

static void stop(int signal_number) {
    (void)signal_number;
    is_stopped = 1;
}

/* Interrupted: the rows' processes end, and their files go. */
static void end_jobs(void) {
    for (uint32_t i = 0; i < options.jobs; i++) {
        if (jobs[i].pid != 0) {
            (void)kill(jobs[i].pid, SIGKILL);
            (void)waitpid(jobs[i].pid, NULL, 0);
        }
        (void)unlink(jobs[i].path);
    }
}

static void run_jobs(void) {
    uint32_t running;
    do {
        running = 0;
        for (uint32_t i = 0; i < options.jobs; i++) {
            if (jobs[i].pid == 0 && is_more()) {
                start_next(&jobs[i]);
            }
            running += jobs[i].pid != 0;
        }
        int status;
        pid_t pid = running != 0 ? wait(&status) : -1;
        struct job *job = pid > 0 ? job_of(pid) : NULL;
        if (job != NULL) {
            take_result(job, status);
        }
    } while (!is_stopped && (running != 0 || is_more()));
    end_jobs();
}

static void make_jobs(void) {
    jobs = share(JOBS_MAX * sizeof(*jobs));
    tallies = share(SCENARIOS_MAX * sizeof(*tallies));
    for (uint32_t i = 0; i < options.jobs; i++) {
        (void)snprintf(jobs[i].path, sizeof(jobs[i].path), "/dev/shm/sharena-points-%d-%u",
                       (int)getpid(), i);
    }
    const struct sigaction action = {.sa_handler = stop}; /* wait() is to be interrupted */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

/* ---- report ---- */

static void print_tally(const char *name, const struct tally *tally) {
    printf("%-20s %9llu %9llu %9llu %9llu %9llu %8.1f\n", name, (unsigned long long)tally->points,
           (unsigned long long)tally->cases, (unsigned long long)tally->kills,
           (unsigned long long)tally->recovery_kills, (unsigned long long)tally->failures,
           (double)tally->wait_ns / 1e6);
}

static void print_report(uint64_t seconds) {
    struct tally all = {0};
    printf("%-20s %9s %9s %9s %9s %9s %8s\n", "scenario", "points", "cases", "kills", "in recov.",
           "failures", "wait ms");
    for (uint32_t i = 0; i < scenario_count; i++) {
        const struct tally *tally = &tallies[i];
        if (tally->cases + tally->failures != 0) {
            print_tally(scenarios[i]->name, tally);
        }
        all.points += tally->points;
        all.cases += tally->cases;
        all.kills += tally->kills;
        all.recovery_kills += tally->recovery_kills;
        all.failures += tally->failures;
        all.wait_ns = tally->wait_ns > all.wait_ns ? tally->wait_ns : all.wait_ns;
    }
    print_tally("all", &all);
    printf("%llu kills (%llu inside recovery), %llu failures, longest recovery wait %.1f ms, "
           "%llu s, seed %llu\n",
           (unsigned long long)all.kills, (unsigned long long)all.recovery_kills,
           (unsigned long long)all.failures, (double)all.wait_ns / 1e6, (unsigned long long)seconds,
           (unsigned long long)options.seed);
}

/* ---- one case again ---- */

/* SCENARIO:CLASS:SURVIVOR:K[:K2[:K3]]; 0 if it names no case that there is. */
static int parse_case(char *text, uint32_t *row, uint64_t deaths[DEATHS_MAX]) {
    const char *fields[3 + DEATHS_MAX] = {NULL};
    uint32_t count = 0;
    for (char *at = text; count < 3 + DEATHS_MAX && at != NULL;) {
        fields[count++] = strsep(&at, ":");
    }
    for (uint32_t i = 3; i < count; i++) {
        deaths[i - 3] = strtoull(fields[i], NULL, 10);
    }
    for (uint32_t i = 0; i < row_count && count > 3; i++) {
        if (strcmp(rows[i].scenario->name, fields[0]) == 0 &&
            rows[i].size_class == strtoul(fields[1], NULL, 10) &&
            strcmp(survivor_names[rows[i].survivor], fields[2]) == 0) {
            *row = i;
            return 1;
        }
    }
    return 0;
}

/* A first case without a kill, as in a row: the heap has grown then. */
static int repeat(char *text) {
    uint64_t deaths[DEATHS_MAX] = {0};
    struct job *job = &jobs[0];
    struct player player;
    if (!parse_case(text, &job->row, deaths)) {
        (void)fprintf(stderr, "crash_points: there is no such case\n");
        return 2;
    }
    begin_row(&player, job);
    (void)count_points(&player);
    job->plan.survivor = rows[job->row].survivor;
    memcpy(job->plan.deaths, deaths, sizeof(deaths));
    struct outcome outcome = play_case(job, &player.stage);
    printf("%u kills, the last at %s:%d; %llu, %llu, %llu points\n", outcome.kills,
           job->note.file != NULL ? job->note.file : "-", job->note.line,
           (unsigned long long)outcome.passed[0], (unsigned long long)outcome.passed[1],
           (unsigned long long)outcome.passed[2]);
    (void)fflush(stdout);
    end_row(&player);
    return 0;
}

/* ---- options ---- */

static int usage(void) {
    (void)fprintf(stderr,
                  "usage: crash_points [--seed N] [--seconds S] [--jobs J] [--scenario NAME]\n"
                  "                    [--survivor before|after|cold] [--max-failures N]\n"
                  "                    [--count] [--list]\n"
                  "       crash_points --repeat SCENARIO:CLASS:before|after|cold:K[:K2[:K3]]\n");
    return 2;
}

static int list(void) {
    for (uint32_t i = 0; i < scenario_count; i++) {
        printf("%s: size classes %u to %u\n", scenarios[i]->name, scenarios[i]->first_class,
               scenarios[i]->last_class);
    }
    return 0;
}

static int parse(int argc, char **argv, int *is_list) {
    static const struct option known[] = {{"seed", required_argument, NULL, 's'},
                                          {"seconds", required_argument, NULL, 't'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"scenario", required_argument, NULL, 'n'},
                                          {"repeat", required_argument, NULL, 'r'},
                                          {"survivor", required_argument, NULL, 'v'},
                                          {"max-failures", required_argument, NULL, 'm'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"count", no_argument, NULL, 'c'},
                                          {NULL, 0, NULL, 0}};
    int option;
    options.seed = (uint64_t)time(NULL);
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (option) {
        case 's':
            options.seed = number;
            break;
        case 't':
            options.seconds = number;
            break;
        case 'j':
            options.jobs = number < 1 ? 1 : number > JOBS_MAX ? JOBS_MAX : (uint32_t)number;
            break;
        case 'n':
            options.scenario = optarg;
            break;
        case 'v':
            options.survivor = optarg;
            break;
        case 'r':
            options.repeat = optarg;
            break;
        case 'm':
            options.failures_max = number < 1 ? 1 : (uint32_t)number;
            break;
        case 'c':
            options.is_count = 1;
            break;
        case 'l':
            *is_list = 1;
            break;
        default:
            return -1;
        }
    }
    return optind == argc ? 0 : -1;
}

int main(int argc, char **argv) {
    int is_list = 0;
    if (parse(argc, argv, &is_list) != 0) {
        return usage();
    }
    (void)unsetenv("SHARENA_CONF");
    sizeclass_init();
    add_scenarios(alloc_scenarios);
    add_scenarios(life_scenarios);
    if (row_count == 0) {
        return usage();
    }
    make_jobs();
    if (is_list) {
        return list();
    }
    if (options.repeat != NULL) {
        return repeat(options.repeat);
    }
    uint64_t begin_s = now_s();
    progress.end_s = begin_s + options.seconds;
    progress.random = options.seed;
    printf("crash_points: seed %llu, %u rows\n", (unsigned long long)options.seed, row_count);
    run_jobs();
    print_report(now_s() - begin_s);
    return progress.failures == 0 ? 0 : 1;
}
