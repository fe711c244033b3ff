/* main.c -- respd: an object store across worker processes. The parent.
 *
 *     parent   takes PATH.lock, opens the heap, repairs the dataset, listens, forks
 *       |--- worker 0   accepts, answers from the heap, keeps house        (server.c)
 *       |--- worker 1 ...
 *
 * Start:   PATH.lock (lockfile.h) is held by the parent and, since fork shares it, by every worker:
 *          so it is free only when the last process of a server is gone, and whoever holds it is
 *          alone with the dataset until it forks. A second server on the same heap is refused.
 * Death:   Of a worker: the parent has the heap take back what it held, clears its pins, and forks
 *          another in its place. Of the parent: the kernel sends its workers SIGTERM.
 * End:     SIGTERM or SIGINT to the parent: the workers end, the heap is closed, the data stays.
 *
 * Not here: connections (server.c), the dataset (store.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "lockfile.h"
#include "options.h"
#include "report.h"
#include "server.h"

#define BACKLOG 511
#define RESTART_MS 50 /* a worker that lived for less is not replaced sooner */
#define END_MS 5000   /* for the workers to end by themselves */

struct supervised {
    pid_t pid; /* 0 = there is none */
    int64_t started_ms;
};

struct parent {
    struct options options;
    struct facts facts;
    struct store store;
    int listener;
    sigset_t signals; /* blocked, and waited for */
    struct supervised workers[WORKERS_MAX];
};

static int64_t elapsed_ms(void) {
    return (int64_t)(clock_now_ns() / 1000000);
}

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report_error("%s", text);
    exit(EXIT_FAILED);
}

/* ---- start ---- */

/* The descriptor stays open for the life of the server and its workers. */
static void lock_take(const char *heap) {
    int fd;
    int error = lockfile_take_alone(heap, &fd);
    if (error == EWOULDBLOCK) {
        die("another server serves %s: it holds %s.lock", heap, heap);
    }
    if (error != 0) {
        die("cannot lock %s.lock: %s", heap, strerror(error));
    }
}

static void heap_open(struct parent *parent) {
    const struct options *options = &parent->options;
    struct sharena_options heap_options = {.flags = SHARENA_CREATE,
                                           .limit_bytes = options->limit_bytes};
    sharena_t *heap;
    if (sharena_open(options->heap, &heap_options, &heap) != 0) {
        die("cannot open %s: %s", options->heap, sharena_errormsg());
    }
    int error = store_open(&parent->store, heap);
    if (error == EUCLEAN) {
        die("the dataset in %s was made by another version of respd", options->heap);
    }
    if (error == 0) {
        store_recover(&parent->store);
        error = store_prepare_workers(&parent->store, options->workers);
    }
    if (error != 0) {
        die("cannot make the dataset in %s: %s", options->heap, sharena_errormsg());
    }
}

static int listener_make(const struct options *options) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t len;
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, options->bind, &address.v4.sin_addr) == 1) {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(options->port);
        len = sizeof address.v4;
    } else if (inet_pton(AF_INET6, options->bind, &address.v6.sin6_addr) == 1) {
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons(options->port);
        len = sizeof address.v6;
    } else {
        report_error("--bind: '%s' is not an IPv4 or IPv6 address", options->bind);
        exit(EXIT_USAGE);
    }
    int yes = 1;
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, &address.any, len) != 0 || listen(fd, BACKLOG) != 0) {
        die("cannot listen on %s port %u: %s", options->bind, (unsigned)options->port,
            strerror(errno));
    }
    return fd;
}

/* ---- workers ---- */

static void worker_main(struct parent *parent, unsigned idx, pid_t parent_pid)
    __attribute__((noreturn));

static void worker_main(struct parent *parent, unsigned idx, pid_t parent_pid) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent_pid) {
        _exit(0); /* it died before the line above */
    }
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches all; the parent decides */
    store_become_worker(&parent->store, idx);
    sigprocmask(SIG_UNBLOCK, &parent->signals, NULL);
    int status = server_run(&parent->store, &parent->facts, parent->listener);
    parent->store.worker->clients = 0;
    sharena_close(parent->store.heap);
    exit(status);
}

static void worker_start(struct parent *parent, unsigned idx) {
    fflush(NULL);
    pid_t parent_pid = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        worker_main(parent, idx, parent_pid);
    }
    if (pid < 0) {
        report_error("cannot fork worker %u: %s; trying again", idx, strerror(errno));
        pid = 0;
    }
    parent->workers[idx].pid = pid;
    parent->workers[idx].started_ms = elapsed_ms();
}

