/* test_purge.c -- a purge ends, however fast others dirty what it cleans. */
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
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

int main(void) {
    assert_int_equal(sem_init(&wanted, 0, 0), 0);
    assert_int_equal(sem_init(&done, 0, 0), 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_blocks_come_and_go),
        cmocka_unit_test(test_huge_blocks_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
