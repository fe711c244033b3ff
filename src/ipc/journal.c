/* journal.c -- the one mechanism for crash safety: undo what was not committed.
 *
 * Holds:  entries[0..count) name the fields that changed since the last commit, oldest first, with
 *         what they held; a field may stand there twice
 * Lock:   the one that journal.lock names, or the token of the slot
 * Killed: anywhere, in roll-back too: it restores before it forgets
 * Not here: when to roll back (lock.c and the reaper), and what to change (everybody else).
 */
#include "ipc/journal.h"

/* [begin, end) of the file. */
static int is_between(uint64_t offset, uint64_t bytes, uint64_t begin, uint64_t end) {
    return offset >= begin && offset <= end - bytes;
}

int journal_entry_is_sound(const sharena_t *heap, const struct thread_slot *slot, uint32_t index) {
    const struct heap_state *state = heap_state(heap);
    const struct journal_entry *entry = &slot->journal.entries[index];
    uint64_t bytes = entry->where & 15u;
    uint64_t offset = (entry->where >> 4) - (uint64_t)(uintptr_t)heap;
    uint64_t own = heap_offset(heap, slot);
    if ((bytes != 2 && bytes != 4 && bytes != 8) || offset % bytes != 0) {
        return 0;
    }
    return is_between(offset, bytes, IPC_END, heap_superblock(heap)->total_bytes) ||
           is_between(offset, bytes, heap_offset(heap, &slot->hand),
                      heap_offset(heap, &slot->journal)) ||
           is_between(offset, bytes, own + THREAD_SLOT_HEAP_OFFSET, own + THREAD_SLOT_BYTES) ||
           offset == heap_offset(heap, &slot->arena) ||
           offset == heap_offset(heap, &state->data_bytes) ||
           offset == heap_offset(heap, &state->backed_pages);
}

static void restore(const struct journal_entry *entry) {
    void *field = (void *)(uintptr_t)(entry->where >> 4);
    switch (entry->where & 15u) {
    case 2:
        shared_store((shared_u16 *)field, (uint16_t)entry->old);
        break;
    case 4:
        shared_store((shared_u32 *)field, (uint32_t)entry->old);
        break;
    case 8:
        shared_store((shared_u64 *)field, entry->old);
        break;
    default:
        break;
    }
}

void journal_roll_back(sharena_t *heap, struct thread_slot *dead) {
    uint32_t count = shared_get_acquire(&dead->journal.count);
    CHECK(count <= JOURNAL_ENTRIES);
    while (count > 0) {
        CHECK(journal_entry_is_sound(heap, dead, count - 1));
        restore(&dead->journal.entries[count - 1]);
        shared_order();
        count--;
        shared_store_release(&dead->journal.count, count);
        shared_order();
    }
}
