/* test_purge.c -- a purge leaves little, and ends, however fast others dirty what it cleans. */
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clean_heap.h"

enum { PUNCHES_MAX = 400 };

static char path[SCRATCH_MAX];
static sharena_t *heap;
static sem_t wanted;
static sem_t done;
static size_t dirty_bytes; /* of the block that is freed after each punch; 0: none */
static int punches;

/* The library's own calls come here: each time it punched pages out, another thread frees a block,
 * whose pages are dirty then, until it has done so PUNCHES_MAX times. */
int madvise(void *addr, size_t len, int advice) {
    int result = (int)syscall(SYS_madvise, addr, len, advice);
    if (advice == MADV_REMOVE && dirty_bytes != 0 && ++punches < PUNCHES_MAX) {
        (void)sem_post(&wanted);
        (void)sem_wait(&done);
    }
    return result;
}

static void *dirty_when_wanted(void *arg) {
    (void)arg;
    while (sem_wait(&wanted) == 0 && dirty_bytes != 0) {
        void *block = sharena_mallocx(heap, dirty_bytes, SHARENA_ARENA(0) | SHARENA_TCACHE_NONE);
        sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
        (void)sem_post(&done);
    }
    return NULL;
}

static void purge_against(size_t bytes) {
    pthread_t thread;
    struct sharena_report report;
    heap = clean_open(scratch_path(path, "purge"));
    sharena_free(heap, sharena_malloc(heap, 1)); /* arena 0 is there */
    sharena_dallocx(heap, sharena_mallocx(heap, bytes, SHARENA_ARENA(0) | SHARENA_TCACHE_NONE),
                    SHARENA_TCACHE_NONE);
    punches = 0;
    dirty_bytes = bytes;
    assert_int_equal(pthread_create(&thread, NULL, dirty_when_wanted, NULL), 0);
    assert_int_equal(sharena_purge(heap), 0);
    assert_in_range(punches, 1, PUNCHES_MAX / 4);
    dirty_bytes = 0;
    (void)sem_post(&wanted);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sharena_purge(heap), 0); /* nobody dirties: all goes */
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.pages_dirty, 0);
    clean_end(heap, path, 0);
}

static void test_large_blocks_come_and_go(void **state) {
    (void)state;
    purge_against(20000);
}

static void test_huge_blocks_come_and_go(void **state) {
    (void)state;
    purge_against(5 * MIB);
}

/* ---- an emptied heap is small ---- */

enum { THREADS = 4, BLOCKS_EACH = 40000 };
#define BYTES_EACH (128 * MIB)

static sem_t full;
static sem_t may_free;

static size_t file_bytes(void) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (size_t)status.st_blocks * 512;
}

/* Sizes of all kinds: as many bytes of each power of two. */
static void *fill_and_free(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    void **blocks = calloc(BLOCKS_EACH, sizeof(*blocks));
    size_t bytes = 0;
    size_t count = 0;
    while (blocks != NULL && bytes < BYTES_EACH && count < BLOCKS_EACH) {
        size_t shift = 1 + clean_random(&seed) % 22;
        size_t size = 8 + clean_random(&seed) % ((size_t)1 << shift);
        if (clean_random(&seed) % 22 < shift / 2) {
            continue; /* big ones are fewer */
        }
        blocks[count] = sharena_malloc(heap, size);
        bytes += blocks[count] != NULL ? size : 0;
        count += blocks[count] != NULL;
    }
    (void)sem_post(&full);
    (void)sem_wait(&may_free);
    for (size_t i = 0; i < count; i++) {
        sharena_free(heap, blocks[i]);
    }
    free(blocks);
    return (void *)(uintptr_t)(bytes >= BYTES_EACH);
}

/* Blocks of the file, not its length: user data all goes, and the tables that describe it, but for
 * 2 KiB of each chunk that was ever used; and arenas and slots stay as they are. */
static void test_an_emptied_heap_is_small(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    void *is_full;
    const struct sharena_options options = {
        .capacity_bytes = 2 * GIB, .base_address = clean_base(0), .conf = "narenas:8"};
    heap = clean_open_with(scratch_path(path, "purge"), &options);
    sharena_free(heap, sharena_malloc(heap, 1));
    size_t least = file_bytes();
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, fill_and_free, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)sem_wait(&full);
    }
    size_t most = file_bytes();
    for (int i = 0; i < THREADS; i++) {
        (void)sem_post(&may_free);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &is_full), 0);
        assert_non_null(is_full);
    }
    size_t freed = file_bytes();
    assert_int_equal(sharena_purge(heap), 0);
    size_t left = file_bytes();
    print_message("KiB on disk: new %zu, full %zu, freed %zu, purged %zu\n", least / KIB,
                  most / KIB, freed / KIB, left / KIB);
    assert_true(most >= 512 * MIB);
    assert_in_range(left, 0, least + 2 * MIB);
    clean_end(heap, path, 0);
}

int main(void) {
    assert_int_equal(sem_init(&wanted, 0, 0), 0);
    assert_int_equal(sem_init(&done, 0, 0), 0);
    assert_int_equal(sem_init(&full, 0, 0), 0);
    assert_int_equal(sem_init(&may_free, 0, 0), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_blocks_come_and_go),
        cmocka_unit_test(test_huge_blocks_come_and_go),
        cmocka_unit_test(test_an_emptied_heap_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
