/* arena.c -- arenas: where runs come from and go back to.
 *
 * Holds:  pages_dirty == pages in free_dirty; spare is 0 or a wholly free chunk of this arena
 *         arenas below pool.arenas_made are initialised                               (audited)
 * Lock:   arena.lock (rank ARENA) for its runs and chunks; pool.lock for making and binding arenas.
 *         One at a time. Never while the kernel backs or punches
 * Killed: anywhere: sections are undone, and what travels is in the hand:
 *           pool --SPAN--> adopt --> free runs --RUN--> (back) --> caller    and the same way home
 * Not here: free runs themselves (run.c), who wants runs (bin.c, large.c).
 */
#include "heap/arena.h"

#include <errno.h>
#include <string.h>

#include "heap/backing.h"
#include "heap/chunk.h"
#include "heap/decay.h"
#include "heap/run.h"
#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define BATCH_PAGES_MIN 16u

static void set_hand_run(struct thread_slot *self, uint32_t arena, uint32_t page, uint32_t pages,
                         uint32_t flags) {
    journal_set(self, &self->hand.kind, HAND_RUN);
    journal_set(self, &self->hand.arena, arena);
    journal_set(self, &self->hand.first, page);
    journal_set(self, &self->hand.count, pages);
    journal_set(self, &self->hand.flags, flags);
}

/* Clean pages are backed in batches, a sixteenth of what the arena has, so that growth costs few
 * system calls and wastes little. */
static uint32_t batch_pages(const struct arena *arena, uint32_t wanted, uint32_t available) {
    uint32_t batch = shared_get(&arena->pages_used) / 16;
    batch = batch < BATCH_PAGES_MIN ? BATCH_PAGES_MIN : batch;
    batch = batch < wanted ? wanted : batch;
    return batch < available ? batch : available;
}

static void count_used(struct thread_slot *self, struct arena *arena, uint32_t more,
                       uint32_t less) {
    journal_set(self, &arena->pages_used, shared_get(&arena->pages_used) + more - less);
}

/* One try: takes from dirty, else from clean, `pages` pages or (clean) a batch of them. */
static int take_free(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t pages,
                     uint32_t align, int batched) {
    struct arena *arena = heap_arena(heap, index);
    uint32_t start;
    lock_acquire(heap, self, &arena->lock);
    int dirty = 1;
    uint32_t page = run_find(heap, arena, 1, pages, align, &start);
    if (page == 0) {
        dirty = 0;
        page = run_find(heap, arena, 0, pages, align, &start);
    }
    if (page != 0) {
        uint32_t available = shared_get(&heap_run(heap, page)->size) - (start - page);
        uint32_t take = dirty || !batched ? pages : batch_pages(arena, pages, available);
        int zero = run_carve(heap, self, arena, page, start, take, RUN_HAND);
        set_hand_run(self, index, start, take,
                     (dirty ? HAND_DIRTY : 0u) | (dirty && zero ? HAND_ZERO : 0u));
        count_used(self, arena, take, 0);
    }
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    return page != 0;
}

int arena_back_hand(sharena_t *heap, struct thread_slot *self) {
    int error =
        backing_add(heap, self, shared_get(&self->hand.first), shared_get(&self->hand.count));
    if (error == 0) {
        journal_set(self, &self->hand.charged, 0u);
        journal_set(self, &self->hand.flags, HAND_DIRTY | HAND_ZERO);
        journal_commit(self);
    }
    return error;
}

/* The hand has more than was wanted: the rest becomes a free run. */
static void give_rest(sharena_t *heap, struct thread_slot *self, uint32_t pages) {
    struct arena *arena = heap_arena(heap, shared_get(&self->hand.arena));
    uint32_t first = shared_get(&self->hand.first);
    uint32_t count = shared_get(&self->hand.count);
    uint32_t flags = shared_get(&self->hand.flags);
    if (count == pages) {
        return;
    }
    lock_acquire(heap, self, &arena->lock);
    run_mark_used(heap, self, first, pages, RUN_HAND);
    journal_set(self, &self->hand.count, pages);
    int emptied = run_insert_free(heap, self, arena, first + pages, count - pages,
                                  (flags & HAND_DIRTY) != 0, (flags & HAND_ZERO) != 0);
    CHECK(!emptied);
    count_used(self, arena, 0, count - pages);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
}

/* The chunk in the hand becomes the arena's: its backed pages one dirty run, the
 * others one clean. */
