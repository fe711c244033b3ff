/* journal.c -- the one mechanism for crash safety: undo what was not committed.
 *
 * Holds:  entries[0..count) name the fields that changed since the last commit, oldest first, with
 *         what they held; a field may stand there twice
 * Lock:   the one that journal.lock names, or the token of the slot
 * Killed: anywhere, in roll-back too: it restores before it forgets
 * Not here: when to roll back (lock.c and the reaper), and what to change (everybody else).
 */
#include "ipc/journal.h"

static void restore(sharena_t *heap, const struct journal_entry *entry) {
    uint64_t address = entry->where >> 4;
    uint64_t bytes = entry->where & 15u;
    uint64_t offset = address - (uint64_t)(uintptr_t)heap;
    CHECK(offset >= STATE_OFFSET && offset <= heap_superblock(heap)->total_bytes - bytes);
    void *field = heap_bytes(heap) + offset;
    switch (bytes) {
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
        check_failed(__FILE__, __LINE__, "a journal entry has an impossible size");
    }
}

void journal_roll_back(sharena_t *heap, struct thread_slot *dead) {
    uint32_t count = shared_get_acquire(&dead->journal.count);
    CHECK(count <= JOURNAL_ENTRIES);
    while (count > 0) {
        restore(heap, &dead->journal.entries[count - 1]);
        shared_order();
        count--;
        shared_store_release(&dead->journal.count, count);
        shared_order();
    }
}
