/* arena.h -- arenas: where runs come from and go back to.
 *
 * Runs travel in the caller's hand (HAND_RUN): backed and ready when taken, dirty or clean when
 * given.
 */
#ifndef SHARENA_HEAP_ARENA_H
#define SHARENA_HEAP_ARENA_H

#include "heap/geometry.h"

/* Takes `pages` backed pages at a multiple of `align` pages into self's empty hand: from a dirty
 * run, else a clean one, else a chunk from the pool. pages + align - 1 are at most CHUNK_PAGES, or
 * no chunk would do. hand.flags has HAND_ZERO if they are known to be zero. 0, or ENOMEM with
 * error_set. */
int arena_take(sharena_t *heap, struct thread_slot *self, uint32_t arena, uint32_t pages,
               uint32_t align) __attribute__((warn_unused_result));

/* Backs the clean run in self's hand, in place. 0, or ENOMEM with error_set and the
 * hand as before. */
int arena_back_hand(sharena_t *heap, struct thread_slot *self) __attribute__((warn_unused_result));

/* Gives the run in self's hand back to its arena. An arena that has an empty chunk to spare gives
 * the next one to the pool. */
void arena_give(sharena_t *heap, struct thread_slot *self);

/* After a section that freed pages of `chunk` (run_insert_free returned 1), without any lock: keeps
 * it as the spare, or moves it to the pool. The chunk may be in use again: then nothing happens. */
void arena_release_chunk(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t chunk);

/* Gives the memory of free runs of the arena back to the file system: of all that are dirty now, or
 * up to so many pages. */
void arena_purge(sharena_t *heap, struct thread_slot *self, uint32_t index);
void arena_purge_pages(sharena_t *heap, struct thread_slot *self, uint32_t index, uint32_t most);

/* Binds the thread to an arena: an unused one, else a new one while fewer than `narenas` exist,
 * else the one with fewest threads. 0, or ENOMEM when not even the first can be made. */
int arena_choose(sharena_t *heap, struct thread_slot *self, uint32_t narenas)
    __attribute__((warn_unused_result));

/* Binds the thread to this very arena, which is made if it is the next one. ENOENT beyond. */
int arena_bind(sharena_t *heap, struct thread_slot *self, uint32_t index)
    __attribute__((warn_unused_result));

/* Unbinds the thread. */
void arena_leave(sharena_t *heap, struct thread_slot *self);

/* All locks of all arenas and the pool anew, at a cold open. */
void arena_init_locks(sharena_t *heap);

#endif
