/* locate.c -- which block an address is in, for those who report on it.
 *
 * The page map tells where blocks begin, not what is in the middle of them. So this walks: the
 * spans of chunks up to the address, then the runs of its chunk. Nothing that is read leads out of
 * the tables, whatever it says.
 *
 * Lock:   none
 * Killed: nothing shared is touched
 * Not here: whether a block is live, and in whose cache (bin.c, holders.c).
 */
#include "heap/locate.h"

static const struct located nowhere = {NULL, 0};

static struct located if_inside(const char *block, uint32_t size_class, const void *ptr) {
    size_t bytes = sizeclass_bytes(size_class);
    if ((uintptr_t)ptr - (uintptr_t)block >= bytes) {
        return nowhere;
    }
    return (struct located){block, bytes};
}

static struct located in_region(const sharena_t *heap, uint32_t first, uint32_t size_class,
                                const void *ptr) {
    const struct run_shape *shape = sizeclass_run_shape(size_class);
    const char *begin = page_address(heap, first);
    uint64_t region = ((uintptr_t)ptr - (uintptr_t)begin) / shape->region_bytes;
    return region < shape->regions
               ? if_inside(begin + region * shape->region_bytes, size_class, ptr)
               : nowhere;
}

static struct located in_run(const sharena_t *heap, uint32_t first, const void *ptr) {
    const struct run *run = heap_run(heap, first);
    uint32_t state = shared_get(&run->state);
    uint32_t size_class = shared_get(&run->size_class);
    if (state == RUN_BIN && size_class < SIZE_CLASSES_SMALL) {
        return in_region(heap, first, size_class, ptr);
    }
    if (state == RUN_LARGE && size_class < SIZE_CLASSES_LARGE_END) {
        const char *begin = page_address(heap, first);
        return if_inside(begin + shared_get(&run->extra) % PAGE_BYTES, size_class, ptr);
    }
    return nowhere;
}

static struct located in_arena_chunk(const sharena_t *heap, uint32_t chunk, const void *ptr) {
    uint32_t page = first_page_of_chunk(chunk);
    uint32_t end = first_page_of_chunk(chunk + 1);
    while (page < end) {
        uint32_t pages = shared_get(&heap_run(heap, page)->size);
        if (pages == 0 || pages > end - page) {
            return nowhere;
        }
        if (page_of(heap, ptr) < page + pages) {
            return in_run(heap, page, ptr);
        }
        page += pages;
    }
    return nowhere;
}

struct located locate_block(const sharena_t *heap, const void *ptr) {
    if (!is_user_data(heap, ptr)) {
        return nowhere;
    }
    uint32_t wanted = chunk_of_page(page_of(heap, ptr));
    uint32_t end = end_chunk(heap);
    uint32_t size = 1;
    for (uint32_t c = first_chunk(heap); c < end && c <= wanted; c += size) {
        const struct chunk *chunk = heap_chunk(heap, c);
        uint32_t state = shared_get(&chunk->state);
        size = state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
        size = size == 0 || size > end - c ? 1 : size;
        if (wanted - c < size && state == CHUNK_ARENA) {
            return in_arena_chunk(heap, c, ptr);
        }
        if (wanted - c < size && state == CHUNK_HUGE &&
            shared_get(&chunk->size_class) < SIZE_CLASSES_MAX) {
            return if_inside(page_address(heap, first_page_of_chunk(c)),
                             shared_get(&chunk->size_class), ptr);
        }
    }
    return nowhere;
}
