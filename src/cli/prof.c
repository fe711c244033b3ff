/* prof.c -- `sharena prof`: who holds memory of a heap, by its sampling profile.
 *
 * Lock:   none: it attaches for reading only
 * Killed: nothing shared is changed
 * Not here: reading (prof_read.c), the formats of other tools (prof_formats.c), sampling
 *           (heap/prof.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/prof_formats.h"
#include "ipc/errors.h"

#define ROWS_FOR_PEOPLE 40
#define SITE_BYTES 200
#define NAME_IN_SITE 60

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_COLLAPSED, FORMAT_PPROF };

struct wish {
    enum format format;
    int by_site;
};

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'b', "by", "WHAT", "a row for each process (default) or for each site"},
    {'c', "collapsed", NULL, "print collapsed stacks, for flame graphs"},
    {'p', "pprof", NULL, "print a heap profile that pprof and jeprof read"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    switch (letter) {
    case 'b':
        wish->by_site = strcmp(argument, "site") == 0;
        return wish->by_site || strcmp(argument, "process") == 0
                   ? 0
                   : error_set(EINVAL, "'%s' is not process or site", argument);
    case 'c':
        wish->format = FORMAT_COLLAPSED;
        return 0;
    case 'p':
        wish->format = FORMAT_PPROF;
        return 0;
    default:
        wish->format = FORMAT_JSON;
        return 0;
    }
}

static const struct cli_syntax syntax = {
    .name = "prof",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Says who holds memory of the heap: processes, also those that are gone, or sites "
               "in their\nprograms. Estimated from the blocks that processes with prof:true in "
               "SHARENA_CONF sampled.",
    .options = options,
    .take = take,
};

/* ---- rows ---- */

struct row {
    const struct holding *first; /* one of its holdings: they are alike */
    double blocks;
    double bytes;
    uint64_t samples;
    uint64_t processes;
    uint64_t since_ns; /* of the oldest */
};

static int by_process(const void *a, const void *b) {
    return prof_compare_processes(a, b);
}

static int by_stack(const void *a, const void *b) {
    int order = prof_compare_stacks(a, b);
    return order != 0 ? order : prof_compare_processes(a, b);
}

static int by_bytes(const void *a, const void *b) {
    const struct row *left = a;
    const struct row *right = b;
    return left->bytes > right->bytes ? -1 : left->bytes < right->bytes;
}

static void add_to_row(struct row *row, const struct holding *holding,
                       const struct holding *before) {
    row->blocks += holding->blocks;
    row->bytes += holding->bytes;
    row->samples++;
    row->processes += before == NULL || prof_compare_processes(before, holding) != 0;
    if (row->since_ns == 0 || holding->sample.taken_ns < row->since_ns) {
        row->since_ns = holding->sample.taken_ns;
    }
}

/* Rows of holdings that are alike; their number. */
static size_t make_rows(struct profile *profile, int by_site, struct row *rows) {
    size_t count = 0;
    qsort(profile->holdings, profile->count, sizeof(*profile->holdings),
          by_site ? by_stack : by_process);
    for (size_t i = 0; i < profile->count; i++) {
        const struct holding *holding = &profile->holdings[i];
        const struct holding *before = i > 0 ? holding - 1 : NULL;
        int is_alike = before != NULL && (by_site ? prof_compare_stacks(before, holding)
                                                  : prof_compare_processes(before, holding)) == 0;
        if (!is_alike) {
            rows[count++].first = holding;
        }
        add_to_row(&rows[count - 1], holding, is_alike ? before : NULL);
    }
    qsort(rows, count, sizeof(*rows), by_bytes);
    return count;
}

/* ---- output ---- */

static void set_sums(json_t *object, double blocks, double bytes, uint64_t samples) {
    cli_set_count(object, "bytes", (uint64_t)(bytes + 0.5));
    cli_set_count(object, "blocks", (uint64_t)(blocks + 0.5));
    cli_set_count(object, "samples", samples);
}

