/* print.c -- one description of what was found, printed for programs or for people.
 *
 * Commands build a JSON object. For people each member is a line, "name: value", and an array of
 * objects is a table whose columns are the members of its first object.
 *
 * Not here: what there is to say (the commands).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

#define CELL_BYTES 512

/* ---- members ---- */

static _Noreturn void no_memory(const char *what) {
    (void)fprintf(stderr, "sharena: no memory to print '%s'\n", what);
    exit(CLI_FAILED);
}

void cli_set(json_t *object, const char *name, json_t *value) {
    if (value == NULL || json_object_set_new(object, name, value) != 0) {
        no_memory(name);
    }
}

void cli_set_count(json_t *object, const char *name, uint64_t value) {
    cli_set(object, name, json_integer((json_int_t)value));
}

/* Names of processes, files and roots are bytes; what is no UTF-8 is shown as '?'. */
static json_t *make_text(const char *text) {
    json_t *value = json_string(text);
    if (value == NULL) {
        char *plain = strdup(text);
        for (char *at = plain; at != NULL && *at != '\0'; at++) {
            *at = (char)(((unsigned char)*at & 0x80u) != 0 ? '?' : *at);
        }
        value = plain != NULL ? json_string(plain) : NULL;
        free(plain);
    }
    return value;
}

void cli_set_text(json_t *object, const char *name, const char *text) {
    cli_set(object, name, make_text(text));
}

void cli_append_text(json_t *array, const char *text) {
    if (json_array_append_new(array, make_text(text)) != 0) {
        no_memory(text);
    }
}

void cli_set_bool(json_t *object, const char *name, int value) {
    cli_set(object, name, json_boolean(value));
}

void cli_set_hex(json_t *object, const char *name, uint64_t value) {
    cli_set(object, name, json_sprintf("0x%" PRIx64, value));
}

void cli_set_time(json_t *object, const char *name, uint64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000u);
    char text[32] = "";
    struct tm parts;
    if (gmtime_r(&seconds, &parts) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    cli_set_text(object, name, text);
}

/* ---- for people ---- */

const char *cli_size_text(uint64_t bytes, char *text) {
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    size_t unit = 0;
    if (bytes < 1024) {
        (void)snprintf(text, CLI_SIZE_BYTES, "%" PRIu64 " B", bytes);
        return text;
    }
    for (value /= 1024; value >= 1023.95 && unit < sizeof(units) - 2; unit++) {
        value /= 1024;
    }
    (void)snprintf(text, CLI_SIZE_BYTES, "%.1f %ciB", value, units[unit]);
    return text;
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name);
    size_t wanted = strlen(end);
    return length >= wanted && strcmp(name + length - wanted, end) == 0;
}

/* Text of the file that is shown on a terminal must not steer it. */
static void copy_printable(const char *from, char *cell) {
    size_t i = 0;
    for (; i < CELL_BYTES - 1 && from[i] != '\0'; i++) {
        unsigned char byte = (unsigned char)from[i];
        cell[i] = (char)(byte < 0x20 || byte == 0x7f ? '?' : byte);
    }
    cell[i] = '\0';
}

/* One value as people read it. */
static void write_cell(const char *name, const json_t *value, char *cell) {
    if (json_is_string(value)) {
        copy_printable(json_string_value(value), cell);
    } else if (json_is_boolean(value)) {
        (void)snprintf(cell, CELL_BYTES, "%s", json_is_true(value) ? "yes" : "no");
    } else if (json_is_integer(value) && ends_with(name, "bytes")) {
        (void)cli_size_text((uint64_t)json_integer_value(value), cell);
    } else if (json_is_integer(value)) {
        (void)snprintf(cell, CELL_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        cell[0] = '\0';
    }
}

/* "limit_bytes" is "limit" for people: the value says its unit. */
static void write_label(const char *name, char *label) {
    int length = (int)strlen(name) - (ends_with(name, "_bytes") ? 6 : 0);
    (void)snprintf(label, CELL_BYTES, "%.*s", length, name);
    for (char *at = label; *at != '\0'; at++) {
        *at = (char)(*at == '_' ? ' ' : *at);
    }
}

/* Arrays in the row of a table are for programs. */
static int is_for_people(const json_t *value) {
    return !json_is_array(value) && !json_is_object(value);
}

/* ---- tables ---- */

static size_t column_width(const json_t *rows, const char *name) {
    char cell[CELL_BYTES];
    size_t index;
    json_t *row;
    write_label(name, cell);
    size_t width = strlen(cell);
    json_array_foreach(rows, index, row) {
        write_cell(name, json_object_get(row, name), cell);
        width = strlen(cell) > width ? strlen(cell) : width;
    }
    return width;
}

/* The row, or the heading where row is NULL: columns as in `first`; numbers to the right. */
static void print_row(const json_t *rows, json_t *first, const json_t *row) {
    char line[4096] = "";
    size_t used = 0;
    const char *name;
    json_t *model;
    json_object_foreach(first, name, model) {
        char cell[CELL_BYTES];
        if (!is_for_people(model)) {
            continue;
        }
        if (row != NULL) {
            write_cell(name, json_object_get(row, name), cell);
        } else {
            write_label(name, cell);
        }
        int width = (int)column_width(rows, name);
        int put = snprintf(line + used, sizeof(line) - used, "%s%*s", used > 0 ? "  " : "",
                           json_is_integer(model) ? width : -width, cell);
        used += put > 0 ? (size_t)put : 0;
        used = used < sizeof(line) ? used : sizeof(line) - 1;
    }
    while (used > 0 && line[used - 1] == ' ') {
        line[--used] = '\0';
    }
    (void)puts(line);
}

static void print_table(json_t *rows) {
    json_t *first = json_array_get(rows, 0);
    size_t index;
    json_t *row;
    print_row(rows, first, NULL);
    json_array_foreach(rows, index, row) {
        print_row(rows, first, row);
    }
}

static void print_lines(const json_t *lines) {
    char cell[CELL_BYTES];
    size_t index;
    json_t *line;
    json_array_foreach(lines, index, line) {
        write_cell("", line, cell);
        (void)puts(cell);
    }
}

static void print_text(json_t *object) {
    char label[CELL_BYTES];
    char cell[CELL_BYTES];
    const char *name;
    json_t *value;
    size_t width = 0;
    json_object_foreach(object, name, value) {
        write_label(name, label);
        width = is_for_people(value) && strlen(label) > width ? strlen(label) : width;
    }
    json_object_foreach(object, name, value) {
        if (is_for_people(value)) {
            write_label(name, label);
            write_cell(name, value, cell);
            (void)printf("%s:%*s %s\n", label, (int)(width - strlen(label)), "", cell);
        } else if (json_is_object(json_array_get(value, 0))) {
            print_table(value);
        } else {
            print_lines(value);
        }
    }
}

void cli_print(json_t *object, int is_json) {
    if (is_json) {
        (void)json_dumpf(object, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else {
        print_text(object);
    }
    json_decref(object);
}
