/* test_audit.c -- each rule over chunks, runs and regions: broken by hand, found, and mended again. */
#include "heap/audit.h"

#include "heap/bin.h"
#include "heap/chunk.h"
#include "heap/large.h"
#include "heap/run.h"
#include "heap_parts.h"

#define WILD 0xffffffffu

/* ---- damage ---- */

struct change {
    void *field;
    size_t bytes;
    uint64_t value;
};

#define CHANGE(where, what) ((struct change){(where), sizeof(*(where)), (uint64_t)(what)})
#define CHANGES_MAX 8

static int is_in_messages(const struct sharena_report *report, const char *words) {
    for (uint64_t i = 0; i < report->findings && i < SHARENA_REPORT_MESSAGES; i++) {
        if (strstr(report->messages[i], words) != NULL) {
            return 1;
        }
    }
    return 0;
}

static void exchange(const struct change *change, uint64_t *value) {
    uint64_t old = 0;
    memcpy(&old, change->field, change->bytes);
    memcpy(change->field, value, change->bytes); /* little endian, as all that we run on */
    *value = old;
}

static void assert_clean(void) {
    if (sharena_check(fixture_heap(), NULL) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
}

/* With these changes the check says those words; without them the heap is clean. */
static void assert_finds_all(const struct change *changes, size_t count, const char *words) {
    struct sharena_report report;
    uint64_t values[CHANGES_MAX];
    assert_true(count <= CHANGES_MAX);
    for (size_t i = 0; i < count; i++) {
        values[i] = changes[i].value;
        exchange(&changes[i], &values[i]);
    }
    int error = sharena_check(fixture_heap(), &report);
    for (size_t i = count; i-- > 0;) {
        exchange(&changes[i], &values[i]);
    }
    if (error != EUCLEAN || report.findings == 0) {
        fail_msg("not found: %s", words);
    }
    if (!is_in_messages(&report, words)) {
        fail_msg("no '%s' in %llu findings: %s; %s; %s", words, (unsigned long long)report.findings,
                 report.messages[0], report.messages[1], report.messages[2]);
    }
    assert_clean();
}

static void assert_finds(struct change change, const char *words) {
    assert_finds_all(&change, 1, words);
}

/* ---- what there is to damage ---- */

#define LARGE_BYTES 20480u /* 5 pages, and one for the offset */
#define HUGE_BYTES (5u << 20)

static struct {
    sharena_t *heap;
    struct arena *arena;
    struct bin *bin; /* with a full, a non-full and a current run */
    uint32_t size_class;
    uint32_t chunk; /* the arena's */
    uint32_t full;  /* pages */
    uint32_t nonfull;
    uint32_t current;
    uint32_t large;
    uint32_t dirty; /* free runs */
    uint32_t clean;
    uint32_t huge; /* chunks */
    uint32_t dirty_span;
    uint32_t clean_span;
} scene;

static void *take(size_t size, int flags) {
    void *block = sharena_mallocx(scene.heap, size, flags | SHARENA_TCACHE_NONE);
    assert_non_null(block);
    return block;
}

static void give(void *block) {
    sharena_dallocx(scene.heap, block, SHARENA_TCACHE_NONE);
}

static struct run *run_at(uint32_t page) {
    return heap_run(scene.heap, page);
}

static struct chunk *chunk_at(uint32_t chunk) {
    return heap_chunk(scene.heap, chunk);
}

static shared_u16 *entry_at(uint32_t page) {
    return heap_page_map(scene.heap) + page;
}

static shared_u16 *kind_at(uint32_t page) {
    return heap_page_kind(scene.heap, page);
}

static uint32_t find_run(uint32_t state) {
    uint32_t end = first_page_of_chunk(scene.chunk + 1);
    for (uint32_t page = first_page_of_chunk(scene.chunk); page < end;) {
        if (shared_get(&run_at(page)->state) == state) {
            return page;
        }
        page += shared_get(&run_at(page)->size);
    }
    fail_msg("no run of state %u", state);
    return 0;
}

static uint32_t find_span(uint32_t state) {
    uint32_t c = first_chunk(scene.heap);
    while (c < end_chunk(scene.heap)) {
        uint32_t now = shared_get(&chunk_at(c)->state);
        if (now == state) {
            return c;
        }
        c += now == CHUNK_ARENA ? 1 : shared_get(&chunk_at(c)->size);
    }
    fail_msg("no span of state %u", state);
    return 0;
}

/* Three runs of one bin: full, non-full, current. */
static void make_runs(void) {
    uint32_t regions = sizeclass_run_shape(scene.size_class)->regions;
    void *first = NULL;
    void *second = NULL;
    void *last = NULL;
    for (uint32_t i = 0; i < 2 * regions + 1; i++) {
        last = take(sizeclass_bytes(scene.size_class), 0);
        first = i == 0 ? last : first;
        second = i == regions ? last : second;
    }
    scene.full = page_of(scene.heap, first);
    scene.nonfull = page_of(scene.heap, second);
    scene.current = page_of(scene.heap, last);
    give(second);
}

static int make_scene(void **state) {
    int error = heap_fixture_open(state);
    scene.heap = fixture_heap();
    (void)fixture_self();
    scene.arena = heap_arena(scene.heap, 0);
    scene.size_class = sizeclass_of(256);
    scene.bin = &scene.arena->bins[scene.size_class];
    make_runs();
    void *gap = take(LARGE_BYTES, 0);
    scene.large = page_of(scene.heap, take(LARGE_BYTES, 0));
    scene.chunk = chunk_of_page(scene.large);
    give(gap);
    void *huge_gap = take(HUGE_BYTES, 0);
    scene.huge = chunk_of_page(page_of(scene.heap, take(HUGE_BYTES, 0)));
    give(huge_gap);
    (void)take(CHUNK_BYTES, SHARENA_ALIGN(64 * MIB)); /* what it leaves out in front is clean */
    scene.dirty = find_run(RUN_FREE_DIRTY);
    scene.clean = find_run(RUN_FREE_CLEAN);
    scene.dirty_span = find_span(CHUNK_FREE_DIRTY);
    scene.clean_span = find_span(CHUNK_FREE_CLEAN);
    assert_clean();
    return error;
}

/* ---- runs of a bin ---- */

static void test_regions(void **state) {
    (void)state;
    struct run *run = run_at(scene.nonfull);
    uint32_t regions = sizeclass_run_shape(scene.size_class)->regions;
    shared_u64 *word = run_bitmap_word(run, 0);
    assert_finds(CHANGE(word, shared_get(word) ^ 1), "bits set");
    assert_finds(CHANGE(word, 0), "bits set");
    assert_finds(CHANGE(&run->free_regions, shared_get(&run->free_regions) + 1), "regions free");
    assert_finds(CHANGE(&run->free_regions, 0xffff), "regions free");
    assert_true(regions % 64 != 0); /* or there are no bits behind them */
    word = run_bitmap_word(run, regions);
    assert_finds(CHANGE(word, shared_get(word) | 1ull << regions % 64), "bits behind");
    assert_finds(CHANGE(word, UINT64_MAX), "bits behind");
}

static void test_place(void **state) {
    (void)state;
    struct run *run = run_at(scene.nonfull);
    assert_finds(CHANGE(&run->extra, BIN_FULL), "place 3 with 1 free");
    assert_finds(CHANGE(&run->extra, BIN_CURRENT), "current by one account");
    assert_finds(CHANGE(&run->extra, 0), "place 0");
    assert_finds(CHANGE(&run->extra, WILD), "place 4294967295");
    assert_finds(CHANGE(&run_at(scene.full)->extra, BIN_NONFULL), "place 2 with 0 free");
    assert_finds(CHANGE(&run_at(scene.current)->extra, BIN_NONFULL), "current by one account");
    assert_finds(CHANGE(&scene.bin->current, 0), "current by one account");
    assert_finds(CHANGE(&scene.bin->current, scene.full), "current by one account");
    assert_finds(CHANGE(&scene.bin->current, WILD), "current by one account");
    struct bin *unused = &scene.arena->bins[scene.size_class + 1];
    assert_int_equal(shared_get(&unused->runs), 0);
    assert_finds(CHANGE(&unused->current, WILD), "but 0 runs are");
    assert_finds(CHANGE(&unused->current, scene.current), "but 0 runs are");
}

static void test_pages_of_a_small_run(void **state) {
    (void)state;
    uint32_t pages = sizeclass_run_shape(scene.size_class)->pages;
    const char *words = "page map or kind is not that of its small run";
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t page = scene.full + i;
        assert_finds(CHANGE(entry_at(page), 0), words);
        assert_finds(CHANGE(entry_at(page), 0xffff), words);
        assert_finds(CHANGE(entry_at(page), stack_offset_of(scene.size_class + 1)), words);
        assert_finds(CHANGE(kind_at(page), i + 1), words);
        assert_finds(CHANGE(kind_at(page), KIND_FREE | i), words);
    }
    struct run *run = run_at(scene.full);
    assert_finds(CHANGE(&run->size_class, SIZE_CLASSES_SMALL), "is not small");
    assert_finds(CHANGE(&run->size_class, 0xffff), "is not small");
    assert_finds(CHANGE(&run->size_class, sizeclass_of(14336)), "pages for class");
    assert_finds(CHANGE(&run->size, pages + 1), "pages for class");
}