static void adopt_chunk(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    struct arena *arena = heap_arena(heap, index);
    uint32_t chunk_idx = shared_get(&self->hand.first);
    struct chunk *chunk = heap_chunk(heap, chunk_idx);
    uint32_t page = first_page_of_chunk(chunk_idx);
    uint32_t backed = shared_get(&chunk->backed);
    lock_acquire(heap, self, &arena->lock);
    journal_set(self, &chunk->state, CHUNK_ARENA);
    journal_set(self, &chunk->arena, (uint16_t)index);
    journal_set(self, &chunk->free_pages, 0);
    journal_set(self, &chunk->backed, 0u);
    journal_set(self, &arena->chunks, shared_get(&arena->chunks) + 1);
    if (backed != CHUNK_PAGES) { /* a kind of the chunk's former life must not be taken for a run */
        journal_set(self, heap_page_kind(heap, page + backed), 0);
    }
    if (backed != 0) {
        (void)run_insert_free(heap, self, arena, page, backed, 1, 0);
    }
    if (backed != CHUNK_PAGES) {
        (void)run_insert_free(heap, self, arena, page + backed, CHUNK_PAGES - backed, 0, 1);
    }
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
}

static int take_chunk(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    int error = pool_take(heap, self, 1, 1);
    if (error != 0) {
        return error;
    }
    error = pool_prepare_runs(heap, self);
    if (error != 0) {
        pool_give(heap, self);
        return error;
    }
    adopt_chunk(heap, self, index);
    return 0;
}

int arena_take(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t pages,
               uint32_t align) {
    ASSERT(shared_get(&self->hand.kind) == HAND_EMPTY);
    ASSERT(pages + align - 1 <= CHUNK_PAGES);
    for (int batched = 1;;) {
        while (!take_free(heap, self, arena, pages, align, batched)) {
            int error = take_chunk(heap, self, arena);
            if (error != 0) {
                return error;
            }
        }
        if ((shared_get(&self->hand.flags) & HAND_DIRTY) != 0) {
            return 0;
        }
        int error = arena_back_hand(heap, self);
        if (error == 0) {
            give_rest(heap, self, pages);
            return 0;
        }
        arena_give(heap, self);
        if (!batched) {
            return error;
        }
        batched = 0; /* there may be room for just what is needed */
    }
}

/* Whether a wholly free chunk is one dirty run in front of one clean run, either may be missing:
 * then *backed is the size of the first. */
static int is_tidy(const sharena_t *heap, uint32_t chunk, uint32_t *backed) {
    uint32_t page = first_page_of_chunk(chunk);
    const struct run *run = heap_run(heap, page);
    *backed = run_is_dirty(run) ? shared_get(&run->size) : 0;
    if (shared_get(&run->size) == CHUNK_PAGES) {
        return 1;
    }
    const struct run *next = heap_run(heap, page + *backed);
    return *backed != 0 && !run_is_dirty(next) && shared_get(&next->size) == CHUNK_PAGES - *backed;
}

/* The section of arena_release_chunk for a tidy chunk: from the free trees into the hand. */
static void chunk_to_hand(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                          uint32_t chunk_idx, uint32_t backed) {
    struct chunk *chunk = heap_chunk(heap, chunk_idx);
    uint32_t page = first_page_of_chunk(chunk_idx);
    if (backed != 0) {
        (void)run_carve(heap, self, arena, page, page, backed, RUN_NONE);
    }
    if (backed != CHUNK_PAGES) {
        (void)run_carve(heap, self, arena, page + backed, page + backed, CHUNK_PAGES - backed,
                        RUN_NONE);
    }
    journal_set(self, &chunk->state, CHUNK_HAND);
    journal_set(self, &chunk->size, 1u);
    journal_set(self, &chunk->first, chunk_idx);
    journal_set(self, &chunk->backed, backed);
    journal_set(self, &arena->chunks, shared_get(&arena->chunks) - 1);
    journal_set(self, &self->hand.kind, HAND_SPAN);
    journal_set(self, &self->hand.first, chunk_idx);
    journal_set(self, &self->hand.count, 1u);
    journal_set(self, &self->hand.flags, 0u);
}

/* Takes some dirty run of a wholly free, untidy chunk into the hand. */
static uint32_t dirty_run_to_hand(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                                  uint32_t chunk) {
    uint32_t page = first_page_of_chunk(chunk);
    while (!run_is_dirty(heap_run(heap, page))) {
        page += shared_get(&heap_run(heap, page)->size);
    }
    uint32_t pages = shared_get(&heap_run(heap, page)->size);
    (void)run_carve(heap, self, arena, page, page, pages, RUN_HAND);
    set_hand_run(self, arena_index(heap, arena), page, pages, HAND_DIRTY);
    count_used(self, arena, pages, 0);
    decay_note_purge(self, &arena->decay, pages);
    return pages;
}

