/* map_svg.c -- the heap as a picture: storage as a bar, pages as a grid, and what the colours mean.
 *
 * A row of the grid is scaled so that a cell is 1 wide and 1 high. Equal neighbours are one
 * element; a cell with pages of several shades is divided among them from top to bottom. Rows that
 * are nothing but free chunks without storage are drawn once for all.
 *
 * Lock:   none
 * Killed: private memory
 * Not here: what the cells are (map_cells.c), the page around it (map_html.c).
 */
#include "cli/map_draw.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 256u
#define ROWS_MAX 128u
#define CELL_WIDTH 4u
#define LEFT 64u
#define GRID_WIDTH (COLUMNS * CELL_WIDTH)
#define WIDTH (LEFT + GRID_WIDTH + 64u)
#define HEAD_HEIGHT 316u
#define CHUNK_GAP 3u
#define LABEL_DISTANCE 12u

/* A height for people to see the cells, and to see all of them. */
static uint32_t cell_height(const struct map_grid *grid) {
    return grid->rows <= 24 ? 16 : grid->rows <= 96 ? 11 : 8;
}

/* Bytes of no character are shown as '?'. */
static int is_utf8(const char *text) {
    json_t *value = json_string(text);
    json_decref(value);
    return value != NULL;
}

void map_print_escaped(FILE *out, const char *text) {
    int has_more = is_utf8(text);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '<' || byte == '>' || byte == '&' || byte == '"') {
            (void)fprintf(out, "&#%u;", byte);
        } else {
            (void)fputc(byte < ' ' || byte == 0x7f || (byte >= 0x80 && !has_more) ? '?' : byte,
                        out);
        }
    }
}

static uint64_t stretch_pages(const struct map_span *span, uint32_t begin, uint32_t end) {
    uint32_t first = span->first > begin ? span->first : begin;
    uint32_t last = span->first + span->pages < end ? span->first + span->pages : end;
    return last - first;
}

/* ---- titles ---- */

struct stretch { /* the spans of one kind in a stretch of pages */
    uint64_t spans, pages, blocks, used, cached;
    uint32_t least_class, greatest_class;
};

static void print_stretch(FILE *out, enum map_kind kind, const struct stretch *stretch) {
    char size[CLI_SIZE_BYTES];
    (void)fprintf(out, "\n%s, %" PRIu64 " page%s", map_kind_name(kind), stretch->pages,
                  stretch->pages == 1 ? "" : "s");
    if (stretch->blocks == 0) {
        return;
    }
    (void)fprintf(out, ": %" PRIu64 " of %" PRIu64 " block%s", stretch->used, stretch->blocks,
                  stretch->blocks == 1 ? "" : "s");
    (void)fprintf(out, " of %s", cli_size_text(sizeclass_bytes(stretch->least_class), size));
    if (stretch->greatest_class != stretch->least_class) {
        (void)fprintf(out, " to %s", cli_size_text(sizeclass_bytes(stretch->greatest_class), size));
    }
    (void)fprintf(out, " used, %" PRIu64 " cached", stretch->cached);
    if (stretch->spans > 1) {
        (void)fprintf(out, ", in %" PRIu64 " runs", stretch->spans);
    }
}

static void add_to_stretch(struct stretch *stretch, const struct map_span *span, uint64_t pages) {
    stretch->pages += pages;
    stretch->spans++;
    if (span->blocks == 0) {
        return;
    }
    if (stretch->blocks == 0 || span->size_class < stretch->least_class) {
        stretch->least_class = span->size_class;
    }
    if (span->size_class > stretch->greatest_class) {
        stretch->greatest_class = span->size_class;
    }
    stretch->blocks += span->blocks;
    stretch->used += span->used;
    stretch->cached += span->cached;
}

