/* points_stage.c -- the heap of a case, and what the survivor knows of its blocks. */
#include "points.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heap/audit_slots.h"
#include "heap/bin.h"
#include "heap/huge.h"

#define CAPACITY_BYTES (48u << 20)
#define LIMIT_BYTES (1u << 20)
#define EDGE_BYTES 256u /* of a big block, filled and compared at either end */

int stage_fail(struct stage *stage, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (stage->note->why[0] == '\0') {
        (void)vsnprintf(stage->note->why, sizeof(stage->note->why), format, arguments);
    }
    va_end(arguments);
    return -1;
}

/* ---- the heap ---- */

static void write_conf(const struct stage *stage, char *conf, size_t size) {
    unsigned flags = stage->scenario->flags;
    (void)snprintf(conf, size, "dirty_decay_ms:-1,tcache_bytes:0,narenas:%d%s",
                   (flags & TWO_ARENAS) != 0 ? 2 : 1,
                   (flags & CACHE_ALL) != 0 ? ",tcache_nslots_large:2,tcache_nslots_small_max:20"
                                            : "");
}

int stage_open(struct stage *stage) {
    char conf[128];
    struct sharena_options options = {.capacity_bytes = CAPACITY_BYTES, .conf = conf};
    options.limit_bytes = (stage->scenario->flags & LIMITED) != 0 ? LIMIT_BYTES : 0;
    write_conf(stage, conf, sizeof(conf));
    int error = sharena_open(stage->path, &options, &stage->heap);
    return error == 0 ? 0 : stage_fail(stage, "open: %d, %s", error, sharena_errormsg());
}

int stage_close(struct stage *stage) {
    int error = stage->heap != NULL ? sharena_close(stage->heap) : 0;
    stage->heap = NULL;
    return error == 0 ? 0 : stage_fail(stage, "close: %d, %s", error, sharena_errormsg());
}

int stage_renew(struct stage *stage) {
    if (stage_close(stage) != 0) {
        return -1;
    }
    (void)unlink(stage->path);
    return stage_open(stage);
}

int stage_flush(struct stage *stage) {
    int error = sharena_ctl(stage->heap, "thread.tcache.flush", NULL, NULL, NULL, 0);
    return error == 0 ? 0 : stage_fail(stage, "flush: %d, %s", error, sharena_errormsg());
}

/* ---- known blocks ---- */

static uint64_t word_of(uint64_t seed, size_t at) {
    return (seed * 31 + at + 1) * 0x9e3779b97f4a7c15ull;
}

/* The content that is looked at: all of a small block, both ends of a big one. */
static size_t next_word(const struct known *known, size_t at) {
    at += sizeof(uint64_t);
    return at >= EDGE_BYTES && at + EDGE_BYTES < known->bytes
               ? (known->bytes - EDGE_BYTES) / sizeof(uint64_t) * sizeof(uint64_t)
               : at;
}

static size_t part_of(const struct known *known, size_t at) {
    return known->bytes - at < sizeof(uint64_t) ? known->bytes - at : sizeof(uint64_t);
}

void stage_fill(const struct known *known) {
    for (size_t at = 0; at < known->bytes; at = next_word(known, at)) {
        uint64_t word = word_of(known->seed, at);
        memcpy((char *)known->block + at, &word, part_of(known, at));
    }
}

int stage_is_filled(const struct known *known) {
    for (size_t at = 0; at < known->bytes; at = next_word(known, at)) {
        uint64_t word = word_of(known->seed, at);
        if (memcmp((char *)known->block + at, &word, part_of(known, at)) != 0) {
            return 0;
        }
    }
    return 1;
}

void stage_know(struct stage *stage, void *block, size_t bytes, uint64_t seed) {
    if (stage->note->known_count == KNOWN_MAX) {
        (void)stage_fail(stage, "more than %u blocks", KNOWN_MAX);
        return;
    }
    stage->note->known[stage->note->known_count++] = (struct known){block, bytes, seed, 0};
}

struct known *stage_keep(struct stage *stage, size_t bytes) {
    void *block = sharena_mallocx(stage->heap, bytes, SHARENA_TCACHE_NONE);
    if (block == NULL) {
        (void)stage_fail(stage, "no %zu bytes: %s", bytes, sharena_errormsg());
        return NULL;
    }
    stage_know(stage, block, bytes, stage->note->known_count + 1);
    struct known *known = &stage->note->known[stage->note->known_count - 1];
    stage_fill(known);
    return known;
}

/* ---- who owns it ---- */

static int is_cached(const sharena_t *heap, const void *block) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    for (uint32_t i = 0; i < high; i++) {
        struct tcache *tcache = slot_tcache(heap_thread(heap, i));
        for (uint32_t j = 1; j <= SIZE_CLASSES_CACHED; j++) {
            const struct tcache_stack *stack = &tcache->stacks[j];
            const shared_ptr *top = shared_get(&stack->top);
            for (const shared_ptr *at = shared_get(&stack->bottom); at < top; at++) {
                if (shared_get(at) == block) {
                    return 1;
                }
            }
        }
    }
    return 0;
}

int stage_is_live(const struct stage *stage, const void *block) {
    const sharena_t *heap = stage->heap;
    return is_user_data(heap, block) && !is_cached(heap, block) &&
           (audit_block_bytes(heap, block) != 0 || huge_is_block(heap, block));
}

