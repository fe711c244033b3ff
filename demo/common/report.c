/* report.c -- see report.h. */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void report_error(const char *format, ...) {
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* One call, so that the lines of several processes do not mix. */
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
}
