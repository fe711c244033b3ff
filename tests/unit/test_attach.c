/* test_attach.c -- what an open makes of a file: new, unfinished, left by the dead, of another boot,
 * or copied while in use; and how big the parts of a new one are.
 */
/* ctest: not under valgrind: it maps terabytes, and kills in random moments */
#include <fcntl.h>
#include <sys/stat.h>

#include "crowd.h"
#include "heap/heap.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#define ALL_MAPPED (64 * MIB)

static char path[SCRATCH_MAX];
static char copy[SCRATCH_MAX];

static int set_up(void **state) {
    (void)state;
    scratch_path(path, "attach");
    scratch_path(copy, "attach-copy");
    return 0;
}

static int clean_up(void **state) {
    (void)state;
    (void)unlink(path);
    (void)unlink(copy);
    return 0;
}

static struct sharena_options small_options(void) {
    return (struct sharena_options){.capacity_bytes = ALL_MAPPED, .base_address = clean_base(0)};
}

static sharena_t *open_small(void) {
    const struct sharena_options options = small_options();
    return clean_open_with(path, &options);
}

/* ---- bytes of a file that is not mapped ---- */

static void read_file(uint64_t offset, void *bytes, size_t count) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, count, (off_t)offset), count);
    (void)close(fd);
}

static void write_file(uint64_t offset, const void *bytes, size_t count) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)offset), count);
    (void)close(fd);
}

static uint32_t stored_in_use(void) {
    uint32_t in_use;
    read_file(STATE_OFFSET + offsetof(struct heap_state, in_use), &in_use, sizeof(in_use));
    return in_use;
}

static void change_boot_id(void) {
    const uint8_t other[16] = {1, 2, 3};
    write_file(STATE_OFFSET + offsetof(struct heap_state, boot_id), other, sizeof(other));
}

/* ---- creation that was not finished ---- */

static void assert_begun_anew(void) {
    const struct sharena_options must_exist = {.flags = SHARENA_OPEN_ONLY};
    const struct sharena_options readonly = {.flags = SHARENA_READONLY};
    sharena_t *heap = NULL;
    assert_refused(sharena_open(path, &must_exist, &heap), EUCLEAN, "never finished");
    assert_refused(sharena_open(path, &readonly, &heap), EUCLEAN, "never finished");
    assert_null(heap);
    heap = open_small();
    assert_null(sharena_root_get(heap, "old"));
    sharena_free(heap, sharena_malloc(heap, 100));
    clean_end(heap, path, 0);
}

static void test_unfinished(void **state) {
    (void)state;
    const uint64_t creating = MAGIC_CREATING;
    write_file(0, &creating, sizeof(creating)); /* killed before it had its length */
    assert_begun_anew();
    write_file(0, &creating, sizeof(creating));
    assert_int_equal(truncate(path, (off_t)GIB), 0); /* or before it had a superblock */
    assert_begun_anew();
    sharena_t *heap = open_small();
    assert_int_equal(sharena_root_set(heap, "old", sharena_malloc(heap, 100)), 0);
    assert_int_equal(sharena_close(heap), 0);
    write_file(0, &creating, sizeof(creating)); /* or before the last store, whatever is there */
    assert_begun_anew();
}

static int create_and_wait(void *arg) {
    const struct sharena_options options = small_options();
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(sharena_malloc(heap, 100) != NULL);
    (void)pause();
    return 1;
}

static void test_killed_creators(void **state) {
    (void)state;
    uint64_t random = 5;
    for (int round = 0; round < 30; round++) {
        pid_t pid = child_start(create_and_wait, NULL);
        uint64_t spins = clean_random(&random) % 400000; /* about what a creation takes */
        for (volatile uint64_t i = 0; i < spins; i++) {
        }
        crowd_kill(pid);
        sharena_t *heap = open_small();
        struct sharena_report report;
        if (sharena_check(heap, &report) != 0) {
            fail_msg("round %d: %s", round, sharena_errormsg());
        }
        assert_int_equal(report.blocks_cached, 0);
        assert_true(report.blocks_live <= 1);
        sharena_free(heap, sharena_malloc(heap, 1000));
        assert_int_equal(sharena_close(heap), 0);
        assert_int_equal(stored_in_use(), 0);
        assert_int_equal(sharena_unlink(path), 0);
    }
}

