/* top_lines.c -- two samples of a heap as lines of text, for the screen and for logs.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: the terminal (top_screen.c), the numbers (top_sample.c).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/top_view.h"

#define BAR_COLUMNS 64u
#define NUMBER_BYTES 24
#define PROCESS_ROWS_MIN 4u
#define TABLES_ROWS_MIN 10u /* below, empty lines and processes have no place */

/* ---- pieces ---- */

static void add_line(struct top_lines *lines, enum top_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a file is called must not steer the terminal. */
static void add_line(struct top_lines *lines, enum top_style style, const char *format, ...) {
    if (lines->count == lines->room) {
        return;
    }
    struct top_line *line = &lines->lines[lines->count++];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line->text, sizeof(line->text), format, args);
    va_end(args);
    line->style = style;
    for (char *at = line->text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        *at = (char)(byte < ' ' || byte >= 0x7f ? '?' : byte);
    }
}

/* "0", "3.2", "512", "12.5k", "3.0M" */
static const char *rate_text(double rate, char *text) {
    static const char units[] = " kMGT";
    uint32_t unit = 0;
    while (rate >= 9999.5 && unit < sizeof(units) - 2) {
        rate /= 1000;
        unit++;
    }
    int digits = rate == 0 || (unit == 0 && rate >= 99.95) ? 0 : 1;
    (void)snprintf(text, NUMBER_BYTES, "%.*f%.*s", digits, rate, unit != 0, units + unit);
    return text;
}

static const char *bytes_rate_text(double rate, char *text) {
    return cli_size_text((uint64_t)(rate + 0.5), text);
}

static double percent(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

/* ---- the head ---- */

static void add_title(struct top_lines *lines, const struct top_view *view,
                      const struct top_rates *rates) {
    char when[16] = "";
    struct tm parts;
    time_t now = time(NULL);
    if (localtime_r(&now, &parts) != NULL) {
        (void)strftime(when, sizeof(when), "%H:%M:%S", &parts);
    }
    add_line(lines, TOP_TITLE, "sharena top  %s  %.1f s  by %s  %s", when, rates->seconds,
             top_order_name(view->order), view->path);
    if (view->now->is_gone) {
        add_line(lines, TOP_WARNING,
                 "The file was removed or replaced: this is what still runs "
                 "in the old one.");
    }
}

/* Parts of what is resident, a letter for each. */
static void add_bar(struct top_lines *lines, const struct top_sample *now) {
    uint64_t blocks = now->allocated_bytes + now->cached_bytes;
    uint64_t within = now->active_bytes > blocks ? now->active_bytes - blocks : 0;
    const struct {
        char letter;
        uint64_t bytes;
    } parts[] = {{'#', now->allocated_bytes},
                 {'$', now->cached_bytes},
                 {'-', within},
                 {'+', now->dirty_bytes},
                 {'M', now->metadata_bytes}};
    char bar[BAR_COLUMNS + 1];
    uint64_t sum = 0;
    uint32_t used = 0;
    memset(bar, ' ', BAR_COLUMNS);
    bar[BAR_COLUMNS] = '\0';
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && now->resident_bytes != 0; i++) {
        sum += parts[i].bytes;
        double end = (double)sum / (double)now->resident_bytes * BAR_COLUMNS + 0.5;
        while (used < BAR_COLUMNS && used + 1 <= (uint32_t)end) {
            bar[used++] = parts[i].letter;
        }
    }
    add_line(lines, TOP_PLAIN, "[%s]", bar);
}

