/* verify.c -- what an open looks at before it follows a number of the file.
 *
 * Its cost depends on the number of thread slots that were ever used, never on the size of the
 * heap: what the slots of the dead own is not followed by an open, but by the first thread that
 * enters the heap (reap.c), or by sharena_check() once it has found everything in order (check.c).
 *
 * Holds:  after an open: threads_high, arenas_made, roots.high and data_bytes are within their
 *         tables; slots in no use own nothing
 * Lock:   none: nobody else is attached (cold open), or what is read only grows
 * Killed: nothing is changed
 * Not here: the checksum (ipc/superblock.c); everything behind these numbers (check.c, audit.c).
 */
#include "heap/verify.h"

#include <errno.h>

#include "heap/tcache.h"
#include "ipc/errors.h"
#include "ipc/journal.h"

#define PAGES_MAX (1ull << 32) /* page numbers have 32 bits */

static int refuse(const char *title, const char *field, uint64_t value, uint64_t limit) {
    return error_set(EUCLEAN, "%s: is damaged: %s is %llu (0x%llx), must be %llu (0x%llx)%s", title,
                     field, (unsigned long long)value, (unsigned long long)value,
                     (unsigned long long)limit, (unsigned long long)limit,
                     value > limit ? " at most" : "");
}

int verify_superblock(const struct superblock *superblock, const char *title) {
    uint64_t total = superblock->total_bytes;
    if (total >> LG_PAGE >= PAGES_MAX) {
        return refuse(title, "total_bytes", total, (PAGES_MAX - 1) << LG_PAGE);
    }
    uint64_t data_offset = geometry_of(total).data_offset;
    return superblock->data_offset == data_offset
               ? 0
               : refuse(title, "data_offset", superblock->data_offset, data_offset);
}

int verify_state(const sharena_t *heap, const char *title) {
    const struct superblock *superblock = heap_superblock(heap);
    const struct heap_state *state = heap_state(heap);
    uint64_t base = (uint64_t)(uintptr_t)heap;
    uint64_t data_begin = base + superblock->data_offset;
    uint64_t page_map =
        (uint64_t)(uintptr_t)(heap_page_map(heap) + (superblock->data_offset >> LG_PAGE));
    uint64_t data_bytes = shared_get(&state->data_bytes);
    uint64_t bytes_max = superblock->total_bytes - superblock->data_offset;
    uint32_t threads = shared_get(&state->threads_high);
    uint32_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    uint32_t roots = shared_get(&heap_roots(heap)->high);
    uint32_t samples = shared_get(&heap_pool(heap)->samples_high);
    uint32_t modules = shared_get(&heap_pool(heap)->modules);
    if (state->data_begin != data_begin) {
        return refuse(title, "data_begin", state->data_begin, data_begin);
    }
    if (state->data_page_map != page_map) {
        return refuse(title, "data_page_map", state->data_page_map, page_map);
    }
    if (data_bytes > bytes_max || data_bytes % CHUNK_BYTES != 0) {
        return refuse(title, "data_bytes", data_bytes, bytes_max);
    }
    if (threads > THREADS_MAX) {
        return refuse(title, "threads_high", threads, THREADS_MAX);
    }
    if (arenas > ARENAS_MAX) {
        return refuse(title, "arenas_made", arenas, ARENAS_MAX);
    }
    if (samples > SAMPLES_MAX) {
        return refuse(title, "samples_high", samples, SAMPLES_MAX);
    }
    if (modules > MODULES_MAX) {
        return refuse(title, "modules", modules, MODULES_MAX);
    }
    return roots > SHARENA_ROOTS_MAX ? refuse(title, "roots.high", roots, SHARENA_ROOTS_MAX) : 0;
}

/* ---- slots ---- */

static int refuse_slot(const char *title, uint32_t slot, const char *field, uint64_t value) {
    return error_set(EUCLEAN, "%s: is damaged: thread slot %u: %s is 0x%llx, which cannot be",
                     title, slot, field, (unsigned long long)value);
}

static int verify_journal(const sharena_t *heap, uint32_t index, const char *title) {
    const struct thread_slot *slot = heap_thread(heap, index);
    uint32_t count = shared_get(&slot->journal.count);
    if (shared_get(&slot->state) > SLOT_USED) {
        return refuse_slot(title, index, "state", shared_get(&slot->state));
    }
    if (count > JOURNAL_ENTRIES) {
        return refuse_slot(title, index, "journal.count", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!journal_entry_is_sound(heap, slot, i)) {
            return refuse_slot(title, index, "the address and size in a journal entry",
                               slot->journal.entries[i].where);
        }
    }
    return 0;
}

int verify_journals(const sharena_t *heap, const char *title) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    int error = 0;
    for (uint32_t i = 0; i < high && error == 0; i++) {
        error = verify_journal(heap, i, title);
    }
    return error;
}

static int verify_unused(struct thread_slot *slot, uint32_t index, const char *title) {
    const struct tcache *tcache = slot_tcache(slot);
    if (shared_get(&slot->arena) != 0) {
        return refuse_slot(title, index, "in no use, but arena", shared_get(&slot->arena));
    }
    if (shared_get(&slot->hand.kind) != HAND_EMPTY) {
        return refuse_slot(title, index, "in no use, but hand.kind", shared_get(&slot->hand.kind));
    }
    if (shared_get(&slot->hand.charged) != 0) {
        return refuse_slot(title, index, "in no use, but hand.charged",
                           shared_get(&slot->hand.charged));
    }
    if (shared_get(&slot->hand.sample) != 0) {
        return refuse_slot(title, index, "in no use, but hand.sample",
                           shared_get(&slot->hand.sample));
    }
    if (shared_get(&slot->pending.kind) != PENDING_NONE) {
        return refuse_slot(title, index, "in no use, but pending.kind",
                           shared_get(&slot->pending.kind));
    }
    const struct quarantine *quarantine = slot_quarantine(slot);
    if (shared_get(&quarantine->head) != shared_get(&quarantine->tail)) {
        return refuse_slot(title, index, "in no use, but quarantine.tail",
                           shared_get(&quarantine->tail));
    }
    for (uint32_t i = 0; i < TCACHE_STACKS; i++) {
        const struct tcache_stack *stack = &tcache->stacks[i];
        if (shared_get(&stack->top) != shared_get(&stack->bottom)) {
            return refuse_slot(title, index, "in no use, but the top of a stack",
                               (uintptr_t)shared_get(&stack->top));
        }
    }
    return 0;
}

int verify_unused_slots(sharena_t *heap, const char *title) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    int error = 0;
    for (uint32_t i = 0; i < high && error == 0; i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (shared_get(&slot->state) != SLOT_USED) {
            error = verify_unused(slot, i, title);
        }
    }
    return error;
}
