/* prof_samples.c -- the samples of the profile: who has each of them.
 *
 * Holds:  each sample below samples_high is in the pool's list, in one hand, or has a live sampled
 *         block whose run or span leads back to it; samples_used counts the latter    (audited)
 * Lock:   POOL for the list; the block's (ARENA or POOL) between hand and block
 * Killed: anywhere: sections are undone, and what travels is in the hand, which the reaper settles
 * Not here: what a sample says (prof.c).
 */
#include "heap/prof_samples.h"

#include "heap/backing.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define GROW_SAMPLES 64u /* storage is added for so many at a time */

/* Section: one of the list, else the next that was never used; 0: there is none below `backed`. */
static int take_section(sharena_t *heap, struct thread_slot *self, uint32_t backed) {
    struct pool *pool = heap_pool(heap);
    uint32_t sample = shared_get(&pool->samples_free);
    uint32_t high = shared_get(&pool->samples_high);
    if (sample != 0) {
        CHECK(sample <= high && high <= SAMPLES_MAX);
        journal_set(self, &pool->samples_free, shared_get(&heap_sample(heap, sample - 1)->next));
    } else if (high < backed && high < SAMPLES_MAX) {
        sample = high + 1;
        /* What lay there is nobody's word, and nobody reads it before samples_high covers it. */
        shared_store(&heap_sample(heap, high)->block, NULL);
        journal_set(self, &pool->samples_high, sample);
    } else {
        return 0;
    }
    journal_set(self, &pool->samples_used, shared_get(&pool->samples_used) + 1);
    journal_set(self, &self->hand.sample, sample);
    return 1;
}

static int take(sharena_t *heap, struct thread_slot *self, uint32_t backed) {
    struct pool *pool = heap_pool(heap);
    lock_acquire(heap, self, &pool->lock);
    int is_taken = take_section(heap, self, backed);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
    return is_taken;
}

/* Storage for the next samples; the end of what has some for sure. */
static uint32_t back_more(sharena_t *heap) {
    uint32_t high = shared_get(&heap_pool(heap)->samples_high);
    uint32_t end = high < SAMPLES_MAX - GROW_SAMPLES ? high + GROW_SAMPLES : SAMPLES_MAX;
    if (high >= SAMPLES_MAX ||
        backing_add_metadata(heap, heap_sample(heap, high), heap_sample(heap, end)) != 0) {
        return 0;
    }
    return end;
}

struct sample *prof_take(sharena_t *heap, struct thread_slot *self) {
    ASSERT(shared_get(&self->hand.sample) == 0);
    if (!take(heap, self, 0) && !take(heap, self, back_more(heap))) {
        shared_add(&heap_pool(heap)->samples_dropped, 1);
        return NULL;
    }
    return heap_sample(heap, shared_get(&self->hand.sample) - 1);
}

void prof_give(sharena_t *heap, struct thread_slot *self) {
    struct pool *pool = heap_pool(heap);
    uint32_t sample = shared_get(&self->hand.sample);
    if (sample == 0) {
        return;
    }
    CHECK(sample <= SAMPLES_MAX);
    lock_acquire(heap, self, &pool->lock);
    journal_set(self, &heap_sample(heap, sample - 1)->next, shared_get(&pool->samples_free));
    journal_set(self, &pool->samples_free, sample);
    journal_set(self, &pool->samples_used, shared_get(&pool->samples_used) - 1);
    journal_set(self, &self->hand.sample, 0u);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
}

void prof_enter_block(sharena_t *heap, struct thread_slot *self, void *block, uint16_t entry,
                      shared_u32 *link) {
    uint32_t sample = shared_get(&self->hand.sample);
    if (sample != 0) {
        entry = PROF_MAP_ENTRY;
        journal_set(self, link, sample);
        journal_set(self, &heap_sample(heap, sample - 1)->block, block);
        journal_set(self, &self->hand.sample, 0u);
    }
    journal_set(self, heap_page_map(heap) + page_of(heap, block), entry);
}

void prof_remove_block(sharena_t *heap, struct thread_slot *self, uint32_t page, shared_u32 *link) {
    if (prof_is_sampled(heap, page)) {
        uint32_t sample = shared_get(link);
        CHECK(sample != 0 && sample <= SAMPLES_MAX && shared_get(&self->hand.sample) == 0);
        journal_set(self, &heap_sample(heap, sample - 1)->block, NULL);
        journal_set(self, &self->hand.sample, sample);
    }
    journal_set(self, heap_page_map(heap) + page, 0);
}

uint64_t prof_table_bytes(const sharena_t *heap) {
    const struct pool *pool = heap_pool(heap);
    return round_up(shared_get(&pool->samples_high) * sizeof(struct sample), PAGE_BYTES) +
           round_up(shared_get(&pool->modules) * sizeof(struct module), PAGE_BYTES);
}
