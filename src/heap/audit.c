/* audit.c -- the walk over chunks, runs and regions.
 *
 * Rules proved here, each with its finding: chunks are tiled by spans and arena chunks by runs;
 * each has one owner that its state names; free neighbours of a kind are joined; trees hold exactly
 * the free spans and runs of their kind and are in order; page map and kinds agree with the runs;
 * bits agree with counts. A wild number is a finding, never followed.
 *
 * Lock:   all of the heap, held by the caller
 * Killed: nothing is changed
 * Not here: thread slots and sums over the whole heap (check.c).
 */
#include "heap/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "heap/audit_prof.h"
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

static uint64_t *word_of(const struct audit *audit, const void *block, uint64_t *bit) {
    uint64_t offset = (uintptr_t)block - heap_state(audit->heap)->data_begin;
    *bit = 1ull << offset / 8 % 64;
    return &audit->marks[offset / 8 / 64];
}

int audit_mark(struct audit *audit, const void *block) {
    uint64_t bit;
    uint64_t *word = word_of(audit, block, &bit);
    int is_new = (*word & bit) == 0;
    *word |= bit;
    return is_new;
}

int audit_unmark(struct audit *audit, const void *block) {
    uint64_t bit;
    uint64_t *word = word_of(audit, block, &bit);
    int was_set = (*word & bit) != 0;
    *word &= ~bit;
    return was_set;
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

/* ---- trees ---- */

#define TREE_DEPTH_MAX 256u /* some four times what a million nodes need */

/* Whether the tables have an entry of that number: a damaged link may hold anything. */
static int has_entry(const struct audit *audit, struct tree tree, uint32_t index) {
    int is_run = tree.node_bytes == sizeof(struct run);
    uint32_t chunk = is_run ? chunk_of_page(index) : index;
    return chunk >= first_chunk(audit->heap) && chunk < end_chunk(audit->heap) &&
           (!is_run || shared_get(&heap_chunk(audit->heap, chunk)->has_runs));
}

static uint64_t key_of(struct tree tree, uint32_t index) {
    return (uint64_t)shared_get(&tree_at(tree, index)->size) << 32 | index;
}

/* Whether all links below `node` lead to entries in their order. Each entry is met once at most:
 * its key must lie between those of the nodes that lead to it. */
static int can_be_walked(const struct audit *audit, struct tree tree, uint32_t node, uint64_t low,
                         uint64_t high, uint32_t depth) {
    if (node == 0) {
        return 1;
    }
    if (depth == TREE_DEPTH_MAX || !has_entry(audit, tree, node)) {
        return 0;
    }
    uint64_t key = key_of(tree, node);
    return key >= low && key <= high &&
           can_be_walked(audit, tree, shared_get(&tree_at(tree, node)->left), low, key - 1,
                         depth + 1) &&
           can_be_walked(audit, tree, shared_get(&tree_at(tree, node)->right), key + 1, high,
                         depth + 1);
}

/* The number of nodes, or UINT32_MAX if the tree is out of order. */
static uint32_t count_nodes(const struct audit *audit, struct tree tree) {
    return can_be_walked(audit, tree, shared_get(tree.root), 0, UINT64_MAX, 0) ? tree_audit(tree)
                                                                               : UINT32_MAX;
}

/* Whether the node is found where its key belongs. With as many nodes as there are members, each
 * found, a tree has the members and nothing else. */
static int is_in_tree(const struct audit *audit, struct tree tree, uint32_t index) {
    uint64_t key = key_of(tree, index);
    uint32_t node = shared_get(tree.root);
    for (uint32_t i = 0; i < TREE_DEPTH_MAX && has_entry(audit, tree, node); i++) {
        if (node == index) {
            return 1;
        }
        const struct tree_node *at = tree_at(tree, node);
        node = shared_get(key_of(tree, node) < key ? &at->right : &at->left);
    }
    return 0;
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
    if (shared_get(&run->size) != shape->pages) {
        audit_finding(audit, "run at page %u: %u pages for class %u", page, shared_get(&run->size),
                      size_class);
        return;
    }
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
    uint32_t arena = shared_get(&heap_chunk(audit->heap, chunk_of_page(page))->arena);
    const struct bin *bin = &heap_arena(audit->heap, arena)->bins[size_class];
    EXPECT(audit, bits == free_regions, "run at page %u: %u bits set, %u regions free", page, bits,
           free_regions);
    EXPECT(audit, free_regions < shape->regions, "run at page %u: empty, but not given back", page);
    EXPECT(audit, (place == BIN_CURRENT) == (shared_get(&bin->current) == page),
           "run at page %u: current by one account only", page);
    EXPECT(audit,
           place >= BIN_CURRENT && place <= BIN_FULL && (place == BIN_FULL) == (free_regions == 0),
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
    uint32_t offset = shared_get(&run->extra);
    EXPECT(audit, offset == 0 || (offset < PAGE_BYTES && pages > large_pages(size_class)),
           "run at page %u: its block begins at offset %u of %u pages", page, offset, pages);
    EXPECT(audit,
           audit_is_entry(audit, (const char *)page_address(audit->heap, page) + offset, size_class,
                          shared_get(&run->left)),
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
        (void)audit_mark(audit, page_address(audit->heap, page));
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
    uint32_t size = shared_get(&chunk->size);
    uint32_t page = first_page_of_chunk(index);
    if (size_class < SIZE_CLASSES_SMALL || size_class >= SIZE_CLASSES_MAX ||
        sizeclass_bytes(size_class) > (uint64_t)size * CHUNK_BYTES) {
        audit_finding(audit, "chunk %u: huge block of class %u in %u chunks", index, size_class,
                      size);
        return;
    }
    uint64_t pages = sizeclass_bytes(size_class) / PAGE_BYTES;
    uint32_t cached = size_class < SIZE_CLASSES_LARGE_END ? SIZE_CLASSES_CACHED : size_class;
    EXPECT(audit, shared_get(&chunk->backed) >= pages,
           "chunk %u: huge block of %llu pages, %u backed", index, (unsigned long long)pages,
           shared_get(&chunk->backed));
    EXPECT(audit,
           audit_is_entry(audit, page_address(audit->heap, page), cached, shared_get(&chunk->left)),
           "chunk %u: page map %u is not that of its huge block", index, page_entry(audit, page));
    expect_no_entries(audit, page + 1, size * CHUNK_PAGES - 1);
    count_live(audit, 1, sizeclass_bytes(size_class));
}

static void audit_free_span(struct audit *audit, uint32_t index, const struct chunk *chunk) {
    uint32_t size = shared_get(&chunk->size);
    uint32_t backed = shared_get(&chunk->backed);
    int dirty = shared_get(&chunk->state) == CHUNK_FREE_DIRTY;
    EXPECT(audit, dirty == (backed != 0), "chunk %u: free %s with %u pages backed", index,
           dirty ? "dirty" : "clean", backed);
    expect_no_entries(audit, first_page_of_chunk(index), size * CHUNK_PAGES);
    for (uint32_t i = pool_chunks_of(backed); i < size; i++) {
        EXPECT(audit, !shared_get(&heap_chunk(audit->heap, index + i)->has_runs),
               "chunk %u: free, not backed, but has a run table", index + i);
    }
    audit->report->chunks_free += size;
    audit->report->pages_dirty += backed;
}

/* What the neighbours of a span of several chunks see of it. */
static void audit_span_ends(struct audit *audit, uint32_t index, uint32_t size, uint32_t state) {
    const struct chunk *last = heap_chunk(audit->heap, index + size - 1);
    EXPECT(audit, shared_get(&last->first) == index && shared_get(&last->state) == state,
           "chunk %u: last chunk of its span does not lead back to it", index);
    for (uint32_t i = 1; i < size; i++) {
        EXPECT(audit, shared_get(&heap_chunk(audit->heap, index + i)->state) != CHUNK_ARENA,
               "chunk %u: an arena's, in the span at chunk %u", index + i, index);
    }
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
        (void)audit_mark(audit, page_address(audit->heap, first_page_of_chunk(index)));
        break;
    default:
        audit_finding(audit, "chunk %u: state %u does not exist", index, state);
        return 0;
    }
    audit_span_ends(audit, index, size, state);
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
        uint64_t backed = 0;
        uint32_t counted = count_nodes(audit, tree);
        if (counted == UINT32_MAX) {
            audit_finding(audit, "chunk pool: its tree %d is out of order", i);
            continue;
        }
        for (uint32_t c = first_chunk(audit->heap); c < end_chunk(audit->heap);) {
            const struct chunk *chunk = heap_chunk(audit->heap, c);
            uint32_t state = shared_get(&chunk->state);
            if (state == states[i]) {
                nodes++;
                backed += shared_get(&chunk->backed);
                EXPECT(audit, is_in_tree(audit, tree, c), "chunk %u: free, but not in tree %d", c,
                       i);
            }
            c += state == CHUNK_ARENA ? 1 : shared_get(&chunk->size);
        }
        EXPECT(audit, counted == nodes, "chunk pool: %u free spans, %u in tree %d", nodes, counted,
               i);
        uint64_t pages = i == 1 ? shared_get(&heap_pool(audit->heap)->pages_dirty) : 0;
        EXPECT(audit, backed == pages, "chunk pool: %llu dirty pages, not %llu",
               (unsigned long long)backed, (unsigned long long)pages);
    }
}

/* Whether the span in front of `index`, which began at `before`, should have been joined with it.
 * */
static int should_be_joined(const struct audit *audit, uint32_t before, uint32_t index) {
    const struct chunk *front = heap_chunk(audit->heap, before);
    const struct chunk *back = heap_chunk(audit->heap, index);
    if (shared_get(&front->state) != shared_get(&back->state)) {
        return 0;
    }
    switch (shared_get(&front->state)) {
    case CHUNK_FREE_CLEAN:
        return 1;
    case CHUNK_FREE_DIRTY:
        return shared_get(&front->backed) == shared_get(&front->size) * CHUNK_PAGES;
    default:
        return 0;
    }
}

uint32_t audit_progress;

/* Half of it is the walk over all chunks, the other half those over the chunks of each arena. */
static void set_progress(uint32_t half, uint32_t done, uint32_t all) {
    uint32_t part = all != 0 ? (uint32_t)(500ull * done / all) : 500;
    __atomic_store_n(&audit_progress, 500 * half + part, __ATOMIC_RELAXED);
}

void audit_chunks(struct audit *audit) {
    uint32_t end = end_chunk(audit->heap);
    uint32_t index = first_chunk(audit->heap);
    uint32_t before = index;
    audit->report->chunks = end - index;
    while (index < end) {
        set_progress(0, index - first_chunk(audit->heap), end - first_chunk(audit->heap));
        uint32_t size = audit_span(audit, index, end);
        if (size == 0) {
            return;
        }
        EXPECT(audit, before == index || !should_be_joined(audit, before, index),
               "chunk %u: free beside a free span of its kind", index);
        before = index;
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
    uint32_t current_runs[SIZE_CLASSES_SMALL];
};

/* A run that is free, or has free regions and is not current, is in the tree for it. */
static void expect_in_tree(struct audit *audit, uint32_t page, const struct run *run) {
    struct arena *arena = heap_arena(audit->heap, shared_get(&run->arena));
    uint32_t state = shared_get(&run->state);
    struct tree tree;
    if (state == RUN_FREE_DIRTY || state == RUN_FREE_CLEAN) {
        tree = run_tree(audit->heap, arena, state == RUN_FREE_DIRTY);
    } else if (state == RUN_BIN && shared_get(&run->extra) == BIN_NONFULL) {
        tree = bin_tree(audit->heap, &arena->bins[shared_get(&run->size_class)]);
    } else {
        return;
    }
    EXPECT(audit, is_in_tree(audit, tree, page), "run at page %u: not in the tree for it", page);
}

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
        totals->current_runs[size_class] += shared_get(&run->extra) == BIN_CURRENT;
    }
}

