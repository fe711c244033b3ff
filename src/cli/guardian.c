/* guardian.c -- a process that undoes what this one does to others, however this one ends.
 *
 * One pipe leads to it. It reads pids, which it continues when it reads CONTINUE_ALL and at the end
 * of the pipe: the kernel closes our end, whatever we die of.
 *
 * Killed: the commander at any point: what it stopped was written to the pipe before. Not covered:
 *         a kill of both. kill -CONT then does what the guardian would have done
 * Not here: who is stopped, and when (stop.c).
 */
#include "cli/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/holders.h"
#include "ipc/errors.h"

#define CONTINUE_ALL 0

static int send_pid(const struct guardian *guardian, pid_t pid) {
    ssize_t put;
    do {
        put = write(guardian->pipe, &pid, sizeof(pid));
    } while (put < 0 && errno == EINTR);
    return put == (ssize_t)sizeof(pid) ? 0 : errno;
}

/* ---- in the guardian ---- */

static void continue_all(const pid_t *pids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        (void)kill(pids[i], SIGCONT);
    }
}

static _Noreturn void guard(int pipe_end, const char *temporary) {
    pid_t pids[HOLDERS_MAX];
    uint32_t count = 0;
    pid_t pid;
    ssize_t got;
    while ((got = read(pipe_end, &pid, sizeof(pid))) == (ssize_t)sizeof(pid) ||
           (got < 0 && errno == EINTR)) {
        if (got > 0 && pid != CONTINUE_ALL && count < HOLDERS_MAX) {
            pids[count++] = pid;
        } else if (got > 0) {
            continue_all(pids, count);
            count = 0;
        }
    }
    continue_all(pids, count);
    (void)unlink(temporary);
    _exit(0);
}

/* Away from the terminal, whose Ctrl-C is not for it, from signals for all of a service, which its
 * commander gets as well, and from what waits for our descriptors. */
static _Noreturn void become_guardian(int pipe_end, const char *temporary) {
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        (void)signal(ignored[i], SIG_IGN);
    }
    (void)setsid();
    (void)dup2(pipe_end, STDIN_FILENO);
    (void)close_range(STDIN_FILENO + 1, ~0u, 0);
    guard(STDIN_FILENO, temporary);
}

/* ---- in the commander ---- */

int guardian_start(struct guardian *guardian, const char *temporary) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set(errno, "no pipe can be made: %s", strerror(errno));
    }
    guardian->pid = fork();
    if (guardian->pid == 0) {
        become_guardian(ends[0], temporary);
    }
    int error = guardian->pid < 0 ? errno : 0;
    (void)close(ends[0]);
    guardian->pipe = ends[1];
    if (error != 0) {
        (void)close(ends[1]);
        return error_set(error, "no process can be made: %s", strerror(error));
    }
    return 0;
}

int guardian_stop_process(const struct guardian *guardian, pid_t pid) {
    int error = send_pid(guardian, pid);
    return error != 0 ? error : kill(pid, SIGSTOP) == 0 ? 0 : errno;
}

void guardian_continue_all(const struct guardian *guardian) {
    (void)send_pid(guardian, CONTINUE_ALL);
}

void guardian_end(struct guardian *guardian) {
    (void)close(guardian->pipe);
    while (waitpid(guardian->pid, NULL, 0) < 0 && errno == EINTR) {
    }
}
