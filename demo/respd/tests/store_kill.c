/* store_kill.c -- the dataset of respd under kills.
 *
 *     store_kill [HEAP [SECONDS]]      exit status 0 = all well
 *
 * model   random operations beside a plain array; resizes, flushes and scans among them.
 * steps   a child executes one operation with the CPU's trap flag set, so that each instruction
 *         raises a signal, and kills itself in the n-th of them, for many n. The operation then
 *         happened as a whole or not at all, the shard is in order, and the heap holds exactly the
 *         blocks that the dataset knows: none is lost.
 * storm   children work on the same few keys, pin values and look whether these stay as they are;
 *         one after the other is killed at any time and replaced.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "args.h"
#include "clock.h"
#include "number.h"
#include "shard.h"

#define MODEL_KEYS 3000u
#define BASE_KEYS 15u  /* with one more key the first table is full */
#define SAME_SHARD 21u /* and with these the second is needed */
#define STORM_KEYS 64u
#define STORM_WORKERS 4u
#define REQUIRE(condition) require(condition, #condition, __LINE__)

static char path[4096];
static pid_t tester;
static struct store store;
static unsigned dead_seen;

static void give_up(void) {
    if (getpid() == tester) {
        unlink(path);
    }
    abort();
}

static void require(bool holds, const char *condition, int line) {
    if (!holds) {
        fprintf(stderr, "store_kill.c:%d: %s does not hold\n", line, condition);
        give_up();
    }
}

