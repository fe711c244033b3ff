/* scratch.h -- for tests: files that go away again, children, and what an error said.
 *
 * A child's body returns 0 if all is well; REQUIRE() returns 1 from it and says where. cmocka's own
 * assertions must not be used in a child: they jump out of it into the parent's test.
 */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

/* cmocka.h wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "ipc/errors.h"

#define SCRATCH_MAX 256

/* The message of the last error holds that word. */
#define assert_says(word) assert_non_null(strstr(error_message(), (word)))

/* The call fails with that errno value and a message that holds that word. */
#define assert_refused(call, error, word)                                                          \
    do {                                                                                           \
        (void)error_set(0, "%s", "");                                                              \
        assert_int_equal((call), (error));                                                         \
        if (strstr(error_message(), (word)) == NULL) {                                             \
            fail_msg("no '%s' in the message: %s", (word), error_message());                       \
        }                                                                                          \
    } while (0)

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "%s:%d: child: not so: %s (%s; %s)\n", __FILE__, __LINE__, #x,   \
                          strerror(errno), error_message());                                       \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* A path of this process in the folder; nothing is there. */
static inline const char *scratch_path_in(char *path, const char *folder, const char *name) {
    (void)snprintf(path, SCRATCH_MAX, "%s/sharena-test-%d-%s", folder, (int)getpid(), name);
    (void)unlink(path);
    return path;
}

static inline const char *scratch_path(char *path, const char *name) {
    return scratch_path_in(path, "/dev/shm", name);
}

/* Runs body in a child, which does not outlive a test that failed; its pid. */
static inline pid_t child_start(int (*body)(void *), void *arg) {
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(body(arg));
    }
    assert_true(pid > 0);
    return pid;
}

/* Waits for the child; what waitpid() says about it. */
static inline int child_wait(pid_t pid) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* Runs body in a child, which must return 0. CHILD_SKIP: skips the test. */
#define CHILD_SKIP 77
static inline void child_run(int (*body)(void *), void *arg) {
    int status = child_wait(child_start(body, arg));
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIP) {
        skip();
    }
    assert_int_equal(status, 0);
}

#endif
