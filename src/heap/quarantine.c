/* quarantine.c -- freed blocks of a thread that wait before they go back.
 *
 * Holds:  tail - head <= QUARANTINE_ENTRIES; what is in [head, tail) is live blocks of classes that
 *         have a stack, each owned by this slot alone                                    (audited)
 * Lock:   none: the thread's own, or its reaper's, who holds the thread token
 * Killed: a push or a release is undone or done; between the free and the push the one block in
 *         flight is lost, as with the cache (with sharena_free_from() it is not)
 * Not here: what is looked at before a block gets here (watch.c).
 */
#include "heap/quarantine.h"

#include "heap/backing.h"
#include "heap/fill.h"
#include "heap/misuse.h"
#include "heap/publish.h"
#include "heap/tcache.h"
#include "ipc/journal.h"
#include "ipc/registry.h"

void quarantine_open(sharena_t *heap, struct thread_slot *self, const struct conf *conf) {
    struct quarantine *quarantine = slot_quarantine(self);
    shared_ptr *storage = slot_quarantine_storage(self);
    if (conf->quarantine_bytes != 0 && shared_get(&quarantine->is_backed) == 0 &&
        backing_add_metadata(heap, storage, storage + QUARANTINE_ENTRIES) == 0) {
        shared_store(&quarantine->is_backed, 1u); /* only says what is so: nothing to undo */
    }
}

int quarantine_takes(struct thread_slot *self, const struct conf *conf, uint32_t stack) {
    return stack != 0 && stack <= SIZE_CLASSES_CACHED &&
           sizeclass_bytes(stack - 1) <= conf->quarantine_bytes &&
           shared_get(&slot_quarantine(self)->is_backed) != 0;
}

void quarantine_push(struct thread_slot *self, void *block, size_t bytes) {
    struct quarantine *quarantine = slot_quarantine(self);
    uint32_t tail = shared_get(&quarantine->tail);
    shared_store(&slot_quarantine_storage(self)[tail % QUARANTINE_ENTRIES],
                 block); /* behind tail: nobody's yet */
    shared_order();
    journal_set(self, &quarantine->bytes, shared_get(&quarantine->bytes) + bytes);
    journal_set(self, &quarantine->tail, tail + 1);
    journal_commit(self);
}

/* What was stored to while it waited. The pattern is there if this very process has filled it, and
 * so is who has freed it: this very thread. */
static void check_pattern(sharena_t *heap, const struct thread_slot *self, const char *block,
                          size_t bytes) {
    const struct attachment *attachment = registry_find(heap);
    if (misuse_is_inherited(heap, self) || (attachment->conf.junk & JUNK_FREE) == 0) {
        return;
    }
    size_t at = fill_broken_at(block, bytes);
    if (at != bytes) {
        misuse_report(&(struct sharena_misuse){
            .kind = SHARENA_MISUSE_WRITE_AFTER_FREE,
            .heap = heap,
            .ptr = block + at,
            .freed_pid = (int)shared_get(&heap_process(heap, shared_get(&self->process))->pid),
            .freed_tid = (int)shared_get(&self->tid),
            .text = "write after free"});
    }
}

/* The oldest block moves from the ring into the pending step; NULL: it has no class any more. */
static void *take_oldest(struct thread_slot *self, size_t bytes) {
    struct quarantine *quarantine = slot_quarantine(self);
    uint64_t held = shared_get(&quarantine->bytes);
    void *block = quarantine_entry(self, 0);
    journal_set(self, &self->pending.where, NULL);
    journal_set(self, &self->pending.block, block);
    journal_set(self, &quarantine->bytes, held > bytes ? held - bytes : 0);
    journal_set(self, &quarantine->head, shared_get(&quarantine->head) + 1);
    journal_set(self, &self->pending.kind, PENDING_FREE);
    journal_commit(self);
    return block;
}

static void release(sharena_t *heap, struct thread_slot *self) {
    const void *oldest = quarantine_entry(self, 0);
    uint32_t stack = stack_index_of(heap, oldest);
    size_t bytes = stack != 0 && stack <= SIZE_CLASSES_CACHED ? sizeclass_bytes(stack - 1) : 0;
    void *block = take_oldest(self, bytes);
    check_pattern(heap, self, block, bytes);
    if (!tcache_push_slow(heap, self, stack, block)) {
        publish_give_back(heap, self, block);
        tcache_count_given(self, bytes);
    }
    publish_end(self);
}

void quarantine_make_room(sharena_t *heap, struct thread_slot *self, const struct conf *conf,
                          size_t bytes) {
    const struct quarantine *quarantine = slot_quarantine(self);
    while (quarantine_count(self) != 0 &&
           (quarantine_count(self) >= QUARANTINE_ENTRIES ||
            shared_get(&quarantine->bytes) + bytes > conf->quarantine_bytes)) {
        release(heap, self);
    }
}

void quarantine_drain(sharena_t *heap, struct thread_slot *self) {
    while (quarantine_count(self) != 0) {
        release(heap, self);
    }
}
