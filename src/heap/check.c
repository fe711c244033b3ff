/* check.c -- sharena_check: proves the ownership rule for the whole heap.
 *
 * All locks are taken, bins first, so no page changes its owner and no region leaves or enters a
 * bin. Threads go on popping and pushing meanwhile.
 *
 * Holds:  between lock_all and unlock_all nothing that the walk reads changes, but for the caches
 * Lock:   all, in one order: bins, arenas, pool, names
 * Killed: the locks say so to the next; there is nothing to undo
 * Not here: chunks, runs and arenas (audit.c), what threads and roots own (audit_slots.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/audit.h"
#include "heap/audit_counts.h"
#include "heap/audit_prof.h"
#include "heap/audit_slots.h"
#include "heap/chunk.h"
#include "heap/heap.h"
#include "heap/reap.h"
#include "ipc/errors.h"
#include "ipc/lock.h"

/* ---- locks ---- */

/* The one place that holds several locks of a rank; their order is fixed. */
static void take(sharena_t *heap, struct thread_slot *self, struct shared_lock *lock) {
    shared_store(&self->held_rank, RANK_NONE);
    lock_acquire(heap, self, lock);
}

static void lock_all(sharena_t *heap, struct thread_slot *self, uint32_t arenas) {
    for (uint32_t i = 0; i < arenas; i++) {
        for (uint32_t j = 0; j < SIZE_CLASSES_SMALL; j++) {
            take(heap, self, &heap_arena(heap, i)->bins[j].lock);
        }
    }
    for (uint32_t i = 0; i < arenas; i++) {
        take(heap, self, &heap_arena(heap, i)->lock);
    }
    take(heap, self, &heap_pool(heap)->lock);
    take(heap, self, &heap_roots(heap)->lock);
}

static void unlock_all(sharena_t *heap, struct thread_slot *self, uint32_t arenas) {
    lock_release(heap, self, &heap_roots(heap)->lock);
    lock_release(heap, self, &heap_pool(heap)->lock);
    for (uint32_t i = arenas; i-- > 0;) {
        lock_release(heap, self, &heap_arena(heap, i)->lock);
    }
    for (uint32_t i = arenas; i-- > 0;) {
        for (uint32_t j = SIZE_CLASSES_SMALL; j-- > 0;) {
            lock_release(heap, self, &heap_arena(heap, i)->bins[j].lock);
        }
    }
}

/* Locks all arenas that exist; their number, or UINT32_MAX if the marks have become too few for the
 * heap or an arena was made meanwhile. */
static uint32_t try_lock_heap(sharena_t *heap, struct thread_slot *self, uint64_t marks_bytes) {
    uint32_t arenas = shared_get(&heap_pool(heap)->arenas_made);
    lock_all(heap, self, arenas);
    if (shared_get(&heap_pool(heap)->arenas_made) == arenas &&
        shared_get(&heap_state(heap)->data_bytes) / 64 <= marks_bytes) {
        return arenas;
    }
    unlock_all(heap, self, arenas);
    return UINT32_MAX;
}

/* ---- the whole ---- */

static void audit_sums(struct audit *audit) {
    struct sharena_report *report = audit->report;
    uint64_t books = shared_get(&heap_state(audit->heap)->backed_pages);
    report->pages_backed = audit->backed_pages;
    report->blocks_live -= report->blocks_cached;
    report->bytes_live -= report->bytes_cached;
    uint64_t found = audit->backed_pages + pool_table_pages(audit->heap);
    if (found != books) {
        audit_finding(audit, "backed pages: %llu by the walk, %llu by the count",
                      (unsigned long long)found, (unsigned long long)books);
    }
    if (audit->hands != audit->hand_runs + audit->hand_spans) {
        audit_finding(audit, "%u runs and spans are in transit, but %u hands carry one",
                      audit->hand_runs + audit->hand_spans, audit->hands);
    }
}

