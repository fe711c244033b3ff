/* map_draw.h -- the pictures that there are of a heap. */
#ifndef SHARENA_CLI_MAP_DRAW_H
#define SHARENA_CLI_MAP_DRAW_H

#include <stdio.h>

#include "cli/map_cells.h"

enum map_colours { COLOURS_NONE, COLOURS_256, COLOURS_TRUE };

struct map_view {
    const struct map *map;
    const char *path;         /* of the heap */
    uint64_t read_ns;         /* CLOCK_REALTIME */
    const char *when;         /* the same for people */
    uint32_t zoom;            /* pages of a cell, a power of two; 0: so that it fits */
    uint32_t width;           /* text: of the terminal */
    enum map_colours colours; /* text */
};

/* Letters, or coloured letters. */
void map_print_text(FILE *out, const struct map_view *view);

/* A picture with a legend; each stretch of equal cells is one element, with a title. */
void map_print_svg(FILE *out, const struct map_view *view);

/* The same in a page of its own, with tables. */
void map_print_html(FILE *out, const struct map_view *view);

/* All spans, on stdout. */
void map_print_json(const struct map_view *view);

/* `text` with what XML and HTML give a meaning replaced, and what is not printable. */
void map_print_escaped(FILE *out, const char *text);

/* How much of the heap is drawn, and what a cell and a row are. */
void map_print_scale(FILE *out, const struct map_view *view, const struct map_grid *grid);

#endif
