/* journal.h -- the one mechanism for crash safety: undo what was not committed.
 *
 *     journal_set(self, &field, value)    records address and old value, then stores
 *     journal_commit(self)                one store that empties the journal
 *     journal_roll_back(heap, dead)       puts the old values back, newest first
 *
 *     state of a section        journal            fields              killed here: rolled back to
 *     -------------------------+------------------+-------------------+---------------------------
 *     begun                     empty              old                 old
 *     entry written             entry not counted  old                 old
 *     count stored              counted            old                 old, restored as it is
 *     field stored              counted            some new            old
 *     commit: count = 0         empty              all new             new
 *
 * Roll-back restores a field before it takes the entry off, so it may itself be killed and
 * repeated.
 */
#ifndef SHARENA_IPC_JOURNAL_H
#define SHARENA_IPC_JOURNAL_H

#include <stdint.h>

#include "ipc/check.h"
#include "ipc/layout.h"
#include "ipc/shared.h"

HOT void journal_record(struct thread_slot *self, const void *field, uint32_t bytes, uint64_t old) {
    struct journal *journal = &self->journal;
    uint32_t count = shared_get(&journal->count);
    CHECK(count < JOURNAL_ENTRIES);
    shared_prepare(&journal->entries[count].where, (uint64_t)(uintptr_t)field << 4 | bytes);
    shared_prepare(&journal->entries[count].old, old);
    shared_order();
    shared_store(&journal->count, count + 1);
    shared_order();
}

HOT void journal_set_u16(struct thread_slot *self, shared_u16 *field, uint16_t value) {
    uint16_t old = shared_get(field);
    if (old != value) {
        journal_record(self, field, sizeof(*field), old);
        shared_store(field, value);
    }
}

HOT void journal_set_u32(struct thread_slot *self, shared_u32 *field, uint32_t value) {
    uint32_t old = shared_get(field);
    if (old != value) {
        journal_record(self, field, sizeof(*field), old);
        shared_store(field, value);
    }
}

HOT void journal_set_u64(struct thread_slot *self, shared_u64 *field, uint64_t value) {
    uint64_t old = shared_get(field);
    if (old != value) {
        journal_record(self, field, sizeof(*field), old);
        shared_store(field, value);
    }
}

HOT void journal_set_ptr(struct thread_slot *self, shared_ptr *field, void *value) {
    void *old = shared_get(field);
    if (old != value) {
        journal_record(self, field, sizeof(*field), (uint64_t)(uintptr_t)old);
        shared_store(field, value);
    }
}

#define journal_set(self, field, value)                                                            \
    _Generic((field), shared_u16 *                                                                 \
             : journal_set_u16, shared_u32 *                                                       \
             : journal_set_u32, shared_u64 *                                                       \
             : journal_set_u64, shared_ptr *                                                       \
             : journal_set_ptr)(self, field, value)

/* All stores since the last commit become final. */
HOT void journal_commit(struct thread_slot *self) {
    shared_order();
    shared_store_release(&self->journal.count, 0u);
    shared_order();
}

HOT int journal_is_empty(const struct thread_slot *self) {
    return shared_get(&self->journal.count) == 0;
}

/* Room for `entries` more? A long section commits when there is none. */
HOT int journal_has_room(const struct thread_slot *self, uint32_t entries) {
    return shared_get(&self->journal.count) + entries <= JOURNAL_ENTRIES;
}

/* Names the lock that covers what follows; 0: the slot itself. The journal must be empty. */
HOT void journal_begin(struct thread_slot *self, uint64_t lock_offset) {
    ASSERT(journal_is_empty(self));
    shared_store(&self->journal.lock, lock_offset);
    shared_order();
}

/* Whether entry `index` of the slot's journal names a field that sections change: in the slot
 * itself, behind its header, in the heap's tables, or in user data. So no roll-back changes another
 * slot. */
int journal_entry_is_sound(const sharena_t *heap, const struct thread_slot *slot, uint32_t index);

/* Undoes what `dead` did since its last commit. The caller holds the lock that journal.lock names,
 * or the token of the slot where that is 0. An entry that is not sound is damage: it
 * stops. */
void journal_roll_back(sharena_t *heap, struct thread_slot *dead);

#endif