/* "inner < caller < its caller", as much as there is room for. */
static void set_site(const struct profile *profile, const struct holding *holding, json_t *row) {
    char site[SITE_BYTES] = "";
    size_t used = 0;
    for (uint32_t i = holding->first; i < holding->sample.frames; i++) {
        char text[PROF_FRAME_BYTES];
        int put = snprintf(site + used, sizeof(site) - used, "%s%.*s", used == 0 ? "" : " < ",
                           NAME_IN_SITE, prof_frame_text(profile, holding->sample.frame[i], text));
        if (put < 0 || (size_t)put >= sizeof(site) - used) {
            site[used] = '\0';
            break;
        }
        used += (size_t)put;
    }
    cli_set_text(row, "site", site);
}

static void set_stack(const struct profile *profile, const struct holding *holding, json_t *row) {
    json_t *stack = json_array();
    for (uint32_t i = holding->first; i < holding->sample.frames; i++) {
        char text[PROF_FRAME_BYTES];
        uint64_t frame = holding->sample.frame[i];
        const struct known_module *module = prof_module(profile, frame);
        json_t *entry = json_object();
        cli_set_text(entry, "function", prof_frame_text(profile, frame, text));
        cli_set_text(entry, "module", module != NULL ? module->file.path : "");
        cli_set_hex(entry, "address", frame & FRAME_ADDRESS);
        (void)json_array_append_new(stack, entry);
    }
    cli_set(row, "stack", stack);
}

static json_t *describe_row(const struct profile *profile, const struct row *row, int by_site) {
    json_t *object = json_object();
    const struct sample *sample = &row->first->sample;
    set_sums(object, row->blocks, row->bytes, row->samples);
    if (!by_site) {
        cli_set_count(object, "pid", sample->pid);
        cli_set_text(object, "process", sample->name);
        cli_set_text(object, "state", row->first->is_alive ? "alive" : "gone");
    } else {
        cli_set_count(object, "processes", row->processes);
    }
    cli_set_time(object, "since", row->since_ns);
    if (by_site) {
        set_site(profile, row->first, object);
        set_stack(profile, row->first, object);
    }
    return object;
}

static int print_rows(struct profile *profile, const struct wish *wish) {
    struct row *rows = calloc(profile->count + 1, sizeof(*rows));
    if (rows == NULL) {
        return error_set(ENOMEM, "no memory for %zu samples", profile->count);
    }
    size_t count = make_rows(profile, wish->by_site, rows);
    json_t *object = json_object();
    json_t *array = json_array();
    set_sums(object, profile->blocks, profile->bytes, profile->count);
    cli_set_count(object, "dropped", profile->dropped);
    size_t shown = wish->format == FORMAT_TEXT && count > ROWS_FOR_PEOPLE ? ROWS_FOR_PEOPLE : count;
    if (shown < count) {
        cli_set_count(object, "rows_left_out", count - shown);
    }
    for (size_t i = 0; i < shown; i++) {
        (void)json_array_append_new(array, describe_row(profile, &rows[i], wish->by_site));
    }
    cli_set(object, wish->by_site ? "sites" : "holders", array);
    cli_print(object, wish->format == FORMAT_JSON);
    free(rows);
    return 0;
}

static int print_profile(struct profile *profile, const struct wish *wish) {
    switch (wish->format) {
    case FORMAT_COLLAPSED:
        prof_write_collapsed(profile);
        return 0;
    case FORMAT_PPROF:
        prof_write_pprof(profile);
        return 0;
    default:
        return print_rows(profile, wish);
    }
}

int command_prof(int argc, char **argv) {
    struct wish wish = {.format = FORMAT_TEXT};
    struct profile profile;
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap = cli_open(syntax.name, operands[0], SHARENA_READONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    int error = prof_read(heap, &profile);
    if (error == 0) {
        error = print_profile(&profile, &wish);
        prof_free(&profile);
    }
    int status = error == 0 ? CLI_FINE : cli_fail(syntax.name);
    (void)sharena_close(heap);
    return status;
}
