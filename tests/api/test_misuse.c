/* test_misuse.c -- double frees, wild and foreign pointers: reported, aborted, and nothing shared has
 * changed.
 */
#include <fcntl.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];
static sharena_t *heap;

static int open_heap(void **state) {
    (void)state;
    heap = clean_open(scratch_path(path, "misuse"));
    return 0;
}

static int close_heap(void **state) {
    (void)state;
    clean_end(heap, path, 0);
    return 0;
}

/* Runs body in a child that must abort with a message on stderr that names the offence and `word`. */
static void assert_aborts(int (*body)(void *), void *arg, const char *word) {
    char said[1024];
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(pipes[1], 2);
        _exit(body(arg));
    }
    (void)close(pipes[1]);
    size_t used = 0;
    for (ssize_t got; used < sizeof(said) - 1 &&
                      (got = read(pipes[0], said + used, sizeof(said) - 1 - used)) > 0;) {
        used += (size_t)got;
    }
    said[used] = '\0';
    (void)close(pipes[0]);
    int status = child_wait(pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        fail_msg("not aborted but %#x, having said: %s", status, said);
    }
    if (strstr(said, word) == NULL || strstr(said, "sharena") == NULL) {
        fail_msg("no '%s' in: %s", word, said);
    }
}

static const size_t sizes[] = {8, 64, 5000, 14336, 20000, 100000, 2 * MIB, 3 * MIB, 20 * MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct offence {
    char *block;
    size_t size;
    int kind;
};

enum { FREE, REALLOC, USABLE, SIZED, XALLOCX, DALLOCX_NONE, BATCH, KINDS };

static int commit_offence(const struct offence *offence, char *ptr) {
    switch (offence->kind) {
    case FREE:
        sharena_free(heap, ptr);
        return 0;
    case REALLOC:
        return sharena_realloc(heap, ptr, 100) != NULL;
    case USABLE:
        return (int)sharena_usable_size(heap, ptr);
    case SIZED:
        sharena_free_sized(heap, ptr, offence->size);
        return 0;
    case XALLOCX:
        return (int)sharena_xallocx(heap, ptr, 100, 0, 0);
    case DALLOCX_NONE:
        sharena_dallocx(heap, ptr, SHARENA_TCACHE_NONE);
        return 0;
    default:
        sharena_free_batch(heap, 1, (void **)&ptr);
        return 0;
    }
}

/* A block's second page: the fast path of free sees at once that this is no block. */
static int use_inner_page(void *arg) {
    const struct offence *offence = arg;
    return commit_offence(offence, offence->block + 4096);
}

static void test_inner_page_of_a_large_block(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        if (sizes[i] >= 20000) {
            struct offence offence = {sharena_malloc(heap, sizes[i]), sizes[i], FREE};
            for (offence.kind = FREE; offence.kind < KINDS; offence.kind++) {
                assert_aborts(use_inner_page, &offence, "not a live block");
                assert_true(sharena_reap(heap) >= 0);
                clean_check(heap, 1);
            }
            sharena_free(heap, offence.block);
        }
    }
}

/* Past the cache nothing is overlooked: the middle of a block, and a block that was freed. */
static int use_middle(void *arg) {
    const struct offence *offence = arg;
    return commit_offence(offence, offence->block + 8);
}

static void test_middle_of_a_block(void **state) {
    (void)state;
    static const int kinds[] = {REALLOC, USABLE, SIZED, XALLOCX, DALLOCX_NONE};
    for (size_t i = 1; i < SIZES; i++) {
        struct offence offence = {sharena_malloc(heap, sizes[i]), sizes[i], 0};
        for (size_t j = 0; j < sizeof(kinds) / sizeof(kinds[0]); j++) {
            offence.kind = kinds[j];
            assert_aborts(use_middle, &offence, "not the start of a block");
            (void)sharena_reap(heap);
            clean_check(heap, 1);
        }
        sharena_free(heap, offence.block);
    }
}

static int use_freed(void *arg) {
    const struct offence *offence = arg;
    return commit_offence(offence, offence->block);
}

/* Freed past the cache, so the bin or the page map knows. */
static void test_double_free(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        char *other = sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE);
        struct offence offence = {sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE), sizes[i],
                                  DALLOCX_NONE};
        sharena_dallocx(heap, offence.block, SHARENA_TCACHE_NONE);
        assert_aborts(use_freed, &offence, "pointer");
        (void)sharena_reap(heap);
        clean_check(heap, 1);
        sharena_dallocx(heap, other, SHARENA_TCACHE_NONE);
        assert_aborts(use_freed, &offence, "pointer"); /* now its whole run is free, or gone */
        (void)sharena_reap(heap);
        clean_check(heap, 0);
    }
}

