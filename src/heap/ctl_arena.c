/* ctl_arena.c -- what can be asked of one arena, and done to it, by name: giving memory back.
 *
 * Lock:   none held on entry or return
 * Killed: see arena.c; a period is one store
 * Not here: the names (ctl_names.c), what a period does (decay.c).
 */
#include "heap/ctl_arena.h"

#include <errno.h>
#include <string.h>

#include "heap/arena.h"
#include "heap/decay.h"
#include "heap/heap.h"
#include "heap/hooks.h"
#include "heap/purge.h"
#include "ipc/errors.h"

#define PERIOD_MS_MAX 86400000u /* as opt.dirty_decay_ms */

static struct decay *decay_of(const struct ctl_query *query) {
    return &heap_arena(query->heap, query->index)->decay;
}

int ctl_purge_arena(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    (void)value;
    if (self == NULL) {
        return errno;
    }
    arena_purge(query->heap, self, query->index);
    return 0;
}

int ctl_decay_arena(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    (void)value;
    if (self == NULL) {
        return errno;
    }
    purge_due(query->attachment, self, query->index);
    return 0;
}

int ctl_read_decay_ms(const struct ctl_query *query, uint64_t *value) {
    uint32_t period_ms = decay_period_ms(decay_of(query), &query->attachment->conf);
    *value = period_ms == CONF_MS_NEVER ? UINT64_MAX : period_ms;
    return 0;
}

/* periods_set first: who sees a period without it, and never looks by its own options, misses the
 * period until the next one is set. */
int ctl_write_decay_ms(const struct ctl_query *query, uint64_t value) {
    struct thread_slot *self = heap_enter(query->heap);
    if (self == NULL) {
        return errno;
    }
    if (value > PERIOD_MS_MAX && value != UINT64_MAX) {
        return error_set(EINVAL, "ctl name '%s': from 0 to %u, or -1 for never", query->name,
                         PERIOD_MS_MAX);
    }
    shared_store(&heap_pool(query->heap)->periods_set, 1u); /* never taken back: no journal */
    shared_store(&decay_of(query)->period,
                 value == UINT64_MAX ? DECAY_NEVER : (uint32_t)value + 1); /* one word */
    return 0;
}

int ctl_read_hooks(const struct ctl_query *query, uint64_t *value) {
    static _Thread_local struct sharena_chunk_hooks hooks;
    hooks = hooks_of(query->attachment, query->index);
    *value = (uint64_t)(uintptr_t)&hooks;
    return 0;
}

int ctl_write_hooks(const struct ctl_query *query, uint64_t value) {
    struct sharena_chunk_hooks hooks; /* the caller's buffer need not be aligned */
    memcpy(&hooks, (const void *)(uintptr_t)value, sizeof(hooks));
    return hooks_set(query->attachment, query->index, &hooks);
}

int ctl_read_npurge(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&decay_of(query)->purges);
    return 0;
}

int ctl_read_purged(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&decay_of(query)->purged);
    return 0;
}

int ctl_read_pool_pdirty(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_pool(query->heap)->pages_dirty);
    return 0;
}

int ctl_read_pool_npurge(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_pool(query->heap)->decay.purges);
    return 0;
}

int ctl_read_pool_purged(const struct ctl_query *query, uint64_t *value) {
    *value = shared_get(&heap_pool(query->heap)->decay.purged);
    return 0;
}
