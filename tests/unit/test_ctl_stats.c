/* test_ctl_stats.c -- the names of each arena, bin, class, lock and process, after known operations. */
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "heap/census.h"
#include "heap/ctl.h"
#include "heap/tcache.h"
#include "heap_parts.h"
#include "ipc/lock.h"

static void get(const char *name, void *value, size_t bytes) {
    size_t length = bytes;
    if (sharena_ctl(fixture_heap(), name, value, &length, NULL, 0) != 0) {
        fail_msg("%s: %s", name, sharena_errormsg());
    }
    assert_int_equal(length, bytes);
}

static uint64_t get_u64(const char *name) {
    uint64_t value = 0;
    get(name, &value, sizeof(value));
    return value;
}

/* Of "<prefix><number>.<field>". */
static uint64_t get_of(const char *prefix, uint32_t number, const char *field) {
    char name[96];
    (void)snprintf(name, sizeof(name), "%s%u.%s", prefix, number, field);
    return get_u64(name);
}

static const char *get_string(const char *name) {
    const char *value = NULL;
    get(name, &value, sizeof(value));
    return value;
}

static void refuse(const char *name, int error, const char *words) {
    uint64_t value = 7;
    size_t length = sizeof(value);
    assert_refused(sharena_ctl(fixture_heap(), name, &value, &length, NULL, 0), error, words);
    assert_int_equal(value, 7);
}

static void use_arena(unsigned index) {
    assert_int_equal(sharena_ctl(fixture_heap(), "thread.arena", NULL, NULL, &index, sizeof(index)),
                     0);
}

#define BIN_0 "stats.arenas.0.bins."
#define BIN_1 "stats.arenas.1.bins."

