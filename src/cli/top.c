/* top.c -- `sharena top`: what happens in a heap, as it happens.
 *
 * Lock:   none: it attaches for reading only
 * Killed: nothing shared is changed
 * Not here: numbers (top_sample.c), lines (top_lines.c, top_json.c), the terminal (top_screen.c).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/shield.h"
#include "cli/top_view.h"
#include "heap/heap.h"
#include "ipc/errors.h"

#define BATCH_LINES 2048u /* all classes, all processes */

static const struct cli_option options[] = {
    {'b', "batch", NULL, "print samples as text, without a terminal"},
    {'j', "json", NULL, "print each sample as a line of JSON; implies --batch"},
    {'n', "count", "N", "end after N samples (default: never)"},
    {'d', "interval", "SECONDS", "between samples, 0.1 to 3600 (default 1)"},
    {'s', "sort", "KEY", "classes by bytes, rate, waste or size (default bytes)"},
    {0},
};

struct wish {
    int is_batch;
    int is_json;
    uint64_t count;
    double interval;
    enum top_order order;
};

static int take_interval(const char *argument, double *interval) {
    char *end;
    double value = strtod(argument, &end);
    if (end == argument || *end != '\0' || !(value >= TOP_INTERVAL_MIN) ||
        !(value <= TOP_INTERVAL_MAX)) {
        return error_set(EINVAL, "'%s' is not an interval: seconds, 0.1 to 3600", argument);
    }
    *interval = value;
    return 0;
}

static int take_order(const char *argument, enum top_order *order) {
    for (uint32_t i = 0; i < TOP_ORDERS; i++) {
        if (strcmp(argument, top_order_name((enum top_order)i)) == 0) {
            *order = (enum top_order)i;
            return 0;
        }
    }
    return error_set(EINVAL, "'%s' is not one of: bytes, rate, waste, size", argument);
}

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    switch (letter) {
    case 'b':
        wish->is_batch = 1;
        return 0;
    case 'j':
        wish->is_json = 1;
        return 0;
    case 'n':
        return cli_parse_number(argument, &wish->count);
    case 'd':
        return take_interval(argument, &wish->interval);
    case 's':
        return take_order(argument, &wish->order);
    default:
        return EINVAL;
    }
}

static const struct cli_syntax syntax = {
    .name = "top",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Shows what happens in a heap: throughput, memory by size class, processes, locks. "
               "Keys:\nq quits, h says which others there are. Locks nothing, and is no process "
               "of the heap.",
    .options = options,
    .take = take,
};

/* ---- sampling ---- */

struct sampler {
    const struct attachment *attachment;
    struct top_sample *spare;
};

static int take_spare(void *arg) {
    const struct sampler *sampler = arg;
    top_take(sampler->attachment, sampler->spare);
    return 0;
}

/* Three take turns: what was `before` is the next to be written to. The first is compared with
 * itself: nothing happened yet. */
static int next_sample(struct top_view *view, void *arg) {
    struct sampler *sampler = arg;
    int error = shield_run(take_spare, sampler);
    if (error != 0) {
        return error;
    }
    struct top_sample *oldest = view->before;
    view->before = view->now;
    view->now = sampler->spare;
    sampler->spare = oldest;
    if (view->before->at_ns == 0) {
        *view->before = *view->now;
    }
    return 0;
}

/* ---- batch ---- */

static void sleep_seconds(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static void print_text(const struct top_view *view) {
    static struct top_line room[BATCH_LINES];
    struct top_lines lines = {.room = BATCH_LINES, .lines = room};
    top_write_lines(view, &lines);
    for (uint32_t i = 0; i < lines.count; i++) {
        (void)puts(lines.lines[i].text);
    }
    (void)putchar('\n');
}

/* Each sample is printed when its interval is over, and at once. */
static int run_batch(struct top_view *view, struct sampler *sampler, const struct wish *wish) {
    int error = next_sample(view, sampler);
    for (uint64_t i = 0; error == 0 && (wish->count == 0 || i < wish->count); i++) {
        sleep_seconds(view->interval);
        error = next_sample(view, sampler);
        if (error == 0 && wish->is_json) {
            top_print_json(view);
        } else if (error == 0) {
            print_text(view);
        }
        if (error == 0 && fflush(stdout) != 0) {
            break; /* cli_finish() says so */
        }
    }
    return error;
}

/* ---- all of it ---- */

static int run(const struct attachment *attachment, const char *path, const struct wish *wish) {
    struct top_sample *samples = calloc(3, sizeof(samples[0]));
    if (samples == NULL) {
        return error_set(ENOMEM, "no memory for samples");
    }
    struct sampler sampler = {attachment, &samples[0]};
    struct top_view view = {.path = path,
                            .before = &samples[1],
                            .now = &samples[2],
                            .order = wish->order,
                            .interval = wish->interval};
    int ended_by = 0;
    int error = wish->is_batch || wish->is_json
                    ? run_batch(&view, &sampler, wish)
                    : top_show(&view, next_sample, &sampler, wish->count, &ended_by);
    free(samples);
    if (ended_by != 0) {
        (void)signal(ended_by, SIG_DFL);
        (void)raise(ended_by);
    }
    return error;
}

int command_top(int argc, char **argv) {
    struct wish wish = {.interval = 1};
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap = cli_open(syntax.name, operands[0], SHARENA_READONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    if (run(heap_attachment(heap), operands[0], &wish) != 0) {
        return cli_fail(syntax.name); /* and no close, which would look into a file that was cut */
    }
    return sharena_close(heap) == 0 ? CLI_FINE : cli_fail(syntax.name);
}
