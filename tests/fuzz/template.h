/* template.h -- the heap that every input damages: made once, then put back before each execution.
 *
 * It lies in a memfd, 64 MiB at one fixed address, and has a bit of everything: small, large and
 * huge blocks, non-full and full runs, dirty and clean free runs and spans, roots, and what the
 * dead left: full caches, a run and a span in hands, pages being backed, pending steps, an open
 * journal, a root that is being made. Nobody has closed it, so that an open is a cold one.
 */
#ifndef TESTS_FUZZ_TEMPLATE_H
#define TESTS_FUZZ_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "heap/geometry.h"

#define TEMPLATE_BASE 0x210000000000ull
#define TEMPLATE_CAPACITY (64ull << 20)
#define TEMPLATE_BLOCKS_MAX 256u

/* Says what is wrong and aborts: a finding. */
__attribute__((noreturn, format(printf, 1, 2))) void fuzz_fail(const char *format, ...);

#define FUZZ_REQUIRE(x)                                                                            \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fuzz_fail("%s:%d: not so: %s (%s)", __FILE__, __LINE__, #x, sharena_errormsg());       \
        }                                                                                          \
    } while (0)

struct template {
    int fd;
    char *bytes;        /* the file, mapped a second time: what patches are applied to */
    const char *intact; /* what the file holds before it is damaged
                         * (by offset) */
    uint64_t total_bytes;
    void *blocks[TEMPLATE_BLOCKS_MAX]; /* that the application has */
    uint32_t count;
};

/* Makes it, once per process. */
const struct template *template_get(void);

/* The file is again as it was made. */
void template_restore(void);

/* The superblock's checksum, and with `all` also what this build expects to find in its header, is
 * made right. */
void template_fix_superblock(int all);

#endif
