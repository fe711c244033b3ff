/* prof_layout.h -- what the profile (prof.h) has in the file: samples, and the modules that their
 * backtraces name. Their place is in layout.h.
 */
#ifndef SHARENA_HEAP_PROF_LAYOUT_H
#define SHARENA_HEAP_PROF_LAYOUT_H

#include "ipc/shared.h"

#define SAMPLES_MAX 65536u
#define SAMPLE_FRAMES 32u
#define MODULES_MAX 1024u
#define MODULE_PATH_BYTES 432u

/* A program or library whose code stands in a backtrace. Those below pool.modules never change. */
struct module {           /* 512 bytes */
    uint64_t code_vaddr;  /* its first executable segment, as its file has it: address, ... */
    uint64_t code_offset; /* ... place in the file ... */
    uint64_t code_bytes;  /* ... and size in memory */
    uint32_t is_fixed;    /* 1: loaded where its file says, not relocated */
    uint32_t build_id_bytes;
    uint8_t build_id[48];
    char path[MODULE_PATH_BYTES]; /* terminated */
};

/* One sampled block. Written by the thread that has the sample in its hand; what follows `next`
 * does not change as long as `block` is set. */
struct sample {       /* 352 bytes */
    shared_ptr block; /* NULL: the sample is in the pool's list or in a hand; lock: the block's */
    shared_u32 next;  /* in the list: the next sample + 1; lock POOL */
    uint32_t frames;  /* of the backtrace */
    uint64_t asked_bytes;
    uint64_t bytes;    /* what the block would take if it were not sampled: its class's size */
    uint64_t taken_ns; /* CLOCK_REALTIME */
    uint64_t process_generation; /* of the process slot ... */
    uint32_t process;            /* ... that the taker's process had */
    uint32_t pid;
    uint32_t tid;
    uint32_t lg_rate; /* one byte in 2^lg_rate was sampled when this one was */
    char name[16];    /* of the process */
    uint64_t reserved[2];
    uint64_t frame[SAMPLE_FRAMES]; /* innermost first: return address in its module, as the file has
                                      it; upper 16 bits: module + 1, 0 unknown */
};
#define FRAME_MODULE_SHIFT 48
#define FRAME_ADDRESS ((1ull << FRAME_MODULE_SHIFT) - 1)

_Static_assert(sizeof(struct module) == 512, "eight to a page");
_Static_assert(sizeof(struct sample) == 352, "65536 of them are whole pages");
_Static_assert(MODULES_MAX < 1u << 16, "a frame has 16 bits for its module");

#endif
