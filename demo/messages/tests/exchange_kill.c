/* exchange_kill.c -- the rings of messages under kills.
 *
 *     exchange_kill [SECONDS]      exit status 0 = all well
 *
 * steps   a child publishes or processes one message and dies in the n-th instruction of it, for
 *         many n. Its successor goes on: every message is processed once and in order, and the heap
 *         holds exactly the blocks that stand in the ring.
 * storm   a whole run whose publishers and subscribers are killed and replaced all the time.
 * all     a whole run whose processes die all at once; whoever opens the heap afterwards finishes
 *         it: what was published is processed exactly once.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../../common/clock.h"
#include "../../common/lockfile.h"
#include "../../common/tests/stepper.h"
#include "../../common/tests/trial.h"
#include "../exchange.h"

#define PLAIN_BYTES 200u
#define LARGE_BYTES 20480u
#define BASE_MESSAGES 3u  /* in the ring when an operation begins */
#define MANY_MESSAGES 40u /* more than a cache is filled with, or flushes, at once */
#define SETTLE_MESSAGES 5u
#define STORM_KILLS_PER_SECOND 250
#define STORM_RUN_SECONDS 0.1
#define ALL_RUN_MS 40

static char path[PATH_MAX];
static sharena_t *heap;
static struct exchange *exchange;
static struct ring *ring; /* lane 0, for the steps */
static uint64_t size_bytes = PLAIN_BYTES;

/* ---- is everything there, and nothing else? ---- */

static uint64_t messages_in_slots(const struct exchange *in) {
    uint64_t count = 0;

    for (unsigned lane = 0; lane < FLEET_LANES_MAX; lane++) {
        for (unsigned i = 0; i < RING_SLOTS_MAX; i++) {
            count += in->rings[lane].slots[i] != NULL;
        }
    }
    return count;
}

/* Whatever the dead had open is decided, so that each block is the root or stands in a slot. */
static void verify_blocks(void) {
    struct sharena_report report;

    sharena_reap(heap);
    REQUIRE(sharena_check(heap, &report) == 0);
    REQUIRE(report.blocks_live == 1 + messages_in_slots(exchange));
}

static struct ring_end end_of(struct ring *of) {
    return (struct ring_end){.heap = heap, .ring = of, .other = atomic_load(&of->consumed)};
}

static void process_rest(struct ring *of) {
    struct ring_end subscriber = end_of(of);

    while (!ring_is_empty(of)) {
        REQUIRE(ring_consume(&subscriber, DEPTH_ALL) == 0);
    }
    /* The last death may have been between the message's end and the store to `consumed`. */
    REQUIRE(ring_is_settled(of));
}

/* ---- steps ---- */

static void prepare(void) {
    struct ring_end both;

    ring_reset(heap, ring, 0, size_bytes);
    both = end_of(ring);
    for (unsigned i = 0; i < BASE_MESSAGES; i++) {
        REQUIRE(ring_publish(&both) == 0);
    }
    verify_blocks();
}

static void prepare_many(void) {
    struct ring_end publisher;

    prepare();
    publisher = end_of(ring);
    for (unsigned i = 0; i < MANY_MESSAGES; i++) {
        REQUIRE(ring_publish(&publisher) == 0);
    }
}

static void enter(void) {
    void *block = sharena_malloc(heap, size_bytes);

    REQUIRE(block != NULL);
    sharena_free(heap, block);
}

static void publish(void) {
    struct ring_end publisher = end_of(ring);

    ring_inherit(&publisher);
    (void)ring_publish(&publisher);
}

static void publish_many(void) {
    struct ring_end publisher = end_of(ring);

    for (unsigned i = 0; i < MANY_MESSAGES; i++) {
        (void)ring_publish(&publisher);
    }
}

static void process(void) {
    struct ring_end subscriber = end_of(ring);

    (void)ring_consume(&subscriber, DEPTH_ALL);
}

static void process_many(void) {
    struct ring_end subscriber = end_of(ring);

    while (ring_consume(&subscriber, DEPTH_SAMPLE) == 0) {
    }
}

/* As the successors of both sides. */
static void verify(void) {
    struct ring_end publisher = end_of(ring);
    uint64_t published = atomic_load(&ring->published);

    verify_blocks();
    ring_inherit(&publisher);
    verify_blocks();
    REQUIRE(messages_in_slots(exchange) <= published - atomic_load(&ring->consumed));
    for (unsigned i = 0; i < SETTLE_MESSAGES && ring_has_room(ring); i++) {
        REQUIRE(ring_publish(&publisher) == 0);
    }
    process_rest(ring);
    verify_blocks();
}

static const struct stepper_case half_written = {"", prepare, enter, publish, NULL};

/* Somebody died while publishing: the one who is killed now had to begin with that. */
static void prepare_inherit(void) {
    stepper_kill_once(&half_written, 1200);
    sharena_reap(heap);
}

