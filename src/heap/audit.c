/* audit.c -- the walk over chunks, runs and regions.
 *
 * Rules proved here, each with its finding: chunks are tiled by spans and arena chunks by runs;
 * each has one owner that its state names; free neighbours of a kind are joined; trees hold exactly
 * the free spans and runs of their kind and are in order; page map and kinds agree with the runs;
 * bits agree with counts.
 *
 * Lock:   all of the heap, held by the caller
 * Killed: nothing is changed
 * Not here: thread slots and sums over the whole heap (check.c).
 */
#include "heap/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "heap/bin.h"
#include "heap/chunk.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "heap/run.h"

void audit_finding(struct audit *audit, const char *format, ...) {
    struct sharena_report *report = audit->report;
    if (report->findings < SHARENA_REPORT_MESSAGES) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(report->messages[report->findings], sizeof(report->messages[0]), format,
                        args);
        va_end(args);
    }
    report->findings++;
}

#define EXPECT(audit, condition, ...)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            audit_finding(audit, __VA_ARGS__);                                                     \
        }                                                                                          \
    } while (0)

static uint32_t page_entry(const struct audit *audit, uint32_t page) {
    return shared_get(heap_page_map(audit->heap) + page);
}

static void count_live(struct audit *audit, uint64_t blocks, uint64_t bytes) {
    audit->report->blocks_live += blocks; /* caches are subtracted later */
    audit->report->bytes_live += blocks * bytes;
}

/* ---- runs ---- */

static void expect_no_entries(struct audit *audit, uint32_t page, uint32_t pages) {
    for (uint32_t i = 0; i < pages; i++) {
        EXPECT(audit, page_entry(audit, page + i) == 0,
               "page %u: page map %u, but no block begins there", page + i,
               page_entry(audit, page + i));
    }
}

static void expect_kinds(struct audit *audit, uint32_t page, uint32_t pages, uint32_t kind) {
    uint32_t first = shared_get(heap_page_kind(audit->heap, page));
    uint32_t last = shared_get(heap_page_kind(audit->heap, page + pages - 1));
    EXPECT(audit, last == (kind | (pages - 1)) && (pages == 1 || first == kind),
           "run at page %u: kinds %#x and %#x, of %u pages, should be %#x", page, first, last,
           pages, kind);
}

static void audit_bin_run(struct audit *audit, uint32_t page, struct run *run) {
    uint32_t size_class = shared_get(&run->size_class);
    if (size_class >= SIZE_CLASSES_SMALL) {
        audit_finding(audit, "run at page %u: class %u is not small", page, size_class);
        return;
    }
    const struct run_shape *shape = sizeclass_run_shape(size_class);
    uint32_t bits = 0;
    for (uint32_t bit = 0; bit < shape->regions; bit += 64) {
        uint64_t word = shared_get(run_bitmap_word(run, bit));
        uint32_t valid = shape->regions - bit;
        EXPECT(audit, valid >= 64 || word >> valid == 0, "run at page %u: bits behind its regions",
               page);
        bits += (uint32_t)__builtin_popcountll(word);
    }
    uint32_t free_regions = shared_get(&run->free_regions);
    uint32_t place = shared_get(&run->extra);
    const struct bin *bin = &heap_arena(audit->heap, shared_get(&run->arena))->bins[size_class];
    EXPECT(audit, shared_get(&run->size) == shape->pages, "run at page %u: %u pages for class %u",
           page, shared_get(&run->size), size_class);
    EXPECT(audit, bits == free_regions, "run at page %u: %u bits set, %u regions free", page, bits,
           free_regions);
    EXPECT(audit, (place == BIN_CURRENT) == (shared_get(&bin->current) == page),
           "run at page %u: current by one account only", page);
    EXPECT(audit, (place == BIN_FULL) == (free_regions == 0),
           "run at page %u: place %u with %u free", page, place, free_regions);
    for (uint32_t i = 0; i < shape->pages; i++) {
        EXPECT(audit,
               page_entry(audit, page + i) == stack_offset_of(size_class) &&
                   shared_get(heap_page_kind(audit->heap, page + i)) == i,
               "page %u: page map or kind is not that of its small run", page + i);
    }
    count_live(audit, shape->regions - free_regions, shape->region_bytes);
}

static void audit_large_run(struct audit *audit, uint32_t page, const struct run *run) {
    uint32_t size_class = shared_get(&run->size_class);
    uint32_t pages = shared_get(&run->size);
    if (size_class < SIZE_CLASSES_SMALL || size_class >= SIZE_CLASSES_LARGE_END) {
        audit_finding(audit, "run at page %u: class %u is not large", page, size_class);
        return;
    }
    /* cache_oblivious: one more page, wherever in the first the block begins */
    EXPECT(audit, pages == large_pages(size_class) || pages == large_pages(size_class) + 1,
           "run at page %u: %u pages for class %u", page, pages, size_class);
    EXPECT(audit, page_entry(audit, page) == stack_offset_of(size_class),
           "page %u: page map %u is not that of its large block", page, page_entry(audit, page));
    expect_kinds(audit, page, pages, 0);
    expect_no_entries(audit, page + 1, pages - 1);
    count_live(audit, 1, sizeclass_bytes(size_class));
}

