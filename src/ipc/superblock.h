/* superblock.h -- the first page of the file: what it is, and whether this build may touch it.
 *
 * Functions that return int return 0 or an errno value and have called error_set() when they fail.
 */
#ifndef SHARENA_IPC_SUPERBLOCK_H
#define SHARENA_IPC_SUPERBLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/file.h"
#include "ipc/layout.h"

/* What a file is. FILE_EMPTY: zero length. FILE_UNFINISHED: a creation that did not end. FILE_HEAP:
 * its superblock was read and verified. */
enum file_state { FILE_EMPTY, FILE_UNFINISHED, FILE_HEAP };

/* Reads and verifies the superblock of an open file without mapping it. Anything but the three
 * states is an error that names the field and both values: EUCLEAN (magic, checksum, implausible,
 * truncated) or ENOEXEC (endian, version, fingerprint). */
int superblock_read(const struct heap_file *file, enum file_state *state,
                    struct superblock *superblock) __attribute__((warn_unused_result));

struct superblock_wish {
    uint64_t total_bytes;      /* a multiple of 2 MiB */
    uint64_t limit_bytes;      /* 0: none */
    uint64_t base_address;     /* a multiple of 1 GiB; 0: choose one that is free in this process */
    uint64_t data_offset;      /* a multiple of 2 MiB, from IPC_END on */
    uint64_t heap_fingerprint; /* of the heap layer's layout; mixed with that of this layer */
};

/* Fills in a superblock for a new heap: uuid, base, sizes, time, fingerprint, checksum. EINVAL
 * names the wish that cannot be granted; EADDRINUSE: no free base was found. */
int superblock_make(const struct superblock_wish *wish, struct superblock *superblock)
    __attribute__((warn_unused_result));

/* The heap layer's fingerprint that superblock_read() demands: set once, before any open. */
void superblock_expect(uint64_t heap_fingerprint);

/* Creation, under the open lock, of a file whose content is of no worth to anybody.
 * begin: empties the file, writes MAGIC_CREATING, sets the length, writes the rest of the
 * superblock. EFBIG (RLIMIT_FSIZE, or the file system's own limit), ENOMEM (file system full),
 * EACCES (sealed); the file is empty then.
 * finish: after the first metadata was laid out through a mapping: the one store of MAGIC_HEAP.
 * abandon: makes the file empty again. */
int superblock_begin(const struct heap_file *file, const struct superblock *superblock)
    __attribute__((warn_unused_result));
void superblock_finish(sharena_t *base);
void superblock_abandon(const struct heap_file *file);

/* FNV-1a, 64 bits. Begin with SUPERBLOCK_HASH_SEED, go on with what the last call returned. */
#define SUPERBLOCK_HASH_SEED 0xcbf29ce484222325ull
uint64_t superblock_hash(uint64_t hash, const void *bytes, size_t count);

#endif
