/* map_json.c -- the heap as JSON: sums, and all spans.
 *
 * Each span is written as soon as it is made: a heap may have millions.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: pictures.
 */
#include <stdio.h>

#include "cli/map_draw.h"

/* Writes a member and drops it. */
static void put(const char *before, json_t *value) {
    (void)fputs(before, stdout);
    (void)json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
}

static json_t *heap_json(const struct map_view *view) {
    const struct map *map = view->map;
    struct map_figures figures;
    json_t *object = json_object();
    map_figures(map, &figures);
    cli_set_text(object, "file", view->path);
    cli_set_time(object, "read", view->read_ns);
    cli_set_count(object, "pages", map->end_page - map->first_page);
    cli_set_count(object, "capacity_bytes", map->capacity_bytes);
    cli_set_count(object, "limit_bytes", map->limit_bytes);
    cli_set_count(object, "arenas", map->arenas);
    cli_set_count(object, "stored_bytes", figures.stored_bytes);
    cli_set_count(object, "metadata_bytes", map->metadata_bytes);
    cli_set_count(object, "used_bytes", figures.used_bytes);
    cli_set_count(object, "free_bytes", figures.free_bytes);
    cli_set_count(object, "largest_free_bytes", figures.largest_free_bytes);
    cli_set_count(object, "hole_bytes", figures.hole_bytes);
    return object;
}

static json_t *kinds_json(const struct map *map) {
    struct map_sums sums;
    json_t *kinds = json_object();
    map_add_up(map, &sums);
    for (uint32_t i = 0; i < MAP_KINDS; i++) {
        json_t *kind = json_object();
        cli_set_count(kind, "spans", sums.spans[i]);
        cli_set_count(kind, "pages", sums.pages[i]);
        cli_set_count(kind, "used_bytes", sums.used_bytes[i]);
        cli_set_count(kind, "cached_bytes", sums.cached_bytes[i]);
        cli_set(kinds, map_kind_name((enum map_kind)i), kind);
    }
    return kinds;
}

static json_t *span_json(const struct map *map, const struct map_span *span) {
    json_t *object = json_object();
    cli_set_count(object, "page", span->first - map->first_page);
    cli_set_count(object, "pages", span->pages);
    cli_set_text(object, "kind", map_kind_name((enum map_kind)span->kind));
    cli_set_count(object, "backed", span->backed);
    if (span->arena != MAP_NO_ARENA) {
        cli_set_count(object, "arena", span->arena);
    }
    if (span->blocks != 0) {
        cli_set_count(object, "block_bytes", map_block_bytes(span));
        cli_set_count(object, "blocks", span->blocks);
        cli_set_count(object, "used", span->used);
        cli_set_count(object, "cached", span->cached);
    }
    return object;
}

void map_print_json(const struct map_view *view) {
    const struct map *map = view->map;
    put("{\"heap\":", heap_json(view));
    put(",\n\"kinds\":", kinds_json(map));
    (void)fputs(",\n\"spans\":[", stdout);
    for (uint32_t i = 0; i < map->count; i++) {
        put(i == 0 ? "\n" : ",\n", span_json(map, &map->spans[i]));
    }
    (void)fputs("]}\n", stdout);
}
