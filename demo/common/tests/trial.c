/* trial.c -- see trial.h. */
#include "trial.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../args.h"
#include "../child.h"
#include "../report.h"

#define OPEN_DIRS 16

_Noreturn void trial_failed(const char *condition, const char *file, int line) {
    report_error("%s:%d: does not hold: %s", file, line, condition);
    _exit(EXIT_FAILED);
}

uint64_t trial_random(void) {
    static uint64_t state;
    static pid_t owner; /* a child goes on with a series of its own */

    if (owner != getpid()) {
        owner = getpid();
        REQUIRE(getrandom(&state, sizeof state, 0) == (ssize_t)sizeof state);
        state |= 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t trial_below(uint64_t limit) {
    return (trial_random() >> 8) % limit;
}

void trial_kill(pid_t pid) {
    int status;

    REQUIRE(kill(pid, SIGKILL) == 0);
    REQUIRE(waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* nothing else ended it */
}

/* The parent that /proc/PID/status names; 0 where there is none. */
static pid_t parent_of(const char *pid) {
    char path[64];
    char line[128];
    int parent = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "PPid:", 5) == 0) {
            parent = (int)strtol(line + 5, NULL, 10);
            break;
        }
    }
    fclose(file);
    return parent;
}

unsigned trial_children(pid_t parent, pid_t *pids, unsigned max) {
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    unsigned count = 0;

    REQUIRE(proc != NULL);
    while (count < max && (entry = readdir(proc)) != NULL) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            parent_of(entry->d_name) == parent) {
            pids[count++] = (pid_t)strtol(entry->d_name, NULL, 10);
        }
    }
    closedir(proc);
    return count;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

int trial_main(int argc, char **argv, double seconds,
               void (*body)(const char *dir, double seconds)) {
    const char *base = getenv("TMPDIR");
    char dir[PATH_MAX];
    int status = 0;
    pid_t pid;

    if (argc > 2 || (argc == 2 && args_parse_seconds("SECONDS", argv[1], 86400, &seconds) != 0)) {
        fprintf(stderr, "usage: %s [SECONDS]\n", program_invocation_short_name);
        return EXIT_USAGE;
    }
    snprintf(dir, sizeof dir, "%s/sharena-trial.XXXXXX", base == NULL ? "/dev/shm" : base);
    REQUIRE(mkdtemp(dir) != NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(dir, seconds);
        exit(EXIT_FINE);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    nftw(dir, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS);
    return child_end_of(status, "the trial", 0) == CHILD_FINE ? EXIT_FINE : EXIT_FAILED;
}