/* ---- left by the dead ---- */

#define LIVE 20u

/* Blocks live and cached, all kinds of locks used; then death, in a section if *arg. */
static int use_and_die(void *arg) {
    const struct sharena_options options = small_options();
    const int *in_section = arg;
    sharena_t *heap;
    void *blocks[2 * LIVE];
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(sharena_malloc_batch(heap, 64, 2 * LIVE, blocks) == 2 * LIVE);
    sharena_free_batch(heap, LIVE, blocks);
    sharena_free(heap, sharena_malloc(heap, 20000));
    REQUIRE(sharena_root_set(heap, "block", blocks[LIVE]) == 0);
    if (*in_section) {
        struct thread_slot *self = heap_enter(heap);
        struct arena *arena = heap_arena(heap, 0);
        lock_acquire(heap, self, &arena->lock);
        journal_set(self, &arena->pages_used, 4711);
        journal_set(self, &arena->free_dirty, 0xffffffffu);
        journal_set(self, &arena->pages_used, 4712);
    }
    return kill(getpid(), SIGKILL);
}

static void die_in(int in_section) {
    int status = child_wait(child_start(use_and_die, &in_section));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The heap is as good as new, but for the blocks that are live. */
static void assert_recovered(sharena_t *heap, uint64_t recovered) {
    struct sharena_report report;
    if (sharena_check(heap, &report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    assert_int_equal(report.blocks_live, LIVE);
    assert_int_equal(report.blocks_cached, 0);
    assert_int_equal(shared_get(&heap_state(heap)->recovered), recovered);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_threads), 1);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_processes), 1);
    assert_non_null(sharena_root_get(heap, "block"));
    sharena_free(heap, sharena_malloc(heap, 64));
    sharena_free(heap, sharena_malloc(heap, 20000));
    sharena_free(heap, sharena_malloc(heap, 3 * MIB));
    assert_int_equal(sharena_purge(heap), 0);
}

static void test_left_by_the_dead(void **state) {
    (void)state;
    for (int in_section = 0; in_section < 2; in_section++) {
        die_in(in_section);
        assert_int_equal(stored_in_use(), 1);
        sharena_t *heap = open_small();
        assert_recovered(heap, (uint64_t)in_section);
        clean_end(heap, path, LIVE);
    }
}

static uint64_t slot_field(uint32_t index, size_t offset) {
    return THREADS_OFFSET + (uint64_t)index * THREAD_SLOT_BYTES + offset;
}

/* The used slot of the dead. */
static uint32_t find_used_slot(void) {
    uint32_t state = SLOT_RAW;
    uint32_t index = 0;
    read_file(slot_field(index, offsetof(struct thread_slot, state)), &state, sizeof(state));
    assert_int_equal(state, SLOT_USED);
    return index;
}

/* A step that the machine itself could have left: words of mutexes that name threads of the past,
 * entries in a journal, and fields that hold what was not committed. */