/* Collects dead workers; returns how many are alive. */
static unsigned workers_collect(struct parent *parent) {
    unsigned alive = 0;
    for (unsigned i = 0; i < parent->options.workers; i++) {
        struct supervised *worker = &parent->workers[i];
        int status;
        if (worker->pid == 0) {
            continue;
        }
        if (waitpid(worker->pid, &status, WNOHANG) != worker->pid) {
            alive++;
            continue;
        }
        if (WIFSIGNALED(status)) {
            report_error("worker %u (pid %d) was killed by signal %d", i, (int)worker->pid,
                         WTERMSIG(status));
        } else if (WEXITSTATUS(status) != 0) {
            report_error("worker %u (pid %d) ended with status %d", i, (int)worker->pid,
                         WEXITSTATUS(status));
        }
        worker->pid = 0;
        sharena_reap(parent->store.heap);
        store_forget_worker(&parent->store, i);
    }
    return alive;
}

/* Starts what is missing. Returns in how many ms to come again; -1 = nothing to wait for. */
static int workers_replace(struct parent *parent) {
    int wait_ms = -1;
    for (unsigned i = 0; i < parent->options.workers; i++) {
        const struct supervised *worker = &parent->workers[i];
        if (worker->pid != 0) {
            continue;
        }
        int64_t lived_ms = elapsed_ms() - worker->started_ms;
        if (lived_ms < RESTART_MS) {
            int left_ms = (int)(RESTART_MS - lived_ms);
            wait_ms = wait_ms < 0 || left_ms < wait_ms ? left_ms : wait_ms;
            continue;
        }
        worker_start(parent, i);
        parent->store.root->restarted++;
        wait_ms = worker->pid == 0 ? RESTART_MS : wait_ms;
    }
    return wait_ms;
}

/* Waits for one of the signals; 0 when the time was up. */
static int signal_wait(const struct parent *parent, int64_t ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int number =
        ms < 0 ? sigwaitinfo(&parent->signals, NULL) : sigtimedwait(&parent->signals, NULL, &time);
    return number < 0 ? 0 : number;
}

static void workers_supervise(struct parent *parent) {
    int number;
    do {
        workers_collect(parent);
        number = signal_wait(parent, workers_replace(parent));
    } while (number != SIGTERM && number != SIGINT);
}

static void workers_signal(const struct parent *parent, int number) {
    for (unsigned i = 0; i < parent->options.workers; i++) {
        if (parent->workers[i].pid != 0) {
            kill(parent->workers[i].pid, number);
        }
    }
}

static void workers_end(struct parent *parent) {
    int64_t end_ms = elapsed_ms() + END_MS;
    workers_signal(parent, SIGTERM);
    while (workers_collect(parent) != 0) {
        int64_t left_ms = end_ms - elapsed_ms();
        if (left_ms <= 0) {
            workers_signal(parent, SIGKILL);
            left_ms = 100;
        }
        signal_wait(parent, left_ms < 100 ? left_ms : 100);
    }
}

/* ---- */

int main(int argc, char **argv) {
    static struct parent parent;
    options_parse(argc, argv, &parent.options);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&parent.signals);
    sigaddset(&parent.signals, SIGCHLD);
    sigaddset(&parent.signals, SIGTERM);
    sigaddset(&parent.signals, SIGINT);
    sigprocmask(SIG_BLOCK, &parent.signals, NULL);

    lock_take(parent.options.heap); /* and with it the port, if a server was killed just now */
    parent.listener = listener_make(&parent.options);
    heap_open(&parent);
    parent.facts = (struct facts){
        .options = &parent.options, .started_ms = store_now_ms(), .server_pid = (uint64_t)getpid()};
    for (unsigned i = 0; i < parent.options.workers; i++) {
        worker_start(&parent, i);
    }
    uint64_t expires;
    printf("respd: serving %s (%llu keys) on %s port %u with %u workers, pid %d\n",
           parent.options.heap, (unsigned long long)store_count(&parent.store, &expires),
           parent.options.bind, (unsigned)parent.options.port, parent.options.workers,
           (int)getpid());
    fflush(stdout);

    workers_supervise(&parent);

    workers_end(&parent);
    store_recover(&parent.store);
    int error = sharena_close(parent.store.heap);
    if (error != 0) {
        die("cannot close %s: %s", parent.options.heap, sharena_errormsg());
    }
    printf("respd: ended; the data is in %s\n", parent.options.heap);
    return 0;
}
