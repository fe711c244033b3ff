/* map_walk.c -- what lies where in a heap, read without a lock: spans, one behind the other.
 *
 * A heap that is attached read-only cannot be locked, so the tables may change while they are read.
 * Nothing read there is followed before it was compared with what can be: a wrong number makes
 * pages MAP_MOVING, and never leads out of the tables.
 *
 * Holds:  spans tile [first_page, end_page); used + cached <= blocks                    (tested)
 *         only entries of the run table whose chunk says that it has them are read: reading a hole
 *         of a file in memory would fill it
 * Lock:   none
 * Killed: nothing shared is changed
 * Not here: what it looks like (map_cells.c and those that draw).
 */
#include "cli/map_walk.h"

#include <errno.h>
#include <stdlib.h>

#include "heap/census.h"
#include "heap/tcache.h"
#include "ipc/errors.h"

/* ---- the list ---- */

static int add_span(struct map *map, const struct map_span *span) {
    if (map->count == map->room) {
        uint32_t room = map->room == 0 ? 1024 : map->room * 2;
        struct map_span *spans = realloc(map->spans, (size_t)room * sizeof(spans[0]));
        if (spans == NULL) {
            return error_set(ENOMEM, "no memory for a map of %u spans", room);
        }
        map->spans = spans;
        map->room = room;
    }
    map->spans[map->count++] = *span;
    return 0;
}

static int add_free(struct map *map, enum map_kind kind, uint32_t first, uint32_t pages,
                    uint32_t arena) {
    struct map_span span = {.first = first, .pages = pages, .arena = arena, .kind = (uint16_t)kind};
    span.backed = kind == MAP_DIRTY ? pages : 0;
    return pages == 0 ? 0 : add_span(map, &span);
}

const struct map_span *map_at(const struct map *map, uint32_t page) {
    uint32_t low = 0;
    uint32_t high = map->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (map->spans[middle].first <= page) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &map->spans[low];
}

uint64_t map_block_bytes(const struct map_span *span) {
    return span->blocks == 0 ? 0 : sizeclass_bytes(span->size_class);
}

const char *map_kind_name(enum map_kind kind) {
    static const char *const names[MAP_KINDS] = {"small", "large", "huge", "tail",
                                                 "dirty", "clean", "pool", "moving"};
    return names[kind];
}

/* ---- runs of an arena's chunk ---- */

static int add_small(struct map *map, const struct run *run, struct map_span *span) {
    const struct run_shape *shape = sizeclass_run_shape(span->size_class);
    uint32_t free_regions = shared_get(&run->free_regions);
    if (span->pages != shape->pages || free_regions > shape->regions) {
        return add_span(map, span);
    }
    span->kind = MAP_SMALL;
    span->blocks = shape->regions;
    span->used = shape->regions - free_regions;
    span->backed = span->pages;
    return add_span(map, span);
}

static int add_run(struct map *map, const struct run *run, uint32_t page, uint32_t pages,
                   uint32_t arena) {
    uint32_t state = shared_get(&run->state);
    struct map_span span = {.first = page, .pages = pages, .arena = arena, .kind = MAP_MOVING};
    span.size_class = shared_get(&run->size_class);
    if (state == RUN_FREE_CLEAN || state == RUN_FREE_DIRTY) {
        return add_free(map, state == RUN_FREE_DIRTY ? MAP_DIRTY : MAP_CLEAN, page, pages, arena);
    }
    if (state == RUN_BIN && span.size_class < SIZE_CLASSES_SMALL) {
        return add_small(map, run, &span);
    }
    if (state == RUN_LARGE && span.size_class >= SIZE_CLASSES_SMALL &&
        span.size_class < SIZE_CLASSES_LARGE_END) {
        span.kind = MAP_LARGE;
        span.blocks = 1;
        span.used = 1;
        span.backed = pages;
    }
    return add_span(map, &span);
}

