/* heap.c -- who uses a heap: processes open and close it, threads enter it.
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
 * Killed: see attach.c for processes, reap.c for threads
 * Not here: making, recovering and mapping the file (attach.c).
 */
#include "heap/heap.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap/arena.h"
#include "heap/attach.h"
#include "heap/background.h"
#include "heap/chunk.h"
#include "heap/prof.h"
#include "heap/purge.h"
#include "heap/quarantine.h"
#include "heap/reap.h"
#include "heap/stats.h"
#include "heap/tcache.h"
#include "ipc/cancel.h"
#include "ipc/errors.h"
#include "ipc/forking.h"
#include "ipc/lock.h"
#include "ipc/slot.h"

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
                              sizeof(struct module),
                              sizeof(struct sample),
                              sizeof(struct quarantine),
                              QUARANTINE_ENTRIES,
                              QUARANTINES_OFFSET,
                              offsetof(struct run, bitmap),
                              offsetof(struct tcache, storage),
                              GROWN_BYTES,
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
static void before_growth(sharena_t *heap);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_error;

static void init_process(void) {
    once_error = mapping_check_kernel();
    if (once_error == 0) {
        sizeclass_init();
        superblock_expect(heap_fingerprint());
        thread_exit_hook = at_thread_exit;
        slot_dead_hook = reap_mark_locks;
        pool_growth_hook = before_growth;
        once_error = thread_init();
    }
    if (once_error == 0 && atexit(stats_at_exit) != 0) {
        once_error = error_set(ENOMEM, "no room for what is done at exit");
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

/* ---- open ---- */

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

/* The heap is not attached in this process yet. */
static int open_first(struct heap_file *file, const struct sharena_options *options,
                      const struct conf *conf, int made, struct attachment **opened) {
    struct attachment *attachment = registry_reserve();
    if (attachment == NULL) {
        int error =
            error_set(EMFILE, "%u heaps are attached to this process; close one first", HEAPS_MAX);
        if (made) {
            attach_discard(file);
        }
        file_close(file);
        return error;
    }
    attachment->file = *file;
    attachment->conf = *conf;
    prof_init(attachment);
    int error = attach_file(attachment, options, made);
    if (error != 0) {
        file_close(&attachment->file);
        registry_cancel(attachment);
        return error;
    }
    __atomic_store_n(&attachment->opens, 1, __ATOMIC_RELAXED);
    registry_publish(attachment);
    /* Not here: what the dead owned is followed by those who trust the heap, or have checked it. */
    __atomic_store_n(&attachment->reap_wanted, 1, __ATOMIC_RELAXED);
    *opened = attachment;
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
    } else {
        error = open_first(file, options, conf, made, &attachment);
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

static int open_path(const char *path, const struct sharena_options *given, sharena_t **heap) {
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

SHARENA_API int sharena_open(const char *path, const struct sharena_options *given,
                             sharena_t **heap) {
    int cancel_state = cancel_forbid();
    int error = open_path(path, given, heap);
    cancel_restore(cancel_state);
    return error;
}

static int open_fd(int fd, const struct sharena_options *given, sharena_t **heap) {
    struct sharena_options options;
    struct conf conf;
    struct heap_file file;
    int error = prepare_open(given, &options, &conf, heap);
    if (error == 0) {
        error = file_open_fd(fd, (options.flags & SHARENA_READONLY) != 0, &file);
    }
    return error == 0 ? open_file(&file, &options, &conf, 0, heap) : error;
}

SHARENA_API int sharena_open_fd(int fd, const struct sharena_options *given, sharena_t **heap) {
    int cancel_state = cancel_forbid();
    int error = open_fd(fd, given, heap);
    cancel_restore(cancel_state);
    return error;
}

/* ---- close ---- */

/* The end of a slot of this thread. */
static void leave(sharena_t *heap, struct thread_slot *slot) {
    reap_empty(heap, slot);
    purge_after_free(heap, slot);
    slot_give_back(slot);
}

/* A mutex that a living thread holds must not be unmapped under it. */
static void detach_if_unused(struct attachment *attachment) {
    if (!registry_is_open(attachment) && !background_exists(attachment) &&
        slot_count_held_by_us(attachment) == 0) {
        attach_undo(attachment);
    }
}

static void at_thread_exit(sharena_t *heap, struct thread_slot *slot) {
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        registry_lock(); /* sharena_close() visits the slots of threads that have not ended */
        leave(heap, slot);
        thread_forget_heap(heap);
        detach_if_unused(attachment);
        registry_unlock();
    }
}

static void flush_other(struct thread_slot *slot) {
    sharena_t *heap = slot_heap(slot);
    const struct attachment *attachment = registry_find(heap);
    /* A thread that ended by a raw system call left its record; its slot may be another's now. */
    if (attachment != NULL && slot_is_held_by_us(attachment, slot)) {
        quarantine_drain(heap, slot);
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
    if (__atomic_load_n(&attachment->opens, __ATOMIC_RELAXED) == 1) {
        stats_at_close(attachment);
    }
    if (__atomic_sub_fetch(&attachment->opens, 1, __ATOMIC_RELAXED) == 0 &&
        background_end(attachment)) {
        struct thread_slot *slot = thread_find_slot(heap);
        if (slot != NULL) {
            leave(heap, slot);
            thread_forget_heap(heap);
        }
        thread_visit_others(heap, flush_other);
        if (slot_count_held_by_us(attachment) != 0) {
            (void)reap_dead(attachment); /* threads that ended without their destructors */
        }
        detach_if_unused(attachment);
    }
    registry_unlock();
    return 0;
}

/* Under the open lock. ESTALE: the name leads to another file by now, which is not ours to remove.
 * */
static int remove_name(const struct heap_file *file) {
    struct superblock superblock;
    enum file_state state = FILE_EMPTY;
    if (!file_is_linked(file)) {
        return ESTALE;
    }
    int error = superblock_read(file, &state, &superblock);
    if (error == 0 && state == FILE_EMPTY) {
        error = error_set(EUCLEAN, "%s is not a heap: it is empty", file->title);
    }
    if (error == 0 && state == FILE_HEAP && token_anyone_attached(file)) {
        error = error_set(EBUSY, "%s is in use: it can be removed when all have closed it",
                          file->title);
    }
    if (error == 0 && unlink(file->name) != 0) {
        error = error_set(errno, "cannot remove %s: %s", file->title, strerror(errno));
    }
    return error;
}

static int unlink_path(const char *path) {
    int error = init_once();
    if (error == 0 && path == NULL) {
        error = error_set(EINVAL, "the path argument of sharena_unlink() is NULL");
    }
    if (error != 0) {
        return error;
    }
    do {
        struct heap_file file;
        int made;
        error = file_open_path(path, 0, 0, 0, 0, &file, &made);
        if (error != 0) {
            return error;
        }
        int lock = file_lock_open(&file);
        error = lock < 0 ? errno : remove_name(&file);
        if (lock >= 0) {
            file_unlock_open(lock);
        }
        file_close(&file);
    } while (error == ESTALE);
    return error;
}

SHARENA_API int sharena_unlink(const char *path) {
    int cancel_state = cancel_forbid();
    int error = unlink_path(path);
    cancel_restore(cancel_state);
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
    struct thread_slot *slot = slot_take(attachment);
    if (slot == NULL) {
        return NULL;
    }
    tcache_open(heap, slot, &attachment->conf);
    quarantine_open(heap, slot, &attachment->conf);
    error = arena_choose(heap, slot, heap_narenas(&attachment->conf));
    if (error == 0) {
        error = thread_add_slot(heap, slot);
    }
    if (error != 0) {
        leave(heap, slot);
        errno = error;
        return NULL;
    }
    return slot;
}

/* Where each call is watched, the hint is that of no heap; frees have theirs nevertheless where
 * only what is allocated is counted. */
static void set_hint(const struct attachment *attachment, sharena_t *heap,
                     struct thread_slot *slot) {
    const struct heap_state *state = heap_state(heap);
    struct thread_record *record = thread_record;
    int is_watching = conf_is_watching(&attachment->conf);
    int is_counting = conf_is_counting(&attachment->conf);
    record->hint_heap = is_watching ? HINT_NONE : heap;
    record->counted = is_counting ? attachment : NULL;
    if (is_watching && !is_counting) {
        record->data_bytes = 0;
        return;
    }
    record->hint_tcache = slot_tcache(slot);
    record->data_begin = state->data_begin;
    record->data_bytes = shared_get(&state->data_bytes);
    record->data_page_map = (const shared_u16 *)(uintptr_t)state->data_page_map;
}

struct thread_slot *heap_join(sharena_t *heap) {
    forking_notice_child();
    struct thread_slot *slot = thread_find_slot(heap);
    if (slot == NULL && (slot = attach_thread(heap)) == NULL) {
        return NULL;
    }
    const struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return NULL;
    }
    set_hint(attachment, heap, slot);
    return slot;
}

/* What the dead held may be what is needed. */
static void before_growth(sharena_t *heap) {
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        (void)reap_look(attachment);
    }
}

struct thread_slot *heap_enter(sharena_t *heap) {
    struct thread_slot *slot = heap_join(heap);
    struct attachment *attachment = registry_find(heap);
    if (slot == NULL && errno == EUSERS && attachment != NULL && attachment->token.page != NULL) {
        (void)reap_dead(attachment); /* if another process was faster, there is a slot as well */
        slot = heap_join(heap);
    }
    if (slot != NULL) {
        reap_tick(attachment);
        purge_tick(attachment, slot);
        background_tick(attachment);
    }
    return slot;
}

void heap_purge(sharena_t *heap, struct thread_slot *self) {
    struct attachment *attachment = registry_find(heap);
    if (attachment != NULL) {
        (void)reap_dead(attachment);
    }
    quarantine_drain(heap, self);
    tcache_flush(heap, self);
    tcache_shrink(heap, self);
    uint32_t made = shared_get(&heap_pool(heap)->arenas_made);
    for (uint32_t i = 0; i < made; i++) {
        arena_purge(heap, self, i);
    }
    pool_purge(heap, self);
}