static void test_open_journal(void **state) {
    (void)state;
    struct superblock superblock;
    struct pool pool;
    struct arena arena;
    die_in(0);
    read_file(0, &superblock, sizeof(superblock));
    read_file(POOL_OFFSET, &pool, sizeof(pool));
    read_file(ARENAS_OFFSET, &arena, sizeof(arena));
    uint32_t slot = find_used_slot();
    uint64_t backed_at = STATE_OFFSET + offsetof(struct heap_state, backed_pages);
    uint64_t used_at = ARENAS_OFFSET + offsetof(struct arena, pages_used);
    uint64_t backed;
    read_file(backed_at, &backed, sizeof(backed));
    const struct journal_entry entries[] = {
        {(superblock.base_address + used_at) << 4 | 4, shared_get(&arena.pages_used)},
        {(superblock.base_address + backed_at) << 4 | 8, backed},
        {(superblock.base_address + used_at) << 4 | 4, 77}, /* the newest is undone first */
    };
    const uint32_t count = 3;
    const uint32_t wrong = 78;
    const uint64_t lock = ARENAS_OFFSET;
    const uint64_t journal = slot_field(slot, offsetof(struct thread_slot, journal));
    write_file(journal + offsetof(struct journal, lock), &lock, sizeof(lock));
    write_file(journal + offsetof(struct journal, count), &count, sizeof(count));
    write_file(journal + offsetof(struct journal, entries), entries, sizeof(entries));
    write_file(used_at, &wrong, sizeof(wrong));
    write_file(backed_at, &lock, sizeof(lock));
    const uint32_t word = 1; /* held by the first process of all, which never dies */
    const uint32_t owner = slot + 1;
    const uint64_t locks[] = {POOL_OFFSET, ROOTS_OFFSET, ARENAS_OFFSET,
                              ARENAS_OFFSET + offsetof(struct arena, bins), slot_field(slot, 0)};
    for (size_t i = 0; i < 5; i++) {
        write_file(locks[i], &word, sizeof(word));
        if (i < 4) {
            write_file(locks[i] + offsetof(struct shared_lock, owner), &owner, sizeof(owner));
        }
    }
    sharena_t *heap = open_small();
    assert_int_equal(shared_get(&heap_state(heap)->backed_pages), backed);
    assert_recovered(heap, 1);
    clean_end(heap, path, LIVE);
}

/* An open that is killed in its recovery leaves all of it to the next. */
static int open_and_die(void *arg) {
    const struct sharena_options options = small_options();
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    (void)pause();
    return 1;
}

static void test_killed_in_recovery(void **state) {
    (void)state;
    uint64_t random = 3;
    for (int round = 0; round < 20; round++) {
        die_in(1);
        for (int i = 0; i < 3; i++) {
            pid_t pid = child_start(open_and_die, NULL);
            uint64_t spins = clean_random(&random) % 300000;
            for (volatile uint64_t j = 0; j < spins; j++) {
            }
            crowd_kill(pid);
        }
        sharena_t *heap = open_small();
        assert_int_equal(shared_get(&heap_state(heap)->recovered), 1);
        clean_end(heap, path, LIVE);
    }
}

/* ---- of another boot ---- */

static void test_another_boot_in_use(void **state) {
    (void)state;
    const struct sharena_options recover = {.flags = SHARENA_OPEN_ONLY | SHARENA_RECOVER};
    sharena_t *heap = (sharena_t *)(void *)path;
    die_in(1);
    change_boot_id();
    for (int i = 0; i < 2; i++) { /* a refusal changes nothing */
        assert_refused(sharena_open(path, NULL, &heap), EUCLEAN, "SHARENA_RECOVER");
        assert_says(path);
        assert_null(heap);
        assert_int_equal(stored_in_use(), 1);
    }
    heap = clean_open_with(path, &recover);
    assert_recovered(heap, 1);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(stored_in_use(), 0);
    clean_end(open_small(), path, LIVE); /* it is of this boot now */
}