static void add_chunks(struct audit *audit, uint32_t arena, struct totals *totals) {
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
                expect_in_tree(audit, page, run);
                add_run(run, totals);
                page += shared_get(&run->size);
            }
        }
        c++;
    }
}

static void expect_nodes(struct audit *audit, uint32_t arena, const char *kind, struct tree tree,
                         uint32_t members) {
    uint32_t nodes = count_nodes(audit, tree);
    if (nodes == UINT32_MAX) {
        audit_finding(audit, "arena %u: a tree of %s runs is out of order", arena, kind);
        return;
    }
    EXPECT(audit, nodes == members, "arena %u: %u %s runs, %u in their tree", arena, members, kind,
           nodes);
}

/* Whether the arena may keep that chunk for its next need. */
static int is_spare(const struct audit *audit, uint32_t arena, uint32_t index) {
    if (index < first_chunk(audit->heap) || index >= end_chunk(audit->heap)) {
        return 0;
    }
    const struct chunk *chunk = heap_chunk(audit->heap, index);
    return shared_get(&chunk->state) == CHUNK_ARENA && shared_get(&chunk->arena) == arena &&
           shared_get(&chunk->free_pages) == CHUNK_PAGES;
}

static void audit_bins(struct audit *audit, uint32_t index, const struct totals *totals) {
    struct arena *arena = heap_arena(audit->heap, index);
    for (uint32_t i = 0; i < SIZE_CLASSES_SMALL; i++) {
        struct bin *bin = &arena->bins[i];
        EXPECT(audit, shared_get(&bin->runs) == totals->bin_runs[i],
               "arena %u, bin %u: %u runs, but its entry says %u", index, i, totals->bin_runs[i],
               shared_get(&bin->runs));
        EXPECT(audit, (shared_get(&bin->current) != 0) == totals->current_runs[i],
               "arena %u, bin %u: current is page %u, but %u runs are", index, i,
               shared_get(&bin->current), totals->current_runs[i]);
        expect_nodes(audit, index, "non-full", bin_tree(audit->heap, bin), totals->nonfull_runs[i]);
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
    expect_nodes(audit, index, "dirty", run_tree(audit->heap, arena, 1), totals.dirty_runs);
    expect_nodes(audit, index, "clean", run_tree(audit->heap, arena, 0), totals.clean_runs);
    uint32_t spare = shared_get(&arena->spare);
    EXPECT(audit, spare == 0 || is_spare(audit, index, spare),
           "arena %u: its spare chunk %u is not a free one of its own", index, spare);
    audit_bins(audit, index, &totals);
}

void audit_arenas(struct audit *audit) {
    for (uint32_t i = 0; i < audit->arenas; i++) {
        set_progress(1, i, audit->arenas);
        audit_arena(audit, i);
    }
    set_progress(1, 1, 1);
}
