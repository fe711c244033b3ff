/* test_attach.c -- open by descriptor, twice, read-only, side by side; whose an address is; close. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];
static const struct sharena_options small = {.capacity_bytes = GIB};
static const struct sharena_options readonly = {.flags = SHARENA_READONLY};

static int clean_up(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

/* ---- counted ---- */

static void test_opens_are_counted(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    assert_ptr_equal(clean_open(path), heap);
    assert_ptr_equal(clean_open_with(path, NULL), heap);
    int fd = open(path, O_RDWR);
    sharena_t *same;
    assert_int_equal(sharena_open_fd(fd, NULL, &same), 0);
    assert_ptr_equal(same, heap);
    assert_int_equal(close(fd), 0);
    void *block = sharena_malloc(heap, 10);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sharena_close(heap), 0);
        assert_ptr_equal(sharena_heap_of(block), heap);
        assert_refused(sharena_unlink(path), EBUSY, "in use");
    }
    sharena_free(heap, block);
    clean_check(heap, 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_refused(sharena_close(heap), EINVAL, "not an attached heap");
    assert_null(sharena_heap_of(block));
    assert_int_equal(sharena_contains(heap, block), 0);
    assert_null(sharena_malloc(heap, 10));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(sharena_malloc(NULL, 10));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(sharena_unlink(path), 0);
}

/* What two ways to attach would have to agree on. */
static void test_again_in_another_way(void **state) {
    (void)state;
    sharena_t *refused;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    assert_refused(sharena_open(path, &readonly, &refused), EINVAL, "for writing");
    clean_end(heap, path, 0);
    heap = clean_open(path);
    assert_int_equal(sharena_close(heap), 0);
    heap = clean_open_with(path, &readonly);
    assert_refused(sharena_open(path, NULL, &refused), EINVAL, "read-only");
    assert_int_equal(sharena_close(heap), 0);
}

/* The file is the heap, not its name: a heap that was renamed is the same heap. */
static void test_renamed(void **state) {
    (void)state;
    char other[SCRATCH_MAX];
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    scratch_path(other, "renamed");
    assert_int_equal(rename(path, other), 0);
    (void)alarm(20); /* instead of an endless loop */
    assert_ptr_equal(clean_open(other), heap);
    struct sharena_options elsewhere = {.capacity_bytes = GIB, .base_address = clean_base(1)};
    sharena_t *fresh = clean_open_with(path, &elsewhere); /* the old name is free for another */
    (void)alarm(0);
    assert_ptr_not_equal(fresh, heap);
    assert_int_equal(sharena_close(heap), 0);
    clean_end(heap, other, 0);
    clean_end(fresh, path, 0);
}

static void test_contents_outlive_the_attachment(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    void *blocks[100];
    assert_int_equal(sharena_malloc_batch(heap, 500, 100, blocks), 100);
    for (uint64_t i = 0; i < 100; i++) {
        clean_fill(blocks[i], 500, i);
    }
    for (int round = 0; round < 5; round++) {
        assert_int_equal(sharena_close(heap), 0);
        assert_ptr_equal(clean_open_with(path, NULL), heap);
        clean_check(heap, 100);
        for (uint64_t i = 0; i < 100; i++) {
            assert_int_equal(clean_compare(blocks[i], 500, i), 500);
        }
    }
    sharena_free_batch(heap, 100, blocks);
    clean_end(heap, path, 0);
}

/* ---- side by side ---- */

enum { HEAPS = 8 };

