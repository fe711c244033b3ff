/* life.c -- threads and processes that come, allocate one block, and go.
 *
 *     threads        microseconds of a thread, from pthread_create() to pthread_join()
 *     processes      of a child that uses the heap it inherited by fork(), and of one that opens
 *                    the heap itself, while another process has it open; from fork() to waitpid()
 *     flushes SIZE   nanoseconds per block past the thread's cache: 64 blocks are taken, given
 *                    back, and flushed, again and again
 */
#include "block.h"
#include "team.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK_BYTES 64u
#define HEAP_BLOCKS 4096u
#define HEAP_BYTES ((size_t)1 << 20)

/* Calls one(job) until the time is over; reports microseconds per call. */
static void repeat(const struct job *job, void (*one)(const struct job *job), const char *name) {
    uint64_t done = 0;
    uint64_t begin = now_ns();
    uint64_t end;
    do {
        one(job);
        done++;
        end = now_ns();
    } while (end - begin < job->duration_ns);
    report(name, (double)(end - begin) / 1e3 / (double)done, "us");
}

/* ---- threads ---- */

static void *use_heap(void *arg) {
    block_give(block_take(BLOCK_BYTES));
    return arg;
}

static void one_thread(const struct job *job) {
    pthread_t thread;
    (void)job;
    if (pthread_create(&thread, NULL, use_heap, NULL) != 0 || pthread_join(thread, NULL) != 0) {
        die("no thread");
    }
}

void run_threads(const struct job *job) {
    heap_open(job, HEAP_BLOCKS, HEAP_BYTES);
    one_thread(job);
    repeat(job, one_thread, "thread");
    backend_close();
}

/* ---- processes ---- */

static void use_inherited(const struct job *job, void *shared) {
    (void)job;
    (void)use_heap(shared);
    backend_close();
}

static void use_opened(const struct job *job, void *shared) {
    heap_open(job, HEAP_BLOCKS, HEAP_BYTES);
    (void)use_heap(shared);
    backend_close();
}

static void one_inheriting(const struct job *job) {
    child_run(use_inherited, job, NULL);
}

static void one_opening(const struct job *job) {
    child_run(use_opened, job, NULL);
}

/* A process that has the heap open until it is killed; its pid. */
static pid_t keeper_start(const struct job *job) {
    int ends[2];
    char is_open;
    if (pipe(ends) != 0) {
        die("no pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        heap_open(job, HEAP_BLOCKS, HEAP_BYTES);
        (void)use_heap(NULL);
        if (write(ends[1], "1", 1) != 1) {
            _exit(1);
        }
        (void)pause();
    }
    if (pid < 0 || read(ends[0], &is_open, 1) != 1) {
        die("no keeper");
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
    return pid;
}

void run_processes(const struct job *job) {
    if (backend_sharing == SHARING_FILE) {
        not_applicable("one process at a time");
    }
    if (backend_sharing != SHARING_THREADS) {
        pid_t keeper = keeper_start(job);
        repeat(job, one_opening, "process that opens");
        (void)kill(keeper, SIGKILL);
        (void)waitpid(keeper, NULL, 0);
    }
    heap_open(job, HEAP_BLOCKS, HEAP_BYTES);
    (void)use_heap(NULL);
    repeat(job, one_inheriting, "process that inherits");
    backend_close();
}

/* ---- the cache's other side ---- */

#define FLUSH_BLOCKS 64u

struct flush_times {
    uint64_t take_ns, give_ns, flush_ns;
};

static void flush_once(size_t size, struct flush_times *times) {
    void *blocks[FLUSH_BLOCKS];
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < FLUSH_BLOCKS; i++) {
        blocks[i] = block_take(size);
    }
    uint64_t taken = now_ns();
    for (unsigned i = 0; i < FLUSH_BLOCKS; i++) {
        block_give(blocks[i]);
    }
    uint64_t given = now_ns();
    if (!backend_flush()) {
        not_applicable("no cache that could be flushed");
    }
    times->take_ns += taken - begin;
    times->give_ns += given - taken;
    times->flush_ns += now_ns() - given;
}

void run_flushes(const struct job *job) {
    size_t size = job->args[0];
    struct flush_times times = {0};
    uint64_t turns = 0;
    heap_open(job, HEAP_BLOCKS, 2 * FLUSH_BLOCKS * size);
    flush_once(size, &(struct flush_times){0});
    uint64_t begin = now_ns();
    do {
        flush_once(size, &times);
        turns += FLUSH_BLOCKS;
    } while (now_ns() - begin < job->duration_ns);
    report("take", (double)times.take_ns / (double)turns, "ns");
    report("give back", (double)times.give_ns / (double)turns, "ns");
    report("flush", (double)times.flush_ns / (double)turns, "ns");
    backend_close();
}