static void print_title(FILE *out, const struct map *map, uint32_t begin, uint32_t end) {
    struct stretch stretches[MAP_KINDS] = {{0}};
    uint32_t page = begin - map->first_page;
    for (const struct map_span *span = map_at(map, begin);
         span < map->spans + map->count && span->first < end; span++) {
        add_to_stretch(&stretches[span->kind], span, stretch_pages(span, begin, end));
    }
    (void)fprintf(out, "<title>chunk %u, page %u", page / CHUNK_PAGES, page % CHUNK_PAGES);
    if (end - begin > 1) {
        uint32_t last = end - 1 - map->first_page;
        (void)fprintf(out, " to chunk %u, page %u", last / CHUNK_PAGES, last % CHUNK_PAGES);
    }
    if (map_at(map, begin)->arena != MAP_NO_ARENA) {
        (void)fprintf(out, ", arena %u", map_at(map, begin)->arena);
    }
    for (uint32_t kind = 0; kind < MAP_KINDS; kind++) {
        if (stretches[kind].pages != 0) {
            print_stretch(out, (enum map_kind)kind, &stretches[kind]);
        }
    }
    (void)fputs("</title>", out);
}

/* ---- the grid ---- */

/* `count` cells that are as this one, from column x on. */
static void print_cells(FILE *out, const struct map_cell *cell, uint32_t x, uint32_t count) {
    uint32_t total = 0;
    uint32_t before = 0;
    for (uint32_t i = 0; i < MAP_SHADES; i++) {
        total += cell->pages[i];
    }
    for (uint32_t i = 0; i < MAP_SHADES; i++) {
        if (cell->pages[i] == 0) {
            continue;
        }
        (void)fprintf(out, "<rect class=\"s%u\" x=\"%u\" width=\"%u\"", i, x, count);
        if (cell->pages[i] == total) {
            (void)fputs(" height=\"1\"/>", out);
        } else {
            (void)fprintf(out, " y=\"%.6g\" height=\"%.6g\"/>", (double)before / total,
                          (double)cell->pages[i] / total);
        }
        before += cell->pages[i];
    }
}

/* Whether a line is drawn before that page: where a large or huge block begins, so that it is seen
 * beside its neighbour; where cells have many pages, at chunks only, or nowhere. */
static int is_edge(const struct map *map, const struct map_grid *grid, uint32_t page) {
    const struct map_span *span = map_at(map, page);
    if (grid->zoom > 1) {
        return page % CHUNK_PAGES == 0 && grid->zoom <= CHUNK_PAGES / 16;
    }
    return span->first == page && (span->kind == MAP_LARGE || span->kind == MAP_HUGE);
}

/* Behind the last cell of the stretch that begins at column x. */
static uint32_t stretch_end(const struct map *map, const struct map_grid *grid, uint32_t begin,
                            const struct map_cell *cells, uint32_t x) {
    uint32_t next = x + 1;
    while (next < grid->columns && memcmp(&cells[x], &cells[next], sizeof(cells[x])) == 0 &&
           !is_edge(map, grid, begin + next * grid->zoom)) {
        next++;
    }
    return next;
}

static void print_row(FILE *out, const struct map *map, const struct map_grid *grid, uint32_t row,
                      const struct map_cell *cells) {
    uint32_t begin = map_row_page(map, grid, row);
    for (uint32_t x = 0, next; x < grid->columns && map_main_shade(&cells[x]) != MAP_SHADES;
         x = next) {
        next = stretch_end(map, grid, begin, cells, x);
        uint32_t first = begin + x * grid->zoom;
        uint32_t end = begin + next * grid->zoom;
        (void)fputs("<g>", out);
        print_title(out, map, first, end < map->end_page ? end : map->end_page);
        print_cells(out, &cells[x], x, next - x);
        if (is_edge(map, grid, first)) {
            (void)fprintf(out, "<rect class=\"edge\" x=\"%u\" width=\".25\" height=\"1\"/>", x);
        }
        (void)fputs("</g>\n", out);
    }
}