static void add_memory(struct top_lines *lines, const struct top_sample *now) {
    char a[CLI_SIZE_BYTES];
    char b[CLI_SIZE_BYTES];
    char c[CLI_SIZE_BYTES];
    char d[CLI_SIZE_BYTES];
    char limit[CLI_SIZE_BYTES + 32] = "no limit";
    if (now->limit_bytes != 0) {
        (void)snprintf(limit, sizeof(limit), "%.1f %% of the limit of %s",
                       percent(now->resident_bytes, now->limit_bytes),
                       cli_size_text(now->limit_bytes, a));
    }
    add_line(lines, TOP_PLAIN, "resident %s (%s)  allocated# %s  cached$ %s",
             cli_size_text(now->resident_bytes, a), limit, cli_size_text(now->allocated_bytes, b),
             cli_size_text(now->cached_bytes, c));
    uint64_t blocks = now->allocated_bytes + now->cached_bytes;
    uint64_t within = now->active_bytes > blocks ? now->active_bytes - blocks : 0;
    add_line(lines, TOP_PLAIN, "within runs- %s  dirty+ %s  clean %s  metadata %s",
             cli_size_text(within, a), cli_size_text(now->dirty_bytes, b),
             cli_size_text(now->clean_bytes, c), cli_size_text(now->metadata_bytes, d));
    add_bar(lines, now);
    add_line(lines, TOP_PLAIN,
             "fragmentation: allocated is %.1f %% of resident, %.1f %% of active; small runs "
             "%.1f %% used",
             percent(now->allocated_bytes, now->resident_bytes),
             percent(now->allocated_bytes, now->active_bytes),
             percent(now->small_bytes, now->small_held_bytes));
}

static void add_activity(struct top_lines *lines, const struct top_sample *now,
                         const struct top_rates *rates) {
    char a[NUMBER_BYTES];
    char b[NUMBER_BYTES];
    char c[NUMBER_BYTES];
    char d[NUMBER_BYTES];
    char e[CLI_SIZE_BYTES];
    char f[CLI_SIZE_BYTES];
    char g[CLI_SIZE_BYTES];
    add_line(lines, TOP_PLAIN, "arenas gave %s blocks/s (%s/s), got back %s (%s/s), purged %s/s",
             rate_text(rates->taken, a), bytes_rate_text(rates->taken_bytes, e),
             rate_text(rates->given, b), bytes_rate_text(rates->given_bytes, f),
             bytes_rate_text(rates->purged_bytes, g));
    add_line(lines, TOP_PLAIN,
             "locks %s/s, contended %s/s (bins %s, arenas %s, pool %s, names %.1f)",
             rate_text(rates->acquired, a), rate_text(rates->contended, b),
             rate_text(rates->contended_bins, c), rate_text(rates->contended_arenas, d),
             rate_text(rates->contended_pool, e), rates->contended_names);
    add_line(lines, TOP_PLAIN,
             "arenas %" PRIu64 ", chunks %" PRIu64 " used, %" PRIu64
             " free; recovered sections %" PRIu64 ", reaped threads %" PRIu64
             ", processes %" PRIu64,
             now->arenas, now->used_chunks, now->free_chunks, now->recovered, now->reaped_threads,
             now->reaped_processes);
}

/* ---- tables ---- */

static void add_class(struct top_lines *lines, const struct top_class_row *row) {
    char size[CLI_SIZE_BYTES];
    char bytes[CLI_SIZE_BYTES];
    char held[CLI_SIZE_BYTES];
    char taken[NUMBER_BYTES];
    char given[NUMBER_BYTES];
    const struct top_class *now = row->now;
    add_line(lines, TOP_PLAIN, "%10s %12" PRIu64 " %9" PRIu64 " %10s %10s %5.1f %9s %9s",
             cli_size_text(sizeclass_bytes(row->size_class), size), now->blocks, now->cached,
             cli_size_text(now->bytes, bytes), cli_size_text(now->held_bytes, held),
             percent(now->bytes, now->held_bytes), rate_text(row->taken, taken),
             rate_text(row->given, given));
}

