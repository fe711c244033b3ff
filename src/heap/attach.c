/* attach.c -- one file becomes a mapped heap: made, attached to, or recovered.
 *
 *     empty or unfinished   CREATING, length -> map -> base metadata -> one store of MAGIC_HEAP
 *                           killed here: it stays unfinished, and the next open begins anew
 *     a heap                map -> nobody attached? roll journals back, new mutexes -> process slot
 *                           killed here: every step can be repeated, and the next open repeats it
 *
 * Holds:  in_use is 1 from the first attach until the last process has closed with no slot in use
 * Lock:   the file's open lock, below the registry lock
 * Killed: see above
 * Not here: verifying files (ipc/file.c, ipc/superblock.c), mapping them (ipc/mapping.c), counting
 *         opens, and threads (heap.c).
 */
#include "heap/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heap/arena.h"
#include "heap/heap.h"
#include "heap/hooks.h"
#include "heap/reap.h"
#include "heap/roots.h"
#include "heap/verify.h"
#include "ipc/errors.h"
#include "ipc/slot.h"

#define CAPACITY_DEFAULT (1ull << 40)
#define CAPACITY_MAX (1ull << 43)

/* ---- a new heap ---- */

static int wish_for(const struct sharena_options *options, struct superblock_wish *wish) {
    uint64_t capacity = options->capacity_bytes != 0 ? options->capacity_bytes : CAPACITY_DEFAULT;
    if (capacity > CAPACITY_MAX) {
        return error_set(EINVAL, "capacity_bytes %llu is more than a heap can have: at most %llu",
                         (unsigned long long)capacity, (unsigned long long)CAPACITY_MAX);
    }
    uint64_t total = round_up(capacity, CHUNK_BYTES);
    uint64_t data_offset = 0;
    do { /* the metadata of a longer file is longer: at most two rounds change anything */
        data_offset = geometry_of(total + data_offset).data_offset;
    } while (geometry_of(total + data_offset).data_offset != data_offset);
    uint64_t limit = options->limit_bytes;
    if (limit != 0 && limit < PAGE_BYTES) {
        limit = PAGE_BYTES; /* it is counted in pages, and none would mean no limit */
    }
    *wish = (struct superblock_wish){.total_bytes = total + data_offset,
                                     .limit_bytes = limit,
                                     .base_address = options->base_address,
                                     .data_offset = data_offset,
                                     .heap_fingerprint = heap_fingerprint()};
    return 0;
}

static void init_locks(sharena_t *heap) {
    slot_init_tokens(heap);
    arena_init_locks(heap);
    roots_init_locks(heap);
}

/* Base metadata: what lies at fixed places and is not made later, thread slots and arenas are. */
static int init_metadata(sharena_t *heap) {
    const struct superblock *superblock = heap_superblock(heap);
    struct heap_state *state = heap_state(heap);
    uint64_t processes = PROCESSES_OFFSET + PROCESSES_MAX * sizeof(struct process_slot);
    if (mapping_back(heap, 0, processes, 0) != 0 ||
        mapping_back(heap, POOL_OFFSET, ARENAS_OFFSET - POOL_OFFSET, 0) != 0) {
        return error_set(ENOMEM, "the file system is full: no room for an empty heap (700 "
                                 "KiB): free space there");
    }
    shared_prepare(&state->data_begin, (uint64_t)(uintptr_t)heap + superblock->data_offset);
    shared_prepare(
        &state->data_page_map,
        (uint64_t)(uintptr_t)(heap_page_map(heap) + (superblock->data_offset >> LG_PAGE)));
    init_locks(heap);
    return 0;
}

static int create(struct attachment *attachment, const struct sharena_options *options) {
    struct superblock_wish wish;
    struct superblock superblock;
    int error = wish_for(options, &wish);
    if (error == 0) {
        error = superblock_make(&wish, &superblock);
    }
    if (error == 0) {
        error = superblock_begin(&attachment->file, &superblock);
    }
    if (error != 0) {
        return error;
    }
    error = mapping_make(&attachment->file, &superblock, 0,
                         (options->flags & SHARENA_REQUIRE_SYNC) != 0, &attachment->mapping);
    if (error == 0) {
        error = init_metadata(attachment->mapping.base);
        if (error != 0) {
            mapping_unmake(&attachment->mapping);
        }
    }
    if (error != 0) {
        superblock_abandon(&attachment->file);
        return error;
    }
    superblock_finish(attachment->mapping.base);
    return 0;
}

/* ---- an old heap ---- */

void attach_read_boot_id(const struct heap_file *file, uint8_t boot_id[16]) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char text[40] = {0};
    if (fd >= 0) {
        ssize_t got = read(fd, text, sizeof(text) - 1);
        (void)got;
        (void)close(fd);
    }
    uint64_t inode = file->inode; /* not the device: its number may change with the next mount */
    uint64_t low = superblock_hash(SUPERBLOCK_HASH_SEED, &inode, sizeof(inode));
    low = superblock_hash(low, text, strlen(text));
    uint64_t high = superblock_hash(low, text, strlen(text));
    memcpy(boot_id, &low, 8);
    memcpy(boot_id + 8, &high, 8);
}

/* Nobody is attached. If somebody was and did not close: their open sections are undone. Mutexes,
 * whose words hold thread ids of the past, are made anew. Slots are reaped later, as always. */
