/* map_cells.c -- the heap as rows of cells, and what each shade of a cell means.
 *
 * Holds:  the cells of all rows have each page once, and the parts of the figures add up to what is
 *         stored                                                                        (tested)
 * Lock:   none: all of it works on what was read (map_walk.c)
 * Killed: private memory
 * Not here: letters and pixels (map_text.c, map_svg.c).
 */
#include "cli/map_cells.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- shades ---- */

static const uint32_t group_bytes[SMALL_GROUPS] = {128, 1024, 4096, SMALL_BYTES_MAX};

/* A hue per group, paler where less of the run is used. */
static const struct map_look looks[MAP_SHADES] = {
    {'a', 0xc4e8c6, "small, up to 128 B, up to 1/4 used"},
    {'a', 0x93d197, "small, up to 128 B, up to 1/2 used"},
    {'A', 0x55ad5c, "small, up to 128 B, up to 3/4 used"},
    {'A', 0x1d7f2c, "small, up to 128 B, more used"},
    {'b', 0xc3dcf7, "small, up to 1 KiB, up to 1/4 used"},
    {'b', 0x8fbdee, "small, up to 1 KiB, up to 1/2 used"},
    {'B', 0x4c8fdc, "small, up to 1 KiB, up to 3/4 used"},
    {'B', 0x1459b3, "small, up to 1 KiB, more used"},
    {'c', 0xddd0f5, "small, up to 4 KiB, up to 1/4 used"},
    {'c', 0xbaa2ea, "small, up to 4 KiB, up to 1/2 used"},
    {'C', 0x9068d6, "small, up to 4 KiB, up to 3/4 used"},
    {'C', 0x6231b5, "small, up to 4 KiB, more used"},
    {'d', 0xf7cde6, "small, up to 14 KiB, up to 1/4 used"},
    {'d', 0xee9ccd, "small, up to 14 KiB, up to 1/2 used"},
    {'D', 0xdb5fab, "small, up to 14 KiB, up to 3/4 used"},
    {'D', 0xb11d7c, "small, up to 14 KiB, more used"},
    {'L', 0xe8830c, "large block"},
    {'H', 0xa63a1e, "huge block"},
    {'$', 0xf2cf1d, "large or huge, in a thread's cache"},
    {'~', 0xe3c3b5, "rest of a huge block's last chunk"},
    {'+', 0x8a8f94, "free, dirty: still holds storage"},
    {'.', 0xe9ebed, "free, clean: a hole in an arena's chunk"},
    {'_', 0xffffff, "free chunk, without storage"},
    {'?', 0x111111, "in motion while it was read"},
    {'M', 0x45525e, "metadata"},
};

const struct map_look *map_look(uint32_t shade) {
    return &looks[shade];
}

uint32_t map_group(uint32_t size_class) {
    uint32_t group = 0;
    while (group + 1 < SMALL_GROUPS && sizeclass_bytes(size_class) > group_bytes[group]) {
        group++;
    }
    return group;
}

uint32_t map_group_bytes(uint32_t group) {
    return group_bytes[group];
}

static uint32_t small_shade(const struct map_span *span) {
    uint32_t level =
        span->used == 0 ? 0 : (span->used * SMALL_LEVELS + span->blocks - 1) / span->blocks - 1;
    return SHADE_SMALL + map_group(span->size_class) * SMALL_LEVELS + level;
}

uint32_t map_shade(const struct map_span *span) {
    static const uint32_t shades[MAP_KINDS] = {SHADE_SMALL, SHADE_LARGE, SHADE_HUGE, SHADE_TAIL,
                                               SHADE_DIRTY, SHADE_CLEAN, SHADE_POOL, SHADE_MOVING};
    if (span->kind == MAP_SMALL) {
        return small_shade(span);
    }
    return span->blocks != 0 && span->cached != 0 ? SHADE_CACHED : shades[span->kind];
}

/* ---- the grid ---- */

static uint32_t rows_at(const struct map *map, uint32_t columns, uint32_t zoom) {
    uint64_t pages = map->end_page - map->first_page;
    uint64_t of_row = (uint64_t)columns * zoom;
    return (uint32_t)((pages + of_row - 1) / of_row);
}

void map_fit(const struct map *map, uint32_t columns, uint32_t rows_max, uint32_t zoom,
             struct map_grid *grid) {
    grid->zoom = zoom == 0 ? 1 : zoom;
    grid->columns = columns;
    while (zoom == 0 && rows_at(map, columns, grid->zoom) > rows_max) {
        grid->zoom *= 2;
    }
    grid->rows = rows_at(map, columns, grid->zoom);
}

uint32_t map_row_page(const struct map *map, const struct map_grid *grid, uint32_t row) {
    return map->first_page + row * grid->columns * grid->zoom;
}