static uint64_t steps_run(double seconds) {
    static const struct stepper_case cases[] = {
        {"publish", prepare, enter, publish, verify},
        {"publish first", prepare, NULL, publish, verify},
        {"publish many", prepare, enter, publish_many, verify},
        {"inherit", prepare_inherit, enter, publish, verify},
        {"process", prepare, enter, process, verify},
        {"process first", prepare, NULL, process, verify},
        {"process many", prepare_many, enter, process_many, verify},
    };
    unsigned count = sizeof cases / sizeof cases[0];
    uint64_t kills = 0;

    for (unsigned i = 0; i < count; i++) {
        kills += stepper_run(&cases[i], seconds * 0.8 / count);
    }
    size_bytes = LARGE_BYTES;
    kills += stepper_run(&cases[0], seconds * 0.1);
    kills += stepper_run(&cases[4], seconds * 0.1);
    exchange_open(heap); /* empties the ring */
    return kills;
}

/* ---- storm ---- */

/* Many short runs: their ends are what kills find most to do with. */
static void storm_run(uint64_t message_bytes, double seconds) {
    struct fleet_job job = {.publishers = 3, .subscribers = 3, .seconds = STORM_RUN_SECONDS};
    uint64_t start_ns = clock_now_ns();
    uint64_t messages = 0;
    unsigned kills = 0;

    job.size_bytes = message_bytes;
    job.kills = (unsigned)(STORM_RUN_SECONDS * STORM_KILLS_PER_SECOND);
    job.is_every_word_checked = true;
    while (clock_seconds_since(start_ns) < seconds) {
        struct fleet_result result;

        REQUIRE(exchange_run(heap, exchange, &job, &result) == 0);
        REQUIRE(messages_in_slots(exchange) == 0);
        verify_blocks();
        messages += result.messages;
        kills += result.replaced;
    }
    printf("storm: %u kills, %llu messages of %llu B processed once and in order\n", kills,
           (unsigned long long)messages, (unsigned long long)message_bytes);
}

/* ---- all at once ---- */

/* A run as main.c does it, in a process of its own. */
static pid_t all_start(void) {
    pid_t pid;

    fflush(NULL);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct fleet_job job = {.publishers = 2, .subscribers = 2, .seconds = 60, .kills = 1500};
        struct fleet_result result;
        int lock;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        REQUIRE(lockfile_take_alone(path, &lock) == 0);
        REQUIRE(sharena_open(path, NULL, &heap) == 0);
        exchange = exchange_open(heap);
        REQUIRE(exchange != NULL);
        job.size_bytes = trial_below(2) == 0 ? 64 : LARGE_BYTES;
        (void)exchange_run(heap, exchange, &job, &result);
        _exit(EXIT_FAILURE); /* it should not have lived so long */
    }
    return pid;
}

static uint64_t all_finish(void) {
    uint64_t published = 0;
    int lock;

    REQUIRE(lockfile_take_alone(path, &lock) == 0); /* the last of them is gone */
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    exchange = sharena_root_get(heap, "messages");
    for (unsigned lane = 0; exchange != NULL && lane < FLEET_LANES_MAX; lane++) {
        struct ring_end publisher = end_of(&exchange->rings[lane]);

        if (publisher.ring->nslots == 0) {
            continue; /* killed before the rings were ready */
        }
        ring_inherit(&publisher);
        published += atomic_load(&publisher.ring->published);
        process_rest(publisher.ring);
    }
    if (exchange != NULL) {
        verify_blocks();
    }
    REQUIRE(sharena_close(heap) == 0);
    lockfile_release(lock);
    return published;
}

static void all_run(double seconds) {
    uint64_t start_ns = clock_now_ns();
    uint64_t published = 0;
    unsigned rounds = 0;

    for (; clock_seconds_since(start_ns) < seconds; rounds++) {
        pid_t pid = all_start();

        usleep((useconds_t)trial_below(ALL_RUN_MS * 1000));
        trial_kill(pid);
        published += all_finish();
    }
    printf("all: killed at once %u times, %llu messages processed once and in order\n", rounds,
           (unsigned long long)published);
}

static void test(const char *dir, double seconds) {
    uint64_t kills;

    snprintf(path, sizeof path, "%s/heap", dir);
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    exchange = exchange_open(heap);
    REQUIRE(exchange != NULL);
    ring = &exchange->rings[0];
    kills = steps_run(seconds * 0.4);
    storm_run(64, seconds * 0.15);
    storm_run(LARGE_BYTES, seconds * 0.15);
    REQUIRE(sharena_close(heap) == 0);
    all_run(seconds * 0.3);
    REQUIRE(sharena_unlink(path) == 0);
    printf("messages: %llu kills at single instructions, none lost or repeated a message\n",
           (unsigned long long)kills);
}

int main(int argc, char **argv) {
    return trial_main(argc, argv, 10, test);
}
