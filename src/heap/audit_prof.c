/* audit_prof.c -- the audit of the profile's samples.
 *
 * Rules proved here, each with its finding: a sampled block leads to a sample that leads back;
 * every sample is in the pool's list, in one hand, or has such a block; the counts agree.
 *
 * Lock:   all of the heap, held by the caller
 * Killed: nothing is changed
 * Not here: what samples say: it is text for people, and is followed by nobody.
 */
#include "heap/audit_prof.h"

#include "heap/huge.h"
#include "heap/large.h"
#include "heap/prof_samples.h"

struct owners { /* of samples, as found */
    uint64_t seen[SAMPLES_MAX / 64];
    uint32_t count;
    uint32_t listed;
    uint32_t high;
};

/* One more owner of a sample (+ 1): 0 if it does not exist, or has one already. */
static int add_owner(struct owners *owners, uint32_t sample) {
    uint32_t index = sample - 1;
    if (index >= owners->high || (owners->seen[index / 64] >> index % 64 & 1u) != 0) {
        return 0;
    }
    owners->seen[index / 64] |= 1ull << index % 64;
    owners->count++;
    return 1;
}

static void audit_link(struct audit *audit, uint32_t sample, const void *block) {
    uint32_t high = shared_get(&heap_pool(audit->heap)->samples_high);
    if (sample == 0 || sample > high || high > SAMPLES_MAX ||
        shared_get(&heap_sample(audit->heap, sample - 1)->block) != block) {
        audit_finding(audit, "block %p: sampled, but sample %u is not about it", block, sample - 1);
    }
}

int audit_is_entry(struct audit *audit, const void *block, uint32_t size_class, uint32_t link) {
    uint32_t page = page_of(audit->heap, block);
    if (prof_is_sampled(audit->heap, page)) {
        audit_link(audit, link, block);
        return 1;
    }
    return shared_get(heap_page_map(audit->heap) + page) == stack_offset_of(size_class);
}

static void audit_list(struct audit *audit, struct owners *owners) {
    uint32_t sample = shared_get(&heap_pool(audit->heap)->samples_free);
    for (; sample != 0; sample = shared_get(&heap_sample(audit->heap, sample - 1)->next)) {
        if (!add_owner(owners, sample)) {
            audit_finding(audit,
                          "sample %u: listed as unused, but does not exist or is listed twice",
                          sample - 1);
            return;
        }
        owners->listed++;
        if (shared_get(&heap_sample(audit->heap, sample - 1)->block) != NULL) {
            audit_finding(audit, "sample %u: listed as unused, but has a block", sample - 1);
        }
    }
}

static void audit_hands(struct audit *audit, struct owners *owners) {
    uint32_t high = shared_get(&heap_state(audit->heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        const struct thread_slot *slot = heap_thread(audit->heap, i);
        uint32_t sample = shared_get(&slot->hand.sample);
        if (sample == 0) {
            continue;
        }
        if (shared_get(&slot->state) != SLOT_USED || !add_owner(owners, sample) ||
            shared_get(&heap_sample(audit->heap, sample - 1)->block) != NULL) {
            audit_finding(audit, "thread slot %u: carries sample %u, which is not so", i,
                          sample - 1);
        }
    }
}

/* Whether the block is live, and its run or span leads to the sample (+ 1). */
static int leads_back(const sharena_t *heap, const void *block, uint32_t sample) {
    if (!is_user_data(heap, block) || !prof_is_sampled(heap, page_of(heap, block))) {
        return 0;
    }
    uint32_t page = page_of(heap, block);
    if (huge_is_block(heap, block)) {
        return shared_get(&heap_chunk(heap, chunk_of_page(page))->left) == sample;
    }
    return large_is_block(heap, block) && shared_get(&heap_run(heap, page)->left) == sample;
}

static void audit_blocks(struct audit *audit, struct owners *owners) {
    for (uint32_t i = 0; i < owners->high; i++) {
        const void *block = shared_get(&heap_sample(audit->heap, i)->block);
        if (block != NULL &&
            (!leads_back(audit->heap, block, i + 1) || !add_owner(owners, i + 1))) {
            audit_finding(audit, "sample %u: is about %p, which is no block of it", i, block);
        }
    }
}

void audit_samples(struct audit *audit) {
    const struct pool *pool = heap_pool(audit->heap);
    struct owners owners = {.high = shared_get(&pool->samples_high)};
    uint32_t used = shared_get(&pool->samples_used);
    uint32_t modules = shared_get(&pool->modules);
    if (owners.high > SAMPLES_MAX || modules > MODULES_MAX) {
        audit_finding(audit, "%u samples or %u modules cannot be, at most %u and %u", owners.high,
                      modules, SAMPLES_MAX, MODULES_MAX);
        return;
    }
    audit_list(audit, &owners);
    audit_hands(audit, &owners);
    audit_blocks(audit, &owners);
    if (owners.count != owners.high || owners.count - owners.listed != used) {
        audit_finding(audit, "%u samples, %u of them owned, %u in use, but the count says %u",
                      owners.high, owners.count, owners.count - owners.listed, used);
    }
}
