/* store_kill.c -- the dataset of respd under kills.
 *
 *     store_kill [SECONDS]      exit status 0 = all well
 *
 * model   random operations beside a plain array; resizes, flushes and scans among them.
 * steps   a child executes one operation and dies in the n-th instruction of it, for many n. The
 *         operation then happened as a whole or not at all, the shard is in order, and the heap
 *         holds exactly the blocks that the dataset knows: none is lost.
 * storm   children work on the same few keys, pin values and look whether these stay as they are;
 *         one after the other is killed at any time and replaced.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "number.h"
#include "shard.h"
#include "tests/stepper.h"
#include "tests/trial.h"

#include "audit.h"

#define MODEL_KEYS 3000u
#define BASE_KEYS 15u  /* with one more key the first table is full */
#define SAME_SHARD 21u /* and with these the second is needed */
#define STORM_KEYS 64u
#define STORM_WORKERS 4u

static struct store store;
static unsigned dead_seen;

/* ---- operations by number ---- */

static struct key key_of(unsigned number, char text[32]) {
    int len = snprintf(text, 32, "key:%u", number);
    return store_key(&store, text, (size_t)len);
}

/* A value of `len` bytes, all of them `stamp`. */
static int put(unsigned number, char stamp, size_t len, int64_t expire_ms) {
    static char bytes[20000];
    char text[32];
    struct key key = key_of(number, text);
    struct value value = {{bytes}, {len}};
    memset(bytes, stamp, len);
    struct shard *shard = store_lock(&store, &key);
    int error = shard_put(&store, shard, &key, &value, expire_ms);
    store_unlock(shard);
    return error;
}

static bool drop(unsigned number) {
    char text[32];
    struct key key = key_of(number, text);
    struct shard *shard = store_lock(&store, &key);
    bool removed = shard_remove(&store, shard, &key, 0);
    store_unlock(shard);
    return removed;
}

/* The value's stamp and length; -1 where there is none. Pins it for a moment on the way. */
static int look(unsigned number, size_t *len) {
    char text[32];
    struct key key = key_of(number, text);
    struct shard *shard = store_lock(&store, &key);
    struct entry *entry = shard_find(&store, shard, &key, 0);
    uint32_t pin = entry == NULL ? PIN_NONE : store_pin(&store, entry);
    store_unlock(shard);
    *len = 0;
    if (entry == NULL) {
        return -1;
    }
    REQUIRE(pin != PIN_NONE);
    *len = (size_t)entry->value_bytes;
    const volatile char *value = entry_value(entry);
    char stamp = *len == 0 ? '\0' : value[0];
    for (size_t i = 0; i < *len; i++) {
        REQUIRE(value[i] == stamp);
    }
    REQUIRE(memcmp(entry->bytes, key.bytes, key.len) == 0);
    store_unpin(&store, pin);
    return stamp;
}

/* ---- model ---- */

static unsigned char scanned[MODEL_KEYS];

static void scan_visit(const struct entry *entry, void *arg) {
    uint64_t number;
    (void)arg;
    REQUIRE(number_parse_unsigned(entry->bytes + 4, entry->key_bytes - 4, &number));
    REQUIRE(number < MODEL_KEYS);
    scanned[number] = 1;
}

/* Keys that are there all the time must be seen, whatever comes and goes meanwhile. */
static void model_scan(size_t lens[MODEL_KEYS]) {
    uint64_t cursor = 0;
    memset(scanned, 0, sizeof scanned);
    for (unsigned i = 0; i < MODEL_KEYS; i += 2) {
        REQUIRE(put(i, 'a', 5, 0) == 0);
        lens[i] = 6;
    }
    do {
        cursor = store_scan(&store, cursor, 7, scan_visit, NULL);
        for (int i = 0; i < 3; i++) {
            unsigned number = (unsigned)(trial_random() % MODEL_KEYS) | 1;
            REQUIRE(drop(number) == (lens[number] != 0));
            lens[number] = 0;
        }
    } while (cursor != 0);
    for (unsigned i = 0; i < MODEL_KEYS; i += 2) {
        REQUIRE(scanned[i] == 1);
    }
}