/* ---- large and free runs ---- */

static void test_large_run(void **state) {
    (void)state;
    struct run *run = run_at(scene.large);
    uint32_t pages = shared_get(&run->size);
    assert_true(pages >= 5);
    assert_finds(CHANGE(&run->size_class, sizeclass_of(8)), "is not large");
    assert_finds(CHANGE(&run->size_class, SIZE_CLASSES_LARGE_END), "is not large");
    assert_finds(CHANGE(&run->size_class, 0xffff), "is not large");
    assert_finds(CHANGE(&run->size_class, sizeclass_of(LARGE_BYTES) + 1), "pages for class");
    assert_finds(CHANGE(&run->extra, PAGE_BYTES), "begins at offset");
    assert_finds(CHANGE(&run->extra, WILD), "begins at offset 4294967295");
    assert_finds(CHANGE(entry_at(scene.large), 0), "is not that of its large block");
    assert_finds(CHANGE(entry_at(scene.large), 0xffff), "is not that of its large block");
    assert_finds(CHANGE(entry_at(scene.large + 1), 32), "no block begins there");
    assert_finds(CHANGE(entry_at(scene.large + pages - 1), 0xffff), "no block begins there");
    assert_finds(CHANGE(kind_at(scene.large), KIND_FREE), "should be");
    assert_finds(CHANGE(kind_at(scene.large + pages - 1), pages), "should be");
}

