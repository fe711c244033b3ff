/* purge.c -- who gives free memory back, and when: whoever comes by, a little of it each time.
 *
 * The books (decay.h) are in the file, so that any process goes on where another one stopped: the
 * memory of an arena whose threads are idle, or gone, decays as long as anybody uses the heap.
 *
 * Holds:  nothing of its own
 * Lock:   none held on entry or return; that of the space for an epoch: some microseconds
 * Killed: see decay.c, and arena.c for pages on their way
 * Not here: how much is due (decay.c), how it goes (arena.c, chunk.c), all of it (heap.c).
 */
#include "heap/purge.h"

#include <errno.h>
#include <time.h>

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/decay.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define LOOK_NS 50000000ull /* between two looks of a process: an epoch of the default period */
#define PIECE_PAGES 4096u   /* most of one slow path, where there is no hurry: 1.3 ms */

struct space { /* an arena, or the pool; its numbers may be of the past without the lock */
    struct shared_lock *lock;
    struct decay *decay;
    uint64_t dirty;
    uint64_t used;
};

static struct space space_of(const sharena_t *heap, uint32_t index) {
    if (index == PURGE_POOL) {
        struct pool *pool = heap_pool(heap);
        uint64_t backed = shared_get(&heap_state(heap)->backed_pages);
        uint64_t dirty = shared_get(&pool->pages_dirty);
        return (struct space){&pool->lock, &pool->decay, dirty,
                              backed > dirty ? backed - dirty : 0};
    }
    struct arena *arena = heap_arena(heap, index);
    return (struct space){&arena->lock, &arena->decay, shared_get(&arena->pages_dirty),
                          shared_get(&arena->pages_used)};
}

/* ---- time ---- */

/* The same in all processes, name spaces and boots; it may be set, which is harmless. */
static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now); /* no system call: the vDSO has it */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int is_epoch_over(const struct space *space, const struct conf *conf, uint64_t now) {
    int is_idle = space->dirty == 0 && shared_get(&space->decay->seen) == 0;
    return !is_idle && conf->purge == PURGE_DECAY &&
           decay_is_due(space->decay, decay_period_ms(space->decay, conf), now);
}

static void go_on(const struct attachment *attachment, struct thread_slot *self, uint32_t index,
                  uint64_t now) {
    sharena_t *heap = attachment->mapping.base;
    const struct conf *conf = &attachment->conf;
    struct space space = space_of(heap, index);
    if (!is_epoch_over(&space, conf, now)) {
        return;
    }
    lock_acquire(heap, self, space.lock);
    space = space_of(heap, index);
    if (is_epoch_over(&space, conf, now)) { /* exactly one of all processes finds it so */
        decay_advance(space.decay, decay_period_ms(space.decay, conf), now, space.dirty);
    }
    lock_release(heap, self, space.lock);
}

/* Whether nobody wants this process to look at the clock: its own options do not, and no process
 * has set a period in the heap. */
static int never_looks(const struct attachment *attachment) {
    const struct conf *conf = &attachment->conf;
    return conf->purge == PURGE_DECAY && conf->dirty_decay_ms == CONF_MS_NEVER &&
           !shared_get(&heap_pool(attachment->mapping.base)->periods_set);
}

/* Exactly one thread of the process finds that the time has come. */
static int is_time_to_look(struct attachment *attachment, uint64_t now) {
    uint64_t due = __atomic_load_n(&attachment->purge_due_ns, __ATOMIC_RELAXED);
    int is_due = now >= due || due - now > LOOK_NS; /* or the clock was set back */
    return is_due && __atomic_compare_exchange_n(&attachment->purge_due_ns, &due, now + LOOK_NS, 0,
                                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* ---- giving back ---- */

/* Some heap of this process has memory that goes at once, or by a ratio: a free looks again. */
static int is_eager;

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static void give_back(sharena_t *heap, struct thread_slot *self, uint32_t index, uint64_t pages) {
    if (index == PURGE_POOL) {
        pool_purge_pages(heap, self, pages);
    } else {
        arena_purge_pages(heap, self, index, (uint32_t)min_u64(pages, UINT32_MAX));
    }
}

static void relieve(const struct attachment *attachment, struct thread_slot *self, uint32_t index) {
    sharena_t *heap = attachment->mapping.base;
    const struct conf *conf = &attachment->conf;
    struct space space = space_of(heap, index);
    int is_gradual = conf->purge == PURGE_DECAY && decay_period_ms(space.decay, conf) != 0;
    if (UNLIKELY(!is_gradual)) {
        __atomic_store_n(&is_eager, 1, __ATOMIC_RELAXED);
    }
    uint64_t pages = decay_excess(space.decay, conf, space.dirty, space.used);
    if (UNLIKELY(pages != 0)) {
        int kept_errno = errno;
        give_back(heap, self, index, is_gradual ? min_u64(pages, PIECE_PAGES) : pages);
        errno = kept_errno;
    }
}

static void relieve_own(const struct attachment *attachment, struct thread_slot *self) {
    uint32_t bound = shared_get(&self->arena);
    if (bound != 0) {
        relieve(attachment, self, bound - 1);
    }
    relieve(attachment, self, PURGE_POOL);
}

static void look(struct attachment *attachment, struct thread_slot *self, uint64_t now) {
    uint32_t made = shared_get(&heap_pool(attachment->mapping.base)->arenas_made);
    uint32_t bound = shared_get(&self->arena);
    uint32_t other = __atomic_fetch_add(&attachment->purge_next, 1, __ATOMIC_RELAXED);
    if (bound != 0) {
        go_on(attachment, self, bound - 1, now);
    }
    go_on(attachment, self, PURGE_POOL, now);
    if (made != 0) {
        go_on(attachment, self, other % made, now);
        relieve(attachment, self, other % made);
    }
}

void purge_tick(struct attachment *attachment, struct thread_slot *self) {
    if (!never_looks(attachment)) {
        uint64_t now = now_ns();
        if (UNLIKELY(is_time_to_look(attachment, now))) {
            look(attachment, self, now);
        }
        relieve_own(attachment, self);
    }
}

void purge_after_free(sharena_t *heap, struct thread_slot *self) {
    if (UNLIKELY(__atomic_load_n(&is_eager, __ATOMIC_RELAXED))) {
        const struct attachment *attachment = registry_find(heap);
        if (attachment != NULL) {
            relieve_own(attachment, self);
        }
    }
}

void purge_due(struct attachment *attachment, struct thread_slot *self, uint32_t arena_or_pool) {
    sharena_t *heap = attachment->mapping.base;
    const struct conf *conf = &attachment->conf;
    go_on(attachment, self, arena_or_pool, now_ns());
    struct space space = space_of(heap, arena_or_pool);
    give_back(heap, self, arena_or_pool, decay_excess(space.decay, conf, space.dirty, space.used));
}