static void model_run(void) {
    static size_t lens[MODEL_KEYS]; /* length + 1; 0 = not there */
    store_flush(&store);            /* a flush that was killed in the steps has left keys */
    for (unsigned round = 0; round < 300000; round++) {
        unsigned number = (unsigned)(trial_random() % MODEL_KEYS);
        unsigned what = (unsigned)(trial_random() % 1000);
        size_t len;
        if (what < 500) {
            len = what < 490 ? trial_random() % 300 : trial_random() % 20000;
            REQUIRE(put(number, (char)('a' + number % 26), len, 0) == 0);
            lens[number] = len + 1;
        } else if (what < 750) {
            REQUIRE(drop(number) == (lens[number] != 0));
            lens[number] = 0;
        } else if (what < 996 || round < 100000) {
            REQUIRE((look(number, &len) == -1) == (lens[number] == 0));
            REQUIRE(lens[number] == 0 || len + 1 == lens[number]);
        } else {
            store_tend(&store, 0);
        }
        if (round % 60000 == 59999) {
            model_scan(lens);
            audit(&store);
        }
        if (round % 150000 == 149999) {
            store_flush(&store);
            memset(lens, 0, sizeof lens);
            audit(&store);
        }
    }
    printf("model: 300000 operations agree\n");
}

/* ---- steps ---- */

static void op_insert(void) {
    (void)!put(2, 'n', 40, 0);
}
static void op_replace(void) {
    (void)!put(1, 'n', 40, 0);
}
static void op_replace_large(void) {
    (void)!put(1, 'n', 15000, 1);
}
static void op_delete(void) {
    (void)drop(1);
}
static void op_flush(void) {
    store_flush(&store);
}

/* Numbers whose keys fall into the shard of key 1: so that few of them make it grow. */
static unsigned same_shard[SAME_SHARD];

static void same_shard_find(void) {
    char text[32];
    unsigned idx = (unsigned)(key_of(1, text).hash >> 56);
    unsigned found = 0;
    for (unsigned number = 1000; found < SAME_SHARD; number++) {
        if (key_of(number, text).hash >> 56 == idx) {
            same_shard[found++] = number;
        }
    }
}

static void op_grow_shard(void) {
    for (unsigned i = BASE_KEYS; i < SAME_SHARD; i++) {
        (void)!put(same_shard[i], 'n', 8, 0);
    }
}

static void steps_base(void) {
    store_flush(&store);
    REQUIRE(put(1, 'o', 30, 0) == 0);
    for (unsigned i = 0; i < BASE_KEYS; i++) {
        REQUIRE(put(same_shard[i], 'o', 8, 0) == 0);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = store_lock_shard(&store, i);
        shard_reclaim(&store, shard, true);
        store_unlock(shard);
    }
}

static void steps_enter(void) {
    store_become_worker(&store, 1);
    (void)!put(3, 'w', 40, 0); /* so that this process has met the heap */
    (void)drop(3);
}

/* Key 1, which the operation changes or not, is as it was, or as it should be. */
static void verify_key(bool may_change, int stamp, size_t new_len) {
    size_t len;
    int found = look(1, &len);
    REQUIRE((found == 'o' && len == 30) || (may_change && found == stamp && len == new_len));
}

static void verify_others(bool may_be_gone) {
    size_t len;
    store_forget_worker(&store, 1);
    for (unsigned i = 0; i < BASE_KEYS; i++) {
        int other = look(same_shard[i], &len);
        REQUIRE(other == 'o' || (other == -1 && may_be_gone));
    }
    audit(&store);
}

static void verify_insert(void) {
    size_t len;
    int found = look(2, &len);
    REQUIRE(found == -1 || (found == 'n' && len == 40));
    verify_key(false, 0, 0);
    verify_others(false);
}
static void verify_replace(void) {
    verify_key(true, 'n', 40);
    verify_others(false);
}
static void verify_replace_large(void) {
    verify_key(true, 'n', 15000);
    verify_others(false);
}
static void verify_delete(void) {
    verify_key(true, -1, 0);
    verify_others(false);
}
static void verify_grow(void) {
    verify_key(false, 0, 0);
    verify_others(false);
}
static void verify_flush(void) {
    verify_key(true, -1, 0);
    verify_others(true);
}

