/* top_json.c -- two samples of a heap as one line of JSON.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: the numbers (top_sample.c).
 */
#include <stdio.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/top_view.h"

static void set_real(json_t *object, const char *name, double value) {
    cli_set(object, name, json_real(value));
}

static json_t *memory_json(const struct top_sample *now) {
    json_t *object = json_object();
    cli_set_count(object, "allocated_bytes", now->allocated_bytes);
    cli_set_count(object, "cached_bytes", now->cached_bytes);
    cli_set_count(object, "active_bytes", now->active_bytes);
    cli_set_count(object, "dirty_bytes", now->dirty_bytes);
    cli_set_count(object, "clean_bytes", now->clean_bytes);
    cli_set_count(object, "resident_bytes", now->resident_bytes);
    cli_set_count(object, "metadata_bytes", now->metadata_bytes);
    cli_set_count(object, "limit_bytes", now->limit_bytes);
    cli_set_count(object, "used_chunks", now->used_chunks);
    cli_set_count(object, "free_chunks", now->free_chunks);
    return object;
}

static json_t *rates_json(const struct top_rates *rates) {
    json_t *object = json_object();
    set_real(object, "taken", rates->taken);
    set_real(object, "given", rates->given);
    set_real(object, "taken_bytes", rates->taken_bytes);
    set_real(object, "given_bytes", rates->given_bytes);
    set_real(object, "purged_bytes", rates->purged_bytes);
    set_real(object, "locks_acquired", rates->acquired);
    set_real(object, "locks_contended", rates->contended);
    set_real(object, "contended_bins", rates->contended_bins);
    set_real(object, "contended_arenas", rates->contended_arenas);
    set_real(object, "contended_pool", rates->contended_pool);
    set_real(object, "contended_names", rates->contended_names);
    return object;
}

static json_t *classes_json(const struct top_view *view) {
    struct top_class_row rows[SIZE_CLASSES_MAX];
    uint32_t count = top_classes(view->before, view->now, view->order, rows);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const struct top_class *now = rows[i].now;
        json_t *object = json_object();
        cli_set_count(object, "block_bytes", sizeclass_bytes(rows[i].size_class));
        cli_set_count(object, "blocks", now->blocks);
        cli_set_count(object, "cached", now->cached);
        cli_set_count(object, "bytes", now->bytes);
        cli_set_count(object, "held_bytes", now->held_bytes);
        cli_set_count(object, "taken", now->flow.taken);
        cli_set_count(object, "given", now->flow.given);
        set_real(object, "taken_per_second", rows[i].taken);
        set_real(object, "given_per_second", rows[i].given);
        (void)json_array_append_new(array, object);
    }
    return array;
}

static json_t *processes_json(const struct top_view *view) {
    static struct top_process_row rows[PROCESSES_MAX];
    uint32_t count = top_processes(view->before, view->now, rows);
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const struct process_info *info = &rows[i].now->info;
        json_t *object = json_object();
        cli_set_count(object, "pid", info->pid);
        cli_set_text(object, "state", process_state_name(info->state));
        cli_set_text(object, "name", info->name);
        cli_set_count(object, "threads", info->threads);
        cli_set_count(object, "cached_bytes", info->cached_bytes);
        cli_set_time(object, "attached", info->attached_ns);
        set_real(object, "taken_bytes_per_second", rows[i].taken_bytes);
        set_real(object, "given_bytes_per_second", rows[i].given_bytes);
        (void)json_array_append_new(array, object);
    }
    return array;
}

void top_print_json(const struct top_view *view) {
    struct top_rates rates;
    struct timespec time_now;
    json_t *object = json_object();
    top_rates(view->before, view->now, &rates);
    (void)clock_gettime(CLOCK_REALTIME, &time_now);
    cli_set_text(object, "file", view->path);
    cli_set_time(object, "time", (uint64_t)time_now.tv_sec * 1000000000u);
    set_real(object, "seconds", rates.seconds);
    cli_set_bool(object, "gone", view->now->is_gone);
    cli_set_count(object, "arenas", view->now->arenas);
    cli_set_count(object, "taken", view->now->flow.taken);
    cli_set_count(object, "given", view->now->flow.given);
    cli_set_count(object, "purged_pages", view->now->purged_pages);
    cli_set_count(object, "recovered", view->now->recovered);
    cli_set_count(object, "reaped_threads", view->now->reaped_threads);
    cli_set_count(object, "reaped_processes", view->now->reaped_processes);
    cli_set(object, "memory", memory_json(view->now));
    cli_set(object, "per_second", rates_json(&rates));
    cli_set(object, "classes", classes_json(view));
    cli_set(object, "processes", processes_json(view));
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(object);
}