/* Past the cache each block is one taken or given; the class of 64 bytes has 64 in a run. */
static void a_bin_counts_blocks_and_runs(void **state) {
    (void)state;
    void *blocks[130];
    uint32_t bin = sizeclass_of(64);
    (void)fixture_self();
    use_arena(1);
    for (size_t i = 0; i < 130; i++) {
        blocks[i] = sharena_mallocx(fixture_heap(), 64, SHARENA_TCACHE_NONE);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(get_of(BIN_1, bin, "nmalloc"), 130);
    assert_int_equal(get_of(BIN_1, bin, "ndalloc"), 0);
    assert_int_equal(get_of(BIN_1, bin, "curregs"), 130);
    assert_int_equal(get_of(BIN_1, bin, "nruns"), 3);
    assert_int_equal(get_of(BIN_1, bin, "curruns"), 3);
    assert_int_equal(get_of(BIN_1, bin, "nreruns"), 0);
    assert_int_equal(get_of(BIN_1, bin, "nfills"), 0);
    assert_int_equal(get_of(BIN_0, bin, "nmalloc"), 0);
    assert_int_equal(get_of(BIN_1, bin + 1, "nmalloc"), 0);
    assert_int_equal(get_u64("stats.arenas.1.small.allocated"), 130 * 64);
    assert_int_equal(get_u64("stats.arenas.1.small.nmalloc"), 130);
    assert_int_equal(get_u64("stats.arenas.0.small.nmalloc"), 0);
    for (size_t i = 0; i < 66; i++) { /* the first run, whole, and two of the second */
        sharena_dallocx(fixture_heap(), blocks[i], SHARENA_TCACHE_NONE);
    }
    assert_int_equal(get_of(BIN_1, bin, "ndalloc"), 66);
    assert_int_equal(get_of(BIN_1, bin, "curregs"), 64);
    assert_int_equal(get_of(BIN_1, bin, "curruns"), 2);
    assert_int_equal(get_of(BIN_1, bin, "nruns"), 3);
    assert_int_equal(get_u64("stats.arenas.1.small.ndalloc"), 66);
    for (size_t i = 0; i < 64; i++) { /* 62 of the current run, then the second again */
        blocks[i] = sharena_mallocx(fixture_heap(), 64, SHARENA_TCACHE_NONE);
    }
    assert_int_equal(get_of(BIN_1, bin, "nreruns"), 1);
    assert_int_equal(get_of(BIN_1, bin, "nruns"), 3);
    for (size_t i = 0; i < 130; i++) {
        if (i < 64 || i >= 66) {
            sharena_dallocx(fixture_heap(), blocks[i], SHARENA_TCACHE_NONE);
        }
    }
    assert_int_equal(get_of(BIN_1, bin, "curregs"), 0);
    assert_int_equal(get_of(BIN_1, bin, "curruns"), 0);
}

static void a_bin_counts_fills_and_flushes(void **state) {
    (void)state;
    uint32_t bin = sizeclass_of(64);
    void *block = sharena_malloc(fixture_heap(), 64);
    assert_int_equal(get_of(BIN_0, bin, "nfills"), 1);
    assert_int_equal(get_of(BIN_0, bin, "nflushes"), 0);
    uint64_t got = get_of(BIN_0, bin, "nmalloc");
    assert_true(got > 1);
    assert_int_equal(get_u64("stats.cached"), (got - 1) * 64);
    sharena_free(fixture_heap(), block);
    tcache_flush(fixture_heap(), fixture_self());
    assert_true(get_of(BIN_0, bin, "nflushes") >= 1);
    assert_int_equal(get_of(BIN_0, bin, "ndalloc"), got);
    block = sharena_malloc(fixture_heap(), 64);
    assert_int_equal(get_of(BIN_0, bin, "nfills"), 2);
    sharena_free(fixture_heap(), block);
}

#define EXTENT_0 "stats.arenas.0.lextents."

static void classes_of_large_and_huge_blocks_are_counted(void **state) {
    (void)state;
    (void)fixture_self();
    uint32_t large = sizeclass_of(100000) - SIZE_CLASSES_SMALL;
    uint32_t huge = sizeclass_of(5 << 20) - SIZE_CLASSES_SMALL;
    void *blocks[] = {sharena_malloc(fixture_heap(), 100000),
                      sharena_malloc(fixture_heap(), 5 << 20),
                      sharena_aligned_alloc(fixture_heap(), 4 << 20, 100000)};
    uint64_t bytes = sizeclass_bytes(SIZE_CLASSES_SMALL + large);
    assert_int_equal(get_of("arenas.lextent.", large, "size"), bytes);
    assert_int_equal(get_of(EXTENT_0, large, "nmalloc"), 1);
    assert_int_equal(get_of(EXTENT_0, large, "curlextents"), 1);
    assert_int_equal(get_of("stats.lextents.", large, "curlextents"), 2);
    assert_int_equal(get_of("stats.lextents.", huge, "curlextents"), 1);
    assert_int_equal(get_of("stats.lextents.", huge, "nmalloc"), 1);
    assert_int_equal(get_u64("stats.arenas.0.large.allocated"), bytes);
    assert_int_equal(get_u64("stats.huge.allocated"), bytes + (5 << 20));
    assert_int_equal(get_u64("stats.huge.nmalloc"), 2);
    assert_int_equal(get_u64("stats.huge.ndalloc"), 0);
    assert_int_equal(get_u64("stats.allocated"), 2 * bytes + (5 << 20));
    for (size_t i = 0; i < 3; i++) {
        sharena_dallocx(fixture_heap(), blocks[i], SHARENA_TCACHE_NONE);
    }
    assert_int_equal(get_of(EXTENT_0, large, "ndalloc"), 1);
    assert_int_equal(get_of(EXTENT_0, large, "curlextents"), 0);
    assert_int_equal(get_of("stats.lextents.", large, "ndalloc"), 2);
    assert_int_equal(get_u64("stats.arenas.0.large.nmalloc"), 1);
    assert_int_equal(get_u64("stats.arenas.0.large.ndalloc"), 1);
    assert_int_equal(get_u64("stats.huge.ndalloc"), 2);
}

static void dirty_and_clean_are_the_free_pages(void **state) {
    (void)state;
    struct sharena_report report;
    void *large = sharena_malloc(fixture_heap(), 200000);
    void *huge = sharena_malloc(fixture_heap(), 5 << 20);
    assert_int_equal(get_u64("stats.dirty"), 0);
    uint64_t free_bytes = get_u64("stats.mapped") + get_u64("stats.retained");
    assert_int_equal(get_u64("stats.arenas.0.pclean") * 4096, (2 << 20) - 229376);
    assert_int_equal(get_u64("stats.clean"), (2 << 20) - 229376);
    sharena_free(fixture_heap(), huge);
    sharena_free(fixture_heap(), large);
    assert_int_equal(sharena_check(fixture_heap(), &report), 0);
    assert_int_equal(get_u64("stats.dirty"), report.pages_dirty * 4096);
    assert_true(get_u64("stats.dirty") >= 5 << 20);
    assert_int_equal(get_u64("stats.dirty") + get_u64("stats.clean") + get_u64("stats.active"),
                     free_bytes);
    assert_int_equal(sharena_purge(fixture_heap()), 0);
    assert_int_equal(get_u64("stats.dirty"), 0);
    assert_int_equal(get_u64("stats.limit"), 0);
    allow_pages(100);
    assert_int_equal(get_u64("stats.limit"), (charged_pages() + 100) * 4096);
    allow_all();
    assert_int_equal(get_u64("stats.capacity"), FIXTURE_CAPACITY);
}

static void *lock_and_wait(void *arg) {
    struct thread_slot *self = fixture_self();
    struct bin *bin = &heap_arena(fixture_heap(), 0)->bins[7];
    lock_acquire(fixture_heap(), self, &bin->lock);
    (void)pthread_barrier_wait(arg);
    const struct timespec pause = {0, 50000000};
    (void)nanosleep(&pause, NULL);
    lock_release(fixture_heap(), self, &bin->lock);
    return NULL;
}

static void locks_count_who_had_to_wait(void **state) {
    (void)state;
    pthread_barrier_t barrier;
    pthread_t thread;
    struct thread_slot *self = fixture_self();
    struct bin *bin = &heap_arena(fixture_heap(), 0)->bins[7];
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    uint64_t acquired = get_of(BIN_0, 7, "lock.acquired");
    assert_int_equal(pthread_create(&thread, NULL, lock_and_wait, &barrier), 0);
    (void)pthread_barrier_wait(&barrier);
    lock_acquire(fixture_heap(), self, &bin->lock);
    lock_release(fixture_heap(), self, &bin->lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(get_of(BIN_0, 7, "lock.acquired"), acquired + 2);
    assert_int_equal(get_of(BIN_0, 7, "lock.contended"), 1);
    assert_int_equal(get_of(BIN_0, 8, "lock.contended"), 0);
    static const char *const names[] = {"stats.arenas.0.lock", "stats.pool.lock",
                                        "stats.roots.lock"};
    struct shared_lock *const locks[] = {&heap_arena(fixture_heap(), 0)->lock,
                                         &heap_pool(fixture_heap())->lock,
                                         &heap_roots(fixture_heap())->lock};
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s.acquired", names[i]);
        acquired = get_u64(name);
        lock_acquire(fixture_heap(), self, locks[i]);
        lock_release(fixture_heap(), self, locks[i]);
        assert_int_equal(get_u64(name), acquired + 1);
        (void)snprintf(name, sizeof(name), "%s.contended", names[i]);
        assert_int_equal(get_u64(name), 0);
    }
    (void)pthread_barrier_destroy(&barrier);
}

static void a_thread_counts_its_bytes(void **state) {
    (void)state;
    void *block = sharena_malloc(fixture_heap(), 64);
    uint64_t cached = get_u64("thread.cached");
    assert_true(cached > 0);
    assert_int_equal(get_u64("thread.allocated"), 64 + cached);
    assert_int_equal(get_u64("thread.deallocated"), cached);
    sharena_free(fixture_heap(), block);
    assert_int_equal(get_u64("thread.allocated"), 64 + cached);
    assert_int_equal(get_u64("thread.deallocated"), 64 + cached);
    block = sharena_malloc(fixture_heap(), 1 << 20);
    assert_int_equal(get_u64("thread.allocated") - get_u64("thread.deallocated"), 1 << 20);
    sharena_free(fixture_heap(), block);
    assert_int_equal(get_u64("thread.allocated"), get_u64("thread.deallocated"));
}

static void the_file_is_described(void **state) {
    (void)state;
    bool truth = true;
    unsigned version = 0;
    char uuid[64];
    assert_string_equal(get_string("heap.path"), fixture_path());
    assert_int_equal(get_u64("heap.base"), (uintptr_t)fixture_heap());
    assert_int_equal(get_u64("heap.created_ns"), heap_superblock(fixture_heap())->created_ns);
    get("heap.format_version", &version, sizeof(version));
    assert_int_equal(version, FORMAT_VERSION);
    get("heap.readonly", &truth, sizeof(truth));
    assert_false(truth);
    (void)snprintf(uuid, sizeof(uuid), "%s", get_string("heap.uuid"));
    assert_int_equal(strlen(uuid), 36);
    for (int i = 0, digits = 0; i < 36; i++) {
        char byte[3] = {uuid[i], uuid[i + 1], '\0'};
        if (uuid[i] == '-') {
            continue;
        }
        assert_int_equal(strtoul(byte, NULL, 16), heap_superblock(fixture_heap())->uuid[digits++]);
        i++;
    }
}

static void this_process_is_described(void **state) {
    (void)state;
    unsigned number = 0;
    void *block = sharena_malloc(fixture_heap(), 64);
    get("process.0.pid", &number, sizeof(number));
    assert_int_equal(number, getpid());
    get("process.0.threads", &number, sizeof(number));
    assert_int_equal(number, 1);
    assert_string_equal(get_string("process.0.name"), fixture_process_name());
    assert_string_equal(get_string("process.0.state"), "alive");
    assert_int_equal(get_u64("process.0.cached"), get_u64("stats.cached"));
    assert_int_equal(get_u64("process.0.attached_ns"),
                     shared_get(&heap_process(fixture_heap(), 0)->attached_ns));
    static const char *const fields[] = {"threads", "cached", "attached_ns", "name", "state"};
    for (size_t i = 0; i < 5; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "process.1.%s", fields[i]);
        refuse(name, ENOENT, "no process has this slot");
    }
    sharena_free(fixture_heap(), block);
}

