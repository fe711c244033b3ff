/* sizeclass.h -- which sizes exist, and all that is computed from a size once.
 *
 *     class   size                                    is
 *     0       8                                       small
 *     1..8    16, 32, ... 128       (quantum 16)      small
 *     9..35   160, 192, 224, 256, 320 ... 14336       small    four per doubling: (5..8) << (5 + g)
 *     36..63  16 KiB ... 1.75 MiB                     large
 *     64..68  2 MiB, 2.5, 3, 3.5, 4 MiB               huge, may be cached
 *     69..    5 MiB ...                               huge
 *
 * Four per doubling: at most 20 % of a block is waste. Source: jemalloc's size classes.
 */
#ifndef SHARENA_HEAP_SIZECLASS_H
#define SHARENA_HEAP_SIZECLASS_H

#include <stddef.h>
#include <stdint.h>

#define SIZE_CLASSES_SMALL 36u
#define SIZE_CLASSES_LARGE_END 64u /* classes from here on are huge */
#define SIZE_CLASSES_CACHED 69u    /* classes below have a stack in the tcache */
#define SIZE_CLASSES_MAX 160u      /* beyond any address space */
#define SMALL_BYTES_MAX 14336u
#define LARGE_BYTES_MIN 16384u
#define LARGE_BYTES_MAX (7u << 18)
#define CACHED_BYTES_MAX (4u << 20)
#define LOOKUP_BYTES_MAX 4096u
#define REGIONS_MAX 4096u

/* How a bin's runs of one small class are cut. */
struct run_shape {
    uint32_t region_bytes;
    uint32_t pages;
    uint32_t regions;
    uint32_t inverse; /* index of the region at byte offset o: (o * inverse) >> 32, no division */
};

/* Byte offset in the tcache of the stack for size s. One entry for each size, though one for eight
 * would do: two instructions less in malloc, and only the lines of sizes in use are touched. */
extern uint16_t sizeclass_stack_offset[LOOKUP_BYTES_MAX + 1]
    __attribute__((visibility("hidden"))); /* so that malloc reads it without a detour */

/* Fills in all tables; before anything else here, once per process. Idempotent. */
void sizeclass_init(void);

/* The class that serves `size`: by table up to 4096, by arithmetic beyond. size <= 2^47. */
uint32_t sizeclass_of(size_t size);

/* The size of a class. */
size_t sizeclass_bytes(uint32_t size_class);

/* Only for size_class < SIZE_CLASSES_SMALL. */
const struct run_shape *sizeclass_run_shape(uint32_t size_class);

/* The size to ask for so that the block is aligned: a multiple of `alignment` (a power of two up to
 * PAGE_BYTES) whose class keeps every block on such a multiple. */
size_t sizeclass_aligned_size(size_t size, size_t alignment);

/* Storage of the stack of a cached class: entries, and the first one's index in tcache.storage. */
uint32_t sizeclass_stack_entries(uint32_t size_class);
uint32_t sizeclass_stack_first(uint32_t size_class);

/* The same of the storage that the stack moves to when it grows; its index there. */
uint32_t sizeclass_grown_entries(uint32_t size_class);
uint32_t sizeclass_grown_first(uint32_t size_class);

#endif