/* A run that is free; *kind_before is that of the run in front. */
static void audit_free_run(struct audit *audit, uint32_t page, const struct run *run,
                           uint32_t kind_before) {
    uint32_t pages = shared_get(&run->size);
    uint32_t kind = run_is_dirty(run) ? KIND_FREE | KIND_DIRTY : KIND_FREE;
    expect_kinds(audit, page, pages, kind);
    expect_no_entries(audit, page, pages);
    EXPECT(audit, kind != kind_before, "run at page %u: free beside a free run of its kind", page);
    if (run_is_dirty(run)) {
        audit->report->pages_dirty += pages;
        audit->backed_pages += pages;
    }
}

static uint32_t free_kind(const struct run *run) {
    switch (shared_get(&run->state)) {
    case RUN_FREE_CLEAN:
        return KIND_FREE;
    case RUN_FREE_DIRTY:
        return KIND_FREE | KIND_DIRTY;
    default:
        return 0;
    }
}

/* One run; 0 if it is so broken that its chunk cannot be walked on. */
static int audit_run(struct audit *audit, uint32_t page, uint32_t kind_before) {
    struct run *run = heap_run(audit->heap, page);
    uint32_t pages = shared_get(&run->size);
    uint32_t state = shared_get(&run->state);
    if (pages == 0 || pages > CHUNK_PAGES - page % CHUNK_PAGES) {
        audit_finding(audit, "run at page %u: %u pages do not fit its chunk", page, pages);
        return 0;
    }
    EXPECT(audit,
           shared_get(&run->arena) ==
               shared_get(&heap_chunk(audit->heap, chunk_of_page(page))->arena),
           "run at page %u: arena %u is not that of its chunk", page, shared_get(&run->arena));
    switch (state) {
    case RUN_FREE_CLEAN:
    case RUN_FREE_DIRTY:
        audit_free_run(audit, page, run, kind_before);
        return 1;
    case RUN_BIN:
        audit_bin_run(audit, page, run);
        audit->backed_pages += pages;
        return 1;
    case RUN_LARGE:
        audit_large_run(audit, page, run);
        audit->backed_pages += pages;
        return 1;
    case RUN_HAND:
        expect_kinds(audit, page, pages, 0);
        audit->hand_runs++; /* what of it is backed, the hand tells */
        return 1;
    default:
        audit_finding(audit, "run at page %u: state %u does not exist", page, state);
        return 0;
    }
}

static void audit_arena_chunk(struct audit *audit, uint32_t index, const struct chunk *chunk) {
    uint32_t page = first_page_of_chunk(index);
    uint32_t end = page + CHUNK_PAGES;
    uint32_t free_pages = 0;
    uint32_t kind_before = 0;
    if (shared_get(&chunk->arena) >= audit->arenas || !shared_get(&chunk->has_runs)) {
        audit_finding(audit, "chunk %u: arena %u does not exist, or its run table is not backed",
                      index, shared_get(&chunk->arena));
        return;
    }
    while (page < end && audit_run(audit, page, kind_before)) {
        const struct run *run = heap_run(audit->heap, page);
        kind_before = free_kind(run);
        free_pages += kind_before != 0 ? shared_get(&run->size) : 0;
        page += shared_get(&run->size);
    }
    EXPECT(audit, page == end && free_pages == shared_get(&chunk->free_pages),
           "chunk %u: %u free pages, but its entry says %u", index, free_pages,
           shared_get(&chunk->free_pages));
}

/* ---- chunks ---- */

static void audit_huge(struct audit *audit, uint32_t index, const struct chunk *chunk) {
    uint32_t size_class = shared_get(&chunk->size_class);
    uint32_t page = first_page_of_chunk(index);
    uint64_t pages = sizeclass_bytes(size_class < SIZE_CLASSES_MAX ? size_class : 0) / PAGE_BYTES;
    EXPECT(audit,
           size_class >= SIZE_CLASSES_SMALL && size_class < SIZE_CLASSES_MAX &&
               pages <= (uint64_t)shared_get(&chunk->size) * CHUNK_PAGES,
           "chunk %u: huge block of class %u in %u chunks", index, size_class,
           shared_get(&chunk->size));
    EXPECT(audit, shared_get(&chunk->backed) >= pages,
           "chunk %u: huge block of %llu pages, %u backed", index, (unsigned long long)pages,
           shared_get(&chunk->backed));
    EXPECT(audit, page_entry(audit, page) != 0, "chunk %u: huge block without a page map entry",
           index);
    count_live(audit, 1, sizeclass_bytes(size_class < SIZE_CLASSES_MAX ? size_class : 0));
}

