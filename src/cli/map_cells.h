/* map_cells.h -- the heap as rows of cells, and what each shade of a cell means. */
#ifndef SHARENA_CLI_MAP_CELLS_H
#define SHARENA_CLI_MAP_CELLS_H

#include "cli/cli.h"
#include "cli/map_walk.h"

/* ---- shades: what a page is, and how full ---- */

#define SMALL_GROUPS 4u /* of size classes, a hue each */
#define SMALL_LEVELS 4u /* quarters of a run's regions that the application has */

enum map_shade {
    SHADE_SMALL, /* + group * SMALL_LEVELS + level */
    SHADE_LARGE = SHADE_SMALL + SMALL_GROUPS * SMALL_LEVELS,
    SHADE_HUGE,
    SHADE_CACHED,
    SHADE_TAIL,
    SHADE_DIRTY,
    SHADE_CLEAN,
    SHADE_POOL,
    SHADE_MOVING,
    SHADE_METADATA, /* of no cell: for sums */
    MAP_SHADES
};

struct map_look {
    char letter;
    uint32_t rgb;
    const char *text;
};

const struct map_look *map_look(uint32_t shade);
uint32_t map_shade(const struct map_span *span);

/* The group of a small class, and the size of the largest block of a group. */
uint32_t map_group(uint32_t size_class);
uint32_t map_group_bytes(uint32_t group);

/* ---- the grid ---- */

#define GRID_COLUMNS_MAX 512u

struct map_grid {
    uint32_t zoom;    /* pages of a cell, a power of two */
    uint32_t columns; /* cells of a row, a power of two */
    uint32_t rows;
};

struct map_cell {
    uint32_t pages[MAP_SHADES]; /* how many of each shade; together `zoom`, or 0 behind the end */
};

/* zoom 0: the least that needs at most rows_max rows. */
void map_fit(const struct map *map, uint32_t columns, uint32_t rows_max, uint32_t zoom,
             struct map_grid *grid);

/* The cells of one row. */
void map_cells(const struct map *map, const struct map_grid *grid, uint32_t row,
               struct map_cell *cells);

/* The first page of a row. */
uint32_t map_row_page(const struct map *map, const struct map_grid *grid, uint32_t row);

/* The shade that most pages of the cell have; MAP_SHADES if it has none. */
uint32_t map_main_shade(const struct map_cell *cell);

/* ---- where the storage is ---- */

struct map_part {
    uint32_t shade; /* its colour */
    uint64_t bytes;
    char text[48];
};

#define MAP_PARTS 10u

struct map_figures {
    struct map_part parts[MAP_PARTS]; /* together `stored_bytes` */
    uint64_t stored_bytes;            /* in the file system, by the books: data and metadata */
    uint64_t data_bytes;              /* of this, of user data */
    uint64_t used_bytes;              /* of this, in blocks of the application */
    uint64_t small_run_bytes;         /* of runs of small blocks ... */
    uint64_t small_used_bytes;        /* ... and of this, used */
    uint64_t free_bytes;              /* of free pages, backed or not */
    uint64_t largest_free_bytes;      /* the longest stretch of them */
    uint64_t hole_bytes;              /* of the used part of the file, without storage */
};
void map_figures(const struct map *map, struct map_figures *figures);

/* part / whole in percent; 0 if there is no whole. */
double map_percent(uint64_t part, uint64_t whole);

#endif
