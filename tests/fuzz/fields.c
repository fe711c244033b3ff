/* fields.c -- every field of the file by a number. */
#include "fields.h"

#include <stddef.h>
#include <string.h>

#include "heap/bin.h"
#include "template.h"

/* Fields of one kind of struct, which stands `count` times in the file; in each of them the field
 * stands `parts` times. */
struct field {
    uint8_t table; /* enum table */
    uint8_t bytes;
    uint16_t part_stride;
    uint32_t offset;
    uint32_t parts;
};

enum table {
    IN_FILE,
    IN_PROCESS,
    IN_THREAD,
    IN_TCACHE,
    IN_ARENA,
    IN_ROOT,
    IN_PAGE_MAP,
    IN_KINDS,
    IN_RUN,
    IN_CHUNK,
    IN_USER_DATA
};

#define F(table, type, member)                                                                     \
    { table, sizeof(((struct type *)0)->member), 0, offsetof(struct type, member), 1 }
#define F_AT(base, type, member)                                                                   \
    { IN_FILE, sizeof(((struct type *)0)->member), 0, (base) + offsetof(struct type, member), 1 }
#define F_BIN(member)                                                                              \
    {                                                                                              \
        IN_ARENA, sizeof(((struct bin *)0)->member), sizeof(struct bin),                           \
            offsetof(struct arena, bins) + offsetof(struct bin, member), SIZE_CLASSES_SMALL        \
    }
#define F_JOURNAL(member)                                                                          \
    {                                                                                              \
        IN_THREAD, 8, sizeof(struct journal_entry),                                                \
            offsetof(struct thread_slot, journal.entries) +                                        \
                offsetof(struct journal_entry, member),                                            \
            24                                                                                     \
    }
#define F_STACK(member)                                                                            \
    {                                                                                              \
        IN_TCACHE, 8, sizeof(struct tcache_stack),                                                 \
            offsetof(struct tcache, stacks) + offsetof(struct tcache_stack, member), TCACHE_STACKS \
    }
#define SB(member) F_AT(0, superblock, member)
#define ST(member) F_AT(STATE_OFFSET, heap_state, member)
#define WORDS(table, at, count)                                                                    \
    { table, 4, 4, at, count }