static void audit_free_span(struct audit *audit, uint32_t index, const struct chunk *chunk) {
    uint32_t size = shared_get(&chunk->size);
    uint32_t backed = shared_get(&chunk->backed);
    int dirty = shared_get(&chunk->state) == CHUNK_FREE_DIRTY;
    const struct chunk *last = heap_chunk(audit->heap, index + size - 1);
    EXPECT(audit, dirty == (backed != 0), "chunk %u: free %s with %u pages backed", index,
           dirty ? "dirty" : "clean", backed);
    EXPECT(audit,
           shared_get(&last->first) == index &&
               shared_get(&last->state) == shared_get(&chunk->state),
           "chunk %u: last chunk of its span does not lead back to it", index);
    EXPECT(audit, page_entry(audit, first_page_of_chunk(index)) == 0,
           "chunk %u: free with a page map entry", index);
    audit->report->chunks_free += size;
    audit->report->pages_dirty += backed;
}

/* One span; its size, or 0 if the table cannot be walked on. */
static uint32_t audit_span(struct audit *audit, uint32_t index, uint32_t end) {
    const struct chunk *chunk = heap_chunk(audit->heap, index);
    uint32_t state = shared_get(&chunk->state);
    uint32_t size = state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
    if (size == 0 || size > end - index) {
        audit_finding(audit, "chunk %u: a span of %u chunks does not fit", index, size);
        return 0;
    }
    switch (state) {
    case CHUNK_FREE_CLEAN:
    case CHUNK_FREE_DIRTY:
        audit_free_span(audit, index, chunk);
        break;
    case CHUNK_HUGE:
        audit_huge(audit, index, chunk);
        break;
    case CHUNK_ARENA:
        audit_arena_chunk(audit, index, chunk);
        return size;
    case CHUNK_HAND:
        audit->hand_spans++;
        break;
    default:
        audit_finding(audit, "chunk %u: state %u does not exist", index, state);
        return 0;
    }
    EXPECT(audit, shared_get(&chunk->backed) <= size * CHUNK_PAGES,
           "chunk %u: %u pages backed of %u", index, shared_get(&chunk->backed),
           size * CHUNK_PAGES);
    audit->backed_pages += shared_get(&chunk->backed);
    return size;
}

static void audit_pool_trees(struct audit *audit) {
    const enum chunk_state states[2] = {CHUNK_FREE_CLEAN, CHUNK_FREE_DIRTY};
    for (int i = 0; i < 2; i++) {
        struct tree tree = pool_tree(audit->heap, states[i]);
        uint32_t nodes = 0;
        EXPECT(audit, tree_audit(tree) != UINT32_MAX, "chunk pool: its tree %d is out of order", i);
        for (uint32_t c = first_chunk(audit->heap); c < end_chunk(audit->heap);) {
            const struct chunk *chunk = heap_chunk(audit->heap, c);
            uint32_t state = shared_get(&chunk->state);
            nodes += state == states[i];
            c += state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
        }
        EXPECT(audit, tree_audit(tree) == nodes, "chunk pool: %u free spans, %u in tree %d", nodes,
               tree_audit(tree), i);
    }
}

void audit_chunks(struct audit *audit) {
    uint32_t end = end_chunk(audit->heap);
    uint32_t index = first_chunk(audit->heap);
    audit->report->chunks = end - index;
    while (index < end) {
        uint32_t size = audit_span(audit, index, end);
        if (size == 0) {
            return;
        }
        index += size;
    }
    audit_pool_trees(audit);
}

/* ---- arenas ---- */

struct totals { /* of one arena, as found */
    uint32_t chunks;
    uint32_t dirty;
    uint32_t used;
    uint32_t dirty_runs;
    uint32_t clean_runs;
    uint32_t bin_runs[SIZE_CLASSES_SMALL];
    uint32_t nonfull_runs[SIZE_CLASSES_SMALL];
};

static void add_run(const struct run *run, struct totals *totals) {
    uint32_t pages = shared_get(&run->size);
    uint32_t state = shared_get(&run->state);
    uint32_t size_class = shared_get(&run->size_class);
    if (state == RUN_FREE_DIRTY) {
        totals->dirty += pages;
        totals->dirty_runs++;
    } else if (state == RUN_FREE_CLEAN) {
        totals->clean_runs++;
    } else {
        totals->used += pages;
    }
    if (state == RUN_BIN && size_class < SIZE_CLASSES_SMALL) {
        totals->bin_runs[size_class]++;
        totals->nonfull_runs[size_class] += shared_get(&run->extra) == BIN_NONFULL;
    }
}

