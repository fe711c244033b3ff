/* top_screen.c -- the live view, on a terminal.
 *
 * However it ends, by a key, an error or a signal that asks it to, the terminal is as it was:
 * signals are only noted, and the loop leaves by its end.
 *
 * Lock:   none
 * Killed: by SIGKILL the terminal stays as it is; `reset` mends it
 * Not here: what the lines say (top_lines.c).
 */
#include <curses.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/top_view.h"
#include "ipc/errors.h"

#define ROWS_MAX 512u

static volatile sig_atomic_t ended; /* by that signal */

static void note_end(int signal_number) {
    ended = signal_number;
}

/* ---- the terminal ---- */

static int open_screen(SCREEN **screen) {
    const char *name = getenv("TERM");
    if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
        return error_set(ENOTTY, "stdin or stdout is no terminal; --batch prints samples as text");
    }
    *screen = newterm(NULL, stdout, stdin);
    if (*screen == NULL) {
        return error_set(ENOTTY,
                         "the terminal '%.40s' (TERM) is not known; --batch prints samples as text",
                         name != NULL ? name : "");
    }
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = note_end}; /* no SA_RESTART: they end a wait */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        (void)sigaction(signals[i], &action, NULL);
    }
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, TRUE);
    (void)curs_set(0);
    if (has_colors()) {
        (void)start_color();
        (void)use_default_colors();
        (void)init_pair(1, COLOR_RED, -1);
    }
    return 0;
}

static void close_screen(SCREEN *screen) {
    (void)endwin();
    delscreen(screen);
}

static int attribute_of(enum top_style style) {
    switch (style) {
    case TOP_TITLE:
        return (int)A_BOLD;
    case TOP_HEADING:
        return (int)A_REVERSE;
    case TOP_WARNING:
        return (int)A_BOLD | (has_colors() ? COLOR_PAIR(1) : 0);
    default:
        return (int)A_NORMAL;
    }
}

/* A line that is longer than the terminal is cut; a heading is as wide as the terminal. */
static void draw(const struct top_lines *lines) {
    (void)erase();
    for (uint32_t i = 0; i < lines->count; i++) {
        int attribute = attribute_of(lines->lines[i].style);
        (void)attrset(attribute);
        if (lines->lines[i].style == TOP_HEADING) {
            (void)mvhline((int)i, 0, ' ' | A_REVERSE, COLS);
        }
        (void)mvaddnstr((int)i, 0, lines->lines[i].text, COLS);
    }
    (void)attrset((int)A_NORMAL);
    (void)refresh();
}

static void show(const struct top_view *view, int is_help) {
    static struct top_line room[ROWS_MAX];
    struct top_lines lines = {.lines = room};
    lines.room = LINES > 0 && (uint32_t)LINES < ROWS_MAX ? (uint32_t)LINES : ROWS_MAX;
    if (is_help) {
        top_write_help(&lines);
    } else {
        top_write_lines(view, &lines);
    }
    draw(&lines);
}

/* ---- keys ---- */

enum deed { DEED_SHOW, DEED_SAMPLE, DEED_QUIT };

static double stretch(double interval, double factor) {
    interval *= factor;
    return interval < TOP_INTERVAL_MIN   ? TOP_INTERVAL_MIN
           : interval > TOP_INTERVAL_MAX ? TOP_INTERVAL_MAX
                                         : interval;
}

static enum deed obey(int key, struct top_view *view, int *is_help) {
    switch (key) {
    case 'q':
    case 'Q':
        return DEED_QUIT;
    case 's':
        view->order = (enum top_order)((view->order + 1) % TOP_ORDERS);
        return DEED_SHOW;
    case '+':
        view->interval = stretch(view->interval, 2);
        return DEED_SHOW;
    case '-':
        view->interval = stretch(view->interval, 0.5);
        return DEED_SHOW;
    case 'h':
    case '?':
        *is_help = !*is_help;
        return DEED_SHOW;
    case KEY_RESIZE:
        return DEED_SHOW;
    default: /* ERR: the time is over */
        return DEED_SAMPLE;
    }
}

/* Milliseconds of the interval that have not passed since the last sample. */
static int left_ms(const struct top_view *view) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    double passed =
        ((double)now.tv_sec * 1e9 + (double)now.tv_nsec - (double)view->now->at_ns) / 1e6;
    double left = view->interval * 1e3 - passed;
    return left > 1 ? (int)left : 1;
}

static int loop(struct top_view *view, top_next *next, void *arg, uint64_t count) {
    int is_help = 0;
    uint64_t samples = 0;
    enum deed deed = DEED_SAMPLE;
    while (deed != DEED_QUIT && ended == 0 && (count == 0 || samples < count)) {
        if (deed == DEED_SAMPLE) {
            int error = next(view, arg);
            if (error != 0) {
                return error;
            }
            samples++;
        }
        show(view, is_help);
        timeout(left_ms(view));
        deed = obey(getch(), view, &is_help);
    }
    return ended == 0 ? 0 : EINTR;
}

int top_show(struct top_view *view, top_next *next, void *arg, uint64_t count, int *ended_by) {
    SCREEN *screen;
    int error = open_screen(&screen);
    if (error != 0) {
        return error;
    }
    error = loop(view, next, arg, count);
    close_screen(screen);
    *ended_by = (int)ended;
    return error;
}
