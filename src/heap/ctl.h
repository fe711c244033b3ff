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
    uint32_t index; /* what stands in the place of '#' */
};

/* What the caller's buffer holds: nothing, _Bool, unsigned, size_t, uint64_t, const char *. */
enum ctl_type { CTL_ACTION, CTL_BOOL, CTL_UNSIGNED, CTL_SIZE, CTL_U64, CTL_STRING };

/* Values travel as uint64_t. Functions return 0 or an errno value with error_set. */
struct ctl_name {
    const char *pattern; /* '#' stands for a decimal number */
    enum ctl_type type;
    int (*read)(const struct ctl_query *query, uint64_t *value);
    int (*write)(const struct ctl_query *query, uint64_t value); /* NULL: read-only */
    uint32_t (*count)(const struct ctl_query *query);            /* the number is below it */
};

/* Row i of the table, or NULL behind the last. */
const struct ctl_name *ctl_name(size_t index);

/* The row of an option of the configuration (opt.*), and its number, which goes into the query: 1.
 * 0: there is none of that name. */
int ctl_find_opt(const char *option, struct ctl_name *found, uint32_t *index);

#endif
