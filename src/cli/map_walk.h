/* map_walk.h -- what lies where in a heap, read without a lock: spans, one behind the other. */
#ifndef SHARENA_CLI_MAP_WALK_H
#define SHARENA_CLI_MAP_WALK_H

#include "heap/geometry.h"

enum map_kind {
    MAP_SMALL,  /* cut into regions of one class */
    MAP_LARGE,  /* one block */
    MAP_HUGE,   /* one block of whole chunks */
    MAP_TAIL,   /* of a huge block's last chunk, what its class does not need */
    MAP_DIRTY,  /* free, still holds storage */
    MAP_CLEAN,  /* free within a chunk that an arena has: a hole in the file */
    MAP_POOL,   /* free chunks in the pool, holes too */
    MAP_MOVING, /* in some thread's hand, or changed while it was read */
    MAP_KINDS
};

#define MAP_NO_ARENA UINT32_MAX

struct map_span {
    uint32_t first; /* its first page, by the number in the file */
    uint32_t pages;
    uint32_t backed; /* leading pages that hold storage by the books */
    uint32_t arena;  /* or MAP_NO_ARENA */
    uint32_t blocks; /* that it can hold: regions; 1 if large or huge; 0 if it is no block */
    uint32_t used;   /* of these, the application's */
    uint32_t cached; /* and those in caches of threads */
    uint16_t size_class;
    uint16_t kind; /* enum map_kind */
};

struct map {
    struct map_span *spans; /* tile [first_page, end_page), in order */
    uint32_t count;
    uint32_t room;
    uint32_t first_page; /* of chunk 0 */
    uint32_t end_page;   /* behind the last chunk that was ever used */
    uint32_t arenas;
    uint64_t capacity_bytes; /* of user data */
    uint64_t limit_bytes;
    uint64_t metadata_bytes; /* that hold storage */
};

/* Reads the heap; what changes meanwhile is seen as it was or as it is, or as MAP_MOVING. 0, or
 * ENOMEM with error_set. */
int map_read(const sharena_t *heap, struct map *map) __attribute__((warn_unused_result));
void map_free(struct map *map);

/* The span that has that page, which lies in [first_page, end_page). */
const struct map_span *map_at(const struct map *map, uint32_t page);

/* Bytes of one of its blocks; 0 if it has none. */
uint64_t map_block_bytes(const struct map_span *span);

/* "small", "large", ...: as --json has it. */
const char *map_kind_name(enum map_kind kind);

/* Sums over all spans. */
struct map_sums {
    uint64_t pages[MAP_KINDS];
    uint64_t spans[MAP_KINDS];
    uint64_t used_bytes[MAP_KINDS];   /* of the application's blocks */
    uint64_t cached_bytes[MAP_KINDS]; /* of the blocks in caches */
    uint64_t backed_pages;
    uint64_t largest_free_pages; /* the longest stretch of free pages within one arena's chunk, or
                                    of free chunks */
};
void map_add_up(const struct map *map, struct map_sums *sums);

#endif