enum release { KEPT, MOVED, UNTIDY };

static enum release release_section(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                                    uint32_t chunk_idx) {
    const struct chunk *chunk = heap_chunk(heap, chunk_idx);
    uint32_t backed;
    if (shared_get(&chunk->state) != CHUNK_ARENA ||
        shared_get(&chunk->arena) != arena_index(heap, arena) ||
        shared_get(&chunk->free_pages) != CHUNK_PAGES || shared_get(&arena->spare) == chunk_idx) {
        return KEPT;
    }
    if (shared_get(&arena->spare) == 0) {
        journal_set(self, &arena->spare, chunk_idx);
        return KEPT;
    }
    if (is_tidy(heap, chunk_idx, &backed)) {
        chunk_to_hand(heap, self, arena, chunk_idx, backed);
        return MOVED;
    }
    (void)dirty_run_to_hand(heap, self, arena, chunk_idx);
    return UNTIDY;
}

/* Frees the run in the hand into its arena; 1 if its chunk is wholly free then. */
static int give_section(sharena_t *heap, struct thread_slot *self) {
    struct arena *arena = heap_arena(heap, shared_get(&self->hand.arena));
    uint32_t page = shared_get(&self->hand.first);
    uint32_t pages = shared_get(&self->hand.count);
    uint32_t flags = shared_get(&self->hand.flags);
    int dirty = (flags & HAND_DIRTY) != 0;
    ASSERT(shared_get(&self->hand.kind) == HAND_RUN && shared_get(&self->hand.charged) == 0);
    lock_acquire(heap, self, &arena->lock);
    int emptied =
        run_insert_free(heap, self, arena, page, pages, dirty, !dirty || (flags & HAND_ZERO) != 0);
    count_used(self, arena, 0, pages);
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    return emptied;
}

void arena_release_chunk(sharena_t *heap, struct thread_slot *self, uint32_t index,
                         uint32_t chunk) {
    struct arena *arena = heap_arena(heap, index);
    enum release result;
    do {
        lock_acquire(heap, self, &arena->lock);
        result = release_section(heap, self, arena, chunk);
        journal_commit(self);
        lock_release(heap, self, &arena->lock);
        if (result == MOVED) {
            pool_give(heap, self);
        }
        if (result == UNTIDY) {
            int is_gone = backing_remove(heap, self, shared_get(&self->hand.first),
                                         shared_get(&self->hand.count));
            (void)give_section(heap, self);
            result = is_gone ? UNTIDY : KEPT;
        }
    } while (result == UNTIDY);
}

void arena_give(sharena_t *heap, struct thread_slot *self) {
    uint32_t arena = shared_get(&self->hand.arena);
    uint32_t chunk = chunk_of_page(shared_get(&self->hand.first));
    if (give_section(heap, self)) {
        arena_release_chunk(heap, self, arena, chunk);
    }
}

/* Section: up to `most` dirty pages go into the hand, the last ones of the longest run: few calls
 * to the kernel, and what is in front of it is what would be taken first. How many. */
static uint32_t purge_section(sharena_t *heap, struct thread_slot *self, struct arena *arena,
                              uint32_t most) {
    uint32_t page = tree_last(run_tree(heap, arena, 1));
    if (page == 0) {
        return 0;
    }
    uint32_t size = shared_get(&heap_run(heap, page)->size);
    uint32_t pages = size < most ? size : most;
    uint32_t first = page + size - pages;
    (void)run_carve(heap, self, arena, page, first, pages, RUN_HAND);
    set_hand_run(self, arena_index(heap, arena), first, pages, HAND_DIRTY);
    count_used(self, arena, pages, 0);
    decay_note_purge(self, &arena->decay, pages);
    return pages;
}

/* Where all is clean, the spare need not be kept either. */
static void release_spare(sharena_t *heap, struct thread_slot *self, struct arena *arena) {
    lock_acquire(heap, self, &arena->lock);
    uint32_t spare = shared_get(&arena->pages_dirty) == 0 ? shared_get(&arena->spare) : 0;
    if (spare != 0) {
        chunk_to_hand(heap, self, arena, spare, 0);
    }
    journal_commit(self);
    lock_release(heap, self, &arena->lock);
    if (spare != 0) {
        pool_give(heap, self);
    }
}

