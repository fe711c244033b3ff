/* prof.c -- the sampling profile: which allocations are recorded, and what of them.
 *
 * Holds:  a thread that is taking a backtrace samples nothing: what it allocates meanwhile would
 *         lead here again
 * Lock:   none may be held
 * Killed: the sample that is being written is in the hand: nobody reads it, and the reaper gives it
 *         back
 * Not here: where samples come from and go to (prof_samples.c), names of modules (prof_modules.c).
 */
#include "heap/prof.h"

#include <execinfo.h>
#include <string.h>
#include <time.h>

#include "heap/prof_modules.h"

struct sampler { /* of one thread, for all of its heaps: distances are counted in means */
    uint64_t random;
    double distance; /* to the next sample, in means */
    int is_busy;
};

static __thread struct sampler sampler __attribute__((tls_model("initial-exec")));

/* ---- when ---- */

/* splitmix64, by Sebastiano Vigna; its first value differs from thread to thread. */
static uint64_t next_random(void) {
    if (sampler.random == 0) {
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        sampler.random = (uint64_t)(uintptr_t)&sampler ^ (uint64_t)now.tv_nsec << 32;
    }
    uint64_t value = sampler.random += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

/* -ln(bits / 2^64), without libm: 2^k <= bits < 2^(k + 1), and ln(m) = 2 atanh((m - 1) / (m + 1))
 * as a series, whose error is below 1e-9 for m in [1, 2). */
static double minus_log(uint64_t bits) {
    int k = 63 - __builtin_clzll(bits | 1);
    double m = (double)(bits | 1) / (double)(1ull << k);
    double z = (m - 1) / (m + 1);
    double sum = 0;
    double power = z;
    for (int i = 1; i <= 17; i += 2) {
        sum += power / i;
        power *= z * z;
    }
    return (64 - k) * 0.6931471805599453 - 2 * sum;
}

/* Exponentially distributed with mean 1. */
static double next_distance(void) {
    return minus_log(next_random());
}

static double in_means(const struct attachment *attachment, uint64_t bytes) {
    return (double)bytes / (double)(1ull << attachment->conf.lg_prof_sample);
}

static int is_on(const struct attachment *attachment) {
    return attachment->conf.prof && !sampler.is_busy &&
           __atomic_load_n(&attachment->prof_active, __ATOMIC_RELAXED);
}

int prof_would_sample(const struct attachment *attachment, uint64_t bytes) {
    if (!is_on(attachment)) {
        return 0;
    }
    if (attachment->conf.lg_prof_sample == 0) {
        return 1;
    }
    if (sampler.random == 0) {
        sampler.distance = next_distance();
    }
    return in_means(attachment, bytes) >= sampler.distance;
}

int prof_wants_sample(const struct attachment *attachment, uint64_t bytes) {
    if (!prof_would_sample(attachment, bytes)) {
        sampler.distance -= is_on(attachment) ? in_means(attachment, bytes) : 0;
        return 0;
    }
    sampler.distance = next_distance();
    return 1;
}

/* ---- what ---- */

void prof_init(struct attachment *attachment) {
    void *frame[1];
    __atomic_store_n(&attachment->prof_active, attachment->conf.prof, __ATOMIC_RELAXED);
    if (attachment->conf.prof) {
        (void)backtrace(frame, 1); /* the first one loads libgcc_s, which calls malloc */
        prof_modules_init();
    }
}

/* Not inlined: the first frame is this function's, and is left out. */
static __attribute__((noinline)) void record_frames(sharena_t *heap, struct thread_slot *self,
                                                    struct sample *sample) {
    void *addresses[SAMPLE_FRAMES + 1];
    int count = backtrace(addresses, SAMPLE_FRAMES + 1);
    sample->frames = count > 1 ? (uint32_t)count - 1 : 0;
    prof_modules_resolve(heap, self, addresses + 1, sample->frames, sample->frame);
}

static void record_process(sharena_t *heap, const struct thread_slot *self, struct sample *sample) {
    sample->process = shared_get(&self->process);
    const struct process_slot *process = heap_process(heap, sample->process);
    sample->process_generation = shared_get(&self->process_generation);
    sample->pid = shared_get(&process->pid);
    sample->tid = shared_get(&self->tid);
    memcpy(sample->name, process->name, sizeof(sample->name));
}

int prof_begin(const struct attachment *attachment, struct thread_slot *self, uint64_t asked_bytes,
               uint64_t bytes) {
    sharena_t *heap = attachment->mapping.base;
    struct timespec now;
    struct sample *sample = prof_take(heap, self);
    if (sample == NULL) {
        return 0;
    }
    sampler.is_busy = 1;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    sample->asked_bytes = asked_bytes;
    sample->bytes = bytes;
    sample->taken_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    sample->lg_rate = attachment->conf.lg_prof_sample;
    record_process(heap, self, sample);
    record_frames(heap, self, sample);
    sampler.is_busy = 0;
    return 1;
}
