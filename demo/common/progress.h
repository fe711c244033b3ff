/* progress.h -- how far a long job is, on stderr: a bar on a terminal, elsewhere a line a quarter.
 */
#ifndef DEMO_COMMON_PROGRESS_H
#define DEMO_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label; /* "indexing" */
    const char *unit;  /* "files" */
    uint64_t total;
    uint64_t start_ns;
    uint64_t drawn_ns; /* when the bar was drawn last */
    unsigned quarters; /* lines printed so far, off a terminal */
    bool is_on_terminal;
};

void progress_begin(struct progress *progress, const char *label, const char *unit, uint64_t total);

/* Cheap enough for every turn of a loop: draws ten times a second. */
void progress_update(struct progress *progress, uint64_t done);

/* Draws the last state and ends the line. */
void progress_end(struct progress *progress, uint64_t done);

#endif
