/* watch.c -- what the configuration asks to be done at each call.
 *
 * Lock:   none held on entry or return
 * Killed: see fill.c
 * Not here: who calls this (alloc.c); that no call passes by (ipc/conf.h: conf_is_watching()).
 */
#include "heap/watch.h"

#include "heap/fill.h"

void watch_fill_freed(const sharena_t *heap, void *block, size_t from, size_t to) {
    const struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        fill_range(block, from, to, fill_for_freed(&attachment->conf));
    }
}
