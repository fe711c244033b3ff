/* replace.c -- many live blocks of mixed sizes, of which random ones are replaced.
 *
 *     replace MOST WORKERS LIVE   each worker has LIVE blocks of its own; sizes up to MOST
 *     larson WORKERS              like Larson's and Krishnan's server: sets of blocks go from
 *                                 worker to worker, so that each gives back what others took
 *
 * Both report millions of replacements (a free and a malloc) per second, the sum over all workers.
 */
#include "block.h"
#include "team.h"

#define BETWEEN_CLOCKS 1000u

/* 60 % up to 128 bytes, 30 % to 1 KiB, 9 % to 16 KiB, 1 % to 256 KiB; never more than `most`. */
static size_t mixed_size(uint64_t *random, size_t most) {
    static const struct {
        unsigned percent;
        unsigned low, high;
    } mix[] = {{60, 16, 128}, {90, 129, 1024}, {99, 1025, 16384}, {100, 16385, 262144}};
    unsigned percent = random_below(random, 100);
    unsigned which = 0;
    while (percent >= mix[which].percent) {
        which++;
    }
    size_t size = mix[which].low + random_below(random, mix[which].high - mix[which].low + 1);
    return size <= most ? size : most;
}

/* More than they have on average, and room for those that find no gap that fits. */
static size_t mixed_bytes(size_t blocks, size_t most) {
    size_t mean = 400 + (most / 8 < 2200 ? most / 8 : 2200);
    return blocks * mean + 1024 * most;
}

static void replace_some(struct worker *worker, void **blocks, size_t live) {
    size_t most = worker->job->args[0];
    for (unsigned i = 0; i < BETWEEN_CLOCKS; i++) {
        void **block = &blocks[random_below(&worker->random, live)];
        block_give(*block);
        *block = block_take(mixed_size(&worker->random, most));
    }
}

static void replace_body(struct worker *worker) {
    size_t live = worker->job->args[2];
    void **blocks = table_make(live * sizeof(*blocks));
    uint64_t done = 0;
    for (size_t i = 0; i < live; i++) {
        blocks[i] = block_take(mixed_size(&worker->random, worker->job->args[0]));
    }
    worker_begin(worker);
    do {
        replace_some(worker, blocks, live);
        done += BETWEEN_CLOCKS;
    } while (!worker_is_done(worker));
    worker_end(worker, done);
    for (size_t i = 0; i < live; i++) {
        block_give(blocks[i]);
    }
}

void run_replacements(const struct job *job) {
    unsigned workers = (unsigned)job->args[1];
    size_t live = job->args[2] * workers;
    struct needs needs = {live + live / 8, mixed_bytes(live, job->args[0])};
    report("rate", team_run(job, workers, &needs, replace_body, NULL) / 1e6, "M/s");
}

/* ---- larson ---- */

#define SET_BLOCKS 1000u
#define SET_TURNS 10000u /* replacements before a set is passed on */
#define LARSON_BYTES_MIN 8u
#define LARSON_BYTES_MAX 1000u

struct set {
    _Alignas(128) bool is_taken;
    void *blocks[SET_BLOCKS];
};

static size_t larson_size(uint64_t *random) {
    return LARSON_BYTES_MIN + random_below(random, LARSON_BYTES_MAX - LARSON_BYTES_MIN + 1);
}

/* There are twice as many sets as workers, so that one is always free. */
static struct set *set_take(struct set *sets, unsigned count, unsigned *last) {
    for (;;) {
        *last = (*last + 1) % count;
        if (!__atomic_test_and_set(&sets[*last].is_taken, __ATOMIC_ACQUIRE)) {
            return &sets[*last];
        }
    }
}

static void larson_body(struct worker *worker) {
    struct set *sets = worker->shared;
    unsigned last = 2 * worker->index;
    uint64_t done = 0;
    for (unsigned i = 0; i < 2 * SET_BLOCKS; i++) {
        struct set *set = &sets[last + i % 2];
        set->blocks[i / 2] = block_take(larson_size(&worker->random));
    }
    worker_begin(worker);
    do {
        struct set *set = set_take(sets, 2 * worker->count, &last);
        for (unsigned i = 0; i < SET_TURNS; i++) {
            void **block = &set->blocks[random_below(&worker->random, SET_BLOCKS)];
            block_give(*block);
            *block = block_take(larson_size(&worker->random));
        }
        __atomic_clear(&set->is_taken, __ATOMIC_RELEASE);
        done += SET_TURNS;
    } while (!worker_is_done(worker));
    worker_end(worker, done);
}

void run_larson(const struct job *job) {
    unsigned workers = (unsigned)job->args[0];
    struct set *sets = table_make((size_t)2 * workers * sizeof(*sets));
    size_t blocks = (size_t)4 * workers * SET_BLOCKS;
    struct needs needs = {blocks, blocks * LARSON_BYTES_MAX};
    report("rate", team_run(job, workers, &needs, larson_body, sets) / 1e6, "M/s");
}