static void steps_run(double seconds) {
    static const struct stepper_case cases[] = {
        {"insert", steps_base, steps_enter, op_insert, verify_insert},
        {"replace", steps_base, steps_enter, op_replace, verify_replace},
        {"replace large", steps_base, steps_enter, op_replace_large, verify_replace_large},
        {"delete", steps_base, steps_enter, op_delete, verify_delete},
        {"grow shard", steps_base, steps_enter, op_grow_shard, verify_grow},
        {"flush", steps_base, steps_enter, op_flush, verify_flush},
    };
    unsigned count = sizeof cases / sizeof cases[0];
    uint64_t repaired = store.worker->repaired;
    same_shard_find();
    for (unsigned i = 0; i < count; i++) {
        stepper_run(&cases[i], seconds / count);
    }
    printf("steps: %llu shards repaired\n",
           (unsigned long long)(store.worker->repaired - repaired));
}

/* ---- storm ---- */

static void storm_work(unsigned idx) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    store_become_worker(&store, idx);
    for (;;) {
        unsigned number = (unsigned)(trial_random() % STORM_KEYS);
        unsigned what = (unsigned)(trial_random() % 1000);
        size_t len = what % 40 == 0 ? trial_random() % 20000 : trial_random() % 200;
        if (what < 400) {
            REQUIRE(put(number, (char)('a' + trial_random() % 26), len, 0) == 0);
        } else if (what < 600) {
            (void)drop(number);
        } else if (what < 990) {
            (void)look(number, &len);
        } else if (what < 998) {
            store_tend(&store, 0);
        } else if (what == 998) {
            (void)store_scan(&store, trial_random() % SHARDS, 50, scan_visit, NULL);
        } else {
            store_flush(&store);
        }
    }
}

static pid_t storm_start(unsigned idx) {
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        storm_work(idx);
    }
    return pid;
}

static void storm_kill(pid_t pid, unsigned idx) {
    trial_kill(pid);
    dead_seen++;
    sharena_reap(store.heap);
    store_forget_worker(&store, idx);
}

static void storm_run(double seconds) {
    pid_t pids[STORM_WORKERS];
    uint64_t start_ns = clock_now_ns();
    store_flush(&store);
    for (unsigned i = 0; i < STORM_WORKERS; i++) {
        pids[i] = storm_start(1 + i);
    }
    while (clock_seconds_since(start_ns) < seconds) {
        usleep((useconds_t)(trial_random() % 8000));
        unsigned idx = (unsigned)(trial_random() % STORM_WORKERS);
        storm_kill(pids[idx], 1 + idx);
        pids[idx] = storm_start(1 + idx);
    }
    for (unsigned i = 0; i < STORM_WORKERS; i++) {
        storm_kill(pids[i], 1 + i);
    }
    audit(&store);
    uint64_t repaired = 0;
    for (unsigned i = 0; i <= STORM_WORKERS; i++) {
        repaired += store.root->worker[i]->repaired;
    }
    printf("storm: %u kills, %llu shards repaired so far\n", dead_seen,
           (unsigned long long)repaired);
}

static void test(const char *dir, double seconds) {
    char path[PATH_MAX];
    struct sharena_options options = {.flags = SHARENA_CREATE | SHARENA_EXCL};
    sharena_t *heap;
    snprintf(path, sizeof path, "%s/heap", dir);
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(store_open(&store, heap) == 0);
    store_recover(&store);
    REQUIRE(store_prepare_workers(&store, STORM_WORKERS + 1) == 0);
    store_become_worker(&store, 0);
    audit(&store);
    steps_run(seconds * 0.6);
    model_run();
    storm_run(seconds * 0.4);
    sharena_close(heap);
    REQUIRE(sharena_unlink(path) == 0);
}

int main(int argc, char **argv) {
    return trial_main(argc, argv, 10, test);
}