static void test_free_run(void **state) {
    (void)state;
    const uint32_t firsts[] = {scene.dirty, scene.clean};
    for (size_t i = 0; i < 2; i++) {
        uint32_t page = firsts[i];
        uint32_t last = page + shared_get(&run_at(page)->size) - 1;
        assert_true(last > page);
        assert_finds(CHANGE(entry_at(page), 32), "no block begins there");
        assert_finds(CHANGE(entry_at(last), 0xffff), "no block begins there");
        assert_finds(CHANGE(kind_at(page), 0), "should be");
        assert_finds(CHANGE(kind_at(last), 0xffff), "should be");
    }
    assert_finds(CHANGE(&run_at(scene.clean)->state, RUN_FREE_DIRTY), "should be 0xc000");
}

/* The dirty run is cut in two, each of which is whole. */
static void test_free_beside_free(void **state) {
    (void)state;
    uint32_t page = scene.dirty;
    uint32_t pages = shared_get(&run_at(page)->size);
    uint32_t kind = KIND_FREE | KIND_DIRTY;
    assert_true(pages > 2);
    const struct change changes[] = {
        CHANGE(&run_at(page)->size, 1),
        CHANGE(kind_at(page + 1), kind),
        CHANGE(kind_at(page + pages - 1), kind | (pages - 2)),
        CHANGE(&run_at(page + 1)->size, pages - 1),
        CHANGE(&run_at(page + 1)->state, RUN_FREE_DIRTY),
        CHANGE(&run_at(page + 1)->arena, 0),
    };
    assert_finds_all(changes, 6, "free beside a free run");
}

