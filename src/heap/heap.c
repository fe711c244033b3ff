/* heap.c -- attaching: of processes to heaps (open, close), of threads to heaps (enter).
 *
 * Stages of initialisation, in order:
 *   once per process   kernel check, size class tables, thread records, fork handlers
 *   per open           configuration -> file -> superblock -> mapping -> (new: base metadata;
 *                      left by the dead: recovery) -> process slot -> visible in the registry
 *   per thread         slot -> tcache -> arena (the first one makes arena 0) -> TLS hint
 * Nothing here calls malloc, so an application whose malloc leads here may call it at any stage.
 *
 * Holds:  an attachment is published with a process slot, unless read-only or in a fork's child
 *         that could not register yet
 * Lock:   registry lock; below it the file's open lock
 * Killed: a creator: MAGIC_CREATING stays, the next open begins anew. An opener in recovery: every
 *         step can be repeated, and the next cold open does so
 * Not here: verifying files (ipc/file.c, ipc/superblock.c), mapping them (ipc/mapping.c).
 */
#include "heap/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/reap.h"
#include "heap/roots.h"
#include "heap/tcache.h"
#include "ipc/errors.h"
#include "ipc/forking.h"
#include "ipc/journal.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

#define CAPACITY_DEFAULT (1ull << 40)
#define CAPACITY_MAX (1ull << 43)
#define ALL_FLAGS                                                                                  \
    (SHARENA_CREATE | SHARENA_EXCL | SHARENA_TRUNCATE | SHARENA_OPEN_ONLY | SHARENA_READONLY |     \
     SHARENA_REQUIRE_SYNC | SHARENA_RECOVER)

uint64_t heap_fingerprint(void) {
    const uint64_t facts[] = {sizeof(struct run),
                              sizeof(struct chunk),
                              sizeof(struct pool),
                              sizeof(struct bin),
                              sizeof(struct arena),
                              sizeof(struct root),
                              sizeof(struct tcache),
                              offsetof(struct run, bitmap),
                              offsetof(struct tcache, storage),
                              LG_CHUNK,
                              ARENAS_MAX,
                              SHARENA_ROOTS_MAX,
                              SIZE_CLASSES_SMALL,
                              SIZE_CLASSES_CACHED,
                              PAGE_MAP_OFFSET};
    return superblock_hash(SUPERBLOCK_HASH_SEED, facts, sizeof(facts));
}

uint32_t heap_narenas(const struct conf *conf) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = conf->narenas != 0 ? conf->narenas : 4 * (uint32_t)(cpus > 0 ? cpus : 1);
    return wanted < ARENAS_MAX ? wanted : ARENAS_MAX;
}

/* ---- once per process ---- */

static void at_thread_exit(sharena_t *heap, struct thread_slot *slot);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_error;

static void init_process(void) {
    once_error = mapping_check_kernel();
    if (once_error == 0) {
        sizeclass_init();
        superblock_expect(heap_fingerprint());
        thread_exit_hook = at_thread_exit;
        once_error = thread_init();
    }
    if (once_error == 0) {
        once_error = forking_init();
    }
}

static int init_once(void) {
    (void)pthread_once(&once, init_process);
    forking_notice_child();
    return once_error;
}

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
    state->data_begin = (uint64_t)(uintptr_t)heap + superblock->data_offset;
    state->data_page_map =
        (uint64_t)(uintptr_t)(heap_page_map(heap) + (superblock->data_offset >> LG_PAGE));
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

static void read_boot_id(uint8_t boot_id[16]) {
    memset(boot_id, 0, 16);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char text[40] = {0};
    if (fd >= 0) {
        ssize_t got = read(fd, text, sizeof(text) - 1);
        (void)got;
        (void)close(fd);
    }
    uint64_t low = superblock_hash(SUPERBLOCK_HASH_SEED, text, strlen(text));
    uint64_t high = superblock_hash(low, text, strlen(text));
    memcpy(boot_id, &low, 8);
    memcpy(boot_id + 8, &high, 8);
}

/* Nobody is attached, but somebody was and did not close: their open sections are undone, and
 * mutexes, whose words hold thread ids of the past, are made anew. Their slots are reaped as always
 * later. */
