/* scale.c -- what must not cost more in a bigger heap.
 *
 *     scale BLOCKS    a process makes a heap of so many blocks of 16 bytes and leaves. Then: to
 *                     open it, the first block taken, to close it; a block of 64 bytes taken and
 *                     given back; to check it; to take back what a killed process held
 *
 * Only for heaps in a file. What a backend cannot do is not reported.
 */
#include "block.h"
#include "team.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_BYTES 16u
#define BLOCK_BYTES 64u
#define TURNS 5u
#define DEAD_BLOCKS 100u /* that the killed process has in its cache */

static void scale_open(const struct job *job) {
    size_t blocks = job->args[0];
    heap_open(job, blocks + 1024, (blocks + 1024) * BLOCK_BYTES);
}

static void fill(const struct job *job, void *shared) {
    (void)shared;
    scale_open(job);
    for (size_t i = 0; i < job->args[0]; i++) {
        (void)block_take(SMALL_BYTES);
    }
    backend_close();
}

static double us_per_turn(uint64_t ns) {
    return (double)ns / 1e3 / TURNS;
}

static void measure_open(const struct job *job) {
    uint64_t open_ns = 0;
    uint64_t first_ns = 0;
    uint64_t close_ns = 0;
    for (unsigned i = 0; i < TURNS; i++) {
        uint64_t begin = now_ns();
        scale_open(job);
        uint64_t opened = now_ns();
        void *block = block_take(BLOCK_BYTES);
        uint64_t taken = now_ns();
        block_give(block);
        uint64_t closing = now_ns();
        backend_close();
        close_ns += now_ns() - closing;
        open_ns += opened - begin;
        first_ns += taken - opened;
    }
    report("open", us_per_turn(open_ns), "us");
    report("first block", us_per_turn(first_ns), "us");
    report("close", us_per_turn(close_ns), "us");
}

static void measure_pair(const struct job *job) {
    uint64_t pairs = 0;
    uint64_t end = now_ns() + job->duration_ns / 4;
    uint64_t begin_cpu = cpu_ns();
    do {
        for (unsigned i = 0; i < 1000; i++) {
            block_give(block_take(BLOCK_BYTES));
        }
        pairs += 1000;
    } while (now_ns() < end);
    report("pair", (double)(cpu_ns() - begin_cpu) / (double)pairs, "ns");
}

static void measure_check(const struct job *job) {
    uint64_t checks = 0;
    uint64_t end = now_ns() + job->duration_ns;
    uint64_t begin_cpu = cpu_ns();
    do {
        enum check found = backend_check();
        if (found == CHECK_NONE) {
            return;
        }
        if (found == CHECK_DAMAGED) {
            die("the heap is damaged");
        }
        checks++;
    } while (now_ns() < end);
    double seconds = (double)(cpu_ns() - begin_cpu) / 1e9;
    report("check", (double)(job->args[0] * checks) / 1e6 / seconds, "M blocks/s");
}

/* A process with a heap of its own opening, that fills its cache and is killed. */
static void die_with_cache(const struct job *job) {
    pid_t pid = fork();
    if (pid == 0) {
        void *blocks[DEAD_BLOCKS];
        backend_close(); /* what it inherited */
        scale_open(job);
        for (unsigned i = 0; i < DEAD_BLOCKS; i++) {
            blocks[i] = block_take(BLOCK_BYTES);
        }
        for (unsigned i = 0; i < DEAD_BLOCKS; i++) {
            block_give(blocks[i]);
        }
        (void)kill(getpid(), SIGKILL);
    }
    if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
        die("no child");
    }
}

static void measure_reap(const struct job *job) {
    uint64_t reap_ns = 0;
    if (!backend_reap()) {
        return;
    }
    for (unsigned i = 0; i < TURNS; i++) {
        die_with_cache(job);
        uint64_t begin = now_ns();
        (void)backend_reap();
        reap_ns += now_ns() - begin;
    }
    report("reap of a process", us_per_turn(reap_ns), "us");
}

void run_scale(const struct job *job) {
    if (backend_sharing == SHARING_THREADS || backend_sharing == SHARING_BARE) {
        not_applicable("no heap in a file");
    }
    child_run(fill, job, NULL);
    measure_open(job);
    scale_open(job);
    measure_pair(job);
    measure_check(job);
    measure_reap(job);
    backend_close();
}
