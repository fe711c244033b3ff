/* hooks.h -- an application's say in how pages get storage and lose it: per process and arena. */
#ifndef SHARENA_HEAP_HOOKS_H
#define SHARENA_HEAP_HOOKS_H

#include "ipc/registry.h"

/* The hooks of the arena in this process; the default ones where none were set. */
struct sharena_chunk_hooks hooks_of(const struct attachment *attachment, uint32_t arena);

/* Sets them; 0, EINVAL (a function is missing), ENOMEM. */
int hooks_set(struct attachment *attachment, uint32_t arena,
              const struct sharena_chunk_hooks *hooks) __attribute__((warn_unused_result));

/* The attachment is nobody's any more. */
void hooks_drop(struct attachment *attachment);

/* Backs `bytes` of user data at `offset`, as mapping_back() does a hole: 0, or ENOMEM with
 * error_set. Punches them: 1; 0 if the hook keeps them. No lock may be held. */
int hooks_back(sharena_t *heap, uint32_t arena, uint64_t offset, uint64_t bytes)
    __attribute__((warn_unused_result));
int hooks_purge(sharena_t *heap, uint32_t arena, uint64_t offset, uint64_t bytes)
    __attribute__((warn_unused_result));

#endif
