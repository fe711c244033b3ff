/* roots.c -- names for objects, found by every process.
 *
 *     FREE --root_set--> SET --root_set(NULL)--> FREE
 *     FREE --root_create--> MAKING --init returned 0--> SET
 *                           MAKING --init failed, or its maker died--> (block freed) FREE, or made
 *                           anew
 *
 * Holds:  entries below `high` were used; at most one entry that is not FREE has a name
 *         MAKING: `block` is NULL or the application's, published there by alloc_block_to
 * Lock:   table->lock (rank NAMES) for names, states, objects; root->lock (rank ROOT, outermost) is
 *         held while an object is being made, across init(). At most 14 journal entries
 * Killed: setting: undone or done. A maker: its root->lock says so to the next, who reaps it, which
 *         decides malloc_to, frees the block and begins anew
 * Not here: what the objects are.
 */
#include "heap/roots.h"

#include <errno.h>
#include <string.h>

#include "heap/alloc.h"
#include "heap/heap.h"
#include "heap/reap.h"
#include "ipc/errors.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

void roots_init_locks(sharena_t *heap) {
    struct root_table *table = heap_roots(heap);
    lock_init(&table->lock, RANK_NAMES);
    for (uint32_t i = 0; i < SHARENA_ROOTS_MAX; i++) {
        lock_init(&table->roots[i].lock, RANK_ROOT);
    }
}

static int check_name(const char *name) {
    size_t length = name != NULL ? strnlen(name, SHARENA_ROOT_NAME_MAX + 1) : 0;
    if (length == 0) {
        return error_set(EINVAL, "the name of a root is empty");
    }
    if (length > SHARENA_ROOT_NAME_MAX) {
        return error_set(ENAMETOOLONG, "the name of a root has more than %d bytes: %.20s...",
                         SHARENA_ROOT_NAME_MAX, name);
    }
    return 0;
}

/* Under the table's lock: the entry with that name, or NULL; *unused: an entry that is free, or
 * NULL. */
static struct root *find(struct root_table *table, const char *name, struct root **unused) {
    uint32_t high = shared_get(&table->high);
    *unused = high < SHARENA_ROOTS_MAX ? &table->roots[high] : NULL;
    for (uint32_t i = high; i-- > 0;) {
        struct root *root = &table->roots[i];
        if (shared_get(&root->state) == ROOT_FREE) {
            *unused = root;
        } else if (strncmp(root->name, name, sizeof(root->name)) == 0) {
            return root;
        }
    }
    return NULL;
}

/* Section: gives an unused entry its name and state. The name of a free entry means nothing, so it
 * is written plainly. */
static void name_entry(struct thread_slot *self, struct root_table *table, struct root *root,
                       const char *name, enum root_state state) {
    uint32_t index = (uint32_t)(root - table->roots);
    memset(root->name, 0, sizeof(root->name));
    memcpy(root->name, name, strlen(name));
    FAULT_POINT();
    shared_order();
    if (index >= shared_get(&table->high)) {
        journal_set(self, &table->high, index + 1);
    }
    journal_set(self, &root->object, NULL);
    journal_set(self, &root->block, NULL);
    journal_set(self, &root->state, (uint32_t)state);
}

static int no_room(void) {
    return error_set(ENOSPC,
                     "all %d roots of the heap are in use: remove one with "
                     "sharena_root_set(heap, name, NULL)",
                     SHARENA_ROOTS_MAX);
}

/* Section of sharena_root_set. */
static int set(struct thread_slot *self, struct root_table *table, const char *name, void *ptr) {
    struct root *unused;
    struct root *root = find(table, name, &unused);
    if (root != NULL && shared_get(&root->state) == ROOT_MAKING) {
        return error_set(EBUSY, "the root %s is being made by sharena_root_create()", name);
    }
    if (ptr == NULL) {
        if (root != NULL) {
            journal_set(self, &root->state, ROOT_FREE);
        }
        return 0;
    }
    if (root == NULL && unused == NULL) {
        return no_room();
    }
    if (root == NULL) {
        root = unused;
        name_entry(self, table, root, name, ROOT_SET);
    }
    journal_set(self, &root->object, ptr);
    return 0;
}

SHARENA_API int sharena_root_set(sharena_t *heap, const char *name, void *ptr) {
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return errno;
    }
    int error = check_name(name);
    if (error == 0 && ptr != NULL && !is_user_data(heap, ptr)) {
        error = error_set(EINVAL, "the root %s cannot name %p, which is not in the heap %p", name,
                          ptr, (void *)heap);
    }
    if (error == 0) {
        struct root_table *table = heap_roots(heap);
        lock_acquire(heap, self, &table->lock);
        error = set(self, table, name, ptr);
        journal_commit(self);
        lock_release(heap, self, &table->lock);
    }
    return error;
}

/* A read-only attach takes no lock: it sees an entry as it is at that moment. */
SHARENA_API void *sharena_root_get(sharena_t *heap, const char *name) {
    struct attachment *attachment = heap_attachment(heap);
    int error = check_name(name);
    if (attachment == NULL) {
        return NULL;
    }
    if (error != 0) {
        errno = error;
        return NULL;
    }
    struct thread_slot *self = NULL;
    if (!attachment->mapping.is_readonly && (self = heap_enter(heap)) == NULL) {
        return NULL;
    }
    struct root_table *table = heap_roots(heap);
    struct root *unused;
    if (self != NULL) {
        lock_acquire(heap, self, &table->lock);
    }
    const struct root *root = find(table, name, &unused);
    void *object =
        root != NULL && shared_get(&root->state) == ROOT_SET ? shared_get(&root->object) : NULL;
    if (self != NULL) {
        lock_release(heap, self, &table->lock);
    }
    return object != NULL ? object : error_null(ENOENT, "there is no root %s in this heap", name);
}

