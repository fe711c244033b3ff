/* misuse.c -- reports a bad pointer and stops.
 *
 * Lock:   none may be held
 * Killed: nothing shared is touched
 * Not here: how misuse is noticed (bin.c, large.c, huge.c, alloc.c).
 */
#include "heap/misuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/thread.h"

int misuse_is_inherited(const sharena_t *heap, const struct thread_slot *self) {
    return thread_find_slot(heap) != self;
}

void misuse(const sharena_t *heap, const void *ptr, const char *what) {
    char text[320];
    int length =
        snprintf(text, sizeof(text),
                 "sharena: %s: pointer %p, heap %p, process %ld, thread %ld. Nothing shared was "
                 "changed; this process stops.\n",
                 what, ptr, (const void *)heap, (long)getpid(), (long)syscall(SYS_gettid));
    if (length > 0) {
        size_t bytes = (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1;
        ssize_t written = write(STDERR_FILENO, text, bytes);
        (void)written;
    }
    abort();
}
