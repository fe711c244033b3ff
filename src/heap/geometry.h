/* geometry.h -- from the handle or an address to each part of the file.
 *
 * Where a table begins follows from the length of the file, so it is computed, not stored.
 */
#ifndef SHARENA_HEAP_GEOMETRY_H
#define SHARENA_HEAP_GEOMETRY_H

#include "heap/offsets.h"

/* Sizes that depend on the capacity; computed from total_bytes, so they are not stored. */
struct heap_geometry {
    uint64_t kinds_offset;
    uint64_t runs_offset;
    uint64_t chunks_offset;
    uint64_t data_offset;
    uint64_t total_bytes;
};

static inline uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

static inline struct heap_geometry geometry_of(uint64_t total_bytes) {
    struct heap_geometry geometry;
    uint64_t pages = total_bytes >> LG_PAGE;
    geometry.total_bytes = total_bytes;
    geometry.kinds_offset = PAGE_MAP_OFFSET + round_up(pages * sizeof(uint16_t), PAGE_BYTES);
    geometry.runs_offset = geometry.kinds_offset + round_up(pages * sizeof(uint16_t), PAGE_BYTES);
    geometry.chunks_offset = geometry.runs_offset + pages * sizeof(struct run);
    /* What the first chunk adds to page_map and kinds begins a page of them, and is charged. */
    geometry.data_offset =
        round_up(geometry.chunks_offset + (total_bytes >> LG_CHUNK) * sizeof(struct chunk),
                 (uint64_t)PAGE_BYTES / sizeof(uint16_t) * PAGE_BYTES);
    return geometry;
}

/* ---- from the handle to each part ---- */

static inline struct pool *heap_pool(const sharena_t *heap) {
    return (struct pool *)(void *)(heap_bytes(heap) + POOL_OFFSET);
}

static inline struct root_table *heap_roots(const sharena_t *heap) {
    return (struct root_table *)(void *)(heap_bytes(heap) + ROOTS_OFFSET);
}

static inline struct arena *heap_arena(const sharena_t *heap, uint32_t index) {
    return (struct arena *)(void *)(heap_bytes(heap) + ARENAS_OFFSET +
                                    (uint64_t)index * ARENA_STRIDE);
}

static inline struct module *heap_module(const sharena_t *heap, uint32_t index) {
    return (struct module *)(void *)(heap_bytes(heap) + MODULES_OFFSET) + index;
}

static inline struct sample *heap_sample(const sharena_t *heap, uint32_t index) {
    return (struct sample *)(void *)(heap_bytes(heap) + SAMPLES_OFFSET) + index;
}

static inline shared_u16 *heap_page_map(const sharena_t *heap) {
    return (shared_u16 *)(void *)(heap_bytes(heap) + PAGE_MAP_OFFSET);
}

static inline shared_u16 *heap_page_kind(const sharena_t *heap, uint32_t page) {
    uint64_t kinds = geometry_of(heap_superblock(heap)->total_bytes).kinds_offset;
    return (shared_u16 *)(void *)(heap_bytes(heap) + kinds) + page;
}

static inline struct run *heap_run(const sharena_t *heap, uint32_t page) {
    uint64_t runs = geometry_of(heap_superblock(heap)->total_bytes).runs_offset;
    return (struct run *)(void *)(heap_bytes(heap) + runs) + page;
}

static inline struct chunk *heap_chunk(const sharena_t *heap, uint32_t chunk) {
    uint64_t chunks = geometry_of(heap_superblock(heap)->total_bytes).chunks_offset;
    return (struct chunk *)(void *)(heap_bytes(heap) + chunks) + chunk;
}

static inline struct tcache *slot_tcache(struct thread_slot *slot) {
    return (struct tcache *)(void *)((char *)slot + THREAD_SLOT_HEAP_OFFSET);
}

/* The heap that a slot lies in, at a place that its index tells. */
static inline sharena_t *slot_heap(struct thread_slot *slot) {
    return (sharena_t *)(void *)((char *)slot - THREADS_OFFSET -
                                 (uint64_t)shared_get(&slot->index) * THREAD_SLOT_BYTES);
}

static inline struct quarantine *slot_quarantine(struct thread_slot *slot) {
    return (struct quarantine *)(void *)((char *)slot + THREAD_SLOT_BYTES -
                                         sizeof(struct quarantine));
}

static inline shared_ptr *slot_quarantine_storage(struct thread_slot *slot) {
    return (shared_ptr *)(void *)((char *)slot + (QUARANTINES_OFFSET - THREADS_OFFSET));
}

/* The first chunk of user data, and the one behind the last that was ever used. */
static inline uint32_t first_chunk(const sharena_t *heap) {
    return (uint32_t)(heap_superblock(heap)->data_offset >> LG_CHUNK);
}

static inline uint32_t end_chunk(const sharena_t *heap) {
    return first_chunk(heap) + (uint32_t)(shared_get(&heap_state(heap)->data_bytes) >> LG_CHUNK);
}

/* Whether ptr lies in user data whose metadata exists. */
static inline int is_user_data(const sharena_t *heap, const void *ptr) {
    const struct heap_state *state = heap_state(heap);
    return (uintptr_t)ptr - state->data_begin < shared_get(&state->data_bytes);
}

static inline uint32_t chunk_of_page(uint32_t page) {
    return page >> (LG_CHUNK - LG_PAGE);
}

static inline uint32_t first_page_of_chunk(uint32_t chunk) {
    return chunk << (LG_CHUNK - LG_PAGE);
}

static inline uint32_t page_of(const sharena_t *heap, const void *ptr) {
    return (uint32_t)(heap_offset(heap, ptr) >> LG_PAGE);
}

static inline void *page_address(const sharena_t *heap, uint32_t page) {
    return heap_bytes(heap) + ((uint64_t)page << LG_PAGE);
}

#endif