static void each_number_has_its_limit(void **state) {
    (void)state;
    (void)fixture_self();
    refuse("stats.arenas.1.bins.0.nmalloc", ENOENT, "the first number must be below 1");
    refuse("stats.arenas.0.bins.36.nmalloc", ENOENT, "the second number must be below 36");
    refuse("stats.arenas.9.bins.99.nmalloc", ENOENT, "the first number must be below 1");
    refuse("stats.arenas.0.lextents.28.nmalloc", ENOENT, "second number must be below 28");
    refuse("stats.arenas.0.bins..nmalloc", ENOENT, "#.*");
    refuse("stats.arenas.0.bins.0.nothing", ENOENT,
           "behind 'stats.arenas.#.bins.#.' there are: nmalloc, ndalloc, curregs");
    refuse("stats.arenas.0.lock", ENOENT, "lock.*, bins.*, lextents.*");
    refuse("heap.", ENOENT, "path, uuid, base");
    assert_int_equal(get_u64("stats.arenas.0.bins.35.nmalloc"), 0);
    assert_int_equal(get_u64("stats.arenas.0.lextents.27.nmalloc"), 0);
    char name[64];
    unsigned count = 0;
    get("arenas.nlextents", &count, sizeof(count));
    (void)snprintf(name, sizeof(name), "stats.lextents.%u.nmalloc", count - 1);
    assert_int_equal(get_u64(name), 0);
    (void)snprintf(name, sizeof(name), "stats.lextents.%u.nmalloc", count);
    refuse(name, ENOENT, "the number must be below");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(a_bin_counts_blocks_and_runs),
        with_heap(a_bin_counts_fills_and_flushes),
        with_heap(classes_of_large_and_huge_blocks_are_counted),
        with_heap(dirty_and_clean_are_the_free_pages),
        with_heap(locks_count_who_had_to_wait),
        with_heap(a_thread_counts_its_bytes),
        with_heap(the_file_is_described),
        with_heap(this_process_is_described),
        with_heap(each_number_has_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
