/* test_heap.c -- who uses a heap: threads enter it, processes need a slot of it. */
#include "heap/heap.h"

#include <pthread.h>
#include <sys/syscall.h>

#include "heap/tcache.h"
#include "heap_parts.h"
#include "ipc/slot.h"

static char path[SCRATCH_MAX];

static int remove_path(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

/* ---- constants ---- */

static void test_fingerprint(void **state) {
    (void)state;
    assert_true(heap_fingerprint() != 0);
    assert_true(heap_fingerprint() == heap_fingerprint());
}

static void test_narenas(void **state) {
    (void)state;
    struct conf conf = {.narenas = 0};
    uint32_t cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    assert_int_equal(heap_narenas(&conf), 4 * cpus < ARENAS_MAX ? 4 * cpus : ARENAS_MAX);
    conf.narenas = 3;
    assert_int_equal(heap_narenas(&conf), 3);
    conf.narenas = ARENAS_MAX + 5;
    assert_int_equal(heap_narenas(&conf), ARENAS_MAX);
}

/* ---- threads ---- */

static void *enter(void *arg) {
    (void)arg;
    return heap_enter(fixture_heap());
}

static void test_enter(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct thread_slot *self = heap_enter(heap);
    assert_non_null(self);
    assert_ptr_equal(heap_enter(heap), self);
    assert_ptr_equal(thread_record->hint_heap, heap);
    assert_ptr_equal(thread_record->hint_tcache, slot_tcache(self));
    assert_int_equal(shared_get(&self->state), SLOT_USED);
    assert_int_not_equal(shared_get(&self->arena), 0);
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), 1);
    pthread_t thread;
    void *other;
    assert_int_equal(pthread_create(&thread, NULL, enter, NULL), 0);
    assert_int_equal(pthread_join(thread, &other), 0);
    assert_non_null(other);
    assert_ptr_not_equal(other, self);
    assert_int_equal(shared_get(&((struct thread_slot *)other)->state), SLOT_FREE); /* ended */
    assert_int_equal(slot_count_held_by_us(fixture_attachment()), 1);
}

static void test_attachment(void **state) {
    (void)state;
    errno = 0;
    assert_non_null(heap_attachment(fixture_heap()));
    assert_ptr_equal(heap_attachment(fixture_heap()), fixture_attachment());
    assert_null(heap_attachment((sharena_t *)(uintptr_t)GIB));
    assert_int_equal(errno, EINVAL);
    assert_says("not an attached heap");
    assert_null(heap_enter(NULL));
    assert_int_equal(errno, EINVAL);
}

/* Where each call is watched, all take the slow path; and they do their work there. */
static void test_no_hint_where_calls_are_watched(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct conf *conf = &fixture_attachment()->conf;
    struct thread_slot *self = heap_enter(heap);
    assert_ptr_equal(thread_record->hint_heap, heap);
    assert_false(conf_is_watching(conf));
    conf->zero = 1;
    assert_true(conf_is_watching(conf));
    assert_ptr_equal(heap_enter(heap), self);
    assert_ptr_equal(thread_record->hint_heap, HINT_NONE);
    assert_int_equal(thread_record->data_bytes, 0);
    void *block = sharena_malloc(heap, 64);
    assert_ptr_equal(thread_record->hint_heap, HINT_NONE);
    sharena_free(heap, block);
    assert_ptr_equal(sharena_malloc(heap, 64), block); /* caches work there, too */
    sharena_free(heap, block);
    conf->zero = 0;
    assert_ptr_equal(heap_enter(heap), self);
    assert_ptr_equal(thread_record->hint_heap, heap);
    assert_int_not_equal(thread_record->data_bytes, 0);
}

