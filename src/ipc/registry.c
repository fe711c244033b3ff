/* registry.c -- the heaps that this process has attached, under liburcu.
 *
 * Holds:  a published entry has mapping.base != NULL and is in the list exactly once
 * Lock:   registry mutex for every change; readers take only the RCU read lock
 * Killed: private memory; nothing shared is touched
 * Not here: what attaching means (heap/heap.c).
 */
#include "ipc/registry.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <urcu-bp.h>
#include <urcu/rculist.h>

#include "ipc/cancel.h"
#include "ipc/check.h"

struct node {
    struct attachment attachment; /* first: a node is found from its attachment by a cast */
    struct cds_list_head link;
};

static struct node nodes[HEAPS_MAX];
/* Apart from the nodes, which are a page each or more: a fork's child looks at all of these. */
static enum { UNUSED, RESERVED, PUBLISHED } states[HEAPS_MAX];
static CDS_LIST_HEAD(heaps);
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int cancel_state; /* of the thread that holds it, from before */

static struct node *node_of(struct attachment *attachment) {
    return (struct node *)(void *)attachment;
}

static size_t index_of(struct attachment *attachment) {
    return (size_t)(node_of(attachment) - nodes);
}

void registry_lock(void) {
    int state = cancel_forbid();
    CHECK(pthread_mutex_lock(&mutex) == 0);
    cancel_state = state;
}

void registry_unlock(void) {
    int state = cancel_state;
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    cancel_restore(state);
}

struct attachment *registry_reserve(void) {
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (states[i] == UNUSED) {
            memset(&nodes[i], 0, sizeof(nodes[i]));
            states[i] = RESERVED;
            nodes[i].attachment.file.fd = -1;
            return &nodes[i].attachment;
        }
    }
    return NULL;
}

void registry_publish(struct attachment *attachment) {
    states[index_of(attachment)] = PUBLISHED;
    cds_list_add_rcu(&node_of(attachment)->link, &heaps);
}

void registry_remove(struct attachment *attachment) {
    states[index_of(attachment)] = RESERVED;
    cds_list_del_rcu(&node_of(attachment)->link);
    urcu_bp_synchronize_rcu();
    states[index_of(attachment)] = UNUSED;
}

void registry_cancel(struct attachment *attachment) {
    states[index_of(attachment)] = UNUSED;
}

struct attachment *registry_entry(uint32_t index) {
    return index < HEAPS_MAX && states[index] == PUBLISHED ? &nodes[index].attachment : NULL;
}

struct attachment *registry_find(const sharena_t *heap) {
    struct attachment *found = NULL;
    struct node *node;
    urcu_bp_read_lock();
    cds_list_for_each_entry_rcu(node, &heaps, link) {
        if (node->attachment.mapping.base == heap) {
            found = &node->attachment;
            break;
        }
    }
    urcu_bp_read_unlock();
    return found;
}

static int holds(const struct attachment *attachment, const void *ptr) {
    const struct heap_mapping *mapping = &attachment->mapping;
    return (uintptr_t)ptr - (uintptr_t)mapping->base < mapping->total_bytes;
}

struct attachment *registry_find_address(const void *ptr) {
    struct attachment *found = NULL;
    struct node *node;
    urcu_bp_read_lock();
    cds_list_for_each_entry_rcu(node, &heaps, link) {
        if (holds(&node->attachment, ptr)) {
            found = &node->attachment;
            break;
        }
    }
    urcu_bp_read_unlock();
    return found;
}

sharena_t *registry_heap_of(const void *ptr) {
    sharena_t *heap = NULL;
    struct node *node;
    urcu_bp_read_lock();
    cds_list_for_each_entry_rcu(node, &heaps, link) {
        if (registry_is_open(&node->attachment) && holds(&node->attachment, ptr)) {
            heap = node->attachment.mapping.base;
            break;
        }
    }
    urcu_bp_read_unlock();
    return heap;
}

struct attachment *registry_find_file(const struct heap_file *file) {
    struct attachment *found = NULL;
    struct node *node;
    urcu_bp_read_lock();
    cds_list_for_each_entry_rcu(node, &heaps, link) {
        const struct heap_file *other = &node->attachment.file;
        if (other->device == file->device && other->inode == file->inode) {
            found = &node->attachment;
            break;
        }
    }
    urcu_bp_read_unlock();
    return found;
}

void registry_before_fork(void) {
    registry_lock();
    urcu_bp_before_fork();
}

void registry_after_fork_parent(void) {
    urcu_bp_after_fork_parent();
    registry_unlock();
}

void registry_after_fork_child(void) {
    urcu_bp_after_fork_child(); /* releases its locks, and the signal mask that it had set */
    (void)pthread_mutex_init(&mutex, NULL);
    cancel_restore(cancel_state);
}

/* Another thread may have held these locks when the memory was copied: they are released whether
 * held or not. What is restored of the signal mask and the like is of no fork of ours, so ours is
 * kept. */
void registry_after_bare_fork(void) {
    sigset_t mask;
    int state = cancel_forbid();
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    registry_after_fork_child();
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    cancel_restore(state);
}
