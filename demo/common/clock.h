/* clock.h -- elapsed time in nanoseconds. */
#ifndef DEMO_COMMON_CLOCK_H
#define DEMO_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline double clock_seconds_since(uint64_t start_ns) {
    return (double)(clock_now_ns() - start_ns) / 1e9;
}

static inline void clock_sleep_ms(unsigned ms) {
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&pause, NULL);
}

#endif
