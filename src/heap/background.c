/* background.c -- a thread of this process that looks after a heap while nobody calls.
 *
 *     NONE --background_tick--> STARTING --> RUNNING --last close--> STOPPING --joined--> NONE
 *
 * It does what the ticks of the slow paths do, on time: free memory decays and the dead are reaped
 * though the process does not allocate. It has a thread slot, and the exit of any other thread.
 *
 * Holds:  the attachment is not taken apart in any other state than NONE
 *         in a fork's child the state is NONE (forking.c): threads are not inherited
 * Lock:   none; the registry's, by those who end
 * Killed: its slot is reaped as any other
 * Not here: what is due (purge.c, reap.c).
 */
#include "heap/background.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "heap/arena.h"
#include "heap/heap.h"
#include "heap/purge.h"

#define STACK_BYTES (256u << 10)
#define BUSY_MS 50u   /* between two looks while there is something that may become due */
#define IDLE_MS 1000u /* otherwise */

static uint32_t state_of(const struct attachment *attachment) {
    return __atomic_load_n(&attachment->background, __ATOMIC_ACQUIRE);
}

static void set_state(struct attachment *attachment, enum background_state state) {
    __atomic_store_n(&attachment->background, state, __ATOMIC_RELEASE);
}

/* ---- the thread ---- */

/* 1 if it is to end. */
static int wait_ms(struct attachment *attachment, uint32_t ms) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (sem_clockwait(&attachment->background_wake, CLOCK_MONOTONIC, &until) != 0) {
        if (errno != EINTR) {
            return state_of(attachment) == BACKGROUND_STOPPING;
        }
    }
    return state_of(attachment) == BACKGROUND_STOPPING;
}

/* All that is due, everywhere; how long to wait then. */
static uint32_t look_after(struct attachment *attachment, sharena_t *heap) {
    struct thread_slot *self = heap_enter(heap); /* also reaps, when it is time */
    if (self == NULL) {
        return IDLE_MS; /* no slot now, or the heap is being closed */
    }
    arena_leave(heap, self); /* it allocates nothing: the arena is for others */
    const struct pool *pool = heap_pool(heap);
    uint32_t made = shared_get(&pool->arenas_made);
    uint64_t dirty = 0;
    for (uint32_t i = 0; i < made; i++) {
        purge_due(attachment, self, i);
        dirty += shared_get(&heap_arena(heap, i)->pages_dirty);
    }
    purge_due(attachment, self, PURGE_POOL);
    return dirty + shared_get(&pool->pages_dirty) != 0 ? BUSY_MS : IDLE_MS;
}

static void *run(void *arg) {
    struct attachment *attachment = arg;
    sharena_t *heap = attachment->mapping.base;
    uint32_t pause_ms = BUSY_MS;
    while (!wait_ms(attachment, pause_ms)) {
        pause_ms = look_after(attachment, heap);
    }
    return NULL;
}

/* ---- beginning and end ---- */

/* 0 or an errno value. It gets no signals: handlers are for the application's threads. */
static int start(struct attachment *attachment) {
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (error == 0) {
        error = pthread_create(&attachment->background_thread, &attributes, run, attachment);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return error;
}

static COLD void start_if_none(struct attachment *attachment) {
    uint32_t none = BACKGROUND_NONE;
    if (__atomic_compare_exchange_n(&attachment->background, &none, BACKGROUND_STARTING, 0,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        int kept_errno = errno;
        int error = sem_init(&attachment->background_wake, 0, 0) == 0 ? start(attachment) : errno;
        /* Where there can be no thread, now or ever, the ticks do all by themselves. */
        set_state(attachment, error == 0 ? BACKGROUND_RUNNING : BACKGROUND_NONE);
        errno = kept_errno;
    }
}

void background_tick(struct attachment *attachment) {
    if (UNLIKELY(attachment->conf.background_thread) && state_of(attachment) == BACKGROUND_NONE) {
        start_if_none(attachment);
    }
}

int background_end(struct attachment *attachment) {
    switch (state_of(attachment)) {
    case BACKGROUND_NONE:
        return 1;
    case BACKGROUND_RUNNING:
        break;
    default:
        return 0;
    }
    set_state(attachment, BACKGROUND_STOPPING);
    (void)sem_post(&attachment->background_wake);
    registry_unlock(); /* which the end of a thread needs */
    (void)pthread_join(attachment->background_thread, NULL);
    registry_lock();
    (void)sem_destroy(&attachment->background_wake);
    set_state(attachment, BACKGROUND_NONE);
    return !registry_is_open(attachment);
}
