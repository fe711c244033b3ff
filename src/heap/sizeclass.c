/* sizeclass.c -- which sizes exist, and all that is computed from a size once.
 *
 * Holds:  sizeclass_bytes(sizeclass_of(s)) >= s, and no smaller class would do
 *         region r of a run begins at r * region_bytes, and (o * inverse) >> 32 == r for every byte
 *         offset o within it
 * Lock:   none: written by sizeclass_init before anything reads
 * Killed: private memory
 * Not here: who takes which class (tcache.c, alloc.c).
 */
#include "heap/sizeclass.h"

#include "ipc/layout.h"

#define RUN_PAGES_MAX 16u
#define RUN_REGIONS_MIN 4u
#define BITMAP_FIRST_BITS 320u /* in the run entry of the first page; 512 in each that follows */
#define STACK_BYTES 32u
#define GROWN_ENTRIES_MAX 16384u
#define ENTRIES_PER_PAGE (PAGE_BYTES / 8) /* so no two grown stacks share a page */
#define GROWN_CLASS_BYTES (8u << 20)      /* blocks of one class that a grown stack may hold */

uint16_t sizeclass_stack_offset[LOOKUP_BYTES_MAX + 1];

static uint8_t class_of_size[LOOKUP_BYTES_MAX / 8 + 1];
static uint32_t size_of_class[SIZE_CLASSES_CACHED];
static struct run_shape shapes[SIZE_CLASSES_SMALL];
static uint32_t stack_first[SIZE_CLASSES_CACHED];
static uint32_t grown_first[SIZE_CLASSES_CACHED];

static uint32_t compute_class(size_t size) {
    if (size <= 8) {
        return 0;
    }
    if (size <= 128) {
        return (uint32_t)((size + 15) >> 4);
    }
    uint32_t lg = 63u - (uint32_t)__builtin_clzll(size - 1);
    return 8 + (lg - 7) * 4 + (uint32_t)(((size - 1) >> (lg - 2)) & 3u) + 1;
}

static size_t compute_bytes(uint32_t size_class) {
    if (size_class <= 8) {
        return size_class == 0 ? 8 : (size_t)size_class * 16;
    }
    uint32_t group = (size_class - 9) / 4;
    return (size_t)(5 + (size_class - 9) % 4) << (5 + group);
}

/* The fewest pages that waste at most a sixteenth and hold a few regions. */
static struct run_shape compute_shape(uint32_t region_bytes) {
    struct run_shape shape = {region_bytes, 0, 0, (uint32_t)((1ull << 32) / region_bytes) + 1};
    uint32_t used;
    do {
        shape.pages++;
        uint32_t bits = BITMAP_FIRST_BITS + (shape.pages - 1) * 512;
        shape.regions = shape.pages * PAGE_BYTES / region_bytes;
        shape.regions = shape.regions < bits ? shape.regions : bits;
        used = shape.regions * region_bytes;
    } while (shape.pages < RUN_PAGES_MAX &&
             (shape.regions < RUN_REGIONS_MIN || shape.pages * PAGE_BYTES - used > used / 16));
    return shape;
}

uint32_t sizeclass_stack_entries(uint32_t size_class) {
    size_t bytes = compute_bytes(size_class);
    if (bytes <= 256) {
        return 256;
    }
    if (bytes <= 1024) {
        return 128;
    }
    if (bytes <= 4096) {
        return 64;
    }
    return bytes <= 32768 ? 32 : 8;
}

uint32_t sizeclass_stack_first(uint32_t size_class) {
    return stack_first[size_class];
}

uint32_t sizeclass_grown_entries(uint32_t size_class) {
    size_t entries = GROWN_CLASS_BYTES / compute_bytes(size_class);
    return entries < GROWN_ENTRIES_MAX ? (uint32_t)entries : GROWN_ENTRIES_MAX;
}

uint32_t sizeclass_grown_first(uint32_t size_class) {
    return grown_first[size_class];
}

void sizeclass_init(void) {
    uint32_t first = 0;
    uint32_t grown = 0;
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        size_of_class[i] = (uint32_t)compute_bytes(i);
        stack_first[i] = first;
        first += sizeclass_stack_entries(i);
        grown_first[i] = grown;
        grown += (sizeclass_grown_entries(i) + ENTRIES_PER_PAGE - 1) / ENTRIES_PER_PAGE *
                 ENTRIES_PER_PAGE;
        if (i < SIZE_CLASSES_SMALL) {
            shapes[i] = compute_shape(size_of_class[i]);
        }
    }
    for (uint32_t i = 0; i <= LOOKUP_BYTES_MAX / 8; i++) {
        class_of_size[i] = (uint8_t)compute_class((size_t)i * 8);
    }
    for (uint32_t i = 0; i <= LOOKUP_BYTES_MAX; i++) {
        sizeclass_stack_offset[i] = (uint16_t)((class_of_size[(i + 7) / 8] + 1u) * STACK_BYTES);
    }
}

uint32_t sizeclass_of(size_t size) {
    return size <= LOOKUP_BYTES_MAX ? class_of_size[(size + 7) / 8] : compute_class(size);
}

size_t sizeclass_bytes(uint32_t size_class) {
    return size_class < SIZE_CLASSES_CACHED ? size_of_class[size_class] : compute_bytes(size_class);
}

const struct run_shape *sizeclass_run_shape(uint32_t size_class) {
    return &shapes[size_class];
}

size_t sizeclass_aligned_size(size_t size, size_t alignment) {
    size_t rounded = (size + alignment - 1) & ~(alignment - 1);
    return rounded == 0 ? alignment : rounded;
}