static int add_runs(struct map *map, const sharena_t *heap, uint32_t chunk) {
    const struct chunk *entry = heap_chunk(heap, chunk);
    uint32_t arena = shared_get(&entry->arena);
    uint32_t page = first_page_of_chunk(chunk);
    uint32_t end = first_page_of_chunk(chunk + 1);
    int error = 0;
    while (page < end && error == 0 && shared_get(&entry->has_runs) != 0 &&
           shared_get(&entry->state) == CHUNK_ARENA) {
        const struct run *run = heap_run(heap, page);
        uint32_t pages = shared_get(&run->size);
        if (pages == 0 || pages > end - page) {
            break;
        }
        error = add_run(map, run, page, pages, arena);
        page += pages;
    }
    return error == 0 ? add_free(map, MAP_MOVING, page, end - page, arena) : error;
}

/* ---- spans of chunks ---- */

static int add_huge(struct map *map, const struct chunk *entry, uint32_t first, uint32_t pages) {
    struct map_span span = {.first = first, .pages = pages, .arena = MAP_NO_ARENA};
    uint32_t size_class = shared_get(&entry->size_class);
    uint32_t backed = shared_get(&entry->backed);
    uint64_t needed =
        size_class < SIZE_CLASSES_MAX ? sizeclass_bytes(size_class) / PAGE_BYTES : UINT64_MAX;
    if (size_class < SIZE_CLASSES_SMALL || needed > pages) { /* large: a big alignment */
        return add_free(map, MAP_MOVING, first, pages, MAP_NO_ARENA);
    }
    span.kind = MAP_HUGE;
    span.size_class = (uint16_t)size_class;
    span.pages = (uint32_t)needed;
    span.backed = backed < span.pages ? backed : span.pages;
    span.blocks = 1;
    span.used = 1;
    int error = add_span(map, &span);
    if (error != 0 || span.pages == pages) {
        return error;
    }
    struct map_span tail = {.first = first + span.pages, .pages = pages - span.pages};
    tail.arena = MAP_NO_ARENA;
    tail.kind = MAP_TAIL;
    tail.backed = backed > span.pages ? backed - span.pages : 0;
    tail.backed = tail.backed < tail.pages ? tail.backed : tail.pages;
    return add_span(map, &tail);
}

static int add_pool(struct map *map, const struct chunk *entry, uint32_t first, uint32_t pages) {
    uint32_t backed = shared_get(&entry->backed);
    backed = backed < pages ? backed : pages;
    int error = add_free(map, MAP_DIRTY, first, backed, MAP_NO_ARENA);
    return error != 0 ? error
                      : add_free(map, MAP_POOL, first + backed, pages - backed, MAP_NO_ARENA);
}

/* One span of chunks, at most up to `end`; *next is the chunk behind it. */
static int add_chunks(struct map *map, const sharena_t *heap, uint32_t chunk, uint32_t end,
                      uint32_t *next) {
    const struct chunk *entry = heap_chunk(heap, chunk);
    uint32_t state = shared_get(&entry->state);
    uint32_t size = state == CHUNK_ARENA ? 1 : shared_get(&entry->size);
    size = size == 0 || size > end - chunk ? 1 : size;
    *next = chunk + size;
    uint32_t first = first_page_of_chunk(chunk);
    uint32_t pages = size * CHUNK_PAGES;
    switch (state) {
    case CHUNK_ARENA:
        return add_runs(map, heap, chunk);
    case CHUNK_HUGE:
        return add_huge(map, entry, first, pages);
    case CHUNK_FREE_CLEAN:
    case CHUNK_FREE_DIRTY:
        return add_pool(map, entry, first, pages);
    default:
        return add_free(map, MAP_MOVING, first, pages, MAP_NO_ARENA);
    }
}

/* ---- caches ---- */

