/* map_text.c -- the heap as letters, coloured where the terminal can.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: what the cells are (map_cells.c).
 */
#include "cli/map_draw.h"

#include <inttypes.h>
#include <stdlib.h>

#define LABEL_COLUMNS 10u
#define ROWS_MAX 64u
#define BAR_COLUMNS 64u

/* ---- colours ---- */

/* The nearest of the 6 x 6 x 6 colours of a terminal with 256. */
static uint32_t cube_colour(uint32_t rgb) {
    uint32_t index = 16;
    for (uint32_t shift = 16, weight = 36; weight != 0; shift -= 8, weight /= 6) {
        uint32_t value = rgb >> shift & 0xff;
        index += weight * (value < 48 ? 0 : value < 115 ? 1 : (value - 35) / 40);
    }
    return index;
}

static uint32_t brightness(uint32_t rgb) {
    return ((rgb >> 16 & 0xff) * 3 + (rgb >> 8 & 0xff) * 6 + (rgb & 0xff)) / 10;
}

/* From here on letters stand on that colour. */
static void paint(FILE *out, enum map_colours colours, uint32_t shade) {
    if (colours == COLOURS_NONE) {
        return;
    }
    uint32_t rgb = map_look(shade)->rgb;
    (void)fprintf(out, "\033[%s;", brightness(rgb) > 140 ? "30" : "97");
    if (colours == COLOURS_256) {
        (void)fprintf(out, "48;5;%um", cube_colour(rgb));
    } else {
        (void)fprintf(out, "48;2;%u;%u;%um", rgb >> 16 & 0xff, rgb >> 8 & 0xff, rgb & 0xff);
    }
}

static void paint_end(FILE *out, enum map_colours colours) {
    if (colours != COLOURS_NONE) {
        (void)fputs("\033[0m", out);
    }
}

/* ---- the grid ---- */

/* Cells of one shade are painted at once. */
static void print_cells(FILE *out, const struct map_view *view, const struct map_cell *cells,
                        uint32_t count) {
    uint32_t painted = MAP_SHADES;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t shade = map_main_shade(&cells[i]);
        if (shade == MAP_SHADES) {
            break;
        }
        if (shade != painted) {
            paint(out, view->colours, shade);
            painted = shade;
        }
        (void)fputc(map_look(shade)->letter, out);
    }
    paint_end(out, view->colours);
}

/* A row that begins in a chunk's first page has the chunk's number. */
static void print_grid(FILE *out, const struct map_view *view, const struct map_grid *grid) {
    struct map_cell *cells = calloc(grid->columns, sizeof(cells[0]));
    if (cells == NULL) {
        return;
    }
    for (uint32_t row = 0; row < grid->rows; row++) {
        uint32_t page = map_row_page(view->map, grid, row) - view->map->first_page;
        map_cells(view->map, grid, row, cells);
        if (page % CHUNK_PAGES == 0) {
            (void)fprintf(out, "%7u  |", page / CHUNK_PAGES);
        } else {
            (void)fprintf(out, "%7s  |", "");
        }
        print_cells(out, view, cells, grid->columns);
        (void)fputs("|\n", out);
    }
    free(cells);
}

/* ---- what is above and below it ---- */

static void print_parts(FILE *out, const struct map_view *view, const struct map_figures *figures) {
    char size[CLI_SIZE_BYTES];
    for (uint32_t i = 0; i < MAP_PARTS; i++) {
        const struct map_part *part = &figures->parts[i];
        double percent = map_percent(part->bytes, figures->stored_bytes);
        (void)fprintf(out, "  %12s %5.1f %%  %-26s ", cli_size_text(part->bytes, size), percent,
                      part->text);
        paint(out, view->colours, part->shade);
        for (uint32_t c = 0; c < (uint32_t)(percent * BAR_COLUMNS / 100 / 2 + 0.5); c++) {
            (void)fputc(view->colours == COLOURS_NONE ? '#' : ' ', out);
        }
        paint_end(out, view->colours);
        (void)fputc('\n', out);
    }
}