void arena_purge_pages(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t most) {
    struct arena *arena = heap_arena(heap, index);
    uint32_t pages = 0;
    for (uint32_t left = most; left != 0; left -= pages) {
        lock_acquire(heap, self, &arena->lock);
        pages = purge_section(heap, self, arena, left);
        journal_commit(self);
        lock_release(heap, self, &arena->lock);
        if (pages == 0) {
            break;
        }
        int is_gone = backing_remove(heap, self, shared_get(&self->hand.first), pages);
        arena_give(heap, self);
        if (!is_gone) {
            return;
        }
    }
    if (shared_get(&arena->pages_dirty) == 0 && shared_get(&arena->spare) != 0) {
        release_spare(heap, self, arena);
    }
}

/* Others may dirty pages as fast as we punch them, so no more go than were dirty at first. */
void arena_purge(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    arena_purge_pages(heap, self, index, shared_get(&heap_arena(heap, index)->pages_dirty));
}

/* ---- making and choosing ---- */

static void init_arena(struct arena *arena) {
    lock_init(&arena->lock, RANK_ARENA);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        lock_init(&arena->bins[i].lock, RANK_BIN);
    }
}

void arena_init_locks(sharena_t *heap) {
    lock_init(&heap_pool(heap)->lock, RANK_POOL);
    uint32_t made = shared_get(&heap_pool(heap)->arenas_made);
    for (uint32_t i = 0; i < made && i < ARENAS_MAX; i++) {
        init_arena(heap_arena(heap, i));
    }
}

/* Section: an unused arena, else the first that is not made (if allowed), else the least loaded. */
static uint32_t choose(sharena_t *heap, uint32_t made, uint32_t narenas) {
    uint32_t best = 0;
    for (uint32_t i = 0; i < made; i++) {
        uint32_t threads = shared_get(&heap_arena(heap, i)->threads);
        if (threads == 0) {
            return i;
        }
        if (threads < shared_get(&heap_arena(heap, best)->threads)) {
            best = i;
        }
    }
    return made < narenas ? made : best;
}

/* Section: binds; an arena that is not made yet is made, its memory being backed. */
static void bind(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    struct pool *pool = heap_pool(heap);
    struct arena *arena = heap_arena(heap, index);
    if (index == shared_get(&pool->arenas_made)) {
        memset(arena, 0, sizeof(*arena)); /* whatever lay there is nobody's word */
        init_arena(arena);
        journal_set(self, &pool->arenas_made, index + 1);
    }
    uint32_t bound = shared_get(&self->arena);
    if (bound != 0) {
        struct arena *old = heap_arena(heap, bound - 1);
        journal_set(self, &old->threads, shared_get(&old->threads) - 1);
    }
    journal_set(self, &arena->threads, shared_get(&arena->threads) + 1);
    journal_set(self, &self->arena, index + 1);
}

int arena_choose(sharena_t *heap, struct thread_slot *self, uint32_t narenas) {
    struct pool *pool = heap_pool(heap);
    uint32_t made = shared_get(&pool->arenas_made);
    if (made < narenas) {
        struct arena *next = heap_arena(heap, made);
        int error = backing_add_metadata(heap, next, next + 1);
        if (error != 0 && made == 0) {
            return error;
        }
        narenas = error != 0 ? made : narenas;
    }
    lock_acquire(heap, self, &pool->lock);
    uint32_t now_made = shared_get(&pool->arenas_made);
    bind(heap, self, choose(heap, now_made, now_made == made ? narenas : now_made));
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return 0;
}

int arena_bind(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    struct pool *pool = heap_pool(heap);
    int error = 0;
    uint32_t made = shared_get(&pool->arenas_made);
    if (index < ARENAS_MAX && index == made) {
        error = backing_add_metadata(heap, heap_arena(heap, index), heap_arena(heap, index) + 1);
    }
    if (error != 0) {
        return error;
    }
    lock_acquire(heap, self, &pool->lock);
    if (index < ARENAS_MAX && index <= made) {
        bind(heap, self, index);
    } else {
        error = ENOENT;
    }
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return error == 0 ? 0 : error_set(error, "there is no arena %u in this heap", index);
}

void arena_leave(sharena_t *heap, struct thread_slot *self) {
    struct pool *pool = heap_pool(heap);
    uint32_t bound = shared_get(&self->arena);
    if (bound != 0) {
        struct arena *arena = heap_arena(heap, bound - 1);
        lock_acquire(heap, self, &pool->lock);
        journal_set(self, &arena->threads, shared_get(&arena->threads) - 1);
        journal_set(self, &self->arena, 0u);
        journal_commit(self);
        lock_release(heap, self, &pool->lock);
    }
}
