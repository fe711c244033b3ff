/* map_html.c -- the picture in a page of its own, with tables below it.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: the picture (map_svg.c).
 */
#include "cli/map_draw.h"

#include <inttypes.h>

struct class_sums {
    uint64_t runs, pages, blocks, used, cached;
};

static void print_kinds(FILE *out, const struct map *map) {
    struct map_sums sums;
    char size[CLI_SIZE_BYTES];
    char used[CLI_SIZE_BYTES];
    char cached[CLI_SIZE_BYTES];
    map_add_up(map, &sums);
    (void)fputs("<h2>Pages</h2>\n<table><tr><th>kind<th>stretches<th>pages<th>bytes"
                "<th>used<th>cached\n",
                out);
    for (uint32_t kind = 0; kind < MAP_KINDS; kind++) {
        (void)fprintf(out, "<tr><td>%s<td>%" PRIu64 "<td>%" PRIu64 "<td>%s<td>%s<td>%s\n",
                      map_kind_name((enum map_kind)kind), sums.spans[kind], sums.pages[kind],
                      cli_size_text(sums.pages[kind] * PAGE_BYTES, size),
                      cli_size_text(sums.used_bytes[kind], used),
                      cli_size_text(sums.cached_bytes[kind], cached));
    }
    (void)fputs("</table>\n", out);
}

static void print_class(FILE *out, uint32_t size_class, const struct class_sums *sums) {
    char size[CLI_SIZE_BYTES];
    char bytes[CLI_SIZE_BYTES];
    uint64_t block_bytes = sizeclass_bytes(size_class);
    (void)fprintf(out, "<tr><td>%s<td>%" PRIu64 "<td>%s<td>%" PRIu64 "<td>%" PRIu64 "<td>%" PRIu64,
                  cli_size_text(block_bytes, size), sums->runs,
                  cli_size_text(sums->pages * PAGE_BYTES, bytes), sums->blocks, sums->used,
                  sums->cached);
    (void)fprintf(out, "<td>%.1f %%\n",
                  map_percent(sums->used * block_bytes, sums->pages * PAGE_BYTES));
}

static void print_classes(FILE *out, const struct map *map) {
    struct class_sums sums[SIZE_CLASSES_MAX] = {{0}};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct map_span *span = &map->spans[i];
        if (span->blocks != 0) {
            struct class_sums *of = &sums[span->size_class];
            of->runs++;
            of->pages += span->pages;
            of->blocks += span->blocks;
            of->used += span->used;
            of->cached += span->cached;
        }
    }
    (void)fputs("<h2>Size classes</h2>\n<table><tr><th>class<th>runs<th>bytes"
                "<th>blocks<th>used<th>cached<th>of the bytes used\n",
                out);
    for (uint32_t i = 0; i < SIZE_CLASSES_MAX; i++) {
        if (sums[i].runs != 0) {
            print_class(out, i, &sums[i]);
        }
    }
    (void)fputs("</table>\n", out);
}

void map_print_html(FILE *out, const struct map_view *view) {
    (void)fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>", out);
    map_print_escaped(out, view->path);
    (void)fputs("</title>\n<style>body{font:14px sans-serif;margin:16px;color:#24292f;"
                "background:#fff}svg{display:block;max-width:100%;height:auto}"
                "svg g.row g:hover rect{opacity:.6}table{border-collapse:collapse;"
                "margin-left:64px}td,th{padding:2px 12px;text-align:right;"
                "border-bottom:1px solid #d0d7de}td:first-child,th:first-child{text-align:left}"
                "h2{font-size:16px;margin:24px 0 8px 64px}</style></head><body>\n",
                out);
    map_print_svg(out, view);
    print_kinds(out, view->map);
    print_classes(out, view->map);
    (void)fputs("</body></html>\n", out);
}
