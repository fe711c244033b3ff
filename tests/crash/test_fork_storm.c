/* test_fork_storm.c -- eight threads allocate, and each of them makes children all the time, in every way
 * there is: nothing is handed out twice, nothing hangs, no slot, token or descriptor stays behind.
 *
 * SHARENA_FORKS is how many children there shall be; 10000 is the full run.
 */
#include <dirent.h>
#include <pthread.h>
#include <spawn.h>

#include "ipc/slot.h"
#include "section.h"

extern pid_t _Fork(void) __attribute__((weak)); /* glibc 2.34 */

enum { THREADS = 8, BLOCKS = 48, FORKS = 400, ROBBED = 3 };

enum way { BY_FORK, BY_UNDERSCORE_FORK, BY_RAW_CLONE, BY_FORK_AND_EXEC, BY_SPAWN, WAYS };

struct family { /* in the heap, one per thread */
    void *of_parent[BLOCKS];
    void *of_child[BLOCKS];
};

static char path[SCRATCH_MAX];
static char program[SCRATCH_MAX];
static sharena_t *heap;
static atomic_int children_left;
static atomic_int made[WAYS];

static size_t bytes_of(int i) {
    return i % 16 == 15 ? 20000 + (size_t)i * 100 : 16 + (size_t)i * 40;
}

static uint64_t seed_of(const void *block) {
    return (uintptr_t)block >> 3;
}

/* Makes a block and stamps it; 0 if there was none. */
static int fill(void **place, int i) {
    *place = sharena_malloc(heap, bytes_of(i));
    if (*place != NULL) {
        clean_fill(*place, bytes_of(i), seed_of(*place));
    }
    return *place != NULL;
}

/* Frees the block; 0 if somebody else wrote to it. */
static int drop(void **place, int i) {
    void *block = *place;
    *place = NULL;
    if (block != NULL && clean_compare(block, bytes_of(i), seed_of(block)) != bytes_of(i)) {
        return 0;
    }
    sharena_free(heap, block);
    return 1;
}

/* ---- children: nothing but calls of sharena, for other threads' locks are as the fork found them ---- */

/* Frees every third block of its parent's, and makes as many as it can hold. */
static int be_child(struct family *family) {
    for (int i = 0; i < BLOCKS; i++) {
        if (i % ROBBED == 0 && !drop(&family->of_parent[i], i)) {
            return 10;
        }
        if (!fill(&family->of_child[i], i)) {
            return 11;
        }
    }
    for (int i = 0; i < BLOCKS; i += 2) {
        if (!drop(&family->of_child[i], i)) {
            return 12;
        }
    }
    return 0;
}

static int be_refused(void) {
    errno = 0;
    return sharena_malloc(heap, 10) == NULL && errno == EPERM ? 0 : 20;
}

static int has_descriptor_of(const char *heap_path) {
    DIR *folder = opendir("/proc/self/fd");
    int found = folder == NULL;
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char target[SCRATCH_MAX];
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        found |= strcmp(target, heap_path) == 0;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return found;
}

static int be_new_program(const char *heap_path) {
    REQUIRE(!has_descriptor_of(heap_path));
    REQUIRE(sharena_open(heap_path, NULL, &heap) == 0);
    void *block = NULL;
    REQUIRE(fill(&block, 7) && drop(&block, 7));
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(!has_descriptor_of(heap_path));
    return 0;
}

static const char *const arguments[] = {program, "--child", path, NULL};

static pid_t make_child(enum way way, struct family *family) {
    extern char **environ;
    pid_t pid = -1;
    switch (way) {
    case BY_FORK:
    case BY_FORK_AND_EXEC:
        pid = fork();
        break;
    case BY_UNDERSCORE_FORK:
        pid = _Fork != NULL ? _Fork() : fork();
        break;
    case BY_RAW_CLONE:
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        break;
    default:
        return posix_spawn(&pid, program, NULL, NULL, (char **)(uintptr_t)arguments, environ) == 0
                   ? pid
                   : -1;
    }
    if (pid == 0) {
        int wrong = way == BY_RAW_CLONE ? be_refused() : be_child(family);
        if (wrong == 0 && way == BY_FORK_AND_EXEC) {
            (void)execv(program, (char **)(uintptr_t)arguments);
        }
        _exit(wrong);
    }
    return pid;
}