static int recover_cold(struct attachment *attachment, uint32_t flags) {
    sharena_t *heap = attachment->mapping.base;
    uint8_t boot_id[16];
    read_boot_id(boot_id);
    if (memcmp(boot_id, heap_state(heap)->boot_id, 16) != 0 && (flags & SHARENA_RECOVER) == 0) {
        return error_set(
            EUCLEAN,
            "%s was in use when its machine went down, or was copied while in "
            "use: it may be torn. Open it with SHARENA_RECOVER, then sharena_check() it",
            attachment->file.title);
    }
    reap_roll_back_all(heap);
    init_locks(heap);
    return 0;
}

static int attach_old(struct attachment *attachment, const struct superblock *superblock,
                      uint32_t flags) {
    int readonly = (flags & SHARENA_READONLY) != 0;
    int error = mapping_make(&attachment->file, superblock, readonly,
                             (flags & SHARENA_REQUIRE_SYNC) != 0, &attachment->mapping);
    if (error != 0 || readonly || token_any_held(&attachment->file)) {
        return error;
    }
    if (shared_get(&heap_state(attachment->mapping.base)->in_use)) {
        error = recover_cold(attachment, flags);
    } else {
        init_locks(attachment->mapping.base);
    }
    if (error != 0) {
        mapping_unmake(&attachment->mapping);
    }
    return error;
}

/* ---- open ---- */

/* What the file is decides, under the open lock, whether it is made, emptied first, or
 * attached to. */