/* ---- the walk through a chunk ---- */

static void test_run_sizes(void **state) {
    (void)state;
    const uint32_t pages[] = {scene.full, scene.large, scene.dirty, scene.clean};
    const uint32_t sizes[] = {0, CHUNK_PAGES + 1, WILD, WILD - 511, 0x80000000u};
    for (size_t i = 0; i < 4; i++) {
        shared_u32 *size = &run_at(pages[i])->size;
        for (size_t j = 0; j < 5; j++) {
            assert_finds(CHANGE(size, sizes[j]), "do not fit its chunk");
        }
        assert_finds(CHANGE(size, shared_get(size) + 1), "run at page");
        if (shared_get(size) > 1) {
            assert_finds(CHANGE(size, shared_get(size) - 1), "run at page");
            assert_finds(CHANGE(size, 1), "run at page");
        }
    }
}

static void test_run_states(void **state) {
    (void)state;
    const uint32_t pages[] = {scene.full, scene.large, scene.dirty, scene.clean};
    for (size_t i = 0; i < 4; i++) {
        struct run *run = run_at(pages[i]);
        assert_finds(CHANGE(&run->state, RUN_NONE), "state 0 does not exist");
        assert_finds(CHANGE(&run->state, RUN_LARGE + 1), "state 6 does not exist");
        assert_finds(CHANGE(&run->state, 0xffff), "state 65535 does not exist");
        assert_finds(CHANGE(&run->arena, 1), "is not that of its chunk");
        assert_finds(CHANGE(&run->arena, 0xffff), "is not that of its chunk");
    }
}

static void test_arena_chunk(void **state) {
    (void)state;
    struct chunk *chunk = chunk_at(scene.chunk);
    uint32_t free_pages = shared_get(&chunk->free_pages);
    assert_finds(CHANGE(&chunk->free_pages, free_pages - 1), "but its entry says");
    assert_finds(CHANGE(&chunk->free_pages, 0xffff), "but its entry says 65535");
    assert_finds(CHANGE(&chunk->arena, 1), "does not exist");
    assert_finds(CHANGE(&chunk->arena, 0xffff), "arena 65535 does not exist");
    assert_finds(CHANGE(&chunk->has_runs, 0), "run table is not backed");
}

/* ---- spans ---- */

static void test_spans(void **state) {
    (void)state;
    const uint32_t spans[] = {scene.huge, scene.dirty_span, scene.clean_span};
    const uint32_t beyond = end_chunk(scene.heap) + 1;
    for (size_t i = 0; i < 3; i++) {
        struct chunk *chunk = chunk_at(spans[i]);
        assert_finds(CHANGE(&chunk->size, 0), "a span of 0 chunks");
        assert_finds(CHANGE(&chunk->size, beyond - spans[i]), "does not fit");
        assert_finds(CHANGE(&chunk->size, WILD), "a span of 4294967295 chunks");
        assert_finds(CHANGE(&chunk->state, CHUNK_NONE), "state 0 does not exist");
        assert_finds(CHANGE(&chunk->state, CHUNK_HUGE + 1), "state 6 does not exist");
        assert_finds(CHANGE(&chunk->state, 0xffff), "state 65535 does not exist");
        assert_finds(CHANGE(&chunk->backed, WILD), "pages backed");
    }
}