static void test_another_boot_closed(void **state) {
    (void)state;
    sharena_t *heap = open_small();
    char *text = sharena_malloc(heap, 20);
    (void)strcpy(text, "still here");
    assert_int_equal(sharena_root_set(heap, "text", text), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(stored_in_use(), 0);
    change_boot_id();
    heap = open_small();
    assert_ptr_equal(sharena_root_get(heap, "text"), text);
    assert_string_equal(text, "still here");
    assert_int_equal(stored_in_use(), 1);
    assert_int_equal(shared_get(&heap_state(heap)->recovered), 0);
    sharena_free(heap, text);
    assert_int_equal(sharena_root_set(heap, "text", NULL), 0);
    clean_end(heap, path, 0);
}

/* ---- copied while in use ---- */

/* What is stored of `path`, into a sparse file. */
static void copy_file(void) {
    static char bytes[1 << 16];
    struct stat status;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(copy, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(from >= 0 && to >= 0);
    assert_int_equal(fstat(from, &status), 0);
    assert_int_equal(ftruncate(to, status.st_size), 0);
    for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
        off_t hole = lseek(from, at, SEEK_HOLE);
        while (at < hole) {
            size_t want = hole - at < (off_t)sizeof(bytes) ? (size_t)(hole - at) : sizeof(bytes);
            ssize_t got = pread(from, bytes, want, at);
            assert_true(got > 0);
            assert_int_equal(pwrite(to, bytes, (size_t)got, at), got);
            at += got;
        }
    }
    (void)close(from);
    (void)close(to);
}

static int be_in_section(void *arg) {
    const struct sharena_options options = small_options();
    atomic_int *gate = arg;
    sharena_t *heap;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    for (uint32_t i = 0; i < LIVE; i++) {
        REQUIRE(sharena_malloc(heap, 64) != NULL);
    }
    struct thread_slot *self = heap_enter(heap);
    lock_acquire(heap, self, &heap_pool(heap)->lock);
    journal_set(self, &heap_pool(heap)->clean, 0xffffffffu);
    journal_set(self, &heap_arena(heap, 0)->threads, 99);
    crowd_meet(gate, 2);
    (void)pause();
    return 1;
}

/* A copy is like what all the dead left at that moment, if nobody wrote meanwhile; which nobody can
 * know but who made it. */
static void test_copied_in_use(void **state) {
    (void)state;
    const struct sharena_options recover = {.flags = SHARENA_OPEN_ONLY | SHARENA_RECOVER};
    struct sharena_report report;
    sharena_t *heap = NULL;
    atomic_int *gate = crowd_memory(sizeof(*gate));
    pid_t pid = child_start(be_in_section, gate);
    crowd_meet(gate, 2);
    copy_file();
    assert_refused(sharena_open(copy, NULL, &heap), EUCLEAN, "copied while in use");
    heap = clean_open_with(copy, &recover); /* the child has the original */
    assert_int_equal(shared_get(&heap_state(heap)->recovered), 1);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_threads), 0); /* nobody has used it */
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(shared_get(&heap_state(heap)->reaped_threads), 1);
    assert_int_equal(report.blocks_live, LIVE);
    assert_int_equal(report.blocks_cached, 0);
    clean_end(heap, copy, LIVE);
    crowd_kill(pid);
    heap = open_small();
    clean_end(heap, path, LIVE);
    assert_int_equal(munmap(gate, sizeof(*gate)), 0);
}

/* ---- the layout ---- */

/* A file of a build with another layout is refused, and not touched. */
static void test_fingerprint(void **state) {
    (void)state;
    sharena_t *heap = open_small();
    assert_int_equal(sharena_close(heap), 0);
    uint64_t fingerprint = heap_fingerprint();
    assert_int_not_equal(fingerprint, 0);
    assert_int_equal(heap_fingerprint(), fingerprint);
    struct superblock before;
    struct superblock after;
    read_file(0, &before, sizeof(before));
    superblock_expect(fingerprint + 1); /* as if a constant were another */
    assert_refused(sharena_open(path, NULL, &heap), ENOEXEC, "fingerprint");
    assert_null(heap);
    superblock_expect(fingerprint);
    read_file(0, &after, sizeof(after));
    assert_memory_equal(&before, &after, sizeof(before));
    clean_end(open_small(), path, 0);
}

static const uint64_t capacities[] = {1, CHUNK_BYTES, CHUNK_BYTES + 1, GIB, 1ull << 40, 1ull << 43};

/* All metadata of a file of that length fits in front of its data. */
static int fits(uint64_t total_bytes, uint64_t data_offset) {
    return geometry_of(total_bytes).data_offset <= data_offset;
}

