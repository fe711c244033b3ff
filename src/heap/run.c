/* run.c -- the free runs of an arena: found, carved, split, coalesced.
 *
 * Holds:  runs tile each chunk of the arena; two free runs side by side differ in kind   (audited)
 *         page_kind of the first and last page of each run tells its kind and its distance
 *         chunk.free_pages counts the pages of the chunk's free runs
 * Lock:   the arena's. At most three tree operations and 20 other entries a section
 * Killed: the journal takes it back
 * Not here: where the pages go (arena.c, large.c).
 */
#include "heap/run.h"

#include "ipc/journal.h"

struct tree run_tree(const sharena_t *heap, struct arena *arena, int dirty) {
    return (struct tree){(char *)heap_run(heap, 0), sizeof(struct run),
                         dirty ? &arena->free_dirty : &arena->free_clean};
}

static void mark_kinds(sharena_t *heap, struct thread_slot *self, uint32_t page, uint32_t pages,
                       uint32_t kind) {
    journal_set(self, heap_page_kind(heap, page), (uint16_t)kind);
    journal_set(self, heap_page_kind(heap, page + pages - 1), (uint16_t)(kind | (pages - 1)));
}

void run_mark_used(sharena_t *heap, struct thread_slot *self, uint32_t page, uint32_t pages,
                   enum run_state state) {
    struct run *run = heap_run(heap, page);
    journal_set(self, &run->state, (uint16_t)state);
    journal_set(self, &run->size, pages);
    mark_kinds(heap, self, page, pages, 0);
}

static void unlink_free(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                        uint32_t page) {
    const struct run *run = heap_run(heap, page);
    uint32_t pages = shared_get(&run->size);
    int dirty = run_is_dirty(run);
    tree_remove(self, run_tree(heap, arena, dirty), page);
    if (dirty) {
        journal_set(self, &arena->pages_dirty, shared_get(&arena->pages_dirty) - pages);
    }
}

static void link_free(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
                      uint32_t pages, int dirty, int zero) {
    struct run *run = heap_run(heap, page);
    journal_set(self, &run->size, pages);
    journal_set(self, &run->state, (uint16_t)(dirty ? RUN_FREE_DIRTY : RUN_FREE_CLEAN));
    journal_set(self, &run->extra, zero ? RUN_ZERO : 0u);
    journal_set(self, &run->arena, (uint16_t)arena_index(heap, arena));
    mark_kinds(heap, self, page, pages, dirty ? KIND_FREE | KIND_DIRTY : KIND_FREE);
    tree_insert(self, run_tree(heap, arena, dirty), page);
    if (dirty) {
        journal_set(self, &arena->pages_dirty, shared_get(&arena->pages_dirty) + pages);
    }
}

static uint32_t kind_of(int dirty) {
    return dirty ? KIND_FREE | KIND_DIRTY : KIND_FREE;
}

int run_insert_free(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
                    uint32_t pages, int dirty, int zero) {
    struct chunk *chunk = heap_chunk(heap, chunk_of_page(page));
    uint32_t free_pages = shared_get(&chunk->free_pages) + pages;
    CHECK(free_pages <= CHUNK_PAGES);
    journal_set(self, &chunk->free_pages, (uint16_t)free_pages);
    if (page % CHUNK_PAGES != 0) {
        uint32_t kind = shared_get(heap_page_kind(heap, page - 1));
        if ((kind & (KIND_FREE | KIND_DIRTY)) == kind_of(dirty)) {
            uint32_t before = page - 1 - (kind & KIND_DISTANCE);
            zero = zero && shared_get(&heap_run(heap, before)->extra) == RUN_ZERO;
            unlink_free(heap, self, arena, before);
            pages += page - before;
            page = before;
        }
    }
    uint32_t after = page + pages;
    if (after % CHUNK_PAGES != 0 &&
        (shared_get(heap_page_kind(heap, after)) & (KIND_FREE | KIND_DIRTY)) == kind_of(dirty)) {
        zero = zero && shared_get(&heap_run(heap, after)->extra) == RUN_ZERO;
        pages += shared_get(&heap_run(heap, after)->size);
        unlink_free(heap, self, arena, after);
    }
    link_free(heap, self, arena, page, pages, dirty, zero);
    return free_pages == CHUNK_PAGES;
}

int run_carve(sharena_t *heap, struct thread_slot *self, struct arena *arena, uint32_t page,
              uint32_t start, uint32_t pages, enum run_state state) {
    struct run *run = heap_run(heap, page);
    uint32_t size = shared_get(&run->size);
    int dirty = run_is_dirty(run);
    int zero = shared_get(&run->extra) == RUN_ZERO;
    uint32_t skip = start - page;
    uint32_t rest = size - skip - pages;
    uint32_t chunk_idx = chunk_of_page(page);
    struct chunk *chunk = heap_chunk(heap, chunk_idx);
    unlink_free(heap, self, arena, page);
    journal_set(self, &chunk->free_pages, (uint16_t)(shared_get(&chunk->free_pages) - pages));
    if (shared_get(&arena->spare) == chunk_idx) {
        journal_set(self, &arena->spare, 0u);
    }
    if (skip != 0) {
        link_free(heap, self, arena, page, skip, dirty, zero);
    }
    if (rest != 0) {
        link_free(heap, self, arena, start + pages, rest, dirty, zero);
    }
    run_mark_used(heap, self, start, pages, state);
    journal_set(self, &heap_run(heap, start)->arena, (uint16_t)arena_index(heap, arena));
    return zero;
}

uint32_t run_find(const sharena_t *heap, struct arena *arena, int dirty, uint32_t pages,
                  uint32_t align, uint32_t *start) {
    uint32_t page = tree_fit(run_tree(heap, arena, dirty), pages + align - 1);
    *start = (uint32_t)round_up(page, align);
    return page;
}

uint32_t run_free_at(const sharena_t *heap, uint32_t page) {
    if (page % CHUNK_PAGES == 0 || (shared_get(heap_page_kind(heap, page)) & KIND_FREE) == 0) {
        return 0;
    }
    return shared_get(&heap_run(heap, page)->size);
}