/* The part of a span that lies in the row which begins at `begin`. */
static void add_span(const struct map_span *span, uint32_t begin, uint32_t end, uint32_t zoom,
                     struct map_cell *cells) {
    uint32_t shade = map_shade(span);
    uint32_t page = span->first > begin ? span->first : begin;
    uint32_t last = span->first + span->pages < end ? span->first + span->pages : end;
    while (page < last) {
        uint32_t cell = (page - begin) / zoom;
        uint32_t cell_end = begin + (cell + 1) * zoom;
        uint32_t pages = (cell_end < last ? cell_end : last) - page;
        cells[cell].pages[shade] += pages;
        page += pages;
    }
}

void map_cells(const struct map *map, const struct map_grid *grid, uint32_t row,
               struct map_cell *cells) {
    uint32_t begin = map_row_page(map, grid, row);
    uint64_t row_end = (uint64_t)begin + (uint64_t)grid->columns * grid->zoom;
    uint32_t end = row_end < map->end_page ? (uint32_t)row_end : map->end_page;
    memset(cells, 0, grid->columns * sizeof(cells[0]));
    for (const struct map_span *span = map_at(map, begin);
         span < map->spans + map->count && span->first < end; span++) {
        add_span(span, begin, end, grid->zoom, cells);
    }
}

uint32_t map_main_shade(const struct map_cell *cell) {
    uint32_t best = MAP_SHADES;
    for (uint32_t i = 0; i < MAP_SHADES; i++) {
        if (cell->pages[i] > (best == MAP_SHADES ? 0 : cell->pages[best])) {
            best = i;
        }
    }
    return best;
}

/* ---- figures ---- */

double map_percent(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

static void set_part(struct map_figures *figures, uint32_t at, uint32_t shade, uint64_t bytes,
                     const char *text) {
    struct map_part *part = &figures->parts[at];
    part->shade = shade;
    part->bytes = bytes;
    (void)snprintf(part->text, sizeof(part->text), "%s", text);
}

static void name_small_part(struct map_figures *figures, uint32_t group, uint64_t bytes) {
    char size[CLI_SIZE_BYTES];
    char text[48];
    (void)snprintf(text, sizeof(text), "small, up to %s", cli_size_text(group_bytes[group], size));
    set_part(figures, group, SHADE_SMALL + (group + 1) * SMALL_LEVELS - 1, bytes, text);
}

void map_figures(const struct map *map, struct map_figures *figures) {
    struct map_sums sums;
    uint64_t small_used[SMALL_GROUPS] = {0};
    uint64_t cached = 0;
    uint64_t in_runs = 0;
    map_add_up(map, &sums);
    *figures = (struct map_figures){.stored_bytes = map->metadata_bytes};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct map_span *span = &map->spans[i];
        if (span->kind == MAP_SMALL) {
            small_used[map_group(span->size_class)] += span->used * map_block_bytes(span);
        }
        if (span->blocks != 0) {
            in_runs += (uint64_t)span->backed * PAGE_BYTES;
            cached += span->cached * map_block_bytes(span);
            figures->used_bytes += span->used * map_block_bytes(span);
        }
    }
    figures->data_bytes = sums.backed_pages * PAGE_BYTES;
    figures->stored_bytes += figures->data_bytes;
    figures->small_run_bytes = sums.pages[MAP_SMALL] * PAGE_BYTES;
    figures->small_used_bytes = sums.used_bytes[MAP_SMALL];
    figures->free_bytes =
        (sums.pages[MAP_DIRTY] + sums.pages[MAP_CLEAN] + sums.pages[MAP_POOL]) * PAGE_BYTES;
    figures->largest_free_bytes = sums.largest_free_pages * PAGE_BYTES;
    figures->hole_bytes =
        (uint64_t)(map->end_page - map->first_page) * PAGE_BYTES - figures->data_bytes;
    for (uint32_t group = 0; group < SMALL_GROUPS; group++) {
        name_small_part(figures, group, small_used[group]);
    }
    uint64_t lost =
        in_runs > figures->used_bytes + cached ? in_runs - figures->used_bytes - cached : 0;
    set_part(figures, 4, SHADE_LARGE, sums.used_bytes[MAP_LARGE], "large blocks");
    set_part(figures, 5, SHADE_HUGE, sums.used_bytes[MAP_HUGE], "huge blocks");
    set_part(figures, 6, SHADE_CACHED, cached, "in caches of threads");
    set_part(figures, 7, SHADE_SMALL, lost, "free within runs");
    set_part(figures, 8, SHADE_DIRTY, figures->data_bytes - in_runs, "free pages, dirty");
    set_part(figures, 9, SHADE_METADATA, map->metadata_bytes, "metadata");
}