/* How many rows from this one on lie in one span of free chunks without storage. */
static uint32_t empty_rows(const struct map *map, const struct map_grid *grid, uint32_t row) {
    const struct map_span *span = map_at(map, map_row_page(map, grid, row));
    uint64_t begin = map_row_page(map, grid, row);
    uint64_t end = (uint64_t)span->first + span->pages;
    uint64_t rows = (end - begin) / ((uint64_t)grid->columns * grid->zoom);
    return span->kind == MAP_POOL ? (uint32_t)rows : 0;
}

static void print_empty_rows(FILE *out, const struct map *map, const struct map_grid *grid,
                             uint32_t row, uint32_t rows) {
    uint64_t pages = (uint64_t)rows * grid->columns * grid->zoom;
    uint32_t page = map_row_page(map, grid, row) - map->first_page;
    (void)fprintf(out, "<rect class=\"s%d\" width=\"%u\" height=\"1\" data-rows=\"%u\"/></g>\n",
                  (int)SHADE_POOL, grid->columns, rows);
    (void)fprintf(out,
                  "<text x=\"%u\" y=\"9\" class=\"note\">chunks %u to %u are free, without "
                  "storage</text>",
                  LEFT + 8, page / CHUNK_PAGES, (uint32_t)((page + pages - 1) / CHUNK_PAGES));
}

struct pen { /* where the next row goes */
    FILE *out;
    const struct map *map;
    struct map_grid grid;
    struct map_cell *cells;
    uint32_t y;
    uint32_t label_y;
};

/* How far from this row to the next one. */
static uint32_t row_distance(const struct map *map, const struct map_grid *grid, uint32_t row,
                             uint32_t empty) {
    uint32_t height = empty > 1 ? LABEL_DISTANCE : cell_height(grid);
    uint32_t next = map_row_page(map, grid, row + (empty > 1 ? empty : 1)) - map->first_page;
    int is_last_of_chunk = next % CHUNK_PAGES == 0 && grid->zoom * grid->columns < CHUNK_PAGES;
    return height + 1 + (is_last_of_chunk ? CHUNK_GAP : 0);
}

/* The number of the chunk that begins here, and whose it is. */
static void print_labels(struct pen *pen, uint32_t row) {
    uint32_t first = map_row_page(pen->map, &pen->grid, row);
    uint32_t page = first - pen->map->first_page;
    const struct map_span *span = map_at(pen->map, first);
    if (page % CHUNK_PAGES != 0 || (row != 0 && pen->y - pen->label_y < LABEL_DISTANCE)) {
        return;
    }
    (void)fprintf(pen->out, "<text x=\"%u\" y=\"9\" class=\"label\">%u</text>", LEFT - 8,
                  page / CHUNK_PAGES);
    if (span->arena != MAP_NO_ARENA && pen->grid.zoom * pen->grid.columns <= CHUNK_PAGES) {
        (void)fprintf(pen->out, "<text x=\"%u\" y=\"9\" class=\"note\">arena %u</text>",
                      LEFT + GRID_WIDTH + 6, span->arena);
    }
    pen->label_y = pen->y;
}

/* One row, or all the empty ones; returns how many. */
static uint32_t print_rows(struct pen *pen, uint32_t row) {
    uint32_t empty = empty_rows(pen->map, &pen->grid, row);
    uint32_t height = empty > 1 ? LABEL_DISTANCE : cell_height(&pen->grid);
    (void)fprintf(pen->out, "<g transform=\"translate(0,%u)\">", pen->y);
    print_labels(pen, row);
    (void)fprintf(pen->out, "<g class=\"row\" transform=\"translate(%u,0) scale(%u,%u)\">\n", LEFT,
                  CELL_WIDTH, height);
    if (empty > 1) {
        print_empty_rows(pen->out, pen->map, &pen->grid, row, empty);
    } else {
        map_cells(pen->map, &pen->grid, row, pen->cells);
        print_row(pen->out, pen->map, &pen->grid, row, pen->cells);
        (void)fputs("</g>", pen->out);
    }
    (void)fputs("</g>\n", pen->out);
    pen->y += row_distance(pen->map, &pen->grid, row, empty);
    return empty > 1 ? empty : 1;
}

