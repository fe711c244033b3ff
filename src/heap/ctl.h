/* ctl.h -- the names of sharena_ctl, as rows of a table. */
#ifndef SHARENA_HEAP_CTL_H
#define SHARENA_HEAP_CTL_H

#include <stddef.h>

#include "heap/layout.h"
#include "ipc/registry.h"

struct ctl_query { /* one call */
    sharena_t *heap;
    struct attachment *attachment;
    const char *name;
    uint32_t index; /* what stands in the place of the first '#' */
    uint32_t inner; /* ... and of the second */
    int is_inner;   /* for count(): the second one is looked at */
    const struct ctl_name *row;
};

/* What the caller's buffer holds: nothing, _Bool, unsigned, size_t, uint64_t, const char *, struct
 * sharena_chunk_hooks. */
enum ctl_type { CTL_ACTION, CTL_BOOL, CTL_UNSIGNED, CTL_SIZE, CTL_U64, CTL_STRING, CTL_HOOKS };

/* Values travel as uint64_t; hooks as the address of a thread's own copy, or of the caller's.
 * Functions return 0 or an errno value with error_set. */
struct ctl_name {
    const char *pattern; /* '#' stands for a decimal number; at most two */
    enum ctl_type type;
    int (*read)(const struct ctl_query *query, uint64_t *value);
    int (*write)(const struct ctl_query *query, uint64_t value); /* NULL: read-only */
    uint32_t (*count)(const struct ctl_query *query); /* each number is below its count */
};

/* Row i of the table, or NULL behind the last. */
const struct ctl_name *ctl_name(size_t index);

/* The rows of ctl_stats.c, likewise; ctl_name() has them as well. */
const struct ctl_name *ctl_stats_name(size_t index);

/* Large and huge classes that the capacity has room for. */
uint32_t ctl_count_lextents(const struct ctl_query *query);

/* The row of an option of the configuration (opt.NAME, and opt.NAME.source), and its number, which
 * goes into the query: 1. 0: there is none of that name. */
int ctl_find_opt(const char *option, struct ctl_name *found, uint32_t *index);

#endif
