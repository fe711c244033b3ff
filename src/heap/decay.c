/* decay.c -- how many free pages may stay backed: the rule, and what it remembers.
 *
 * The backlog is a ring: to go on by an epoch is to clear one entry, and the whole is as old as its
 * oldest. Every number of it may be wrong (a kill in the middle of a step, another process with
 * another period): then pages go earlier or later, and after one period it is right again.
 *
 * Holds:  limit <= pages dirty when the epoch began
 * Lock:   that of the space, for decay_advance() and decay_note_purge()
 * Killed: see above; decay_note_purge() is journaled with the section that takes the pages
 * Not here: who looks when (purge.c), and how pages go (arena.c, chunk.c).
 */
#include "heap/decay.h"

#include "ipc/journal.h"

#define NS_PER_MS 1000000ull

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint32_t decay_period_ms(const struct decay *decay, const struct conf *conf) {
    uint32_t period = shared_get(&decay->period);
    if (period == DECAY_BY_OPTION) {
        return conf->dirty_decay_ms;
    }
    return period == DECAY_NEVER ? CONF_MS_NEVER : period - 1;
}

static uint64_t excess_by_ratio(const struct conf *conf, uint64_t dirty, uint64_t used) {
    uint64_t most = used >> conf->lg_dirty_mult;
    most = most < CHUNK_PAGES ? CHUNK_PAGES : most;
    return dirty > most ? dirty - most : 0;
}

uint64_t decay_excess(const struct decay *decay, const struct conf *conf, uint64_t dirty,
                      uint64_t used) {
    if (conf->purge == PURGE_RATIO) {
        return excess_by_ratio(conf, dirty, used);
    }
    uint64_t old = min_u64(dirty, shared_get(&decay->seen)); /* what came since is not due */
    uint64_t limit = shared_get(&decay->limit);
    switch (decay_period_ms(decay, conf)) {
    case 0:
        return dirty;
    case CONF_MS_NEVER:
        return 0;
    default:
        return old > limit ? old - limit : 0;
    }
}

static uint64_t epoch_ns(uint32_t period_ms) {
    return period_ms * NS_PER_MS / DECAY_STEPS;
}

int decay_is_due(const struct decay *decay, uint32_t period_ms, uint64_t now_ns) {
    return period_ms != 0 && period_ms != CONF_MS_NEVER &&
           now_ns - shared_get(&decay->start_ns) >= epoch_ns(period_ms); /* also if it went back */
}

/* 6x^5 - 15x^4 + 10x^3 (K. Perlin's smootherstep) for x = left / DECAY_STEPS, all in integers. */
uint64_t decay_curve(uint32_t left) {
    const uint64_t steps = DECAY_STEPS;
    uint64_t x = left;
    uint64_t whole = steps * steps * steps * steps * steps;
    return ((x * x * x * (6 * x * x + 10 * steps * steps - 15 * steps * x)) << LG_DECAY_ONE) /
           whole;
}

/* Rounded up: what is young stays whole. */
static uint64_t limit_of(const struct decay *decay) {
    uint32_t newest = shared_get(&decay->newest) % DECAY_STEPS;
    uint64_t sum = 0;
    for (uint32_t age = 0; age < DECAY_STEPS; age++) {
        uint64_t pages = shared_get(&decay->backlog[(newest + DECAY_STEPS - age) % DECAY_STEPS]);
        sum += pages != 0 ? pages * decay_curve(DECAY_STEPS - age) : 0;
    }
    return (sum + (1u << LG_DECAY_ONE) - 1) >> LG_DECAY_ONE;
}

void decay_advance(struct decay *decay, uint32_t period_ms, uint64_t now_ns, uint64_t dirty) {
    uint64_t start = shared_get(&decay->start_ns);
    uint64_t epochs = now_ns < start ? 1 : (now_ns - start) / epoch_ns(period_ms);
    int is_anew = now_ns < start || epochs > DECAY_STEPS;
    uint32_t newest = shared_get(&decay->newest) % DECAY_STEPS;
    uint64_t seen = shared_get(&decay->seen);
    for (uint64_t i = 0; i < min_u64(epochs, DECAY_STEPS); i++) {
        newest = (newest + 1) % DECAY_STEPS;
        shared_store(&decay->backlog[newest], 0u);
    }
    shared_store(&decay->backlog[newest], (uint32_t)(dirty > seen ? dirty - seen : 0));
    shared_store(&decay->newest, newest);
    shared_store(&decay->seen, (uint32_t)dirty);
    shared_store(&decay->limit, (uint32_t)min_u64(limit_of(decay), dirty));
    shared_store(&decay->start_ns, is_anew ? now_ns : start + epochs * epoch_ns(period_ms));
}

void decay_note_purge(struct thread_slot *self, struct decay *decay, uint32_t pages) {
    uint32_t seen = shared_get(&decay->seen);
    journal_set(self, &decay->seen, seen > pages ? seen - pages : 0);
    journal_set(self, &decay->purges, shared_get(&decay->purges) + 1);
    journal_set(self, &decay->purged, shared_get(&decay->purged) + pages);
}
