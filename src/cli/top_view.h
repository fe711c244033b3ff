/* top_view.h -- two samples of a heap, as lines of text, as a screen, as JSON. */
#ifndef SHARENA_CLI_TOP_VIEW_H
#define SHARENA_CLI_TOP_VIEW_H

#include "cli/top_sample.h"

struct top_view {
    const char *path;
    struct top_sample *before; /* at the beginning the same as now */
    struct top_sample *now;
    enum top_order order;
    double interval; /* wished, in seconds */
};

/* ---- lines ---- */

enum top_style { TOP_PLAIN, TOP_TITLE, TOP_HEADING, TOP_WARNING };

#define TOP_LINE_BYTES 256u

struct top_line {
    enum top_style style;
    char text[TOP_LINE_BYTES]; /* printable */
};

struct top_lines {
    uint32_t count;
    uint32_t room; /* of `lines`: no more are written */
    struct top_line *lines;
};

/* All that there is to say, the most important first, in at most lines->room lines. */
void top_write_lines(const struct top_view *view, struct top_lines *lines);

/* What keys there are, and what the words mean. */
void top_write_help(struct top_lines *lines);

/* One line of JSON on stdout. */
void top_print_json(const struct top_view *view);

/* ---- screen ---- */

/* Takes the next sample into view->now, what that held becomes view->before: 0, or an errno value
 * with error_set(). */
typedef int top_next(struct top_view *view, void *arg);

/* Shows it on the terminal until somebody presses q, or `count` times (0: no end). 0; EINTR: the
 * signal *ended_by ended it; or another errno value with error_set(). The terminal is as it was. */
int top_show(struct top_view *view, top_next *next, void *arg, uint64_t count, int *ended_by)
    __attribute__((warn_unused_result));

#define TOP_INTERVAL_MIN 0.1
#define TOP_INTERVAL_MAX 3600.0

#endif
