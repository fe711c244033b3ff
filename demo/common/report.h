/* report.h -- how the demos speak: errors on stderr with the program's name, and the exit statuses.
 *
 * Not here: results, which go to stdout.
 */
#ifndef DEMO_COMMON_REPORT_H
#define DEMO_COMMON_REPORT_H

enum exit_status { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* "program: text" and a newline on stderr. */
void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