/* Twice through the cache: noticed when the cache is flushed, before the bin changes. */
static int free_twice_and_flush(void *arg) {
    const struct offence *offence = arg;
    sharena_free(heap, offence->block);
    sharena_free(heap, offence->block);
    return sharena_purge(heap);
}

static void test_double_free_in_the_cache(void **state) {
    (void)state;
    for (size_t i = 0; i < 7; i++) {
        struct offence offence = {sharena_malloc(heap, sizes[i]), sizes[i], FREE};
        assert_aborts(free_twice_and_flush, &offence, "pointer");
        (void)sharena_reap(heap);
        clean_check(heap, 0); /* its first free was right, and the reaper has honoured it */
    }
}

static char outside[64];

static int use_foreign(void *arg) {
    struct offence *offence = arg;
    return commit_offence(offence, offence->block);
}

static void test_foreign_pointers(void **state) {
    (void)state;
    sharena_free(heap, sharena_malloc(heap, 10));
    char local[64];
    char *const foreign[] = {outside,      local,
                             (char *)heap, (char *)heap + 4096,
                             (char *)8,    (char *)(uintptr_t)UINTPTR_MAX - 7};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        struct offence offence = {foreign[i], 64, FREE};
        for (offence.kind = FREE; offence.kind < KINDS; offence.kind++) {
            assert_aborts(use_foreign, &offence, "not in this heap");
        }
    }
    (void)sharena_reap(heap);
}

static int free_in_no_heap(void *arg) {
    sharena_free((sharena_t *)(uintptr_t)(64 * GIB), arg);
    return 0;
}

static void test_free_in_no_heap(void **state) {
    (void)state;
    void *block = sharena_malloc(heap, 64);
    assert_aborts(free_in_no_heap, block, "not attached");
    (void)sharena_reap(heap);
    sharena_free(heap, block);
}

/* Of another heap that is attached as well. */
static void test_pointer_of_another_heap(void **state) {
    (void)state;
    char path_of_other[SCRATCH_MAX];
    sharena_t *other = clean_open_with(scratch_path(path_of_other, "misuse-2"), NULL);
    struct offence offence = {sharena_malloc(other, 64), 64, FREE};
    assert_aborts(use_foreign, &offence, "not in this heap");
    (void)sharena_reap(heap);
    (void)sharena_reap(other);
    sharena_free(other, offence.block);
    clean_end(other, path_of_other, 0);
}

static int free_with_wrong_size(void *arg) {
    const struct offence *offence = arg;
    sharena_free_sized(heap, offence->block, offence->size);
    return 0;
}

static void test_sized_free_with_a_wrong_size(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        void *block = sharena_malloc(heap, sizes[i]);
        const size_t wrong[] = {sharena_usable_size(heap, block) + 1, sizes[i] * 2 + 16, SIZE_MAX,
                                (size_t)1 << 50};
        for (size_t j = 0; j < 4; j++) {
            struct offence offence = {block, wrong[j], 0};
            assert_aborts(free_with_wrong_size, &offence, "size");
            (void)sharena_reap(heap);
            clean_check(heap, 1);
        }
        sharena_free(heap, block);
    }
}

static int free_from_nonsense(void *arg) {
    return sharena_free_from(heap, arg);
}

static void test_free_from_of_no_block(void **state) {
    (void)state;
    void **where = sharena_malloc(heap, sizeof(void *));
    void *const nonsense[] = {outside, heap, (char *)where + 3};
    for (size_t i = 0; i < 3; i++) {
        *where = nonsense[i];
        assert_aborts(free_from_nonsense, where, "pointer");
        (void)sharena_reap(heap);
        assert_ptr_equal(*where, nonsense[i]); /* it stopped before it cleared it */
        clean_check(heap, 1);
    }
    sharena_free(heap, where);
}

#define with_heap(f) cmocka_unit_test_setup_teardown(f, open_heap, close_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_inner_page_of_a_large_block),
        with_heap(test_middle_of_a_block),
        with_heap(test_double_free),
        with_heap(test_double_free_in_the_cache),
        with_heap(test_foreign_pointers),
        with_heap(test_free_in_no_heap),
        with_heap(test_pointer_of_another_heap),
        with_heap(test_sized_free_with_a_wrong_size),
        with_heap(test_free_from_of_no_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
