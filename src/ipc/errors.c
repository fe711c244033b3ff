/* errors.c -- this thread's last error, as a sentence.
 *
 * Holds:  the buffer is always a terminated string.
 * Lock:   none; thread-local.
 * Killed: nothing shared is touched.
 * Not here: when to fail, and with what (the callers).
 */
#include "ipc/errors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/check.h"

#define MESSAGE_BYTES 512

static _Thread_local char message[MESSAGE_BYTES];

int(error_set)(int error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return error;
}

void *(error_null)(int error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    errno = error;
    return NULL;
}

const char *error_message(void) {
    return message;
}

static void write_text(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

void check_failed(const char *file, int line, const char *what) {
    char digits[12];
    char *digit = digits + sizeof(digits) - 1;
    *digit = '\0';
    for (int rest = line; rest > 0; rest /= 10) {
        *--digit = (char)('0' + rest % 10);
    }
    write_text("sharena: broken invariant: ");
    write_text(what);
    write_text(" (");
    write_text(file);
    write_text(":");
    write_text(digit);
    write_text("). The heap may be damaged: run sharena_check() from a process that still can.\n");
    abort();
}