/* ---- the head ---- */

static void print_style(FILE *out) {
    (void)fputs("<style>text{font:12px sans-serif;fill:#24292f}.label{font-size:10px;"
                "text-anchor:end;fill:#57606a}.note{font-size:10px;fill:#57606a}"
                ".title{font-size:18px;font-weight:bold}.axis{fill:#57606a}"
                ".row,.bar{shape-rendering:crispEdges}.edge{fill:#fff}",
                out);
    for (uint32_t shade = 0; shade < MAP_SHADES; shade++) {
        (void)fprintf(out, ".s%u{fill:#%06x}", shade, map_look(shade)->rgb);
    }
    (void)fputs("</style>\n", out);
}

/* What is stored, as parts of the whole width; each with its size below. */
static void print_bar(FILE *out, const struct map_figures *figures) {
    double x = LEFT;
    char size[CLI_SIZE_BYTES];
    (void)fputs("<g class=\"bar\">\n", out);
    for (uint32_t i = 0; i < MAP_PARTS; i++) {
        const struct map_part *part = &figures->parts[i];
        double width = figures->stored_bytes == 0 ? 0
                                                  : (double)GRID_WIDTH * (double)part->bytes /
                                                        (double)figures->stored_bytes;
        (void)fprintf(out,
                      "<rect class=\"s%u\" x=\"%.2f\" y=\"92\" width=\"%.2f\" height=\"24\">"
                      "<title>%s: %s</title></rect>\n",
                      part->shade, x, width, part->text, cli_size_text(part->bytes, size));
        x += width;
    }
    (void)fprintf(out,
                  "</g><rect x=\"%u\" y=\"92\" width=\"%u\" height=\"24\" fill=\"none\" "
                  "stroke=\"#57606a\"/>\n",
                  LEFT, GRID_WIDTH);
    for (uint32_t i = 0; i < MAP_PARTS; i++) {
        const struct map_part *part = &figures->parts[i];
        uint32_t column = LEFT + i % 5 * (GRID_WIDTH / 5);
        uint32_t y = 126 + i / 5 * 18;
        (void)fprintf(out,
                      "<rect class=\"s%u\" x=\"%u\" y=\"%u\" width=\"10\" height=\"10\" "
                      "stroke=\"#8c959f\"/><text x=\"%u\" y=\"%u\" style=\"font-size:11px\">"
                      "%s: %s</text>\n",
                      part->shade, column, y, column + 15, y + 9, part->text,
                      cli_size_text(part->bytes, size));
    }
}

static void print_figures(FILE *out, const struct map_figures *figures) {
    char size[CLI_SIZE_BYTES];
    (void)fprintf(out,
                  "<text x=\"%u\" y=\"184\">Of the storage of user data, %.1f %% is in blocks of "
                  "the application; small runs are %.1f %% used.",
                  LEFT, map_percent(figures->used_bytes, figures->data_bytes),
                  map_percent(figures->small_used_bytes, figures->small_run_bytes));
    (void)fprintf(out, "</text>\n<text x=\"%u\" y=\"202\">%s of pages are free, ", LEFT,
                  cli_size_text(figures->free_bytes, size));
    (void)fprintf(out, "at most %s in one piece; ",
                  cli_size_text(figures->largest_free_bytes, size));
    (void)fprintf(out, "%s are holes in the file.</text>\n",
                  cli_size_text(figures->hole_bytes, size));
}

static void print_swatch(FILE *out, uint32_t shade, uint32_t x, uint32_t y) {
    (void)fprintf(out,
                  "<rect class=\"s%u\" x=\"%u\" y=\"%u\" width=\"14\" height=\"12\" "
                  "stroke=\"#8c959f\" stroke-width=\"0.5\"><title>%s</title></rect>",
                  shade, x, y, map_look(shade)->text);
}