static void test_free_spans(void **state) {
    (void)state;
    struct chunk *dirty = chunk_at(scene.dirty_span);
    struct chunk *clean = chunk_at(scene.clean_span);
    struct chunk *last = chunk_at(scene.dirty_span + shared_get(&dirty->size) - 1);
    assert_finds(CHANGE(&clean->backed, 5), "free clean with 5 pages backed");
    assert_finds(CHANGE(&dirty->backed, 0), "free dirty with 0 pages backed");
    assert_finds(CHANGE(&dirty->state, CHUNK_FREE_CLEAN), "free clean with");
    assert_finds(CHANGE(&last->first, 0), "does not lead back");
    assert_finds(CHANGE(&last->first, WILD), "does not lead back");
    assert_finds(CHANGE(&last->state, CHUNK_HUGE), "does not lead back");
    uint32_t page = first_page_of_chunk(scene.dirty_span);
    assert_finds(CHANGE(entry_at(page), 32), "no block begins there");
    assert_finds(CHANGE(entry_at(page + CHUNK_PAGES), 32), "no block begins there");
}

/* The clean span is cut in two, each of which is whole. */
static void test_free_span_beside_free(void **state) {
    (void)state;
    uint32_t first = scene.clean_span;
    uint32_t size = shared_get(&chunk_at(first)->size);
    assert_true(size >= 3);
    const struct change changes[] = {
        CHANGE(&chunk_at(first)->size, 1),
        CHANGE(&chunk_at(first)->first, first),
        CHANGE(&chunk_at(first + 1)->size, size - 1),
        CHANGE(&chunk_at(first + 1)->state, CHUNK_FREE_CLEAN),
        CHANGE(&chunk_at(first + 1)->backed, 0),
        CHANGE(&chunk_at(first + size - 1)->first, first + 1),
    };
    assert_finds_all(changes, 6, "free beside a free span");
}

static void test_huge(void **state) {
    (void)state;
    struct chunk *chunk = chunk_at(scene.huge);
    uint32_t page = first_page_of_chunk(scene.huge);
    assert_finds(CHANGE(&chunk->size_class, 0), "huge block of class 0");
    assert_finds(CHANGE(&chunk->size_class, sizeclass_of(7 * MIB)), "huge block of class");
    assert_finds(CHANGE(&chunk->size_class, SIZE_CLASSES_MAX), "huge block of class 160");
    assert_finds(CHANGE(&chunk->size_class, 0xffff), "huge block of class 65535");
    assert_finds(CHANGE(&chunk->backed, HUGE_BYTES / PAGE_BYTES - 1), "1279 backed");
    assert_finds(CHANGE(&chunk->backed, 0), "0 backed");
    struct chunk *last = chunk_at(scene.huge + shared_get(&chunk->size) - 1);
    assert_finds(CHANGE(&last->state, CHUNK_FREE_DIRTY), "does not lead back");
    assert_finds(CHANGE(&last->first, 0), "does not lead back");
    assert_finds(CHANGE(&chunk_at(scene.huge + 1)->state, CHUNK_ARENA), "an arena's, in the span");
    assert_finds(CHANGE(entry_at(page), 0), "page map 0 is not that of its huge block");
    assert_finds(CHANGE(entry_at(page), 32), "page map 32 is not that");
    assert_finds(CHANGE(entry_at(page + 1), 32), "no block begins there");
    assert_finds(CHANGE(entry_at(page + 3 * CHUNK_PAGES - 1), 32), "no block begins there");
}

/* ---- trees ---- */

static void test_pool_trees(void **state) {
    (void)state;
    struct pool *pool = heap_pool(scene.heap);
    shared_u32 *const roots[] = {&pool->dirty, &pool->clean};
    for (size_t i = 0; i < 2; i++) {
        uint32_t root = shared_get(roots[i]);
        assert_finds(CHANGE(roots[i], 0), "not in tree");
        assert_finds(CHANGE(roots[i], 0), "0 in tree");
        assert_finds(CHANGE(roots[i], scene.huge), "not in tree");
        assert_finds(CHANGE(roots[i], WILD), "out of order");
        assert_finds(CHANGE(roots[i], 1), "out of order"); /* metadata */
        assert_finds(CHANGE(&chunk_at(root)->left, root), "out of order");
        assert_finds(CHANGE(&chunk_at(root)->left, WILD), "out of order");
        assert_finds(CHANGE(&chunk_at(root)->right, WILD), "out of order");
    }
}