/* New ones are added at the end: the numbers stand in the corpus. */
static const struct field fields[] = {
    SB(magic),
    SB(endian),
    SB(format_version),
    SB(fingerprint),
    SB(base_address),
    SB(total_bytes),
    SB(limit_bytes),
    SB(data_offset),
    SB(created_ns),
    SB(checksum),
    ST(data_begin),
    ST(data_bytes),
    ST(data_page_map),
    ST(in_use),
    ST(threads_high),
    ST(backed_pages),
    ST(recovered),
    ST(reaped_bytes),
    WORDS(IN_FILE, STATE_OFFSET + offsetof(struct heap_state, boot_id), 4),
    WORDS(IN_FILE, 0, 2048), /* anything in the first two pages */
    F(IN_PROCESS, process_slot, state),
    F(IN_PROCESS, process_slot, pid),
    F(IN_PROCESS, process_slot, generation),
    WORDS(IN_THREAD, 0, 10), /* the token */
    F(IN_THREAD, thread_slot, state),
    F(IN_THREAD, thread_slot, index),
    F(IN_THREAD, thread_slot, process),
    F(IN_THREAD, thread_slot, tid),
    F(IN_THREAD, thread_slot, process_generation),
    F(IN_THREAD, thread_slot, generation),
    F(IN_THREAD, thread_slot, arena),
    F(IN_THREAD, thread_slot, held_rank),
    F(IN_THREAD, thread_slot, lock_wanted),
    F(IN_THREAD, thread_slot, hand.kind),
    F(IN_THREAD, thread_slot, hand.arena),
    F(IN_THREAD, thread_slot, hand.first),
    F(IN_THREAD, thread_slot, hand.count),
    F(IN_THREAD, thread_slot, hand.flags),
    F(IN_THREAD, thread_slot, hand.charged_first),
    F(IN_THREAD, thread_slot, hand.charged),
    F(IN_THREAD, thread_slot, pending.kind),
    F(IN_THREAD, thread_slot, pending.where),
    F(IN_THREAD, thread_slot, pending.block),
    F(IN_THREAD, thread_slot, journal.lock),
    F(IN_THREAD, thread_slot, journal.count),
    F_JOURNAL(where),
    F_JOURNAL(old),
    F_STACK(top),
    F_STACK(base),
    F_STACK(full),
    F_STACK(bottom),
    {IN_TCACHE, 8, 8, offsetof(struct tcache, storage), TCACHE_STORAGE},
    {IN_TCACHE, 4, 4, offsetof(struct tcache, lg_divisor), TCACHE_STACKS},
    {IN_TCACHE, 4, 4, offsetof(struct tcache, gc_class), 2},
    WORDS(IN_FILE, POOL_OFFSET, 16), /* its lock */
    F_AT(POOL_OFFSET, pool, dirty),
    F_AT(POOL_OFFSET, pool, clean),
    F_AT(POOL_OFFSET, pool, arenas_made),
    WORDS(IN_FILE, ROOTS_OFFSET, 16),
    F_AT(ROOTS_OFFSET, root_table, high),
    WORDS(IN_ROOT, 0, 16),
    WORDS(IN_ROOT, offsetof(struct root, name), 16),
    F(IN_ROOT, root, object),
    F(IN_ROOT, root, block),
    F(IN_ROOT, root, state),
    WORDS(IN_ARENA, 0, 16),
    F(IN_ARENA, arena, free_dirty),
    F(IN_ARENA, arena, free_clean),
    F(IN_ARENA, arena, spare),
    F(IN_ARENA, arena, chunks),
    F(IN_ARENA, arena, pages_dirty),
    F(IN_ARENA, arena, pages_used),
    F(IN_ARENA, arena, threads),
    F_BIN(current),
    F_BIN(nonfull),
    F_BIN(runs),
    F_BIN(lock),
    {IN_PAGE_MAP, 2, 0, 0, 1},
    {IN_KINDS, 2, 0, 0, 1},
    F(IN_RUN, run, left),
    F(IN_RUN, run, right),
    F(IN_RUN, run, size),
    F(IN_RUN, run, arena),
    F(IN_RUN, run, size_class),
    F(IN_RUN, run, state),
    F(IN_RUN, run, free_regions),
    F(IN_RUN, run, extra),
    {IN_RUN, 8, 8, offsetof(struct run, bitmap), 5},
    F(IN_CHUNK, chunk, left),
    F(IN_CHUNK, chunk, right),
    F(IN_CHUNK, chunk, size),
    F(IN_CHUNK, chunk, first),
    F(IN_CHUNK, chunk, state),
    F(IN_CHUNK, chunk, arena),
    F(IN_CHUNK, chunk, size_class),
    F(IN_CHUNK, chunk, free_pages),
    F(IN_CHUNK, chunk, backed),
    F(IN_CHUNK, chunk, has_runs),
    {IN_USER_DATA, 8, 8, 0, 8},
    F(IN_ARENA, arena, decay.start_ns),
    F(IN_ARENA, arena, decay.newest),
    F(IN_ARENA, arena, decay.limit),
    F(IN_ARENA, arena, decay.seen),
    F(IN_ARENA, arena, decay.period),
    F_AT(POOL_OFFSET, pool, pages_dirty),
    F_AT(POOL_OFFSET, pool, decay.newest),
    F(IN_THREAD, thread_slot, hand.sample),
    F_AT(POOL_OFFSET, pool, samples_free),
    F_AT(POOL_OFFSET, pool, samples_high),
    F_AT(POOL_OFFSET, pool, samples_used),
    F_AT(POOL_OFFSET, pool, modules),
};

uint32_t fields_count(void) {
    return sizeof(fields) / sizeof(fields[0]);
}

