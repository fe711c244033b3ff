/* build.h -- builds an index, or finishes one that was left half-built. */
#ifndef DEMO_WORDINDEX_BUILD_H
#define DEMO_WORDINDEX_BUILD_H

#include <stdbool.h>

#define BUILD_WORKERS_MAX 64u

struct build_settings {
    const char *heap_path;
    const char *dir;
    unsigned workers;
    bool is_forced; /* begin anew whatever the heap holds */
};

/* Returns an exit status. */
int build(const struct build_settings *settings);

#endif
