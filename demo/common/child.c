/* child.c -- see child.h. */
#include "child.h"

#include "report.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t child_start(int (*work)(void *arg, unsigned idx), void *arg, unsigned idx) {
    pid_t parent = getpid();
    pid_t child;
    int status;

    fflush(NULL); /* or the child would print the parent's buffer again */
    child = fork();
    if (child != 0) {
        return child;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_FAILED); /* it died before the line above */
    }
    status = work(arg, idx);
    fflush(NULL);
    _exit(status);
}

enum child_end child_end_of(int status, const char *role, unsigned idx) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FINE) {
        return CHILD_FINE;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        return CHILD_KILLED;
    }
    if (WIFSIGNALED(status)) {
        report_error("%s %u died: %s", role, idx, strsignal(WTERMSIG(status)));
    } else {
        report_error("%s %u failed with exit status %d", role, idx, WEXITSTATUS(status));
    }
    return CHILD_FAILED;
}
