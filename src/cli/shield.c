/* shield.c -- looking into a file that others may damage meanwhile.
 *
 * A heap is mapped, so what is wrong with its file comes as SIGBUS.
 *
 * Lock:   none: the caller attached for reading only
 * Killed: nothing shared is changed
 */
#include "cli/shield.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>

#include "ipc/errors.h"

static sigjmp_buf way_out;

static void leave(int signal_number) {
    (void)signal_number;
    siglongjmp(way_out, 1); /* NOLINT(cert-err52-cpp): out of a load, which holds nothing */
}

int shield_run(int (*body)(void *arg), void *arg) {
    struct sigaction before;
    struct sigaction action = {.sa_handler = leave};
    volatile int error = EIO;
    (void)sigaction(SIGBUS, &action, &before);
    if (sigsetjmp(way_out, 1) == 0) { /* NOLINT(cert-err52-cpp) */
        error = body(arg);
    } else {
        error = error_set(EIO, "the file of the heap lacks pages that the heap has: it was cut, or "
                               "its file system is full");
    }
    (void)sigaction(SIGBUS, &before, NULL);
    return error;
}
