/* storm_fleet.c -- starts and kills the workers; see storm_fleet.h. */
#include "storm_fleet.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storm_work.h"

#define BE_WORKER "--be-worker"

int fleet_be_worker(int argc, char **argv) {
    if (argc != 4 || strcmp(argv[1], BE_WORKER) != 0) {
        return -1;
    }
    struct storm_control *control = storm_control_map((int)strtol(argv[2], NULL, 10));
    if (control == NULL) {
        storm_fail("the director's memory could not be mapped");
    }
    return storm_work(control, (uint32_t)strtoul(argv[3], NULL, 10), NULL);
}

static void become_program(const struct fleet *fleet, uint32_t index) {
    char fd[16];
    char number[16];
    (void)snprintf(fd, sizeof(fd), "%d", fleet->control_fd);
    (void)snprintf(number, sizeof(number), "%u", index);
    (void)execl("/proc/self/exe", "crash_worker", BE_WORKER, fd, number, (char *)NULL);
    storm_fail("exec of a worker failed: %s", strerror(errno));
}

static void forget_incarnation(struct storm_worker *worker) {
    atomic_store(&worker->working, 0);
    atomic_store(&worker->parked, 0);
    atomic_store(&worker->living, 0);
    atomic_store(&worker->leave, 0);
    for (uint32_t i = 0; i < STORM_THREADS_MAX; i++) {
        atomic_store(&worker->threads[i].began_ns, 0);
    }
}

void fleet_start(struct fleet *fleet, uint32_t index) {
    forget_incarnation(&fleet->control->workers[index]);
    (void)fflush(NULL);
    pid_t director = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        storm_fail("fork failed: %s", strerror(errno));
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != director) { /* it died before */
            _exit(1);
        }
        (void)setpriority(PRIO_PROCESS, 0,
                          5); /* so that the director, who sleeps a lot, is not late */
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        if (fleet->heap != NULL && index % 2 == 0) {
            become_program(fleet, index);
        }
        _exit(storm_work(fleet->control, index, fleet->heap));
    }
    fleet->pids[index] = pid;
    fleet->was_killed[index] = 0;
}

void fleet_start_missing(struct fleet *fleet) {
    for (uint32_t i = 0; i < fleet->control->processes; i++) {
        if (fleet->pids[i] == 0) {
            fleet_start(fleet, i);
        }
    }
}

int fleet_is_working(const struct fleet *fleet, uint32_t index) {
    return fleet->pids[index] != 0 && !fleet->was_killed[index] &&
           atomic_load(&fleet->control->workers[index].working) == fleet->control->threads;
}

int fleet_kill(struct fleet *fleet, uint32_t index) {
    if (fleet->pids[index] == 0 || fleet->was_killed[index]) {
        return 0;
    }
    fleet->was_killed[index] = 1;
    (void)kill(fleet->pids[index], SIGKILL);
    return 1;
}

/* An end that was wanted is forgotten; another one is said. */
static int judge_end(struct fleet *fleet, uint32_t index, int status) {
    int leaves = atomic_load(&fleet->control->workers[index].leave) != 0;
    pid_t pid = fleet->pids[index];
    int is_killed = fleet->was_killed[index] && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    fleet->pids[index] = 0;
    if (is_killed || (leaves && status == 0)) {
        return 0;
    }
    (void)fprintf(stderr, "FAILED: worker %u, process %d, ended by itself: %s %d\n", index,
                  (int)pid, WIFSIGNALED(status) ? "signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return 1;
}

static void print_line_of(pid_t pid, const char *task, const char *name) {
    char path[300];
    char line[200] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)pid, task, name);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(line, sizeof(line), file) != NULL) {
            line[strcspn(line, "\n")] = '\0';
            (void)fprintf(stderr, "    %s %s: %s\n", task, name, line);
        }
        (void)fclose(file);
    }
}

/* Whether its threads run, and in which system calls they are: numbers 14 and 15 of `stat` are ticks
 * of CPU time. */
static void print_tasks(pid_t pid) {
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    const struct dirent *task;
    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        if (task->d_name[0] != '.') {
            print_line_of(pid, task->d_name, "stat");
            print_line_of(pid, task->d_name, "syscall");
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
}

static int says_what_hangs(const struct fleet *fleet, uint32_t index) {
    const struct storm_worker *worker = &fleet->control->workers[index];
    for (uint32_t i = 0; i < fleet->control->threads; i++) {
        uint64_t began = atomic_load(&worker->threads[i].began_ns);
        uint64_t now = storm_now_ns();
        if (began != 0 && now > began + STORM_HANG_NS) {
            (void)fprintf(stderr, "FAILED: %s in worker %u, process %d, takes %" PRIu64 " ms\n",
                          storm_kind_name(atomic_load(&worker->threads[i].kind)), index,
                          (int)fleet->pids[index], (now - began) / 1000000);
            print_tasks(fleet->pids[index]);
            return 1;
        }
    }
    return 0;
}

int fleet_poll(struct fleet *fleet) {
    int trouble = 0;
    for (uint32_t i = 0; i < fleet->control->processes; i++) {
        int status = 0;
        pid_t pid = fleet->pids[i];
        if (pid != 0 && waitpid(pid, &status, WNOHANG) == pid) {
            trouble |= judge_end(fleet, i, status);
        } else if (pid != 0 && !fleet->was_killed[i]) {
            trouble |= says_what_hangs(fleet, i);
        }
    }
    return trouble;
}

static int is_ending(const struct fleet *fleet) {
    for (uint32_t i = 0; i < fleet->control->processes; i++) {
        if (fleet->pids[i] != 0 &&
            (fleet->was_killed[i] || atomic_load(&fleet->control->workers[i].leave))) {
            return 1;
        }
    }
    return 0;
}

int fleet_wait_for_the_dead(struct fleet *fleet) {
    uint64_t begin = storm_now_ns();
    while (is_ending(fleet)) {
        if (fleet_poll(fleet) != 0) {
            return 1;
        }
        if (storm_now_ns() - begin > 3 * STORM_HANG_NS) {
            (void)fprintf(stderr, "FAILED: not all workers come to their end\n");
            return 1;
        }
        storm_sleep_us(200);
    }
    return 0;
}

void fleet_end(struct fleet *fleet) {
    for (uint32_t i = 0; i < fleet->control->processes; i++) {
        (void)fleet_kill(fleet, i);
    }
    for (uint32_t i = 0; i < fleet->control->processes; i++) {
        while (fleet->pids[i] != 0 && waitpid(fleet->pids[i], NULL, 0) < 0 && errno == EINTR) {
        }
        fleet->pids[i] = 0;
    }
}

uint64_t fleet_steps(const struct fleet *fleet) {
    uint64_t steps = 0;
    for (uint32_t i = 0; i < fleet->control->processes * STORM_THREADS_MAX; i++) {
        steps += atomic_load(
            &fleet->control->workers[i / STORM_THREADS_MAX].threads[i % STORM_THREADS_MAX].steps);
    }
    return steps;
}