/* A block in a cache is not the application's; one that is taken meanwhile counts as either. */
static void move_to_cache(struct map *map, const sharena_t *heap, const void *block) {
    uint64_t page = heap_offset(heap, block) >> LG_PAGE;
    if (page < map->first_page || page >= map->end_page) {
        return;
    }
    struct map_span *span = &map->spans[map_at(map, (uint32_t)page) - map->spans];
    if (span->used != 0) {
        span->used--;
        span->cached++;
    }
}

/* One stack, which its thread goes on using: no more than its storage has room for. */
static void read_stack(struct map *map, const sharena_t *heap, struct thread_slot *slot,
                       uint32_t size_class) {
    const struct tcache_stack *stack = &slot_tcache(slot)->stacks[size_class + 1];
    const shared_ptr *bottom = shared_get(&stack->bottom);
    const shared_ptr *top = shared_get(&stack->top);
    for (int is_grown = 0; is_grown <= 1; is_grown++) { /* neither: not opened yet */
        struct stack_home home = tcache_home(heap, slot, size_class + 1, is_grown);
        int is_at_home = bottom >= home.first && top <= home.first + home.entries &&
                         (uintptr_t)bottom % sizeof(*bottom) == 0;
        for (const shared_ptr *at = bottom; is_at_home && at < top; at++) {
            move_to_cache(map, heap, shared_get(at));
        }
    }
}

static void read_caches(struct map *map, const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high && i < THREADS_MAX && map->count != 0; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        for (uint32_t c = 0; shared_get(&slot->state) == SLOT_USED && c < SIZE_CLASSES_CACHED;
             c++) {
            read_stack(map, heap, slot, c);
        }
    }
}

/* ---- all of it ---- */

int map_read(const sharena_t *heap, struct map *map) {
    const struct superblock *superblock = heap_superblock(heap);
    uint64_t chunks_max = superblock->total_bytes >> LG_CHUNK;
    uint32_t end = end_chunk(heap);
    end = end < chunks_max ? end : (uint32_t)chunks_max;
    uint32_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    *map = (struct map){
        .first_page = first_page_of_chunk(first_chunk(heap)),
        .end_page = first_page_of_chunk(end),
        .arenas = arenas < ARENAS_MAX ? arenas : ARENAS_MAX,
        .capacity_bytes = superblock->total_bytes - superblock->data_offset,
        .limit_bytes = superblock->limit_bytes,
        .metadata_bytes = census_fixed_bytes(heap) + census_table_bytes(heap),
    };
    int error = 0;
    for (uint32_t chunk = first_chunk(heap); chunk < end && error == 0;) {
        error = add_chunks(map, heap, chunk, end, &chunk);
    }
    if (error != 0) {
        map_free(map);
        return error;
    }
    read_caches(map, heap);
    return 0;
}

void map_free(struct map *map) {
    free(map->spans);
    *map = (struct map){0};
}

static int is_free(const struct map_span *span) {
    return span->kind == MAP_DIRTY || span->kind == MAP_CLEAN || span->kind == MAP_POOL;
}

void map_add_up(const struct map *map, struct map_sums *sums) {
    uint64_t stretch = 0;
    *sums = (struct map_sums){.backed_pages = 0};
    for (uint32_t i = 0; i < map->count; i++) {
        const struct map_span *span = &map->spans[i];
        uint64_t bytes = map_block_bytes(span);
        sums->pages[span->kind] += span->pages;
        sums->spans[span->kind]++;
        sums->used_bytes[span->kind] += span->used * bytes;
        sums->cached_bytes[span->kind] += span->cached * bytes;
        sums->backed_pages += span->backed;
        int goes_on = i != 0 && is_free(span - 1) && (span - 1)->arena == span->arena &&
                      (span->arena == MAP_NO_ARENA || span->first % CHUNK_PAGES != 0);
        stretch = !is_free(span) ? 0 : goes_on ? stretch + span->pages : span->pages;
        sums->largest_free_pages =
            stretch > sums->largest_free_pages ? stretch : sums->largest_free_pages;
    }
}
