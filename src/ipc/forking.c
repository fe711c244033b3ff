/* forking.c -- fork handlers, and their substitute in children that ran none.
 *
 * Holds:  in a child, no attachment claims a token or thread slots of the parent
 * Lock:   registry lock; the heap's open lock while registering
 * Killed: a child that dies half-registered holds no token: it never was
 * Not here: thread records (thread.c), liburcu (registry.c).
 */
#include "ipc/forking.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "ipc/check.h"
#include "ipc/errors.h"
#include "ipc/slot.h"
#include "ipc/thread.h"

int forking_register(struct attachment *attachment) {
    int error = 0;
    registry_lock();
    if (attachment->token.page == NULL) {
        int lock = file_lock_open(&attachment->file);
        if (lock < 0) {
            error = errno;
        } else {
            error = slot_register_process(attachment);
            file_unlock_open(lock);
        }
    }
    registry_unlock();
    return error;
}

/* A heap that cannot be registered now (no descriptor left, table full) is registered, or refused
 * with the reason, when it is first used. */
static void join_heap(struct attachment *attachment) {
    attachment->token.page = NULL;
    attachment->reap_wanted = 0;
    attachment->background = BACKGROUND_NONE; /* that thread is the parent's */
    int error = attachment->mapping.is_readonly
                    ? token_take_reader(&attachment->file, &attachment->token)
                    : forking_register(attachment);
    (void)error;
}

/* A heap that the parent closed, and that lingers for threads that are not in this child. */
static void drop_heap(struct attachment *attachment) {
    registry_remove(attachment);
    mapping_unmake(&attachment->mapping);
    file_close(&attachment->file);
}

static void join_all(void) {
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        struct attachment *attachment = registry_entry(i);
        if (attachment != NULL && !registry_is_open(attachment)) {
            drop_heap(attachment);
        } else if (attachment != NULL) {
            join_heap(attachment);
        }
    }
}

static void after_fork_child(void) {
    thread_after_fork();
    registry_after_fork_child();
    join_all();
}

static void before_fork(void) {
    registry_before_fork();
    thread_before_fork();
}

static void after_fork_parent(void) {
    thread_after_fork_parent();
    registry_after_fork_parent();
}

int forking_init(void) {
    int error = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    return error == 0 ? 0 : error_set(error, "pthread_atfork failed: no memory");
}

void forking_notice_child(void) {
    if (UNLIKELY(thread_process_is_new())) {
        thread_after_fork();
        registry_after_bare_fork();
        join_all();
    }
}
