/* map.c -- `sharena map`: the heap as a picture.
 *
 * Lock:   none: it attaches for reading only
 * Killed: nothing shared is changed; of a file that was begun, what was written stays
 * Not here: reading (map_walk.c) and drawing (map_text.c, map_svg.c, map_html.c, map_json.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/map_draw.h"
#include "cli/shield.h"
#include "ipc/errors.h"

#define WIDTH_ELSEWHERE 80u /* where stdout is no terminal */

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'s', "svg", "OUT", "write a picture into the file OUT (- is stdout)"},
    {'H', "html", "OUT", "write a page with the picture and tables into OUT"},
    {'z', "zoom", "PAGES", "pages of a cell, a power of two (default: so that it fits)"},
    {'c', "color", "WHEN", "auto, always, never (auto: on a terminal, and no NO_COLOR)"},
    {'w', "width", "COLUMNS", "of the text (default: that of the terminal)"},
    {0},
};

struct wish {
    int is_json;
    const char *svg;
    const char *html;
    uint32_t zoom;
    uint32_t width;
    const char *color;
};

static int take_zoom(const char *argument, uint32_t *zoom) {
    uint64_t value;
    if (cli_parse_number(argument, &value) != 0 || value == 0 || value > 1u << 20 ||
        (value & (value - 1)) != 0) {
        return error_set(EINVAL, "'%s' is not a zoom: a power of two up to 1048576", argument);
    }
    *zoom = (uint32_t)value;
    return 0;
}

static int take_width(const char *argument, uint32_t *width) {
    uint64_t value;
    if (cli_parse_number(argument, &value) != 0 || value == 0 || value > 4096) {
        return error_set(EINVAL, "'%s' is not a width: columns, 1 to 4096", argument);
    }
    *width = (uint32_t)value;
    return 0;
}

static int take_color(const char *argument, const char **color) {
    if (strcmp(argument, "auto") != 0 && strcmp(argument, "always") != 0 &&
        strcmp(argument, "never") != 0) {
        return error_set(EINVAL, "'%s' is not one of: auto, always, never", argument);
    }
    *color = argument;
    return 0;
}

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    switch (letter) {
    case 'j':
        wish->is_json = 1;
        return 0;
    case 's':
        wish->svg = argument;
        return 0;
    case 'H':
        wish->html = argument;
        return 0;
    case 'z':
        return take_zoom(argument, &wish->zoom);
    case 'w':
        return take_width(argument, &wish->width);
    case 'c':
        return take_color(argument, &wish->color);
    default:
        return EINVAL;
    }
}

static const struct cli_syntax syntax = {
    .name = "map",
    .operands = "FILE",
    .operands_count = 1,
    .purpose =
        "Draws the heap: a cell for each page, or for several, with what it is and how much "
        "of it\nis used; as text, or with --svg, --html, --json. Locks nothing: what changes "
        "meanwhile\nis seen as it was or as it is.",
    .options = options,
    .take = take,
};

/* ---- the terminal ---- */

static uint32_t text_width(const struct wish *wish) {
    struct winsize size;
    if (wish->width != 0) {
        return wish->width;
    }
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col
                                                                            : WIDTH_ELSEWHERE;
}

/* What terminals say about themselves: COLORTERM, and https://no-color.org. */
static enum map_colours text_colours(const struct wish *wish) {
    const char *no_color = getenv("NO_COLOR");
    const char *deep = getenv("COLORTERM");
    int is_auto = wish->color == NULL || strcmp(wish->color, "auto") == 0;
    int is_off = wish->color != NULL && strcmp(wish->color, "never") == 0;
    if (is_off ||
        (is_auto && (!isatty(STDOUT_FILENO) || (no_color != NULL && no_color[0] != '\0')))) {
        return COLOURS_NONE;
    }
    return deep != NULL && (strcmp(deep, "truecolor") == 0 || strcmp(deep, "24bit") == 0)
               ? COLOURS_TRUE
               : COLOURS_256;
}

/* ---- output ---- */

static int fail_output(const char *path) {
    (void)error_set(errno, "%s cannot be written: %s", path, strerror(errno));
    return cli_fail(syntax.name);
}

static int write_file(const char *path, void (*print)(FILE *, const struct map_view *),
                      const struct map_view *view) {
    if (strcmp(path, "-") == 0) {
        print(stdout, view);
        return CLI_FINE;
    }
    FILE *out = fopen(path, "we");
    if (out == NULL) {
        return fail_output(path);
    }
    print(out, view);
    int is_written = !ferror(out);
    return fclose(out) == 0 && is_written ? CLI_FINE : fail_output(path);
}

static int draw(const struct wish *wish, struct map_view *view) {
    int status = CLI_FINE;
    if (wish->svg != NULL) {
        status = write_file(wish->svg, map_print_svg, view);
    }
    if (wish->html != NULL && status == CLI_FINE) {
        status = write_file(wish->html, map_print_html, view);
    }
    if (wish->is_json) {
        map_print_json(view);
    } else if (wish->svg == NULL && wish->html == NULL) {
        view->width = text_width(wish);
        view->colours = text_colours(wish);
        map_print_text(stdout, view);
    }
    return status;
}

static uint64_t realtime_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void write_time(uint64_t ns, char *text, size_t size) {
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm parts;
    text[0] = '\0';
    if (localtime_r(&seconds, &parts) != NULL) {
        (void)strftime(text, size, "%Y-%m-%d %H:%M:%S", &parts);
    }
}

struct reading {
    const sharena_t *heap;
    struct map map;
};

static int read_heap(void *arg) {
    struct reading *reading = arg;
    return map_read(reading->heap, &reading->map);
}

int command_map(int argc, char **argv) {
    struct wish wish = {0};
    struct reading reading = {0};
    char when[32];
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap = cli_open(syntax.name, operands[0], SHARENA_READONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    reading.heap = heap;
    if (shield_run(read_heap, &reading) != 0) {
        return cli_fail(syntax.name); /* and no close, which would look into a file that was cut */
    }
    struct map_view view = {.map = &reading.map,
                            .path = operands[0],
                            .read_ns = realtime_ns(),
                            .when = when,
                            .zoom = wish.zoom};
    write_time(view.read_ns, when, sizeof(when));
    int status = draw(&wish, &view);
    map_free(&reading.map);
    return sharena_close(heap) == 0 ? status : cli_fail(syntax.name);
}