/* ---- make exactly once ---- */

/* Finds the entry, or claims one to be made. */
static struct root *claim(sharena_t *heap, struct thread_slot *self, const char *name) {
    struct root_table *table = heap_roots(heap);
    struct root *unused;
    lock_acquire(heap, self, &table->lock);
    struct root *root = find(table, name, &unused);
    if (root == NULL && unused != NULL) {
        root = unused;
        name_entry(self, table, root, name, ROOT_MAKING);
    }
    journal_commit(self);
    lock_release(heap, self, &table->lock);
    if (root == NULL) {
        errno = no_room();
    }
    return root;
}

/* Ends the making: with an object (SET), or without (FREE). `block` leaves the entry in the same
 * step. */
static void settle(sharena_t *heap, struct thread_slot *self, struct root *root, void *object) {
    struct root_table *table = heap_roots(heap);
    lock_acquire(heap, self, &table->lock);
    journal_set(self, &root->object, object);
    journal_set(self, &root->block, NULL);
    journal_set(self, &root->state, object != NULL ? ROOT_SET : ROOT_FREE);
    journal_commit(self);
    lock_release(heap, self, &table->lock);
}

static void **block_of(struct root *root) {
    return &root->block.value_; /* changed by the recoverable step of publish.h */
}

struct maker {
    size_t size;
    int (*init)(void *ptr, void *arg);
    void *arg;
};

/* Under root->lock, in state MAKING: makes the object, or returns an errno value. */
static int make(sharena_t *heap, struct thread_slot *self, struct root *root,
                const struct maker *maker) {
    const struct request request = {.size = maker->size, .alignment = 1, .use_cache = 1};
    if (shared_get(&root->block) != NULL) { /* of a maker that died */
        (void)alloc_free_from(heap, self, block_of(root));
    }
    int error = alloc_block_to(heap, self, &request, block_of(root));
    void *block = shared_get(&root->block);
    if (error == 0) {
        memset(block, 0, maker->size);
        error = maker->init != NULL ? maker->init(block, maker->arg) : 0;
        if (error != 0) {
            error = error_set(error, "the init function of a root returned %d", error);
            (void)alloc_free_from(heap, self, block_of(root));
        }
    }
    settle(heap, self, root, error == 0 ? block : NULL);
    return error;
}

static int is_named(sharena_t *heap, struct thread_slot *self, const struct root *root,
                    const char *name, uint32_t *state, void **object) {
    struct root_table *table = heap_roots(heap);
    lock_acquire(heap, self, &table->lock);
    *state = shared_get(&root->state);
    *object = shared_get(&root->object);
    int same = *state != ROOT_FREE && strncmp(root->name, name, sizeof(root->name)) == 0;
    lock_release(heap, self, &table->lock);
    return same;
}

/* Whether the calling thread is making that root. The lock of a dead maker may name the slot that
 * is the caller's by now, so the mutex must say so as well. */
static int is_maker(const struct thread_slot *self, const struct root *root) {
    return lock_is_held(self, &root->lock) &&
           robust_mutex_tid(&root->lock.mutex) == robust_mutex_tid(&self->token);
}

SHARENA_API void *sharena_root_create(sharena_t *heap, const char *name, size_t size,
                                      int (*init)(void *ptr, void *arg), void *arg) {
    const struct maker maker = {size, init, arg};
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return NULL;
    }
    int error = check_name(name);
    void *object = NULL;
    while (error == 0 && object == NULL) {
        struct root *root = claim(heap, self, name);
        if (root == NULL) {
            return NULL;
        }
        if (is_maker(self, root)) {
            return error_null(EDEADLK, "the root %s is created by its own init function", name);
        }
        lock_acquire(heap, self, &root->lock);
        uint32_t state;
        if (is_named(heap, self, root, name, &state, &object) && state == ROOT_MAKING) {
            (void)reap_settled(
                heap_attachment(heap)); /* a maker that died: its step is decided first */
            error = make(heap, self, root, &maker);
            object = shared_get(&root->object);
        }
        journal_begin(self, heap_offset(heap, &root->lock));
        lock_release(heap, self, &root->lock);
    }
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return object;
}

SHARENA_API int sharena_root_foreach(sharena_t *heap,
                                     int (*visit)(const char *name, void *ptr, void *arg),
                                     void *arg) {
    struct attachment *attachment = heap_attachment(heap);
    struct root_table *table = heap_roots(heap);
    int result = 0;
    if (attachment == NULL) {
        return errno;
    }
    for (uint32_t i = 0; i < shared_get(&table->high) && result == 0; i++) {
        struct thread_slot *self = attachment->mapping.is_readonly ? NULL : heap_enter(heap);
        char name[SHARENA_ROOT_NAME_MAX + 1];
        if (self != NULL) {
            lock_acquire(heap, self, &table->lock);
        }
        const struct root *root = &table->roots[i];
        memcpy(name, root->name, sizeof(name));
        name[SHARENA_ROOT_NAME_MAX] = '\0';
        void *object = shared_get(&root->state) == ROOT_SET ? shared_get(&root->object) : NULL;
        if (self != NULL) {
            lock_release(heap, self, &table->lock);
        }
        if (object != NULL) {
            result = visit(name, object, arg);
        }
    }
    return result;
}