static int is_known(const struct stage *stage, const void *block) {
    for (uint32_t i = 0; i < stage->note->known_count; i++) {
        if (stage->note->known[i].block == block) {
            return 1;
        }
    }
    return 0;
}

static int is_stray(const struct stage *stage, const void *block) {
    return stage_is_live(stage, block) && !is_known(stage, block);
}

/* A live block in that run that nobody knows, or NULL. */
static void *stray_in_run(const struct stage *stage, uint32_t page) {
    const struct run *run = heap_run(stage->heap, page);
    char *start = page_address(stage->heap, page);
    uint32_t state = shared_get(&run->state);
    if (state == RUN_LARGE) {
        char *block = start + shared_get(&run->extra);
        return is_stray(stage, block) ? block : NULL;
    }
    for (uint32_t i = 0; state == RUN_BIN; i++) {
        const struct run_shape *shape = sizeclass_run_shape(shared_get(&run->size_class));
        char *block = start + (size_t)i * shape->region_bytes;
        if (i == shape->regions) {
            break;
        }
        if (is_stray(stage, block)) {
            return block;
        }
    }
    return NULL;
}

/* A live block that nobody knows, or NULL. */
static void *find_stray(const struct stage *stage) {
    const sharena_t *heap = stage->heap;
    void *found = NULL;
    for (uint32_t c = first_chunk(heap); c < end_chunk(heap) && found == NULL; c++) {
        uint32_t state = shared_get(&heap_chunk(heap, c)->state);
        void *start = page_address(heap, first_page_of_chunk(c));
        if (state == CHUNK_HUGE && is_stray(stage, start)) {
            found = start;
        }
        for (uint32_t page = 0; state == CHUNK_ARENA && page < CHUNK_PAGES && found == NULL;) {
            uint32_t at = first_page_of_chunk(c) + page;
            found = stray_in_run(stage, at);
            page += shared_get(&heap_run(heap, at)->size);
        }
    }
    return found;
}

/* What was at risk and is gone is forgotten; all others must be as they were. */
static int review_known(struct stage *stage) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < stage->note->known_count; i++) {
        struct known known = stage->note->known[i];
        if (known.at_risk && !stage_is_live(stage, known.block)) {
            continue;
        }
        if (!stage_is_live(stage, known.block)) {
            return stage_fail(stage, "block %u (%p, %zu bytes) is not live any more", i,
                              known.block, known.bytes);
        }
        if (!stage_is_filled(&known)) {
            return stage_fail(stage, "block %u (%p, %zu bytes) has another content", i, known.block,
                              known.bytes);
        }
        known.at_risk = 0;
        stage->note->known[kept++] = known;
    }
    stage->note->known_count = kept;
    return 0;
}

static int learn_results(struct stage *stage) {
    for (uint32_t i = 0; i < BATCH; i++) {
        void *block = stage->note->results[i];
        if (block == NULL || is_known(stage, block)) {
            continue;
        }
        if (!stage_is_live(stage, block)) {
            return stage_fail(stage, "the victim got %p, which is not live", block);
        }
        stage_know(stage, block, 0, 0);
    }
    return 0;
}

int stage_account(struct stage *stage) {
    if (review_known(stage) != 0 || learn_results(stage) != 0) {
        return -1;
    }
    uint64_t live = stage->report.blocks_live;
    if (live < stage->note->known_count) {
        return stage_fail(stage, "%llu blocks are live, but %u are known", (unsigned long long)live,
                          stage->note->known_count);
    }
    stage->lost = (uint32_t)(live - stage->note->known_count);
    while (live > stage->note->known_count) {
        void *stray = find_stray(stage);
        if (stray == NULL) {
            return stage_fail(stage, "%llu blocks are live, but only %u can be found",
                              (unsigned long long)live, stage->note->known_count);
        }
        stage_know(stage, stray, 0, 0);
    }
    return 0;
}

/* ---- the end of a case ---- */

static int remove_root(const char *name, void *object, void *arg) {
    struct stage *stage = arg;
    (void)object;
    return sharena_root_set(stage->heap, name, NULL);
}

static int is_empty(struct stage *stage, int purge) {
    struct sharena_report *report = &stage->report;
    if (sharena_check(stage->heap, report) != 0) {
        return stage_fail(stage, "at the end: %s", sharena_errormsg());
    }
    if (report->blocks_live != 0 || report->bytes_live != 0 || report->blocks_cached != 0 ||
        (purge && report->pages_dirty != 0)) {
        return stage_fail(stage, "at the end: %llu blocks live, %llu cached, %llu pages dirty",
                          (unsigned long long)report->blocks_live,
                          (unsigned long long)report->blocks_cached,
                          (unsigned long long)report->pages_dirty);
    }
    return 0;
}

int stage_clear(struct stage *stage, int purge) {
    struct note *note = stage->note;
    for (uint32_t i = 0; i < note->known_count; i++) {
        sharena_dallocx(stage->heap, note->known[i].block, SHARENA_TCACHE_NONE);
    }
    note->known_count = 0;
    int error = sharena_root_foreach(stage->heap, remove_root, stage);
    if (error == 0 && purge) {
        error = sharena_purge(stage->heap);
    }
    if (error != 0) {
        return stage_fail(stage, "at the end: %d, %s", error, sharena_errormsg());
    }
    return stage_flush(stage) == 0 ? is_empty(stage, purge) : -1;
}