static void print_legend(FILE *out) {
    char size[CLI_SIZE_BYTES];
    (void)fprintf(out,
                  "<text x=\"%u\" y=\"228\">Cells. Runs of small blocks, by how much of the run is "
                  "used (up to a quarter, a half, three quarters, more):</text>\n",
                  LEFT);
    for (uint32_t group = 0; group < SMALL_GROUPS; group++) {
        uint32_t x = LEFT + group * (GRID_WIDTH / 5);
        for (uint32_t level = 0; level < SMALL_LEVELS; level++) {
            print_swatch(out, SHADE_SMALL + group * SMALL_LEVELS + level, x + level * 16, 236);
        }
        (void)fprintf(out, "<text x=\"%u\" y=\"247\">up to %s</text>\n", x + 70,
                      cli_size_text(map_group_bytes(group), size));
    }
    for (uint32_t shade = SHADE_LARGE; shade < SHADE_METADATA; shade++) {
        uint32_t at = shade - SHADE_LARGE;
        uint32_t x = LEFT + at % 4 * (GRID_WIDTH / 4);
        uint32_t y = 258 + at / 4 * 18;
        print_swatch(out, shade, x, y);
        (void)fprintf(out, "<text x=\"%u\" y=\"%u\">%s</text>\n", x + 20, y + 11,
                      map_look(shade)->text);
    }
}

static void print_head(FILE *out, const struct map_view *view, const struct map_grid *grid) {
    struct map_figures figures;
    char size[CLI_SIZE_BYTES];
    map_figures(view->map, &figures);
    (void)fprintf(out, "<text x=\"%u\" y=\"28\" class=\"title\">", LEFT);
    map_print_escaped(out, view->path);
    (void)fprintf(out, "</text>\n<text x=\"%u\" y=\"50\" class=\"axis\">", LEFT);
    map_print_scale(out, view, grid);
    (void)fprintf(out, "; %s</text>\n", view->when);
    (void)fprintf(out, "<text x=\"%u\" y=\"84\">Storage: %s, of which %s is user data", LEFT,
                  cli_size_text(figures.stored_bytes, size),
                  cli_size_text(figures.data_bytes, (char[CLI_SIZE_BYTES]){0}));
    if (view->map->limit_bytes != 0) {
        (void)fprintf(out, "; limit %s", cli_size_text(view->map->limit_bytes, size));
    }
    (void)fputs("</text>\n", out);
    print_bar(out, &figures);
    print_figures(out, &figures);
    print_legend(out);
    (void)fprintf(out, "<text x=\"%u\" y=\"%u\" class=\"label\">chunk</text>\n", LEFT - 8,
                  HEAD_HEIGHT - 6);
}

void map_print_svg(FILE *out, const struct map_view *view) {
    struct pen pen = {.out = out, .map = view->map, .y = HEAD_HEIGHT};
    map_fit(view->map, COLUMNS, ROWS_MAX, view->zoom, &pen.grid);
    pen.cells = calloc(COLUMNS, sizeof(pen.cells[0]));
    if (pen.cells == NULL) {
        return;
    }
    uint32_t height = HEAD_HEIGHT + 16;
    for (uint32_t row = 0; row < pen.grid.rows;) {
        uint32_t empty = empty_rows(view->map, &pen.grid, row);
        height += row_distance(view->map, &pen.grid, row, empty);
        row += empty > 1 ? empty : 1;
    }
    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
                  "viewBox=\"0 0 %u %u\">\n",
                  WIDTH, height, WIDTH, height);
    print_style(out);
    (void)fprintf(out, "<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n", WIDTH, height);
    print_head(out, view, &pen.grid);
    for (uint32_t row = 0; row < pen.grid.rows;) {
        row += print_rows(&pen, row);
    }
    (void)fputs("</svg>\n", out);
    free(pen.cells);
}
