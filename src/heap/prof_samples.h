/* prof_samples.h -- the samples of the profile: who has each of them.
 *
 *     pool's list --take--> hand --the section that makes the block--> block
 *     pool's list <--give-- hand <--the section that frees the block-- block
 *
 * So a sample belongs to the run or span of its block from the commit that makes the block live to
 * the one that frees it, whoever frees it; in between it is in a thread's hand, like everything
 * that travels between two locks.
 */
#ifndef SHARENA_HEAP_PROF_SAMPLES_H
#define SHARENA_HEAP_PROF_SAMPLES_H

#include "heap/geometry.h"

#define PROF_MAP_ENTRY ((uint16_t)(TCACHE_SAMPLED * sizeof(struct tcache_stack)))

/* Whether the block that begins in that page is a sampled one. */
static inline int prof_is_sampled(const sharena_t *heap, uint32_t page) {
    return shared_get(heap_page_map(heap) + page) == PROF_MAP_ENTRY;
}

/* Takes an unused sample into self's empty hand. NULL: all are used, or the file system has no room
 * for more; that is counted. */
struct sample *prof_take(sharena_t *heap, struct thread_slot *self);

/* Gives the sample in self's hand back, if there is one. */
void prof_give(sharena_t *heap, struct thread_slot *self);

/* Sections of large and huge blocks: the new block at `page` gets that entry of the page map, or,
 * with the sample in self's hand, that of a sampled block; and leaves the page map, its sample into
 * self's hand. `link` is `left` of its run or span. */
void prof_enter_block(sharena_t *heap, struct thread_slot *self, void *block, uint16_t entry,
                      shared_u32 *link);
void prof_remove_block(sharena_t *heap, struct thread_slot *self, uint32_t page, shared_u32 *link);

/* Bytes of the file that samples and modules have. */
uint64_t prof_table_bytes(const sharena_t *heap);

#endif