static void test_geometry(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        struct sharena_options options = {.capacity_bytes = capacities[i],
                                          .base_address = clean_base(0)};
        sharena_t *heap;
        if (sharena_open(path, &options, &heap) != 0) {
            assert_true(capacities[i] > GIB); /* a sanitizer may have the addresses */
            print_message("capacity %llu: %s\n", (unsigned long long)capacities[i],
                          sharena_errormsg());
            continue;
        }
        const struct superblock *superblock = heap_superblock(heap);
        uint64_t data = superblock->data_offset;
        uint64_t capacity = superblock->total_bytes - data;
        assert_int_equal(capacity, round_up(capacities[i], CHUNK_BYTES));
        assert_true(fits(superblock->total_bytes, data));
        assert_false(fits(superblock->total_bytes - CHUNK_BYTES, data - CHUNK_BYTES));
        struct heap_geometry parts = geometry_of(superblock->total_bytes);
        uint64_t pages = superblock->total_bytes / PAGE_BYTES;
        assert_true(PAGE_MAP_OFFSET + pages * sizeof(uint16_t) <= parts.kinds_offset);
        assert_true(parts.kinds_offset + pages * sizeof(uint16_t) <= parts.runs_offset);
        assert_true(parts.runs_offset + pages * sizeof(struct run) <= parts.chunks_offset);
        assert_true(parts.chunks_offset +
                        superblock->total_bytes / CHUNK_BYTES * sizeof(struct chunk) <=
                    data);
        assert_int_equal(heap_state(heap)->data_begin, (uint64_t)(uintptr_t)heap + data);
        struct stat status;
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_size, superblock->total_bytes);
        assert_true(status.st_blocks * 512 < 1 << 20); /* an empty heap is small */
        sharena_free(heap, sharena_malloc(heap, 100));
        clean_end(heap, path, 0);
    }
}

/* One chunk is one chunk: what needs one fits, what needs a second does not. */
static void test_one_chunk(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = 1, .base_address = clean_base(0)};
    sharena_t *heap = clean_open_with(path, &options);
    void *block = sharena_mallocx(heap, CHUNK_BYTES, SHARENA_TCACHE_NONE);
    assert_non_null(block);
    assert_null(sharena_mallocx(heap, 100, SHARENA_TCACHE_NONE));
    assert_int_equal(errno, ENOMEM);
    assert_says("capacity");
    sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
    block = sharena_malloc(heap, 100);
    assert_non_null(block);
    sharena_free(heap, block);
    clean_end(heap, path, 0);
}

static void test_capacity_above_the_maximum(void **state) {
    (void)state;
    const uint64_t wrong[] = {(1ull << 43) + 1, 1ull << 44, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        struct sharena_options options = {.capacity_bytes = wrong[i]};
        sharena_t *heap;
        assert_refused(sharena_open(path, &options, &heap), EINVAL, "capacity_bytes");
        assert_null(heap);
        assert_int_equal(access(path, F_OK), -1); /* nothing is left behind */
    }
}

static void test_limit_is_kept(void **state) {
    (void)state;
    const uint64_t limits[] = {0, 1, PAGE_BYTES, 32 * MIB + 1, UINT64_MAX};
    const uint64_t kept[] = {0, PAGE_BYTES, PAGE_BYTES, 32 * MIB + 1, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        struct sharena_options options = small_options();
        options.limit_bytes = limits[i];
        sharena_t *heap = clean_open_with(path, &options);
        assert_int_equal(heap_superblock(heap)->limit_bytes, kept[i]);
        assert_int_equal(sharena_close(heap), 0);
        options.limit_bytes = 5 * MIB; /* fixed at creation */
        heap = clean_open_with(path, &options);
        assert_int_equal(heap_superblock(heap)->limit_bytes, kept[i]);
        clean_end(heap, path, 0);
    }
}

#define with_path(f) cmocka_unit_test_setup_teardown(f, set_up, clean_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_path(test_unfinished),          with_path(test_killed_creators),
        with_path(test_left_by_the_dead),    with_path(test_open_journal),
        with_path(test_killed_in_recovery),  with_path(test_another_boot_in_use),
        with_path(test_another_boot_closed), with_path(test_copied_in_use),
        with_path(test_fingerprint),         with_path(test_geometry),
        with_path(test_one_chunk),           with_path(test_capacity_above_the_maximum),
        with_path(test_limit_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
