/* huge.c -- huge blocks: whole chunks, of which only what the block needs is backed.
 *
 * Holds:  chunk.state == CHUNK_HUGE, page_map of its first page names its class (or "not cached")
 *         chunk.backed >= pages of its class: leading pages that are backed           (audited)
 * Lock:   pool.lock (rank POOL). At most three tree operations a section
 * Killed: anywhere: sections are undone; new chunks are in the hand; pages behind the block that
 *         are being backed are in the hand too (HAND_TAIL)
 * Not here: free spans (chunk.c), caching (tcache.c).
 */
#include "heap/huge.h"

#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap/large.h"
#include "heap/prof_samples.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

static uint32_t class_pages(uint32_t size_class) {
    return (uint32_t)(sizeclass_bytes(size_class) / PAGE_BYTES);
}

static uint32_t chunks_for(uint32_t pages) {
    return (pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
}

/* Section: the block has that class, that many chunks, of which so many leading pages
 * are backed. */
static void become(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t chunks,
                   uint32_t size_class, uint32_t backed) {
    struct chunk *chunk = heap_chunk(heap, first);
    pool_mark_span(heap, self, first, chunks, CHUNK_HUGE);
    journal_set(self, &chunk->size_class, (uint16_t)size_class);
    journal_set(self, &chunk->backed, backed);
    prof_enter_block(
        heap, self, page_address(heap, first_page_of_chunk(first)),
        stack_offset_of(size_class < SIZE_CLASSES_LARGE_END ? SIZE_CLASSES_CACHED : size_class),
        &chunk->left);
}

/* Section: the block gets another class. */
static void recount(sharena_t *heap, struct thread_slot *self, uint32_t first,
                    uint32_t size_class) {
    struct pool *pool = heap_pool(heap);
    large_count_given(self, pool->huge, shared_get(&heap_chunk(heap, first)->size_class));
    large_count_taken(self, pool->huge, size_class);
}

static void empty_hand(struct thread_slot *self) {
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_set(self, &self->hand.charged, 0u);
}

void *huge_alloc(sharena_t *heap, struct thread_slot *self, uint32_t size_class, uint32_t align,
                 uint64_t *dirty_bytes) {
    struct pool *pool = heap_pool(heap);
    uint32_t pages = class_pages(size_class);
    uint32_t chunks = chunks_for(pages);
    if (pool_take(heap, self, chunks, align) != 0) {
        return NULL;
    }
    uint32_t first = shared_get(&self->hand.first);
    uint32_t backed = shared_get(&heap_chunk(heap, first)->backed);
    if (backed < pages &&
        backing_add(heap, self, first_page_of_chunk(first) + backed, pages - backed) != 0) {
        pool_give(heap, self);
        return NULL;
    }
    void *block = page_address(heap, first_page_of_chunk(first));
    *dirty_bytes = (uint64_t)(backed < pages ? backed : pages) * PAGE_BYTES;
    lock_acquire(heap, self, &pool->lock);
    become(heap, self, first, chunks, size_class, backed < pages ? pages : backed);
    large_count_taken(self, pool->huge, size_class);
    empty_hand(self);
    journal_set(self, &self->pending.block, block);
    journal_set(self, &self->pending.kind, PENDING_MALLOC);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return block;
}

int huge_is_block(const sharena_t *heap, const void *ptr) {
    uint32_t page = page_of(heap, ptr);
    return shared_get(heap_page_map(heap) + page) != 0 && page % CHUNK_PAGES == 0 &&
           heap_offset(heap, ptr) % PAGE_BYTES == 0 &&
           shared_get(&heap_chunk(heap, chunk_of_page(page))->state) == CHUNK_HUGE;
}

void huge_free(sharena_t *heap, struct thread_slot *self, void *ptr, struct tcache_stack *stack) {
    struct pool *pool = heap_pool(heap);
    uint32_t page = page_of(heap, ptr);
    lock_acquire(heap, self, &pool->lock);
    int is_live = huge_is_block(heap, ptr);
    if (is_live) {
        struct chunk *chunk = heap_chunk(heap, chunk_of_page(page));
        prof_remove_block(heap, self, page, &chunk->left);
        large_count_given(self, pool->huge, shared_get(&chunk->size_class));
        pool_insert_free(heap, self, chunk_of_page(page), shared_get(&chunk->size),
                         shared_get(&chunk->backed));
        large_end_owner(self, stack);
        journal_commit(self);
    }
    lock_release(heap, self, &pool->lock);
    prof_give(heap, self);
    if (!is_live) {
        large_drop(heap, self, stack, ptr);
    }
}

/* Section: the chunks behind the new size become free. */
static void shrink_section(sharena_t *heap, struct thread_slot *self, uint32_t first,
                           uint32_t chunks, uint32_t size_class) {
    const struct chunk *chunk = heap_chunk(heap, first);
    uint32_t size = shared_get(&chunk->size);
    uint32_t backed = shared_get(&chunk->backed);
    uint32_t kept = chunks * CHUNK_PAGES;
    recount(heap, self, first, size_class);
    become(heap, self, first, chunks, size_class, backed < kept ? backed : kept);
    if (size > chunks) {
        pool_insert_free(heap, self, first + chunks, size - chunks,
                         backed > kept ? backed - kept : 0);
    }
}

/* Backs the block's own pages from `backed` to `end`, which no one owns but the block. */
static int back_tail(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t backed,
                     uint32_t end) {
    struct pool *pool = heap_pool(heap);
    if (backed >= end) {
        return 1;
    }
    journal_set(self, &self->hand.kind, HAND_TAIL);
    journal_commit(self);
    int error = backing_add(heap, self, first_page_of_chunk(first) + backed, end - backed);
    lock_acquire(heap, self, &pool->lock);
    if (error == 0) {
        journal_set(self, &heap_chunk(heap, first)->backed, end);
    }
    empty_hand(self);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return error == 0;
}

/* The chunks that are missing, right behind the block, into the hand and wholly backed as far as
 * needed. */
static int take_behind(sharena_t *heap, struct thread_slot *self, uint32_t next, uint32_t missing,
                       uint32_t pages) {
    struct pool *pool = heap_pool(heap);
    lock_acquire(heap, self, &pool->lock);
    int taken = pool_take_at(heap, self, next, missing);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    if (!taken) {
        return 0;
    }
    uint32_t backed = shared_get(&heap_chunk(heap, next)->backed);
    if (backed < pages &&
        backing_add(heap, self, first_page_of_chunk(next) + backed, pages - backed) != 0) {
        pool_give(heap, self);
        return 0;
    }
    return 1;
}

static int grow(sharena_t *heap, struct thread_slot *self, uint32_t first, uint32_t pages,
                uint32_t size_class) {
    struct pool *pool = heap_pool(heap);
    const struct chunk *chunk = heap_chunk(heap, first);
    uint32_t size = shared_get(&chunk->size);
    uint32_t chunks = chunks_for(pages);
    uint32_t own_end = size * CHUNK_PAGES;
    if (!back_tail(heap, self, first, shared_get(&chunk->backed),
                   pages < own_end ? pages : own_end)) {
        return 0;
    }
    uint32_t behind = chunks > size ? pages - own_end : 0;
    if (behind != 0 && !take_behind(heap, self, first + size, chunks - size, behind)) {
        return 0;
    }
    lock_acquire(heap, self, &pool->lock);
    uint32_t backed = shared_get(&chunk->backed);
    if (behind != 0) {
        uint32_t more = shared_get(&heap_chunk(heap, first + size)->backed);
        backed += more < behind ? behind : more;
    }
    recount(heap, self, first, size_class);
    become(heap, self, first, chunks, size_class, backed);
    empty_hand(self);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return 1;
}

int huge_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class) {
    struct pool *pool = heap_pool(heap);
    uint32_t first = chunk_of_page(page_of(heap, ptr));
    uint32_t pages = class_pages(size_class);
    const struct chunk *chunk = heap_chunk(heap, first);
    uint32_t size =
        shared_get(&chunk->size); /* ours: the block is live, and its owner is calling */
    if (pages > size * CHUNK_PAGES || pages > shared_get(&chunk->backed)) {
        return grow(heap, self, first, pages, size_class);
    }
    lock_acquire(heap, self, &pool->lock);
    shrink_section(heap, self, first, chunks_for(pages), size_class);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return 1;
}