/* One table of the template's file. */
struct extent {
    uint64_t offset;
    uint64_t stride;
    uint32_t count;
};

static struct extent table_of(uint32_t table) {
    const struct template *template = template_get();
    const struct heap_state *state = (const void *)(template->intact + STATE_OFFSET);
    struct heap_geometry geometry = geometry_of(template->total_bytes);
    uint64_t chunk = geometry.data_offset >> LG_CHUNK;
    uint32_t chunks = (uint32_t)(shared_get(&state->data_bytes) >> LG_CHUNK) + 2; /* and behind */
    uint64_t page = chunk * CHUNK_PAGES;
    uint32_t threads = shared_get(&state->threads_high) + 1;
    switch (table) {
    case IN_PROCESS:
        return (struct extent){PROCESSES_OFFSET, sizeof(struct process_slot), 10};
    case IN_THREAD:
        return (struct extent){THREADS_OFFSET, THREAD_SLOT_BYTES, threads};
    case IN_TCACHE:
        return (struct extent){THREADS_OFFSET + THREAD_SLOT_HEAP_OFFSET, THREAD_SLOT_BYTES,
                               threads};
    case IN_ARENA:
        return (struct extent){ARENAS_OFFSET, ARENA_STRIDE, 3};
    case IN_ROOT:
        return (struct extent){ROOTS_OFFSET + offsetof(struct root_table, roots),
                               sizeof(struct root), 6};
    case IN_PAGE_MAP:
        return (struct extent){PAGE_MAP_OFFSET + 2 * page, 2, chunks * CHUNK_PAGES};
    case IN_KINDS:
        return (struct extent){geometry.kinds_offset + 2 * page, 2, chunks * CHUNK_PAGES};
    case IN_RUN:
        return (struct extent){geometry.runs_offset + page * sizeof(struct run), sizeof(struct run),
                               chunks * CHUNK_PAGES};
    case IN_CHUNK:
        return (struct extent){geometry.chunks_offset + chunk * sizeof(struct chunk),
                               sizeof(struct chunk), chunks};
    case IN_USER_DATA: {
        uint64_t where = (uint64_t)(uintptr_t) template->blocks[0] - TEMPLATE_BASE;
        return (struct extent){where, 64, 2};
    }
    default:
        return (struct extent){0, 0, 1};
    }
}

uint32_t field_indices(uint32_t field) {
    return table_of(fields[field].table).count;
}

uint32_t field_parts(uint32_t field) {
    return fields[field].parts;
}

struct place field_place(uint32_t field, uint32_t index, uint32_t part) {
    const struct field *at = &fields[field % fields_count()];
    struct extent table = table_of(at->table);
    uint32_t bytes = at->bytes <= 8 ? at->bytes : 8;
    return (struct place){table.offset + index % table.count * table.stride + at->offset +
                              (uint64_t)(part % at->parts) * at->part_stride,
                          bytes};
}

uint64_t place_get(const char *file, struct place place) {
    uint64_t value = 0;
    memcpy(&value, file + place.offset, place.bytes); /* little endian */
    return value;
}

static void apply(const struct patch *patch) {
    char *file = template_get()->bytes;
    struct place place = field_place(patch->field, patch->index, patch->part);
    uint64_t value = patch->value;
    switch (patch->op % OP_COUNT) {
    case OP_ADD:
        value += place_get(file, place);
        break;
    case OP_XOR:
        value ^= place_get(file, place);
        break;
    case OP_COPY:
        value = place_get(
            file, field_place(patch->field, (uint32_t)value, (uint32_t)(patch->value >> 32)));
        break;
    default:
        break;
    }
    memcpy(file + place.offset, &value, place.bytes);
}

void patches_apply(const uint8_t *data, size_t size) {
    struct patch patch;
    for (size_t i = 0; i < PATCHES_MAX && (i + 1) * sizeof(patch) <= size; i++) {
        memcpy(&patch, data + i * sizeof(patch), sizeof(patch));
        apply(&patch);
    }
}