/* ---- parents ---- */

static const char *raise_child(enum way way, struct family *family) {
    for (int i = 0; i < BLOCKS; i++) {
        if (family->of_parent[i] == NULL && !fill(&family->of_parent[i], i)) {
            return "no block for the parent";
        }
    }
    pid_t pid = make_child(way, family);
    if (pid < 0) {
        return "no child";
    }
    for (int i = 0; i < 500; i++) { /* from the cache that the child has a copy of the hint to */
        void *block = NULL;
        if (!fill(&block, i % BLOCKS) || !drop(&block, i % BLOCKS)) {
            return "a block was handed out to parent and child";
        }
    }
    int status = child_wait(pid);
    if (status != 0) {
        (void)fprintf(stderr, "way %d: the child ended with %#x\n", (int)way, (unsigned)status);
        return "the child failed";
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (!drop(&family->of_child[i], i)) {
            return "a block of the child was overwritten";
        }
        if (i % 2 == 0 && !drop(&family->of_parent[i], i)) {
            return "a block of the parent was overwritten";
        }
    }
    return NULL;
}

static void *be_parent(void *arg) {
    struct family *family = arg;
    const char *wrong = NULL;
    int left;
    while (wrong == NULL && (left = atomic_fetch_sub(&children_left, 1)) > 0) {
        enum way way = (enum way)(left % WAYS);
        wrong = raise_child(way, family);
        (void)atomic_fetch_add(&made[way], 1);
    }
    for (int i = 0; i < BLOCKS && wrong == NULL; i++) {
        if (!drop(&family->of_parent[i], i)) {
            wrong = "a block of the parent was overwritten at last";
        }
    }
    return (void *)(uintptr_t)wrong;
}

static uint32_t tokens_held(void) {
    uint32_t held = 0;
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        held += (uint32_t)token_is_held(&registry_find(heap)->file, i);
    }
    return held;
}

static uint32_t slots_used(void) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < shared_get(&heap_state(heap)->threads_high); i++) {
        used += shared_get(&heap_thread(heap, i)->state) == SLOT_USED;
    }
    return used;
}

static void test_children_of_all_kinds(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    heap = clean_open_with(scratch_path(path, "fork-storm"), NULL);
    struct family *families = sharena_calloc(heap, THREADS, sizeof(*families));
    atomic_store(&children_left, (int)crowd_number("SHARENA_FORKS", FORKS));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, be_parent, &families[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        if (wrong != NULL) {
            fail_msg("thread %d: %s", i, (const char *)wrong);
        }
    }
    (void)sharena_reap(heap);
    assert_int_equal(tokens_held(), 1);
    assert_int_equal(slots_used(), 1);
    sharena_free(heap, families);
    section_check(heap, 0);
    print_message("%d fork, %d _Fork, %d clone, %d fork and exec, %d posix_spawn\n",
                  atomic_load(&made[BY_FORK]), atomic_load(&made[BY_UNDERSCORE_FORK]),
                  atomic_load(&made[BY_RAW_CLONE]), atomic_load(&made[BY_FORK_AND_EXEC]),
                  atomic_load(&made[BY_SPAWN]));
    clean_end(heap, path, 0);
}

int main(int count, char **args) {
    if (count == 3 && strcmp(args[1], "--child") == 0) {
        return be_new_program(args[2]);
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[length > 0 ? length : 0] = '\0';
    (void)alarm(crowd_number("SHARENA_FORKS", 0) > FORKS ? 3600 : 240); /* a hang is a failure */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_children_of_all_kinds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