static uint64_t random_next(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* ---- audit: is everything where it belongs, and is nothing lost? ---- */

static void audit_chain(const struct shard *shard, unsigned idx, const struct table *table,
                        uint64_t bucket, uint64_t counts[2]) {
    REQUIRE(bucket >= table->done || table->bucket[bucket] == NULL);
    for (const struct entry *e = table->bucket[bucket]; e != NULL; e = e->next) {
        struct key key = store_key(&store, e->bytes, e->key_bytes);
        struct key *where = &key;
        REQUIRE(key.hash == e->hash && e->hash >> 56 == idx);
        REQUIRE((e->hash & (table->buckets - 1)) == bucket);
        REQUIRE(*table_find((struct shard *)(uintptr_t)shard, where) == e);
        REQUIRE(memcmp(entry_reply(e) + entry_reply_bytes(e) - 2, "\r\n", 2) == 0);
        counts[0]++;
        counts[1] += e->expire_ms != 0 ? 1 : 0;
    }
}

/* Returns how many blocks the shard owns. */
static uint64_t audit_shard(const struct shard *shard, unsigned idx) {
    uint64_t counts[2] = {0, 0};
    uint64_t blocks = 0;
    uint64_t retired_bytes = 0;
    REQUIRE(shard->fresh == NULL && shard->dying == NULL && shard->log_steps == 0);
    for (int i = 0; i < 2 && shard->tables[i] != NULL; i++) {
        blocks++;
        for (uint64_t b = 0; b < shard->tables[i]->buckets; b++) {
            audit_chain(shard, idx, shard->tables[i], b, counts);
        }
    }
    REQUIRE(counts[0] == shard->keys && counts[1] == shard->expires);
    blocks += counts[0];
    for (const struct entry *e = shard->retired; e != NULL; e = e->next) {
        retired_bytes += entry_bytes(e);
        blocks++;
    }
    REQUIRE(retired_bytes == shard->retired_bytes);
    for (const struct table *t = shard->doomed; t != NULL; t = t->next) {
        blocks++;
        for (uint64_t b = 0; b < t->buckets; b++) {
            for (const struct entry *e = t->bucket[b]; e != NULL; e = e->next) {
                blocks++;
            }
        }
    }
    return blocks;
}

static void audit(void) {
    struct sharena_report report;
    uint64_t blocks = 1; /* the root */
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = store_lock_shard(&store, i);
        blocks += audit_shard(shard, i);
        store_unlock(shard);
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        blocks += store.root->worker[i] != NULL ? 1 : 0;
    }
    sharena_reap(store.heap);
    int error = sharena_check(store.heap, &report);
    if (error != 0 || report.blocks_live != blocks) {
        fprintf(stderr, "check %d, findings %llu (%s), blocks live %llu, known %llu\n", error,
                (unsigned long long)report.findings, report.messages[0],
                (unsigned long long)report.blocks_live, (unsigned long long)blocks);
        give_up();
    }
}

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
            unsigned number = (unsigned)(random_next() % MODEL_KEYS) | 1;
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
    for (unsigned round = 0; round < 300000; round++) {
        unsigned number = (unsigned)(random_next() % MODEL_KEYS);
        unsigned what = (unsigned)(random_next() % 1000);
        size_t len;
        if (what < 500) {
            len = what < 490 ? random_next() % 300 : random_next() % 20000;
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
            audit();
        }
        if (round % 150000 == 149999) {
            store_flush(&store);
            memset(lens, 0, sizeof lens);
            audit();
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

/* In the child: how many instructions are left to it; in shared memory, to count them all once. */
static volatile uint64_t *steps_left;

static void on_step(int number) {
    (void)number;
    if (--*steps_left == 0) {
        kill(getpid(), SIGKILL);
    }
}

#ifdef __x86_64__
static void trap_set(void) {
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
}
static void trap_clear(void) {
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}
#else /* no such flag: the storm alone must do */
static void trap_set(void) {
}
static void trap_clear(void) {
}
#endif

/* Executes `steps` instructions of the operation in a child that dies there. False: it came to the
 * operation's end. */
static bool step_and_kill(void (*op)(void), uint64_t steps) {
    int status;
    *steps_left = steps;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        store_become_worker(&store, 1);
        (void)!put(3, 'w', 40, 0); /* so that this process has met the heap */
        (void)drop(3);
        signal(SIGTRAP, on_step);
        trap_set();
        op();
        trap_clear();
        _exit(0);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    REQUIRE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    store_forget_worker(&store, 1);
    return killed;
}

static void steps_verify(void (*op)(void)) {
    size_t len;
    int first = look(1, &len);
    if (op == op_replace || op == op_replace_large) {
        size_t new_len = op == op_replace ? 40 : 15000;
        REQUIRE((first == 'o' && len == 30) || (first == 'n' && len == new_len));
    } else if (op == op_delete || op == op_flush) {
        REQUIRE(first == -1 || (first == 'o' && len == 30));
    } else {
        REQUIRE(first == 'o' && len == 30);
    }
    int second = look(2, &len);
    REQUIRE(second == -1 || (op == op_insert && second == 'n' && len == 40));
    for (unsigned i = 0; i < BASE_KEYS; i++) {
        int other = look(same_shard[i], &len);
        REQUIRE(other == 'o' || (other == -1 && op == op_flush));
    }
}

/* One run to the end tells how many instructions there are and what they cost; then as many kills
 * as the time allows, spread over all of them. */
static void steps_run(const char *name, void (*op)(void), double seconds) {
    uint64_t repaired = store.worker->repaired;
    steps_base();
    uint64_t start_ns = clock_now_ns();
    REQUIRE(!step_and_kill(op, UINT64_MAX));
    uint64_t total = UINT64_MAX - *steps_left;
    audit();
    double cost = clock_seconds_since(start_ns) / 2 + 0.001;
    uint64_t kills = (uint64_t)(seconds / cost);
    kills = kills > total ? total : kills == 0 ? 1 : kills;
    for (uint64_t i = 0; i < kills; i++) {
        steps_base();
        (void)step_and_kill(op, 1 + (i * total + random_next() % total) / kills);
        steps_verify(op);
        audit();
    }
    printf("steps: %-14s %llu instructions, killed at %llu of them, %llu shards repaired\n", name,
           (unsigned long long)total, (unsigned long long)kills,
           (unsigned long long)(store.worker->repaired - repaired));
}

/* ---- storm ---- */

static void storm_work(unsigned idx) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    store_become_worker(&store, idx);
    for (unsigned i = 0; i < idx * 1000 + (unsigned)getpid() % 1000; i++) {
        random_next();
    }
    for (;;) {
        unsigned number = (unsigned)(random_next() % STORM_KEYS);
        unsigned what = (unsigned)(random_next() % 1000);
        size_t len = what % 40 == 0 ? random_next() % 20000 : random_next() % 200;
        if (what < 400) {
            REQUIRE(put(number, (char)('a' + random_next() % 26), len, 0) == 0);
        } else if (what < 600) {
            (void)drop(number);
        } else if (what < 990) {
            (void)look(number, &len);
        } else if (what < 998) {
            store_tend(&store, 0);
        } else if (what == 998) {
            (void)store_scan(&store, random_next() % SHARDS, 50, scan_visit, NULL);
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
    int status;
    kill(pid, SIGKILL);
    REQUIRE(waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* nothing else ended it */
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
        usleep((useconds_t)(random_next() % 8000));
        unsigned idx = (unsigned)(random_next() % STORM_WORKERS);
        storm_kill(pids[idx], 1 + idx);
        pids[idx] = storm_start(1 + idx);
    }
    for (unsigned i = 0; i < STORM_WORKERS; i++) {
        storm_kill(pids[i], 1 + i);
    }
    audit();
    uint64_t repaired = 0;
    for (unsigned i = 0; i <= STORM_WORKERS; i++) {
        repaired += store.root->worker[i]->repaired;
    }
    printf("storm: %u kills, %llu shards repaired so far\n", dead_seen,
           (unsigned long long)repaired);
}

int main(int argc, char **argv) {
    double seconds = 12;
    if (argc > 3 || (argc > 2 && args_parse_seconds("SECONDS", argv[2], 3600, &seconds) != 0)) {
        fputs("usage: store_kill [HEAP [SECONDS]]\n", stderr);
        return 2;
    }
    snprintf(path, sizeof path, "/dev/shm/respd-store-kill.%d", (int)getpid());
    if (argc > 1) {
        snprintf(path, sizeof path, "%s", argv[1]);
    }
    tester = getpid();
    struct sharena_options options = {.flags = SHARENA_CREATE | SHARENA_EXCL};
    sharena_t *heap;
    if (sharena_open(path, &options, &heap) != 0) {
        fprintf(stderr, "%s\n", sharena_errormsg());
        return 1;
    }
    REQUIRE(store_open(&store, heap) == 0);
    store_recover(&store);
    REQUIRE(store_prepare_workers(&store, STORM_WORKERS + 1) == 0);
    store_become_worker(&store, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    audit();

    model_run();
    same_shard_find();
    steps_left = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(steps_left != MAP_FAILED);
    static const struct {
        const char *name;
        void (*op)(void);
    } ops[] = {
        {"insert", op_insert}, {"replace", op_replace},       {"replace large", op_replace_large},
        {"delete", op_delete}, {"grow shard", op_grow_shard}, {"flush", op_flush},
    };
    unsigned count = sizeof ops / sizeof ops[0];
    for (unsigned i = 0; i < count; i++) {
        steps_run(ops[i].name, ops[i].op, seconds * 0.6 / count);
    }
    storm_run(seconds * 0.4);

    sharena_close(heap);
    REQUIRE(sharena_unlink(path) == 0);
    return 0;
}