/* Two heaps in turn: the hint follows, and each has its slot. */
static void test_hint_follows(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = GIB, .base_address = clean_base(1)};
    sharena_t *heap = fixture_heap();
    sharena_t *other = clean_open_with(scratch_path(path, "other"), &options);
    struct thread_slot *slots[2] = {heap_enter(heap), heap_enter(other)};
    assert_ptr_equal(thread_record->hint_heap, other);
    assert_ptr_equal(heap_enter(heap), slots[0]);
    assert_ptr_equal(thread_record->hint_heap, heap);
    assert_ptr_equal(thread_find_slot(other), slots[1]);
    assert_int_equal(sharena_close(other), 0);
    assert_null(thread_find_slot(other));
    assert_ptr_equal(thread_record->hint_heap, heap);
}

static void test_purge(void **state) {
    (void)state;
    struct sharena_report report;
    sharena_t *heap = fixture_heap();
    void *blocks[20];
    assert_int_equal(sharena_malloc_batch(heap, 3 * MIB, 20, blocks), 20);
    uint64_t full = file_pages();
    sharena_free_batch(heap, 20, blocks);
    heap_purge(heap, fixture_self());
    assert_true(file_pages() + 20 * 3 * MIB / PAGE_BYTES <= full);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.pages_dirty, 0);
    assert_int_equal(report.blocks_cached, 0);
}

/* ---- all process slots are taken ---- */

static const struct sharena_options small = {.capacity_bytes = GIB};

static int end_with_close(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, &small, &heap) == 0);
    return sharena_close(heap);
}

static void test_no_process_slot(void **state) {
    (void)state;
    sharena_t *heap;
    scratch_path(path, "slots");
    child_run(end_with_close, NULL);
    int fd = open(path, O_RDWR);
    struct flock all = {.l_type = F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_start = TOKEN_BYTE_FIRST,
                        .l_len = PROCESSES_MAX};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
    assert_refused(sharena_open(path, &small, &heap), EUSERS, "process slots");
    assert_null(heap);
    all.l_type = F_UNLCK;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
    (void)close(fd);
    heap = clean_open(path);
    clean_end(heap, path, 0);
}

/* A child of fork() for which there was no slot: it is told so, and tries again later. */
static int use_without_slot(void *arg) {
    int fd = *(int *)arg;
    sharena_t *heap = fixture_heap();
    struct flock all = {.l_type = F_UNLCK,
                        .l_whence = SEEK_SET,
                        .l_start = TOKEN_BYTE_FIRST + 1,
                        .l_len = PROCESSES_MAX - 1};
    errno = 0;
    REQUIRE(sharena_malloc(heap, 100) == NULL && errno == EUSERS);
    REQUIRE(strstr(sharena_errormsg(), "process slots") != NULL);
    REQUIRE(sharena_reap(heap) == 0);
    REQUIRE(fcntl(fd, F_OFD_SETLK, &all) == 0);
    void *block = sharena_malloc(heap, 100);
    REQUIRE(block != NULL);
    sharena_free(heap, block);
    return sharena_close(heap);
}

static int close_without_slot(void *arg) {
    (void)arg;
    return sharena_close(fixture_heap());
}

static void test_no_slot_for_a_child(void **state) {
    (void)state;
    int fd = open(fixture_path(), O_RDWR | O_CLOEXEC);
    struct flock all = {.l_type = F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_start = TOKEN_BYTE_FIRST + 1, /* 0 is ours */
                        .l_len = PROCESSES_MAX - 1};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
    child_run(close_without_slot, NULL);
    child_run(use_without_slot, &fd);
    (void)close(fd);
    clean_check(fixture_heap(), 0);
}

#define with_path(f) cmocka_unit_test_teardown(f, remove_path)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_narenas),
        with_heap(test_enter),
        with_heap(test_no_hint_where_calls_are_watched),
        with_heap(test_attachment),
        with_heap(test_hint_follows),
        with_heap(test_purge),
        with_path(test_no_process_slot),
        with_heap(test_no_slot_for_a_child),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)remove_path(NULL);
    return failed;
}
