/* mapping.h -- the file in memory: mapped at its one address, backed, punched.
 *
 * Functions that return int return 0 or an errno value and, unless their text says otherwise, have
 * called error_set() when they fail. None leaves a half-made state.
 */
#ifndef SHARENA_IPC_MAPPING_H
#define SHARENA_IPC_MAPPING_H

#include <stdint.h>

#include "ipc/file.h"
#include "ipc/layout.h"
#include "ipc/superblock.h"

/* Where a heap lies and how it is mapped. Process-private. */
struct heap_mapping {
    sharena_t *base;
    uint64_t total_bytes;
    int is_sync; /* MAP_SYNC is in force */
    int is_readonly;
};

/* Reserves [base, base + total) and maps the file over it. EADDRINUSE names the mapping in the way,
 * ENOMEM names RLIMIT_AS. MAP_SYNC is tried and silently left out where it is refused, unless
 * require_sync: EOPNOTSUPP. */
int mapping_make(const struct heap_file *file, const struct superblock *superblock, int readonly,
                 int require_sync, struct heap_mapping *mapping)
    __attribute__((warn_unused_result));
void mapping_unmake(struct heap_mapping *mapping);

/* Backs [offset, offset + bytes) of a mapped heap with storage before it is touched. 0; ENOMEM
 * (file system full); or what the kernel said. No error_set: callers know more. Page-aligned.
 * was_hole: the caller knows that nothing in the range was backed before; then what a failing call
 * has backed is taken back. */
int mapping_back(sharena_t *heap, uint64_t offset, uint64_t bytes, int was_hole)
    __attribute__((warn_unused_result));

/* Gives [offset, offset + bytes) back to the file system; it reads as zero then. No error_set. */
int mapping_punch(sharena_t *heap, uint64_t offset, uint64_t bytes)
    __attribute__((warn_unused_result));

/* 1 if [address, address + bytes) is free in this process, as of now. */
int mapping_is_free(uint64_t address, uint64_t bytes);

/* 0, or EOPNOTSUPP: the kernel lacks MADV_POPULATE_WRITE (5.14). */
int mapping_check_kernel(void) __attribute__((warn_unused_result));

#endif