static int recover_cold(struct attachment *attachment, uint32_t flags) {
    sharena_t *heap = attachment->mapping.base;
    const char *title = attachment->file.title;
    uint8_t boot_id[16];
    attach_read_boot_id(&attachment->file, boot_id);
    if (shared_get(&heap_state(heap)->in_use) &&
        memcmp(boot_id, heap_state(heap)->boot_id, 16) != 0 && (flags & SHARENA_RECOVER) == 0) {
        return error_set(
            EUCLEAN,
            "%s was in use when its machine went down, or was copied while in "
            "use: it may be torn. Open it with SHARENA_RECOVER, then sharena_check() it",
            title);
    }
    int error = verify_journals(heap, title);
    if (error == 0) {
        reap_roll_back_all(heap);
        error = verify_state(heap, title); /* roll-back may have changed it */
    }
    if (error == 0) {
        error = verify_unused_slots(heap, title);
    }
    if (error == 0) {
        init_locks(heap);
    }
    return error;
}

static int attach_old(struct attachment *attachment, const struct superblock *superblock,
                      uint32_t flags) {
    int readonly = (flags & SHARENA_READONLY) != 0;
    int error = verify_superblock(superblock, attachment->file.title);
    if (error != 0) {
        return error;
    }
    error = mapping_make(&attachment->file, superblock, readonly,
                         (flags & SHARENA_REQUIRE_SYNC) != 0, &attachment->mapping);
    if (error != 0) {
        return error;
    }
    error = verify_state(attachment->mapping.base, attachment->file.title);
    if (error == 0 && !readonly && !token_any_held(&attachment->file)) {
        error = recover_cold(attachment, flags);
    }
    if (error != 0) {
        mapping_unmake(&attachment->mapping);
    }
    return error;
}

/* ---- either ---- */

/* What the file is decides, under the open lock, whether it is made, emptied first, or
 * attached to. */
static int attach_by_state(struct attachment *attachment, const struct sharena_options *options) {
    uint32_t flags = options->flags;
    enum file_state state;
    struct superblock superblock;
    int error = superblock_read(&attachment->file, &state, &superblock);
    if (error != 0) {
        return error;
    }
    if (state == FILE_HEAP && (flags & SHARENA_EXCL) != 0) {
        return error_set(EEXIST, "%s is a heap already; SHARENA_EXCL demands a new one",
                         attachment->file.title);
    }
    if (state == FILE_HEAP && (flags & SHARENA_TRUNCATE) == 0) {
        return attach_old(attachment, &superblock, flags);
    }
    if (state == FILE_HEAP && token_anyone_attached(&attachment->file)) {
        return error_set(EBUSY, "%s is in use: SHARENA_TRUNCATE must wait until all close it",
                         attachment->file.title);
    }
    if ((flags & (SHARENA_OPEN_ONLY | SHARENA_READONLY)) != 0) {
        return error_set(EUCLEAN, "%s is not a heap: %s", attachment->file.title,
                         state == FILE_EMPTY ? "it is empty" : "its creation was never finished");
    }
    return create(attachment, options);
}

/* A torn boot id would look like another boot's, so it only changes while in_use says that nobody
 * cares: whoever opens then has no journal to roll back, for that is done. */
static void set_boot_id(const struct heap_file *file, struct heap_state *state) {
    uint8_t boot_id[16];
    attach_read_boot_id(file, boot_id);
    if (memcmp(boot_id, state->boot_id, sizeof(boot_id)) != 0) {
        shared_store(&state->in_use, 0u);
        shared_order();
        memcpy(state->boot_id, boot_id, sizeof(boot_id));
        FAULT_POINT();
        shared_order();
    }
}

static int join_processes(struct attachment *attachment) {
    int readonly = attachment->mapping.is_readonly;
    int error = readonly ? token_take_reader(&attachment->file, &attachment->token)
                         : slot_register_process(attachment);
    if (error != 0) {
        mapping_unmake(&attachment->mapping);
    }
    if (error != 0 || readonly) {
        return error;
    }
    struct heap_state *state = heap_state(attachment->mapping.base);
    set_boot_id(&attachment->file, state);
    shared_store(&state->in_use, 1u); /* under the open lock; a kill leaves it set, as it should */
    return 0;
}

/* This open made the file, and no heap came of it: nothing is left, unless another open was faster.
 * Under the open lock; who waits for it sees that the name is gone, and begins anew. */
static void discard_made(const struct heap_file *file) {
    struct stat status;
    if (file_is_linked(file) && fstat(file->fd, &status) == 0 && status.st_size == 0) {
        (void)unlink(file->name);
    }
}

void attach_discard(const struct heap_file *file) {
    int lock = file_lock_open(file);
    if (lock >= 0) {
        discard_made(file);
        file_unlock_open(lock);
    }
}

int attach_file(struct attachment *attachment, const struct sharena_options *options, int made) {
    int lock = file_lock_open(&attachment->file);
    if (lock < 0) {
        return errno;
    }
    int error = attach_by_state(attachment, options);
    if (error == 0) {
        error = join_processes(attachment);
    }
    if (error != 0 && made) {
        discard_made(&attachment->file);
    }
    file_unlock_open(lock);
    return error;
}

/* ---- and back ---- */

void attach_undo(struct attachment *attachment) {
    sharena_t *heap = attachment->mapping.base;
    int lock = -1;
    if (!attachment->mapping.is_readonly) {
        lock = file_lock_open(&attachment->file);
        if (attachment->token.page != NULL) {
            slot_unregister_process(attachment);
        }
        if (lock >= 0 && !token_any_held(&attachment->file) && !slot_any_used(heap)) {
            shared_store(&heap_state(heap)->in_use, 0u);
        }
    }
    registry_remove(attachment);
    hooks_drop(attachment);
    token_release(&attachment->token);
    mapping_unmake(&attachment->mapping);
    if (lock >= 0) {
        file_unlock_open(lock);
    }
    file_close(&attachment->file);
}
