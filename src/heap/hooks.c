/* hooks.c -- an application's say in how pages get storage and lose it: per process and arena.
 *
 * A hook is asked first, and may refuse. What it was asked for is then made sure of, which costs
 * little where the hook has done it: a page that a hook forgot would be SIGBUS one day, or a page
 * that is said to be zero and is not.
 *
 * Holds:  a table of hooks, once made, stays as long as the attachment; no entry is half set
 * Lock:   none; nobody calls with a lock held, so that hooks may take their time
 * Killed: nothing shared is changed here; what is charged meanwhile stands in the hand (backing.c)
 * Not here: what is counted (backing.c), the name (ctl_arena.c).
 */
#include "heap/hooks.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/layout.h"
#include "ipc/check.h"
#include "ipc/errors.h"

static int default_back(sharena_t *heap, void *address, size_t bytes, unsigned arena) {
    (void)arena;
    return mapping_back(heap, heap_offset(heap, address), bytes, 1);
}

static int default_purge(sharena_t *heap, void *address, size_t bytes, unsigned arena) {
    (void)arena;
    return mapping_punch(heap, heap_offset(heap, address), bytes);
}

struct hooks_table { /* zero: the default */
    struct sharena_chunk_hooks of_arena[ARENAS_MAX];
};

struct sharena_chunk_hooks hooks_of(const struct attachment *attachment, uint32_t arena) {
    struct sharena_chunk_hooks hooks = {default_back, default_purge};
    const struct hooks_table *table = __atomic_load_n(&attachment->hooks, __ATOMIC_ACQUIRE);
    if (table != NULL && arena < ARENAS_MAX) {
        const struct sharena_chunk_hooks *set = &table->of_arena[arena];
        sharena_back_hook_t back = __atomic_load_n(&set->back, __ATOMIC_RELAXED);
        sharena_purge_hook_t purge = __atomic_load_n(&set->purge, __ATOMIC_RELAXED);
        hooks.back = back != NULL ? back : hooks.back;
        hooks.purge = purge != NULL ? purge : hooks.purge;
    }
    return hooks;
}

static int are_set(const struct attachment *attachment) {
    return __atomic_load_n(&attachment->hooks, __ATOMIC_RELAXED) != NULL;
}

/* The table, made by whoever is first; NULL: no memory. */
static struct hooks_table *make_table(struct attachment *attachment) {
    struct hooks_table *table = __atomic_load_n(&attachment->hooks, __ATOMIC_ACQUIRE);
    if (table != NULL) {
        return table;
    }
    struct hooks_table *made =
        mmap(NULL, sizeof(*made), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) {
        return NULL;
    }
    if (__atomic_compare_exchange_n(&attachment->hooks, &table, made, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return made;
    }
    (void)munmap(made, sizeof(*made));
    return table;
}

int hooks_set(struct attachment *attachment, uint32_t arena,
              const struct sharena_chunk_hooks *hooks) {
    if (hooks->back == NULL || hooks->purge == NULL) {
        return error_set(EINVAL,
                         "hooks of arena %u: a function is NULL: read the default ones, and "
                         "keep those that are not to be replaced",
                         arena);
    }
    struct hooks_table *table = make_table(attachment);
    if (table == NULL) {
        return error_set(ENOMEM, "hooks of arena %u: no private memory", arena);
    }
    __atomic_store_n(&table->of_arena[arena].back, hooks->back, __ATOMIC_RELAXED);
    __atomic_store_n(&table->of_arena[arena].purge, hooks->purge, __ATOMIC_RELAXED);
    return 0;
}

void hooks_drop(struct attachment *attachment) {
    if (attachment->hooks != NULL) {
        (void)munmap(attachment->hooks, sizeof(*attachment->hooks));
        attachment->hooks = NULL;
    }
}

int hooks_back(sharena_t *heap, uint32_t arena, uint64_t offset, uint64_t bytes) {
    const struct attachment *attachment = registry_find(heap);
    int refused = 0;
    if (UNLIKELY(attachment != NULL && are_set(attachment))) {
        struct sharena_chunk_hooks hooks = hooks_of(attachment, arena);
        refused = hooks.back(heap, heap_bytes(heap) + offset, bytes, arena);
    }
    if (refused != 0) {
        CHECK(mapping_punch(heap, offset, bytes) == 0); /* whatever it did */
        return error_set(ENOMEM, "the hook of arena %u refused storage for %llu bytes: %s", arena,
                         (unsigned long long)bytes, strerror(refused));
    }
    if (mapping_back(heap, offset, bytes, 1) != 0) {
        return error_set(ENOMEM,
                         "the file system has no room for %llu more bytes of this heap: free "
                         "space there, or free blocks here",
                         (unsigned long long)bytes);
    }
    return 0;
}

int hooks_purge(sharena_t *heap, uint32_t arena, uint64_t offset, uint64_t bytes) {
    const struct attachment *attachment = registry_find(heap);
    if (UNLIKELY(attachment != NULL && are_set(attachment))) {
        struct sharena_chunk_hooks hooks = hooks_of(attachment, arena);
        if (hooks.purge(heap, heap_bytes(heap) + offset, bytes, arena) != 0) {
            return 0;
        }
    }
    /* A file system that cannot punch keeps the pages; they are not zero then, so stop. */
    CHECK(mapping_punch(heap, offset, bytes) == 0);
    return 1;
}
