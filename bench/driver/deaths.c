/* deaths.c -- every process that uses a heap is killed; then one comes and wants to go on.
 *
 *     deaths BLOCKS TRIALS    two processes (one, where a heap can have no more) that replace
 *                             random ones of BLOCKS live blocks each are killed at some moment.
 *                             How often the heap can be used afterwards, in percent; if so,
 *                             milliseconds to open it, and to take the first block
 *
 * A heap that gives no block within WAIT_S seconds is one that cannot be used.
 */
#include "block.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 1u
#define BLOCK_BYTES_MAX 1024u
#define KILL_AFTER_NS_MIN 1000000u
#define KILL_AFTER_NS_MAX 5000000u

struct trial {
    unsigned ready; /* victims */
    bool is_usable;
    uint64_t open_ns;
    uint64_t first_ns;
};

static void deaths_open(const struct job *job) {
    size_t blocks = 4 * job->args[0];
    heap_open(job, blocks, blocks * BLOCK_BYTES_MAX);
}

static void victim(const struct job *job, struct trial *trial, uint64_t random) {
    size_t live = job->args[0];
    void **blocks = table_make(live * sizeof(*blocks));
    deaths_open(job);
    for (size_t i = 0; i < live; i++) {
        blocks[i] = block_take(1 + random_below(&random, BLOCK_BYTES_MAX));
    }
    (void)__atomic_add_fetch(&trial->ready, 1, __ATOMIC_RELEASE);
    for (;;) {
        void **block = &blocks[random_below(&random, live)];
        block_give(*block);
        *block = block_take(1 + random_below(&random, BLOCK_BYTES_MAX));
    }
}

static void survivor(const struct job *job, struct trial *trial) {
    (void)alarm(WAIT_S);
    uint64_t begin = now_ns();
    deaths_open(job);
    uint64_t opened = now_ns();
    void *block = block_take(64);
    trial->first_ns = now_ns() - opened;
    trial->open_ns = opened - begin;
    block_give(block);
    trial->is_usable = true;
    (void)alarm(0);
    backend_close();
}

static pid_t start(void) {
    pid_t pid = fork();
    if (pid < 0) {
        die("no child");
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

static void wait_ns(uint64_t ns) {
    (void)nanosleep(&(struct timespec){0, (long)ns}, NULL);
}

static void kill_victims(const struct job *job, struct trial *trial, uint64_t *random) {
    pid_t pids[2];
    unsigned count = backend_sharing == SHARING_FILE ? 1 : 2;
    for (unsigned i = 0; i < count; i++) {
        uint64_t seed = next_random(random);
        pids[i] = start();
        if (pids[i] == 0) {
            victim(job, trial, seed);
        }
    }
    while (__atomic_load_n(&trial->ready, __ATOMIC_ACQUIRE) < count) {
        wait_ns(100000);
        if (waitpid(-1, NULL, WNOHANG) > 0) {
            die("a victim died too early");
        }
    }
    wait_ns(KILL_AFTER_NS_MIN + random_below(random, KILL_AFTER_NS_MAX - KILL_AFTER_NS_MIN));
    for (unsigned i = 0; i < count; i++) {
        (void)kill(pids[i], SIGKILL);
    }
    for (unsigned i = 0; i < count; i++) {
        (void)waitpid(pids[i], NULL, 0);
    }
}

/* Its complaints, where the heap is of no use, are the result and no news. */
static void try_heap(const struct job *job, struct trial *trial) {
    pid_t pid = start();
    if (pid == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nowhere, STDERR_FILENO);
        survivor(job, trial);
        exit(0);
    }
    (void)waitpid(pid, NULL, 0);
}

void run_deaths(const struct job *job) {
    uint64_t random = now_ns() | 1;
    uint64_t trials = job->args[1];
    unsigned usable = 0;
    uint64_t open_ns = 0;
    uint64_t first_ns = 0;
    if (backend_sharing == SHARING_THREADS || backend_sharing == SHARING_BARE) {
        not_applicable("no heap in a file");
    }
    struct trial *trial = table_make(sizeof(*trial));
    for (uint64_t i = 0; i < trials; i++) {
        *trial = (struct trial){0};
        kill_victims(job, trial, &random);
        try_heap(job, trial);
        (void)unlink(job->path);
        if (trial->is_usable) {
            usable++;
            open_ns += trial->open_ns;
            first_ns += trial->first_ns;
        }
    }
    report("usable", 100.0 * usable / (double)trials, "%");
    if (usable > 0) {
        report("open", (double)open_ns / 1e6 / usable, "ms");
        report("first block", (double)first_ns / 1e6 / usable, "ms");
    }
}