static void test_run_trees(void **state) {
    (void)state;
    shared_u32 *const roots[] = {&scene.arena->free_dirty, &scene.arena->free_clean,
                                 &scene.bin->nonfull};
    for (size_t i = 0; i < 3; i++) {
        uint32_t root = shared_get(roots[i]);
        assert_finds(CHANGE(roots[i], 0), "not in the tree for it");
        assert_finds(CHANGE(roots[i], 0), "in their tree");
        assert_finds(CHANGE(roots[i], scene.full), "not in the tree for it");
        assert_finds(CHANGE(roots[i], WILD), "out of order");
        assert_finds(CHANGE(roots[i], first_page_of_chunk(scene.huge)), "out of order");
        assert_finds(CHANGE(&run_at(root)->left, root), "out of order");
        assert_finds(CHANGE(&run_at(root)->right, root), "out of order");
        assert_finds(CHANGE(&run_at(root)->left, WILD), "out of order");
        assert_finds(CHANGE(&run_at(root)->right, WILD), "out of order");
    }
}

/* A tree of several nodes: its halves in each other's place, and the loss of one. */
static void test_tree_of_many(void **state) {
    (void)state;
    void *blocks[40];
    for (size_t i = 0; i < 40; i++) {
        blocks[i] = take(LARGE_BYTES, 0);
    }
    for (size_t i = 0; i < 40; i += 2) {
        give(blocks[i]);
    }
    uint32_t nodes = 0;
    for (uint32_t page = first_page_of_chunk(scene.chunk);
         page < first_page_of_chunk(scene.chunk + 1); page += shared_get(&run_at(page)->size)) {
        struct run *run = run_at(page);
        uint32_t left = shared_get(&run->left);
        uint32_t right = shared_get(&run->right);
        if (shared_get(&run->state) != RUN_FREE_DIRTY) {
            continue;
        }
        nodes++;
        if (left != right) {
            const struct change swap[] = {CHANGE(&run->left, right), CHANGE(&run->right, left)};
            assert_finds_all(swap, 2, "not in the tree for it");
        }
        if (left != 0) {
            assert_finds(CHANGE(&run->left, 0), "not in the tree for it");
        }
        if (right != 0) {
            assert_finds(CHANGE(&run->right, 0), "not in the tree for it");
        }
    }
    assert_true(nodes >= 20);
}

/* ---- arenas ---- */

static void test_totals(void **state) {
    (void)state;
    struct arena *arena = scene.arena;
    const struct {
        shared_u32 *field;
        const char *words;
    } totals[] = {
        {&arena->chunks, "1 chunks, not"},
        {&arena->pages_dirty, "dirty pages, not"},
        {&arena->pages_used, "used pages, not"},
        {&scene.bin->runs, "3 runs, but its entry says"},
        {&arena->bins[0].runs, "0 runs, but its entry says"},
    };
    for (size_t i = 0; i < 5; i++) {
        uint32_t value = shared_get(totals[i].field);
        assert_finds(CHANGE(totals[i].field, value + 1), totals[i].words);
        assert_finds(CHANGE(totals[i].field, value - 1), totals[i].words);
        assert_finds(CHANGE(totals[i].field, value ^ WILD), totals[i].words);
    }
}

static void test_dirty_pages_of_the_pool(void **state) {
    (void)state;
    shared_u64 *pages = &heap_pool(scene.heap)->pages_dirty;
    uint64_t value = shared_get(pages);
    assert_int_not_equal(value, 0);
    assert_finds(CHANGE(pages, value + 1), "chunk pool: ");
    assert_finds(CHANGE(pages, 0), "dirty pages, not 0");
}

static void test_run_table_of_a_chunk_without_storage(void **state) {
    (void)state;
    shared_u32 *has_runs = &chunk_at(scene.clean_span)->has_runs;
    assert_finds(CHANGE(has_runs, 1), "free, not backed, but has a run table");
}

