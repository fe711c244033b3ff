/* progress.c -- see progress.h. */
#include "progress.h"

#include "clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_COLUMNS 40
#define DRAW_EVERY_NS 100000000u

static double progress_fraction(const struct progress *progress, uint64_t done) {
    return progress->total == 0 ? 1.0 : (double)done / (double)progress->total;
}

static void progress_draw(const struct progress *progress, uint64_t done) {
    char bar[BAR_COLUMNS + 1];
    double fraction = progress_fraction(progress, done);
    size_t filled = (size_t)(fraction * BAR_COLUMNS);

    memset(bar, '.', BAR_COLUMNS);
    memset(bar, '#', filled < BAR_COLUMNS ? filled : BAR_COLUMNS);
    bar[BAR_COLUMNS] = '\0';
    fprintf(stderr, "\r%s [%s] %3.0f %%  %llu/%llu %s  %.1f s ", progress->label, bar,
            fraction * 100, (unsigned long long)done, (unsigned long long)progress->total,
            progress->unit, clock_seconds_since(progress->start_ns));
}

static void progress_print_line(struct progress *progress, uint64_t done) {
    unsigned quarters = (unsigned)(progress_fraction(progress, done) * 4);

    if (quarters > progress->quarters) {
        progress->quarters = quarters;
        fprintf(stderr, "%s: %u %%, %llu of %llu %s, %.1f s\n", progress->label, quarters * 25,
                (unsigned long long)done, (unsigned long long)progress->total, progress->unit,
                clock_seconds_since(progress->start_ns));
    }
}

void progress_begin(struct progress *progress, const char *label, const char *unit,
                    uint64_t total) {
    *progress = (struct progress){.label = label, .unit = unit, .total = total};
    progress->start_ns = clock_now_ns();
    progress->is_on_terminal = isatty(STDERR_FILENO) == 1;
}

void progress_update(struct progress *progress, uint64_t done) {
    uint64_t now_ns = clock_now_ns();

    if (!progress->is_on_terminal) {
        progress_print_line(progress, done);
    } else if (now_ns - progress->drawn_ns >= DRAW_EVERY_NS) {
        progress->drawn_ns = now_ns;
        progress_draw(progress, done);
    }
}

void progress_end(struct progress *progress, uint64_t done) {
    if (progress->is_on_terminal) {
        progress_draw(progress, done);
        fputc('\n', stderr);
    } else {
        progress_print_line(progress, done);
    }
}