static void add_chunks(const struct audit *audit, uint32_t arena, struct totals *totals) {
    for (uint32_t c = first_chunk(audit->heap); c < end_chunk(audit->heap);) {
        const struct chunk *chunk = heap_chunk(audit->heap, c);
        if (shared_get(&chunk->state) != CHUNK_ARENA) {
            c += shared_get(&chunk->size);
            continue;
        }
        if (shared_get(&chunk->arena) == arena) {
            totals->chunks++;
            uint32_t end = first_page_of_chunk(c + 1);
            for (uint32_t page = first_page_of_chunk(c); page < end;) {
                const struct run *run = heap_run(audit->heap, page);
                add_run(run, totals);
                page += shared_get(&run->size);
            }
        }
        c++;
    }
}

static void audit_bins(struct audit *audit, uint32_t index, const struct totals *totals) {
    struct arena *arena = heap_arena(audit->heap, index);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        struct bin *bin = &arena->bins[i];
        EXPECT(audit, shared_get(&bin->runs) == totals->bin_runs[i],
               "arena %u, bin %u: %u runs, but its entry says %u", index, i, totals->bin_runs[i],
               shared_get(&bin->runs));
        EXPECT(audit, tree_audit(bin_tree(audit->heap, bin)) == totals->nonfull_runs[i],
               "arena %u, bin %u: %u non-full runs, %u in its tree", index, i,
               totals->nonfull_runs[i], tree_audit(bin_tree(audit->heap, bin)));
    }
}

static void audit_arena(struct audit *audit, uint32_t index) {
    struct arena *arena = heap_arena(audit->heap, index);
    struct totals totals;
    memset(&totals, 0, sizeof(totals));
    add_chunks(audit, index, &totals);
    EXPECT(audit, shared_get(&arena->chunks) == totals.chunks, "arena %u: %u chunks, not %u", index,
           totals.chunks, shared_get(&arena->chunks));
    EXPECT(audit, shared_get(&arena->pages_dirty) == totals.dirty,
           "arena %u: %u dirty pages, not %u", index, totals.dirty,
           shared_get(&arena->pages_dirty));
    EXPECT(audit, shared_get(&arena->pages_used) == totals.used, "arena %u: %u used pages, not %u",
           index, totals.used, shared_get(&arena->pages_used));
    EXPECT(audit, tree_audit(run_tree(audit->heap, arena, 1)) == totals.dirty_runs,
           "arena %u: %u dirty runs, %u in their tree", index, totals.dirty_runs,
           tree_audit(run_tree(audit->heap, arena, 1)));
    EXPECT(audit, tree_audit(run_tree(audit->heap, arena, 0)) == totals.clean_runs,
           "arena %u: %u clean runs, %u in their tree", index, totals.clean_runs,
           tree_audit(run_tree(audit->heap, arena, 0)));
    uint32_t spare = shared_get(&arena->spare);
    EXPECT(audit,
           spare == 0 || (shared_get(&heap_chunk(audit->heap, spare)->arena) == index &&
                          shared_get(&heap_chunk(audit->heap, spare)->free_pages) == CHUNK_PAGES),
           "arena %u: its spare chunk %u is not a free one of its own", index, spare);
    audit_bins(audit, index, &totals);
}

void audit_arenas(struct audit *audit) {
    for (uint32_t i = 0; i < audit->arenas; i++) {
        audit_arena(audit, i);
    }
}

/* ---- for the caches ---- */

size_t audit_block_bytes(const sharena_t *heap, const void *ptr) {
    uint32_t page;
    uint32_t index;
    if (!is_user_data(heap, ptr)) {
        return 0;
    }
    uint32_t stack = shared_get(heap_page_map(heap) + page_of(heap, ptr)) /
                     (uint32_t)sizeof(struct tcache_stack);
    if (stack == 0 || stack > SIZE_CLASSES_CACHED) {
        return 0;
    }
    if (stack <= SIZE_CLASSES_SMALL) {
        struct run *run = bin_find_run(heap, ptr, &page, &index);
        int is_out =
            run != NULL && (shared_get(run_bitmap_word(run, index)) >> index % 64 & 1u) == 0;
        return is_out ? sizeclass_bytes(stack - 1) : 0;
    }
    return large_is_block(heap, ptr) || huge_is_block(heap, ptr) ? sizeclass_bytes(stack - 1) : 0;
}

uint64_t audit_table_pages(const sharena_t *heap) {
    uint64_t pages = pool_metadata_pages(end_chunk(heap)) - pool_metadata_pages(first_chunk(heap));
    for (uint32_t c = first_chunk(heap); c < end_chunk(heap); c++) {
        pages += shared_get(&heap_chunk(heap, c)->has_runs) ? RUN_TABLE_PAGES : 0;
    }
    return pages;
}