static void test_spare(void **state) {
    (void)state;
    const uint32_t none[] = {scene.chunk,           scene.huge, scene.clean_span,
                             end_chunk(scene.heap), 1,          WILD};
    for (size_t i = 0; i < 6; i++) {
        assert_finds(CHANGE(&scene.arena->spare, none[i]), "is not a free one of its own");
    }
    struct chunk *chunk = chunk_at(scene.dirty_span); /* it looks like one but is not the arena's */
    const struct change changes[] = {CHANGE(&scene.arena->spare, scene.dirty_span),
                                     CHANGE(&chunk->arena, 0),
                                     CHANGE(&chunk->free_pages, CHUNK_PAGES)};
    assert_finds_all(changes, 3, "is not a free one of its own");
}

/* ---- anything, anywhere ---- */

static struct change of_bytes(void *table, size_t table_bytes, size_t field_bytes,
                              uint64_t *random) {
    uint64_t fields = table_bytes / field_bytes;
    char *field = (char *)table + clean_random(random) % fields * field_bytes;
    const uint64_t values[] = {0, UINT64_MAX, clean_random(random) % 4096, clean_random(random)};
    return (struct change){field, field_bytes, values[clean_random(random) % 4]};
}

/* A field of any table that the audit reads, but for locks. */
static struct change any_change(uint64_t *random) {
    uint32_t first = first_chunk(scene.heap);
    uint32_t chunks = end_chunk(scene.heap) - first;
    uint32_t page = first_page_of_chunk(first);
    struct bin *bin = &scene.arena->bins[clean_random(random) % SIZE_CLASSES_SMALL];
    switch (clean_random(random) % 7) {
    case 0:
        return of_bytes(chunk_at(first), chunks * sizeof(struct chunk), 4, random);
    case 1:
        return of_bytes(run_at(first_page_of_chunk(scene.chunk)), CHUNK_PAGES * sizeof(struct run),
                        4, random);
    case 2:
        return of_bytes(entry_at(page), (size_t)chunks * CHUNK_PAGES * 2, 2, random);
    case 3:
        return of_bytes(kind_at(page), (size_t)chunks * CHUNK_PAGES * 2, 2, random);
    case 4:
        return of_bytes(&scene.arena->free_dirty, 7 * 4, 4, random);
    case 5:
        return of_bytes(&bin->current, 3 * 4, 4, random);
    default:
        return of_bytes(&fixture_self()->hand, sizeof(struct hand), 4, random);
    }
}

/* Up to four fields at once hold anything: it is found or not, but the check comes to its end. */
static void test_wild_values(void **state) {
    (void)state;
    uint64_t random = 1;
    int found = 0;
    for (int round = 0; round < 10000; round++) {
        struct change changes[4];
        uint64_t count = clean_random(&random) % 4 + 1;
        for (uint64_t i = 0; i < count; i++) {
            changes[i] = any_change(&random);
            exchange(&changes[i], &changes[i].value);
        }
        found += sharena_check(scene.heap, NULL) == EUCLEAN;
        for (uint64_t i = count; i-- > 0;) {
            exchange(&changes[i], &changes[i].value);
        }
    }
    assert_true(found > 3000);
    assert_clean();
}

#define with(f) cmocka_unit_test_setup_teardown(f, make_scene, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with(test_regions),
        with(test_place),
        with(test_pages_of_a_small_run),
        with(test_large_run),
        with(test_free_run),
        with(test_free_beside_free),
        with(test_run_sizes),
        with(test_run_states),
        with(test_arena_chunk),
        with(test_spans),
        with(test_free_spans),
        with(test_free_span_beside_free),
        with(test_huge),
        with(test_pool_trees),
        with(test_run_trees),
        with(test_tree_of_many),
        with(test_totals),
        with(test_dirty_pages_of_the_pool),
        with(test_run_table_of_a_chunk_without_storage),
        with(test_spare),
        with(test_wild_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
