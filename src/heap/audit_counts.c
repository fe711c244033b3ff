/* audit_counts.c -- what was taken and not given back is what is out, class by class.
 *
 * So the statistics, which are sums of these counts, are as true as the heap itself.
 *
 * Lock:   all of the heap are held. Locks nothing
 * Killed: nothing shared is changed
 * Not here: what is out and whose it is (audit.c).
 */
#include "heap/audit_counts.h"

#include <stdio.h>
#include <string.h>

struct out { /* of one arena, or of the pool; as found */
    uint64_t blocks[SIZE_CLASSES_MAX];
};

static void expect_out(struct audit *audit, const char *where, uint32_t size_class, uint64_t out,
                       uint64_t difference) {
    if (out != difference) {
        audit_finding(audit, "%s: %llu blocks of class %u are out, but %lld by their count", where,
                      (unsigned long long)out, size_class, (long long)difference);
    }
}

static void add_run(const struct run *run, struct out *out) {
    uint32_t size_class = shared_get(&run->size_class);
    switch (shared_get(&run->state)) {
    case RUN_BIN:
        out->blocks[size_class] +=
            sizeclass_run_shape(size_class)->regions - shared_get(&run->free_regions);
        break;
    case RUN_LARGE:
        out->blocks[size_class]++;
        break;
    default:
        break;
    }
}

static void add_runs(const sharena_t *heap, uint32_t chunk, struct out *out) {
    uint32_t end = first_page_of_chunk(chunk + 1);
    for (uint32_t page = first_page_of_chunk(chunk); page < end;) {
        const struct run *run = heap_run(heap, page);
        add_run(run, out);
        page += shared_get(&run->size);
    }
}

/* The blocks of an arena; those of the pool for index ARENAS_MAX. */
static void add_chunks(const sharena_t *heap, uint32_t arena, struct out *out) {
    memset(out, 0, sizeof(*out));
    for (uint32_t c = first_chunk(heap); c < end_chunk(heap);) {
        const struct chunk *chunk = heap_chunk(heap, c);
        uint32_t state = shared_get(&chunk->state);
        if (state == CHUNK_HUGE && arena == ARENAS_MAX) {
            out->blocks[shared_get(&chunk->size_class)]++;
        } else if (state == CHUNK_ARENA && shared_get(&chunk->arena) == arena) {
            add_runs(heap, c, out);
        }
        c += state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
    }
}

static void audit_arena(struct audit *audit, uint32_t index) {
    const struct arena *arena = heap_arena(audit->heap, index);
    struct out out;
    char where[24];
    (void)snprintf(where, sizeof(where), "arena %u", index);
    add_chunks(audit->heap, index, &out);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        expect_out(audit, where, i, out.blocks[i],
                   shared_get(&arena->bins[i].regions_taken) -
                       shared_get(&arena->bins[i].regions_given));
    }
    for (uint32_t i = SIZE_CLASSES_SMALL; i < SIZE_CLASSES_LARGE_END; i++) {
        const struct block_count *count = &arena->large[i - SIZE_CLASSES_SMALL];
        expect_out(audit, where, i, out.blocks[i],
                   shared_get(&count->taken) - shared_get(&count->given));
    }
}

void audit_counts(struct audit *audit) {
    const struct pool *pool = heap_pool(audit->heap);
    struct out out;
    for (uint32_t i = 0; i < audit->arenas; i++) {
        audit_arena(audit, i);
    }
    add_chunks(audit->heap, ARENAS_MAX, &out);
    for (uint32_t i = SIZE_CLASSES_SMALL; i < SIZE_CLASSES_MAX; i++) {
        const struct block_count *count = &pool->huge[i - SIZE_CLASSES_SMALL];
        expect_out(audit, "chunk pool", i, out.blocks[i],
                   shared_get(&count->taken) - shared_get(&count->given));
    }
}
