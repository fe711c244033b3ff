/* team.c -- see team.h. */
#include "team.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct tally {
    double per_second;
};

/* In memory that all workers see. */
struct team {
    pthread_barrier_t barrier;
    struct tally tallies[WORKERS_MAX];
    struct worker workers[WORKERS_MAX];
    worker_body *body;
};

static struct team *team;

static struct team *team_make(unsigned count) {
    struct team *made = table_make(sizeof(*made));
    pthread_barrierattr_t attributes;
    if (pthread_barrierattr_init(&attributes) != 0 ||
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_barrier_init(&made->barrier, &attributes, count) != 0) {
        die("no barrier");
    }
    return made;
}

/* ---- what a worker calls ---- */

void worker_begin(struct worker *worker) {
    (void)pthread_barrier_wait(&team->barrier);
    worker->begin_ns = now_ns();
    worker->begin_cpu = cpu_ns();
}

bool worker_is_done(const struct worker *worker) {
    return now_ns() - worker->begin_ns >= worker->job->duration_ns;
}

/* One alone waits for nobody. */
void worker_end(struct worker *worker, uint64_t operations) {
    uint64_t ns = worker->count == 1 ? cpu_ns() - worker->begin_cpu : now_ns() - worker->begin_ns;
    worker->tally->per_second = (double)operations * 1e9 / (double)ns;
    (void)pthread_barrier_wait(&team->barrier);
}

/* ---- threads ---- */

static void *thread_main(void *arg) {
    team->body(arg);
    return NULL;
}

static void run_in_threads(const struct job *job, unsigned count, const struct needs *needs) {
    pthread_t threads[WORKERS_MAX];
    heap_open(job, needs->blocks, needs->bytes);
    for (unsigned i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, thread_main, &team->workers[i]) != 0) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    backend_close();
}

/* ---- processes ---- */

static pid_t child_start(void) {
    pid_t pid = fork();
    if (pid < 0) {
        die("fork: %s", strerror(errno));
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

/* If one fails, the others would wait for it for ever: they end with this process. */
static void children_wait(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        int status = -1;
        if (wait(&status) < 0 || status != 0) {
            die("a worker failed: status %#x", (unsigned)status);
        }
    }
}

static void run_in_processes(const struct job *job, unsigned count, const struct needs *needs) {
    for (unsigned i = 0; i < count; i++) {
        if (child_start() == 0) {
            heap_open(job, needs->blocks, needs->bytes);
            team->body(&team->workers[i]);
            backend_close();
            exit(0);
        }
    }
    children_wait(count);
}

double team_run(const struct job *job, unsigned count, const struct needs *needs, worker_body *body,
                void *shared) {
    double per_second = 0;
    if (count < 1 || count > WORKERS_MAX) {
        die("1 to %u workers, not %u", WORKERS_MAX, count);
    }
    team = team_make(count);
    team->body = body;
    for (unsigned i = 0; i < count; i++) {
        team->workers[i] = (struct worker){.index = i,
                                           .count = count,
                                           .job = job,
                                           .needs = *needs,
                                           .shared = shared,
                                           .random = RANDOM_SEED + i,
                                           .tally = &team->tallies[i]};
    }
    if (backend_sharing == SHARING_THREADS || backend_sharing == SHARING_FILE) {
        run_in_threads(job, count, needs);
    } else {
        run_in_processes(job, count, needs);
    }
    for (unsigned i = 0; i < count; i++) {
        per_second += team->tallies[i].per_second;
    }
    (void)munmap(team, sizeof(*team));
    return per_second;
}

void child_run(void (*body)(const struct job *job, void *shared), const struct job *job,
               void *shared) {
    if (child_start() == 0) {
        body(job, shared);
        exit(0);
    }
    children_wait(1);
}
