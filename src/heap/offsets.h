/* offsets.h -- where each part of the file begins (layout.h has the table), and what must hold of
 * sizes for that.
 */
#ifndef SHARENA_HEAP_OFFSETS_H
#define SHARENA_HEAP_OFFSETS_H

#include "heap/layout.h"

#define POOL_OFFSET IPC_END
#define ROOTS_OFFSET (POOL_OFFSET + PAGE_BYTES)
#define ARENAS_OFFSET (ROOTS_OFFSET + (1u << 19))
#define ARENA_STRIDE 8192u
#define MODULES_OFFSET (ARENAS_OFFSET + (uint64_t)ARENAS_MAX * ARENA_STRIDE)
#define SAMPLES_OFFSET (MODULES_OFFSET + (uint64_t)MODULES_MAX * sizeof(struct module))
#define QUARANTINES_OFFSET (SAMPLES_OFFSET + (uint64_t)SAMPLES_MAX * sizeof(struct sample))
#define QUARANTINE_BYTES THREAD_SLOT_BYTES /* as far apart as the slots */
#define GROWN_OFFSET (QUARANTINES_OFFSET + (uint64_t)THREADS_MAX * QUARANTINE_BYTES)
#define GROWN_BYTES (1u << 22)
#define PAGE_MAP_OFFSET (GROWN_OFFSET + (uint64_t)THREADS_MAX * GROWN_BYTES)

_Static_assert(sizeof(struct run) == 64, "one line per page");
_Static_assert(sizeof(struct chunk) == 32, "two per line");
_Static_assert(sizeof(struct bin) == 128, "two lines");
_Static_assert(sizeof(struct arena) <= ARENA_STRIDE, "fits its stride");
_Static_assert(__builtin_offsetof(struct arena, bins) == 128, "bins begin at a line");
_Static_assert(__builtin_offsetof(struct decay, backlog) == 64, "the rest of it is one line");
_Static_assert(sizeof(struct root) == 192, "three lines");
_Static_assert(sizeof(struct root_table) <= (1u << 19), "fits its place");
_Static_assert(sizeof(struct pool) <= PAGE_BYTES, "one page");
_Static_assert(THREAD_SLOT_HEAP_OFFSET + sizeof(struct tcache) + sizeof(struct quarantine) <=
                   THREAD_SLOT_BYTES,
               "fit the slot");
_Static_assert(QUARANTINES_OFFSET % PAGE_BYTES == 0, "whole pages");
_Static_assert(QUARANTINE_ENTRIES * sizeof(shared_ptr) <= QUARANTINE_BYTES, "fits its place");

#endif