/* The numbers that say how much there is to walk over. They only grow, so no lock is needed. */
static void audit_bounds(struct audit *audit) {
    const struct superblock *superblock = heap_superblock(audit->heap);
    const struct heap_state *state = heap_state(audit->heap);
    uint64_t bytes = shared_get(&state->data_bytes);
    uint32_t arenas = shared_get(&heap_pool(audit->heap)->arenas_made);
    uint32_t threads = shared_get(&state->threads_high);
    if (bytes > superblock->total_bytes - superblock->data_offset || bytes % CHUNK_BYTES != 0) {
        audit_finding(audit, "%llu bytes of user data cannot be", (unsigned long long)bytes);
    }
    if (arenas > ARENAS_MAX) {
        audit_finding(audit, "%u arenas cannot be, at most %u", arenas, ARENAS_MAX);
    }
    if (threads > THREADS_MAX) {
        audit_finding(audit, "%u thread slots cannot be, at most %u", threads, THREADS_MAX);
    }
}

static void audit_heap(struct audit *audit, const struct thread_slot *self) {
    audit_chunks(audit);
    if (audit->report->findings == 0) { /* what follows walks what the chunks say */
        audit_arenas(audit);
        audit_counts(audit);
        audit_slots(audit, self);
        audit_samples(audit);
        audit_roots(audit);
        audit_sums(audit);
    }
}

/* Room for twice the heap that there is, so that it may grow until all is locked. */
static uint64_t wanted_marks(const sharena_t *heap) {
    return round_up(shared_get(&heap_state(heap)->data_bytes) / 32 + PAGE_BYTES, PAGE_BYTES);
}

static int check_once(sharena_t *heap, struct thread_slot *self, struct sharena_report *report,
                      int *is_done) {
    uint64_t bytes = wanted_marks(heap);
    void *marks = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (marks == MAP_FAILED) {
        return error_set(ENOMEM, "no %llu bytes of private memory for a check",
                         (unsigned long long)bytes);
    }
    uint32_t arenas = try_lock_heap(heap, self, bytes);
    *is_done = arenas != UINT32_MAX;
    if (*is_done) {
        struct audit audit = {.heap = heap, .report = report, .arenas = arenas, .marks = marks};
        audit_heap(&audit, self);
        unlock_all(heap, self, arenas);
    }
    (void)munmap(marks, bytes);
    return 0;
}

/* Within its bounds. Open sections of the dead in their own slots are undone first; what looks
 * wrong then may be that of a thread that has died since. */
static int check_walk(sharena_t *heap, struct thread_slot *self, struct sharena_report *report) {
    int error;
    (void)reap_undo(heap_attachment(heap));
    do {
        int is_done = 0;
        error = 0;
        memset(report, 0, sizeof(*report));
        while (error == 0 && !is_done) {
            error = check_once(heap, self, report, &is_done);
        }
    } while (error == 0 && report->findings != 0 && reap_undo(heap_attachment(heap)) != 0);
    return error;
}

static int check_all(sharena_t *heap, struct thread_slot *self, struct sharena_report *report) {
    struct audit bounds = {.heap = heap, .report = report};
    audit_bounds(&bounds);
    int error = report->findings == 0 ? check_walk(heap, self, report) : 0;
    if (error == 0 && report->findings == 0 && reap_dead(heap_attachment(heap)) != 0) {
        error = check_walk(heap, self, report); /* what the dead owned is where it belongs */
    }
    return error;
}

/* What the dead left is looked at before it is followed: only a clean heap is reaped. */
SHARENA_API int sharena_check(sharena_t *heap, struct sharena_report *given) {
    struct sharena_report own = {0};
    struct sharena_report *report = given != NULL ? given : &own;
    memset(report, 0, sizeof(*report));
    struct thread_slot *self = heap_join(heap);
    if (self == NULL) {
        return errno;
    }
    int error = check_all(heap, self, report);
    if (error == 0 && report->findings != 0) {
        error = error_set(EUCLEAN, "%llu broken rules in the heap %p, the first: %s",
                          (unsigned long long)report->findings, (void *)heap, report->messages[0]);
    }
    return error;
}
