/* ctl_arena.h -- what can be asked of one arena, and done to it, by name: giving memory back. */
#ifndef SHARENA_HEAP_CTL_ARENA_H
#define SHARENA_HEAP_CTL_ARENA_H

#include "heap/ctl.h"

/* Rows of the table in ctl_names.c; the index of the query is that of the arena. */
int ctl_purge_arena(const struct ctl_query *query, uint64_t value);
int ctl_decay_arena(const struct ctl_query *query, uint64_t value);
int ctl_read_decay_ms(const struct ctl_query *query, uint64_t *value);
int ctl_write_decay_ms(const struct ctl_query *query, uint64_t value);
int ctl_read_hooks(const struct ctl_query *query, uint64_t *value);
int ctl_write_hooks(const struct ctl_query *query, uint64_t value);
int ctl_read_npurge(const struct ctl_query *query, uint64_t *value);
int ctl_read_purged(const struct ctl_query *query, uint64_t *value);
int ctl_read_pool_pdirty(const struct ctl_query *query, uint64_t *value);
int ctl_read_pool_npurge(const struct ctl_query *query, uint64_t *value);
int ctl_read_pool_purged(const struct ctl_query *query, uint64_t *value);

#endif