static void add_classes(struct top_lines *lines, const struct top_view *view, uint32_t most) {
    struct top_class_row rows[SIZE_CLASSES_MAX];
    uint32_t count = top_classes(view->before, view->now, view->order, rows);
    add_line(lines, TOP_HEADING, "%10s %12s %9s %10s %10s %5s %9s %9s", "class", "blocks", "cached",
             "bytes", "held", "used%", "taken/s", "given/s");
    for (uint32_t i = 0; i < count && i < most; i++) {
        add_class(lines, &rows[i]);
    }
}

static void add_process(struct top_lines *lines, const struct top_process_row *row) {
    char cached[CLI_SIZE_BYTES];
    char taken[CLI_SIZE_BYTES];
    char given[CLI_SIZE_BYTES];
    char since[24] = "";
    const struct process_info *info = &row->now->info;
    time_t seconds = (time_t)(info->attached_ns / 1000000000u);
    struct tm parts;
    if (localtime_r(&seconds, &parts) != NULL) {
        (void)strftime(since, sizeof(since), "%m-%d %H:%M:%S", &parts);
    }
    add_line(lines, info->state == PROCESS_DEAD ? TOP_WARNING : TOP_PLAIN,
             "%10u %-8s %7u %10s %12s %12s  %14s  %s", info->pid, process_state_name(info->state),
             info->threads, cli_size_text(info->cached_bytes, cached),
             bytes_rate_text(row->taken_bytes, taken), bytes_rate_text(row->given_bytes, given),
             since, info->name);
}

static void add_processes(struct top_lines *lines, const struct top_view *view) {
    static struct top_process_row rows[PROCESSES_MAX]; /* too much for a stack */
    uint32_t count = top_processes(view->before, view->now, rows);
    add_line(lines, TOP_HEADING, "%10s %-8s %7s %10s %12s %12s  %14s  %s", "pid", "state",
             "threads", "cached", "taken/s", "given/s", "attached", "name");
    for (uint32_t i = 0; i < count; i++) {
        add_process(lines, &rows[i]);
    }
}

/* Classes leave a third of what there is to the processes; on a small terminal, nothing. */
static void add_tables(struct top_lines *lines, const struct top_view *view) {
    uint32_t left = lines->room - lines->count;
    uint32_t share = left / 3 > PROCESS_ROWS_MIN ? left / 3 : PROCESS_ROWS_MIN;
    uint32_t processes = view->now->process_count < share ? view->now->process_count : share;
    if (left < TABLES_ROWS_MIN) {
        add_classes(lines, view, left);
        return;
    }
    add_line(lines, TOP_PLAIN, "%s", "");
    add_classes(lines, view, left - processes - 4); /* two headings, two empty lines */
    add_line(lines, TOP_PLAIN, "%s", "");
    add_processes(lines, view);
}

void top_write_lines(const struct top_view *view, struct top_lines *lines) {
    struct top_rates rates;
    lines->count = 0;
    top_rates(view->before, view->now, &rates);
    add_title(lines, view, &rates);
    add_memory(lines, view->now);
    add_activity(lines, view->now, &rates);
    add_tables(lines, view);
}

void top_write_help(struct top_lines *lines) {
    static const char *const text[] = {
        "q  quits",
        "s  sorts classes by bytes, rate, waste (held, not used), size",
        "+  longer between samples          -  shorter",
        "h  this, and back                  any other key: a sample now",
        "",
        "class      size of the blocks; blocks: the application's; cached: in caches",
        "bytes      of the application's blocks; held: of the runs that they lie in",
        "taken/s    blocks that left arenas, for a cache or a caller; given/s: came back.",
        "           What a thread's cache serves by itself is counted nowhere.",
        "active     runs that are not free, and huge blocks; resident: has storage, all of it",
        "dirty      free pages that have storage; clean: that have none",
        "processes  taken/s and given/s are bytes, of its threads that live",
    };
    lines->count = 0;
    add_line(lines, TOP_TITLE, "sharena top: help");
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        add_line(lines, TOP_PLAIN, "%s", text[i]);
    }
}
