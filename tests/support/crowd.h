/* crowd.h -- for tests with many processes: memory outside of any heap that they share, and gates. */
#ifndef TESTS_SUPPORT_CROWD_H
#define TESTS_SUPPORT_CROWD_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "clean_heap.h"

/* Zeroed memory that this process shares with the children that it forks. */
static inline void *crowd_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

/* Waits until `count` have come to the gate. A gate is passed once. */
static inline void crowd_meet(atomic_int *gate, int count) {
    (void)atomic_fetch_add(gate, 1);
    while (atomic_load(gate) < count) {
        (void)sched_yield();
    }
}

static inline void crowd_sleep_us(long us) {
    const struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    (void)nanosleep(&pause, NULL);
}

/* All children must have ended well. */
static inline void crowd_wait(const pid_t *pids, int count) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        int status = child_wait(pids[i]);
        if (status != 0) {
            print_message("child %d of %d: status %#x\n", i, count, (unsigned)status);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static inline void crowd_kill(pid_t pid) {
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status = child_wait(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A thread that may end by a raw system call: libc would give its stack, with what a sanitizer left
 * there, to the next thread, so it gets one that nobody else will use. */
static inline pthread_t crowd_start_raw(void *(*body)(void *), void *arg) {
    pthread_attr_t attributes;
    pthread_t thread;
    size_t bytes = (size_t)1 << 18;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, crowd_memory(bytes), bytes), 0);
    assert_int_equal(pthread_create(&thread, &attributes, body, arg), 0);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
    return thread;
}

/* A number from the environment. */
static inline uint64_t crowd_number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

#endif
