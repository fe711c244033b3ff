/* prof_read.h -- the samples of a heap, copied out of it, with what follows from them. */
#ifndef SHARENA_CLI_PROF_READ_H
#define SHARENA_CLI_PROF_READ_H

#include <stddef.h>
#include <stdint.h>

#include "cli/symbols.h"
#include "heap/layout.h"

/* One live sampled block. */
struct holding {
    struct sample sample;
    double blocks;  /* so many it stands for, */
    double bytes;   /* of so many bytes together */
    uint32_t first; /* frame: those in front of it are the allocator's own */
    int is_alive;   /* the process that took the block is still attached */
};

/* A copy, with a terminated path. */
struct known_module {
    struct module file;
    struct symbols *symbols; /* NULL: there are none */
};

struct profile {
    struct holding *holdings;
    size_t count;
    uint64_t dropped;
    double blocks; /* sums */
    double bytes;
    struct known_module *modules;
    uint32_t modules_count;
};

/* Reads all of it from a heap that is attached, perhaps for reading only, while others use it. 0,
 * or ENOMEM with error_set(). */
int prof_read(sharena_t *heap, struct profile *profile) __attribute__((warn_unused_result));

void prof_free(struct profile *profile);

/* The module of a frame; NULL: none is known. */
const struct known_module *prof_module(const struct profile *profile, uint64_t frame);

/* "function", or "library.so+0x1234" where no name is known. */
#define PROF_FRAME_BYTES 256
const char *prof_frame_text(const struct profile *profile, uint64_t frame, char *text);

/* Orders by what is said: whose stack is what, and whose process. */
int prof_compare_stacks(const struct holding *a, const struct holding *b);
int prof_compare_processes(const struct holding *a, const struct holding *b);

#endif