static void test_heaps_side_by_side(void **state) {
    (void)state;
    static char paths[HEAPS][SCRATCH_MAX];
    sharena_t *heaps[HEAPS];
    void *blocks[HEAPS][50];
    for (unsigned i = 0; i < HEAPS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "side-%u", i);
        heaps[i] = clean_open_with(scratch_path(paths[i], name), i % 2 ? NULL : &small);
    }
    for (int j = 0; j < 50; j++) { /* in turn, so that every call changes the thread's heap */
        for (int i = 0; i < HEAPS; i++) {
            blocks[i][j] = sharena_malloc(heaps[i], 100);
            clean_fill(blocks[i][j], 100, (uint64_t)i * 50 + (uint64_t)j);
            assert_ptr_equal(sharena_heap_of(blocks[i][j]), heaps[i]);
            for (int k = 0; k < HEAPS; k++) {
                assert_int_equal(sharena_contains(heaps[k], blocks[i][j]), k == i);
            }
        }
    }
    for (int i = 0; i < HEAPS; i++) {
        clean_check(heaps[i], 50);
        for (int j = 0; j < 50; j++) {
            assert_int_equal(clean_compare(blocks[i][j], 100, (uint64_t)(i * 50 + j)), 100);
            sharena_free(heaps[i], blocks[i][j]);
        }
        clean_end(heaps[i], paths[i], 0);
    }
}

static void test_as_many_heaps_as_fit(void **state) {
    (void)state;
    static char paths[66][SCRATCH_MAX];
    static sharena_t *heaps[66];
    int made = 0;
    int error = 0;
    while (made < 66 && error == 0) {
        char name[32];
        (void)snprintf(name, sizeof(name), "many-%d", made);
        error = sharena_open(scratch_path(paths[made], name), &small, &heaps[made]);
        made += error == 0;
    }
    assert_int_equal(error, EMFILE);
    assert_int_equal(made, 64);
    assert_non_null(strstr(sharena_errormsg(), "64 heaps"));
    assert_int_equal(access(paths[64], F_OK), -1);
    for (int i = 0; i < made; i++) {
        void *block = sharena_malloc(heaps[i], 10);
        assert_non_null(block);
        sharena_free(heaps[i], block);
        clean_end(heaps[i], paths[i], 0);
    }
}

static void test_heap_of(void **state) {
    (void)state;
    int local;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    char *block = sharena_malloc(heap, 100);
    assert_ptr_equal(sharena_heap_of(block + 99), heap);
    assert_ptr_equal(sharena_heap_of(heap), heap);
    assert_int_equal(sharena_contains(heap, heap), 0); /* metadata is not user data */
    assert_int_equal(sharena_contains(heap, block + 99), 1);
    assert_null(sharena_heap_of(&local));
    assert_null(sharena_heap_of(NULL));
    assert_int_equal(sharena_contains(heap, &local), 0);
    assert_int_equal(sharena_contains(heap, NULL), 0);
    sharena_free(heap, block);
    clean_end(heap, path, 0);
}

/* ---- by descriptor ---- */

static int use_descriptor(void *arg) {
    int fd = *(int *)arg;
    sharena_t *heap;
    REQUIRE(sharena_open_fd(fd, NULL, &heap) == 0);
    REQUIRE(close(fd) == 0);
    char *text = sharena_root_get(heap, "text");
    REQUIRE(text != NULL && strcmp(text, "from the parent") == 0);
    char *answer = sharena_malloc(heap, 50);
    REQUIRE(answer != NULL);
    (void)strcpy(answer, "from the child");
    sharena_free(heap, text);
    REQUIRE(sharena_root_set(heap, "text", answer) == 0);
    REQUIRE(clean_is_not(heap) == 0);
    return sharena_close(heap);
}

/* A heap without a name, passed to a child that was not attached. */
static void test_memfd(void **state) {
    (void)state;
    int fd = memfd_create("heap", MFD_CLOEXEC);
    sharena_t *heap;
    assert_true(fd >= 0);
    assert_int_equal(sharena_open_fd(fd, &small, &heap), 0);
    char *text = sharena_malloc(heap, 50);
    (void)strcpy(text, "from the parent");
    assert_int_equal(sharena_root_set(heap, "text", text), 0);
    assert_int_equal(sharena_close(heap), 0);
    child_run(use_descriptor, &fd);
    sharena_t *again;
    assert_int_equal(sharena_open_fd(fd, NULL, &again), 0);
    assert_ptr_equal(again, heap);
    assert_int_equal(close(fd), 0); /* the caller's; the heap needs it no more */
    assert_string_equal(sharena_root_get(heap, "text"), "from the child");
    sharena_free(heap, sharena_root_get(heap, "text"));
    assert_int_equal(sharena_root_set(heap, "text", NULL), 0);
    clean_check(heap, 0);
    assert_int_equal(sharena_close(heap), 0);
}

