/* bell.c -- see bell.h. */
#include "bell.h"

#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOOKS 200
#define YIELDS 8

/* The word is shared between processes, so these are not the _PRIVATE operations. */
static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    const struct timespec patience = {.tv_nsec = BELL_PATIENCE_MS * 1000000L};

    syscall(SYS_futex, word, FUTEX_WAIT, expected, &patience, NULL, 0);
}

void bell_wake(struct bell *bell) {
    atomic_store_explicit(&bell->asleep, 0, memory_order_relaxed);
    syscall(SYS_futex, &bell->asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

void bell_wait(struct bell *bell, bool (*is_ready)(const void *arg), const void *arg) {
    for (int i = 0; i < LOOKS; i++) {
        if (is_ready(arg)) {
            return;
        }
        relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        sched_yield();
        if (is_ready(arg)) {
            return;
        }
    }
    atomic_store_explicit(&bell->asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!is_ready(arg)) {
        futex_wait(&bell->asleep, 1);
    }
    atomic_store_explicit(&bell->asleep, 0, memory_order_relaxed);
}