static int attach_file(struct attachment *attachment, const struct sharena_options *options) {
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
    read_boot_id(state->boot_id);
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

/* The file is open and not attached yet in this process. `made`: this open made it. */
static int attach(struct attachment *attachment, const struct sharena_options *options, int made) {
    int lock = file_lock_open(&attachment->file);
    if (lock < 0) {
        return errno;
    }
    int error = attach_file(attachment, options);
    if (error == 0) {
        error = join_processes(attachment);
    }
    if (error != 0 && made) {
        discard_made(&attachment->file);
    }
    file_unlock_open(lock);
    return error;
}

/* The heap is attached already: one more open of it. */
static int open_again(struct attachment *attachment, uint32_t flags) {
    if ((flags & SHARENA_EXCL) != 0) {
        return error_set(EEXIST, "%s is a heap already; SHARENA_EXCL demands a new one",
                         attachment->file.title);
    }
    if ((flags & SHARENA_TRUNCATE) != 0) {
        return error_set(EBUSY, "%s is in use by this very process; close it first",
                         attachment->file.title);
    }
    if (((flags & SHARENA_READONLY) != 0) != attachment->mapping.is_readonly) {
        return error_set(EINVAL,
                         "%s is attached %s in this process, and cannot be attached in "
                         "another way at the same time",
                         attachment->file.title,
                         attachment->mapping.is_readonly ? "read-only" : "for writing");
    }
    if ((flags & SHARENA_REQUIRE_SYNC) != 0 && !attachment->mapping.is_sync) {
        return error_set(EOPNOTSUPP, "%s is attached without MAP_SYNC in this process",
                         attachment->file.title);
    }
    (void)__atomic_fetch_add(&attachment->opens, 1, __ATOMIC_RELAXED);
    return 0;
}

/* `file` becomes the attachment's, or is closed. */
static int open_file(struct heap_file *file, const struct sharena_options *options,
                     const struct conf *conf, int made, sharena_t **heap) {
    registry_lock();
    int error = 0;
    struct attachment *attachment = registry_find_file(file);
    if (attachment != NULL) {
        error = open_again(attachment, options->flags);
        file_close(file);
    } else if ((attachment = registry_reserve()) == NULL) {
        error =
            error_set(EMFILE, "%u heaps are attached to this process; close one first", HEAPS_MAX);
        int lock = made ? file_lock_open(file) : -1;
        if (lock >= 0) {
            discard_made(file);
            file_unlock_open(lock);
        }
        file_close(file);
    } else {
        attachment->file = *file;
        attachment->conf = *conf;
        error = attach(attachment, options, made);
        if (error == 0) {
            __atomic_store_n(&attachment->opens, 1, __ATOMIC_RELAXED);
            registry_publish(attachment);
            if (!attachment->mapping.is_readonly) {
                (void)reap_dead(attachment);
            }
        } else {
            file_close(&attachment->file);
            registry_cancel(attachment);
        }
    }
    *heap = error == 0 ? attachment->mapping.base : NULL;
    registry_unlock();
    return error;
}

static int check_options(const struct sharena_options *options) {
    uint32_t flags = options->flags;
    if ((flags & ~ALL_FLAGS) != 0) {
        return error_set(EINVAL, "unknown bits %#x in options.flags", flags & ~ALL_FLAGS);
    }
    if ((flags & (SHARENA_READONLY | SHARENA_OPEN_ONLY)) != 0 &&
        (flags & (SHARENA_CREATE | SHARENA_EXCL | SHARENA_TRUNCATE)) != 0) {
        return error_set(EINVAL, "SHARENA_READONLY and SHARENA_OPEN_ONLY do not go with "
                                 "SHARENA_CREATE, SHARENA_EXCL or SHARENA_TRUNCATE");
    }
    if ((options->mode & ~0777u) != 0) {
        return error_set(EINVAL, "options.mode 0%o has more than permission bits", options->mode);
    }
    return 0;
}

static int prepare_open(const struct sharena_options *given, struct sharena_options *options,
                        struct conf *conf, sharena_t **heap) {
    *options = given != NULL ? *given : (struct sharena_options){0};
    if (heap == NULL) {
        return error_set(EINVAL, "the heap argument of sharena_open() is NULL");
    }
    *heap = NULL;
    int error = init_once();
    if (error == 0) {
        error = check_options(options);
    }
    return error == 0 ? conf_load(options->conf, conf) : error;
}

SHARENA_API int sharena_open(const char *path, const struct sharena_options *given,
                             sharena_t **heap) {
    struct sharena_options options;
    struct conf conf;
    int error = prepare_open(given, &options, &conf, heap);
    if (error == 0 && (path == NULL || path[0] == '\0')) {
        error = error_set(EINVAL, "the path argument of sharena_open() is empty");
    }
    while (error == 0) {
        struct heap_file file;
        int made;
        int readonly = (options.flags & SHARENA_READONLY) != 0;
        int create = (options.flags & (SHARENA_READONLY | SHARENA_OPEN_ONLY)) == 0;
        error = file_open_path(path, readonly, create, 0, options.mode, &file, &made);
        if (error != 0) {
            break;
        }
        error = open_file(&file, &options, &conf, made, heap);
        if (error == 0 && !file_is_linked(&file)) {
            error = sharena_close(*heap); /* unlinked between open and lock: once more */
            continue;
        }
        break;
    }
    return error;
}

SHARENA_API int sharena_open_fd(int fd, const struct sharena_options *given, sharena_t **heap) {
    struct sharena_options options;
    struct conf conf;
    struct heap_file file;
    int error = prepare_open(given, &options, &conf, heap);
    if (error == 0) {
        error = file_open_fd(fd, (options.flags & SHARENA_READONLY) != 0, &file);
    }
    return error == 0 ? open_file(&file, &options, &conf, 0, heap) : error;
}

/* ---- close ---- */

/* The last thread and the last open are gone: so is the attachment. Registry lock. */
static void detach(struct attachment *attachment) {
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
    token_release(&attachment->token);
    mapping_unmake(&attachment->mapping);
    if (lock >= 0) {
        file_unlock_open(lock);
    }
    file_close(&attachment->file);
}

/* Gives back a slot of this process that was emptied, or empties it. */
static void leave(struct attachment *attachment, struct thread_slot *slot) {
    reap_empty(attachment->mapping.base, slot);
    slot_give_back(slot);
    __atomic_fetch_sub(&attachment->threads, 1, __ATOMIC_RELAXED);
}

static void detach_if_unused(struct attachment *attachment) {
    if (!registry_is_open(attachment) &&
        __atomic_load_n(&attachment->threads, __ATOMIC_RELAXED) == 0) {
        detach(attachment);
    }
}

static void at_thread_exit(sharena_t *heap, struct thread_slot *slot) {
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        registry_lock(); /* sharena_close() visits the slots of threads that have not ended */
        leave(attachment, slot);
        thread_forget_heap(heap);
        detach_if_unused(attachment);
        registry_unlock();
    }
}

static void flush_other(struct thread_slot *slot) {
    /* The heap's address: the slot lies in it, at a place that its index tells. */
    sharena_t *heap = (sharena_t *)(void *)((char *)slot - THREADS_OFFSET -
                                            (uint64_t)shared_get(&slot->index) * THREAD_SLOT_BYTES);
    const struct attachment *attachment = registry_find(heap);
    /* A thread that ended by a raw system call left its record; its slot may be another's now. */
    if (attachment != NULL && slot_is_ours(attachment, slot) &&
        robust_mutex_tid(&slot->token) == shared_get(&slot->tid)) {
        tcache_flush(heap, slot);
    }
}