/* Both attached at once: the child opens what the parent has open. */
static void test_memfd_of_an_attached_parent(void **state) {
    (void)state;
    int fd = memfd_create("heap", MFD_CLOEXEC);
    sharena_t *heap;
    assert_int_equal(sharena_open_fd(fd, &small, &heap), 0);
    char *text = sharena_malloc(heap, 50);
    (void)strcpy(text, "from the parent");
    assert_int_equal(sharena_root_set(heap, "text", text), 0);
    child_run(use_descriptor, &fd);
    assert_string_equal(sharena_root_get(heap, "text"), "from the child");
    clean_check(heap, 1);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(close(fd), 0);
}

static void test_bad_descriptors(void **state) {
    (void)state;
    sharena_t *heap;
    int pipes[2];
    assert_refused(sharena_open_fd(-1, NULL, &heap), EBADF, "not open");
    assert_null(heap);
    assert_refused(sharena_open_fd(9999, NULL, &heap), EBADF, "9999");
    assert_refused(sharena_open_fd(0, NULL, NULL), EINVAL, "heap argument");
    assert_int_equal(pipe(pipes), 0);
    assert_int_not_equal(sharena_open_fd(pipes[0], NULL, &heap), 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    heap = clean_open(scratch_path(path, "attach"));
    clean_check(heap, 0);
    assert_int_equal(sharena_close(heap), 0);
    int fd = open(path, O_RDONLY);
    assert_refused(sharena_open_fd(fd, NULL, &heap), EACCES, "reading");
    assert_int_equal(sharena_open_fd(fd, &readonly, &heap), 0);
    assert_int_equal(sharena_close(heap), 0);
    (void)close(fd);
    fd = open(path, O_WRONLY);
    assert_refused(sharena_open_fd(fd, &readonly, &heap), EACCES, "writing");
    (void)close(fd);
    fd = open(path, O_PATH);
    assert_refused(sharena_open_fd(fd, &readonly, &heap), EBADF, "O_PATH");
    (void)close(fd);
}

/* ---- read-only ---- */

static int store_into(void *arg) {
    (void)signal(SIGSEGV, SIG_DFL); /* not cmocka's, nor a sanitizer's */
    *(volatile char *)arg = 1;
    return 0;
}

static int visit_count(const char *name, void *ptr, void *arg) {
    (void)name;
    (void)ptr;
    (*(int *)arg)++;
    return 0;
}

static void assert_read_only(sharena_t *heap, char *text) {
    struct sharena_report report;
    void *one[1];
    errno = 0;
    assert_null(sharena_malloc(heap, 10));
    assert_int_equal(errno, EROFS);
    assert_non_null(strstr(sharena_errormsg(), "read-only"));
    errno = 0;
    assert_null(sharena_calloc(heap, 1, 10));
    assert_int_equal(errno, EROFS);
    errno = 0;
    assert_null(sharena_realloc(heap, text, 1000));
    assert_int_equal(errno, EROFS);
    assert_null(sharena_aligned_alloc(heap, 64, 10));
    assert_int_equal(sharena_malloc_batch(heap, 10, 1, one), 0);
    errno = 4711;
    sharena_free(heap, text); /* cannot fail, and changes nothing */
    assert_int_equal(errno, 4711);
    assert_int_equal(sharena_root_set(heap, "text", NULL), EROFS);
    assert_int_equal(sharena_root_set(heap, "other", text), EROFS);
    errno = 0;
    assert_null(sharena_root_create(heap, "made", 10, NULL, NULL));
    assert_int_equal(errno, EROFS);
    assert_int_equal(sharena_check(heap, &report), EROFS);
    assert_int_equal(sharena_purge(heap), EROFS);
    assert_int_equal(sharena_reap(heap), 0);
    assert_int_equal(sharena_malloc_to(heap, 10, (void **)text), EROFS);
    assert_int_equal(sharena_free_from(heap, (void **)text), EROFS);
}

static void test_read_only(void **state) {
    (void)state;
    struct stat before;
    struct stat after;
    int names = 0;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    char *text = sharena_malloc(heap, 64);
    (void)strcpy(text, "look only");
    assert_int_equal(sharena_root_set(heap, "text", text), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(stat(path, &before), 0);
    assert_ptr_equal(clean_open_with(path, &readonly), heap);
    assert_string_equal(sharena_root_get(heap, "text"), "look only");
    assert_ptr_equal(sharena_root_get(heap, "text"), text);
    assert_int_equal(sharena_root_foreach(heap, visit_count, &names), 0);
    assert_int_equal(names, 1);
    assert_int_equal(sharena_usable_size(heap, text), 64);
    assert_int_equal(sharena_good_size(heap, 100), 112);
    assert_ptr_equal(sharena_heap_of(text), heap);
    assert_int_equal(sharena_contains(heap, text), 1);
    assert_read_only(heap, text);
    int status = child_wait(child_start(store_into, text));
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* the kernel stops a store */
    assert_string_equal(text, "look only");
    assert_int_equal(sharena_close(heap), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    assert_int_equal(after.st_blocks, before.st_blocks); /* not even holes were filled */
    assert_int_equal(chmod(path, 0600), 0);
    clean_check(clean_open(path), 1);
    assert_int_equal(sharena_close(heap), 0);
}

static void test_read_only_needs_a_heap(void **state) {
    (void)state;
    sharena_t *heap;
    assert_refused(sharena_open(scratch_path(path, "attach"), &readonly, &heap), ENOENT, path);
    assert_int_equal(access(path, F_OK), -1);
}

/* ---- durable ---- */

static void test_sync(void **state) {
    (void)state;
    sharena_t *heap = clean_open(scratch_path(path, "attach"));
    assert_int_equal(sharena_sync(heap), 0);
    clean_end(heap, path, 0);
    assert_int_equal(sharena_sync(heap), EINVAL);
    assert_int_equal(sharena_purge(heap), EINVAL);
    assert_int_equal(sharena_check(heap, NULL), EINVAL);
    assert_int_equal(sharena_reap(heap), 0);
}

/* On a file system with a disk below it. */
static void test_on_the_temporary_directory(void **state) {
    (void)state;
    sharena_t *heap;
    int error = sharena_open(scratch_path_in(path, "/tmp", "attach"), &small, &heap);
    if (error == ENODEV) {
        print_message("skipped: %s\n", sharena_errormsg());
        skip();
    }
    assert_int_equal(error, 0);
    void *block = sharena_calloc(heap, 1, 100000);
    assert_non_null(block);
    assert_int_equal(sharena_sync(heap), 0);
    sharena_free(heap, block);
    assert_int_equal(sharena_purge(heap), 0);
    clean_end(heap, path, 0);
}

#define clean(f) cmocka_unit_test_teardown(f, clean_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        clean(test_opens_are_counted),
        clean(test_again_in_another_way),
        clean(test_renamed),
        clean(test_contents_outlive_the_attachment),
        clean(test_heaps_side_by_side),
        clean(test_as_many_heaps_as_fit),
        clean(test_heap_of),
        clean(test_memfd),
        clean(test_memfd_of_an_attached_parent),
        clean(test_bad_descriptors),
        clean(test_read_only),
        clean(test_read_only_needs_a_heap),
        clean(test_sync),
        clean(test_on_the_temporary_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