/* A name must not steer the terminal. */
static void print_path(FILE *out, const char *path) {
    for (; *path != '\0'; path++) {
        unsigned char byte = (unsigned char)*path;
        (void)fputc(byte < ' ' || byte == 0x7f ? '?' : byte, out);
    }
}

static void print_figures(FILE *out, const struct map_view *view) {
    struct map_figures figures;
    char size[CLI_SIZE_BYTES];
    char other[CLI_SIZE_BYTES];
    map_figures(view->map, &figures);
    (void)fprintf(out, "%s of storage%s%s:\n", cli_size_text(figures.stored_bytes, size),
                  view->map->limit_bytes != 0 ? ", limit " : "",
                  view->map->limit_bytes != 0 ? cli_size_text(view->map->limit_bytes, other) : "");
    print_parts(out, view, &figures);
    (void)fprintf(out, "blocks of the application are %.1f %% of the storage of user data\n",
                  map_percent(figures.used_bytes, figures.data_bytes));
    (void)fprintf(out, "small runs are %.1f %% used\n",
                  map_percent(figures.small_used_bytes, figures.small_run_bytes));
    (void)fprintf(out, "%s of pages are free, ", cli_size_text(figures.free_bytes, size));
    (void)fprintf(out, "at most %s in one piece; ",
                  cli_size_text(figures.largest_free_bytes, size));
    (void)fprintf(out, "%s are holes in the file\n\n", cli_size_text(figures.hole_bytes, size));
}

void map_print_scale(FILE *out, const struct map_view *view, const struct map_grid *grid) {
    char size[CLI_SIZE_BYTES];
    const struct map *map = view->map;
    (void)fprintf(out, "%u of %" PRIu64 " chunks of 2 MiB were used; arenas: %u; ",
                  (map->end_page - map->first_page) / CHUNK_PAGES,
                  map->capacity_bytes / CHUNK_BYTES, map->arenas);
    (void)fprintf(out, "a cell is %u page%s (%s), ", grid->zoom, grid->zoom == 1 ? "" : "s",
                  cli_size_text((uint64_t)grid->zoom * PAGE_BYTES, size));
    (void)fprintf(out, "a row %s",
                  cli_size_text((uint64_t)grid->zoom * grid->columns * PAGE_BYTES, size));
}

/* The four shades of a group of small classes are one entry, the others one each. */
static void print_legend(FILE *out, const struct map_view *view) {
    char size[CLI_SIZE_BYTES];
    (void)fputs("\nlegend (a cell with several: what has most of it)\n", out);
    for (uint32_t group = 0; group < SMALL_GROUPS; group++) {
        (void)fputs("  ", out);
        for (uint32_t level = 0; level < SMALL_LEVELS; level++) {
            uint32_t shade = SHADE_SMALL + group * SMALL_LEVELS + level;
            paint(out, view->colours, shade);
            (void)fputc(map_look(shade)->letter, out);
        }
        paint_end(out, view->colours);
        (void)fprintf(out, "  small blocks up to %s; capital: over half of the run is used%s\n",
                      cli_size_text(map_group_bytes(group), size),
                      view->colours != COLOURS_NONE ? ", a shade for each quarter" : "");
    }
    for (uint32_t shade = SHADE_LARGE; shade < SHADE_METADATA; shade++) {
        (void)fputs("  ", out);
        paint(out, view->colours, shade);
        (void)fputc(map_look(shade)->letter, out);
        paint_end(out, view->colours);
        (void)fprintf(out, "     %s\n", map_look(shade)->text);
    }
}

void map_print_text(FILE *out, const struct map_view *view) {
    struct map_grid grid;
    uint32_t columns = 64;
    while (columns * 2 + LABEL_COLUMNS + 1 <= view->width && columns * 2 <= GRID_COLUMNS_MAX) {
        columns *= 2;
    }
    while (columns + LABEL_COLUMNS + 1 > view->width && columns > 8) {
        columns /= 2;
    }
    map_fit(view->map, columns, ROWS_MAX, view->zoom, &grid);
    print_path(out, view->path);
    (void)fprintf(out, ", %s\n", view->when);
    map_print_scale(out, view, &grid);
    (void)fputc('\n', out);
    print_figures(out, view);
    print_grid(out, view, &grid);
    print_legend(out, view);
}