SHARENA_API int sharena_close(sharena_t *heap) {
    forking_notice_child();
    registry_lock();
    struct attachment *attachment = registry_find(heap);
    if (attachment == NULL || !registry_is_open(attachment)) {
        registry_unlock();
        return error_set(EINVAL, "%p is not an attached heap", (void *)heap);
    }
    if (__atomic_sub_fetch(&attachment->opens, 1, __ATOMIC_RELAXED) == 0) {
        struct thread_slot *slot = thread_find_slot(heap);
        if (slot != NULL) {
            leave(attachment, slot);
            thread_forget_heap(heap);
        }
        thread_visit_others(heap, flush_other);
        if (!attachment->mapping.is_readonly && attachment->token.page != NULL) {
            (void)reap_dead(attachment); /* threads that ended without their destructors */
        }
        detach_if_unused(attachment);
    }
    registry_unlock();
    return 0;
}

SHARENA_API int sharena_unlink(const char *path) {
    struct heap_file file;
    struct superblock superblock;
    enum file_state state = FILE_EMPTY;
    int made;
    int error = init_once();
    if (error == 0 && path == NULL) {
        error = error_set(EINVAL, "the path argument of sharena_unlink() is NULL");
    }
    if (error == 0) {
        error = file_open_path(path, 0, 0, 0, 0, &file, &made);
    }
    if (error != 0) {
        return error;
    }
    int lock = file_lock_open(&file);
    error = lock < 0 ? errno : superblock_read(&file, &state, &superblock);
    if (error == 0 && state == FILE_EMPTY) {
        error = error_set(EUCLEAN, "%s is not a heap: it is empty", path);
    }
    if (error == 0 && state == FILE_HEAP && token_anyone_attached(&file)) {
        error = error_set(EBUSY, "%s is in use: it can be removed when all have closed it", path);
    }
    if (error == 0 && unlink(path) != 0) {
        error = error_set(errno, "cannot remove %s: %s", path, strerror(errno));
    }
    if (lock >= 0) {
        file_unlock_open(lock);
    }
    file_close(&file);
    return error;
}

/* ---- threads ---- */

struct attachment *heap_attachment(const sharena_t *heap) {
    struct attachment *attachment = registry_find(heap);
    if (attachment == NULL || !registry_is_open(attachment)) {
        return error_null(EINVAL, "%p is not an attached heap", (const void *)heap);
    }
    return attachment;
}

static struct thread_slot *take_slot(struct attachment *attachment) {
    struct thread_slot *slot = slot_take(attachment);
    if (slot == NULL && errno == EUSERS && reap_dead(attachment) != 0) {
        slot = slot_take(attachment);
    }
    return slot;
}

static COLD struct thread_slot *attach_thread(sharena_t *heap) {
    struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return NULL;
    }
    if (attachment->mapping.is_readonly) {
        return error_null(EROFS, "%s is attached read-only", attachment->file.title);
    }
    int error = forking_register(attachment);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    struct thread_slot *slot = take_slot(attachment);
    if (slot == NULL) {
        return NULL;
    }
    tcache_open(heap, slot, &attachment->conf);
    error = arena_choose(heap, slot, heap_narenas(&attachment->conf));
    if (error == 0) {
        error = thread_add_slot(heap, slot);
    }
    if (error != 0) {
        leave(attachment, slot);
        errno = error;
        return NULL;
    }
    return slot;
}

static void set_hint(sharena_t *heap, struct thread_slot *slot) {
    const struct heap_state *state = heap_state(heap);
    struct thread_record *record = thread_record;
    record->hint_heap = heap;
    record->hint_tcache = slot_tcache(slot);
    record->data_begin = state->data_begin;
    record->data_bytes = shared_get(&state->data_bytes);
    record->data_page_map = (const shared_u16 *)(uintptr_t)state->data_page_map;
}

struct thread_slot *heap_enter(sharena_t *heap) {
    forking_notice_child();
    struct thread_slot *slot = thread_find_slot(heap);
    if (slot == NULL && (slot = attach_thread(heap)) == NULL) {
        return NULL;
    }
    struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return NULL;
    }
    reap_if_wanted(attachment);
    set_hint(heap, slot);
    return slot;
}

void heap_purge(sharena_t *heap, struct thread_slot *self) {
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        (void)reap_dead(attachment);
    }
    tcache_flush(heap, self);
    uint32_t made = shared_get(&heap_pool(heap)->arenas_made);
    for (uint32_t i = 0; i < made; i++) {
        arena_purge(heap, self, i);
    }
    pool_purge(heap, self);
}
