/* exercise.c -- what is done with each damaged heap, and what must come of it.
 *
 * The contract: a damaged file yields an error that says what is wrong, or a heap that works; never
 * a signal, never more than a second. "Works" means: sharena_check() found it clean, so that
 * allocating, freeing, naming, reaping, purging, closing and opening again go well, blocks do not
 * overlap, and it is found clean after each of these.
 */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "heap/audit_slots.h"
#include "template.h"

#define SECOND_NS 1000000000ull

/* ---- the clock ---- */

/* Time that was not the library's: waiting for the other process. */
static uint64_t excused_ns;

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* How long this thread was ready to run, but others had the processors; 0 where nobody counts. */
static uint64_t queued_ns(void) {
    char text[80] = ""; /* "ran queued slices" */
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    const char *second = got > 0 ? strchr(text, ' ') : NULL;
    if (fd >= 0) {
        (void)close(fd);
    }
    return second != NULL ? strtoull(second, NULL, 10) : 0;
}

/* Runs and sleeps, as on a machine of its own. */
static uint64_t clock_ns(void) {
    return now_ns() - queued_ns() - excused_ns;
}

/* ---- the other process ---- */

/* It lives as long as this one, and opens and closes the file when it is told to. */
static int to_neighbour = -1;
static int from_neighbour = -1;

static int expect_message(int error);

static void serve(int commands, int answers) {
    sharena_t *heap = NULL;
    struct sharena_options options = {0};
    uint32_t flags;
    while (read(commands, &flags, sizeof(flags)) == (ssize_t)sizeof(flags)) {
        int error = 0;
        if (heap != NULL) {
            error = sharena_close(heap);
            heap = NULL;
        } else {
            options.flags = flags;
            error = expect_message(sharena_open_fd(template_get()->fd, &options, &heap));
        }
        if (write(answers, &error, sizeof(error)) != (ssize_t)sizeof(error)) {
            break;
        }
    }
    _exit(0);
}

static void start_neighbour(void) {
    int commands[2];
    int answers[2];
    FUZZ_REQUIRE(pipe(commands) == 0 && pipe(answers) == 0);
    pid_t pid = fork();
    FUZZ_REQUIRE(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(commands[1]);
        (void)close(answers[0]);
        serve(commands[0], answers[1]);
    }
    (void)close(commands[0]);
    (void)close(answers[1]);
    to_neighbour = commands[1];
    from_neighbour = answers[0];
}

/* Opens if it is closed, closes if it is open; what that call returned. */
static int tell_neighbour(uint32_t flags) {
    int error = 0;
    uint64_t begin = clock_ns();
    ssize_t got;
    if (write(to_neighbour, &flags, sizeof(flags)) != (ssize_t)sizeof(flags)) {
        fuzz_fail("the other process died before it was told what to do");
    }
    do { /* libFuzzer's alarm interrupts it */
        got = read(from_neighbour, &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof(error)) {
        fuzz_fail("the other process died while it opened or closed the heap");
    }
    excused_ns += clock_ns() - begin;
    return error;
}

/* ---- work on a clean heap ---- */

#define WORK_BLOCKS 64u

struct work {
    sharena_t *heap;
    char *blocks[WORK_BLOCKS];
    size_t bytes[WORK_BLOCKS];
};

/* An error has a message. */
static int expect_message(int error) {
    if (error != 0 && sharena_errormsg()[0] == '\0') {
        fuzz_fail("error %d without a message", error);
    }
    return error;
}

static void expect_clean(sharena_t *heap, const char *when) {
    if (sharena_check(heap, NULL) != 0) {
        fuzz_fail("a heap that was clean is not %s: %s", when, sharena_errormsg());
    }
}

static void fill(struct work *work, uint32_t at, size_t size) {
    char *block = sharena_malloc(work->heap, size);
    if (block == NULL) {
        FUZZ_REQUIRE(errno == ENOMEM);
        (void)expect_message(errno);
        return;
    }
    FUZZ_REQUIRE(sharena_usable_size(work->heap, block) >= size);
    work->blocks[at] = block;
    work->bytes[at] = size;
    block[0] = (char)at;
    block[size - 1] = (char)at;
}

static void drop(struct work *work, uint32_t at) {
    const char *block = work->blocks[at];
    if (block != NULL && (block[0] != (char)at || block[work->bytes[at] - 1] != (char)at)) {
        fuzz_fail("block %u of %zu bytes was overwritten", at, work->bytes[at]);
    }
    sharena_free(work->heap, work->blocks[at]);
    work->blocks[at] = NULL;
}

static void allocate(struct work *work, int with_huge) {
    static const size_t sizes[] = {8, 24, 48, 64, 200, 1000, 4000, 14000, 20000, 60000};
    for (uint32_t i = 0; i < 40; i++) {
        fill(work, i, sizes[i % 10]);
    }
    if (with_huge) {
        fill(work, 44, 300000);
        fill(work, 45, 3u << 20);
        fill(work, 46, 9u << 20);
    }
    for (uint32_t i = 0; i < 47; i += 3) {
        char *moved = work->blocks[i] != NULL
                          ? sharena_realloc(work->heap, work->blocks[i], work->bytes[i] * 3)
                          : NULL;
        if (moved != NULL) {
            work->blocks[i] = moved;
            work->bytes[i] *= 3;
            moved[work->bytes[i] - 1] = (char)i;
        }
    }
}

static int count_root(const char *name, void *ptr, void *arg) {
    (void)name;
    (void)ptr;
    ++*(uint32_t *)arg;
    return 0;
}

static void use_roots(sharena_t *heap, void *block) {
    uint32_t count = 0;
    int error = sharena_root_set(heap, "fuzz", block);
    FUZZ_REQUIRE(error == 0 || error == ENOSPC);
    FUZZ_REQUIRE(error != 0 || sharena_root_get(heap, "fuzz") == block);
    FUZZ_REQUIRE(sharena_root_foreach(heap, count_root, &count) == 0);
    FUZZ_REQUIRE(sharena_root_set(heap, "fuzz", NULL) == 0);
    FUZZ_REQUIRE(sharena_root_create(heap, "made", 50, NULL, NULL) != NULL || errno == ENOMEM ||
                 errno == ENOSPC);
}

/* Whether a root under way has it: nothing tells such a block from one of the application's. */
static int is_made_for_a_root(sharena_t *heap, const void *block) {
    const struct root_table *table = heap_roots(heap);
    for (uint32_t i = 0; i < shared_get(&table->high); i++) {
        if (shared_get(&table->roots[i].state) == ROOT_MAKING &&
            shared_get(&table->roots[i].block) == block) {
            return 1;
        }
    }
    return 0;
}

/* What the application had, as far as the heap still says so. */
static void free_old_blocks(sharena_t *heap) {
    const struct template *template = template_get();
    for (uint32_t i = 0; i < template->count; i += 2) {
        if (audit_block_bytes(heap, template->blocks[i]) != 0 &&
            !is_made_for_a_root(heap, template->blocks[i])) {
            sharena_free(heap, template->blocks[i]);
        }
    }
}

static void work_on(sharena_t *heap, uint32_t mode) {
    struct work work = {.heap = heap};
    (void)sharena_reap(heap);
    free_old_blocks(heap);
    allocate(&work, (mode & EXERCISE_HUGE) != 0);
    use_roots(heap, work.blocks[3]);
    expect_clean(heap, "with blocks allocated");
    for (uint32_t i = 0; i < WORK_BLOCKS; i++) {
        drop(&work, i * 7 % WORK_BLOCKS);
    }
    FUZZ_REQUIRE(sharena_purge(heap) == 0);
    expect_clean(heap, "after all was freed and purged");
}

/* ---- one execution ---- */

static void look_only(sharena_t *heap) {
    uint32_t count = 0;
    void *first = sharena_root_get(heap, "first");
    FUZZ_REQUIRE(first != NULL || expect_message(errno) == ENOENT);
    (void)sharena_root_foreach(heap, count_root, &count);
    FUZZ_REQUIRE(sharena_check(heap, NULL) == EROFS);
    FUZZ_REQUIRE(sharena_malloc(heap, 8) == NULL && errno == EROFS);
    FUZZ_REQUIRE(sharena_contains(heap, heap) == 0 && sharena_heap_of(heap) == heap);
}

/* 1 if it is clean. */
static int check(sharena_t *heap) {
    struct sharena_report report;
    int error = expect_message(sharena_check(heap, &report));
    if (error == EUCLEAN) {
        FUZZ_REQUIRE(report.findings != 0 && report.messages[0][0] != '\0');
    } else {
        FUZZ_REQUIRE(report.findings == 0);
    }
    return error == 0;
}

static int open_and_check(uint32_t mode, int with_work) {
    struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    sharena_t *heap = NULL;
    int is_clean = 0;
    options.flags |= (mode & EXERCISE_RECOVER) != 0 ? SHARENA_RECOVER : 0;
    options.flags |= (mode & EXERCISE_READONLY) != 0 ? SHARENA_READONLY : 0;
    if (expect_message(sharena_open_fd(template_get()->fd, &options, &heap)) != 0) {
        FUZZ_REQUIRE(heap == NULL);
        return 0;
    }
    if ((mode & EXERCISE_READONLY) != 0) {
        look_only(heap);
    } else {
        is_clean = check(heap);
        if (is_clean && with_work) {
            work_on(heap, mode);
        }
    }
    FUZZ_REQUIRE(sharena_close(heap) == 0);
    return is_clean;
}

void exercise(uint32_t mode) {
    uint32_t flags = SHARENA_OPEN_ONLY | ((mode & EXERCISE_RECOVER) != 0 ? SHARENA_RECOVER : 0);
    int has_neighbour = (mode & EXERCISE_NEIGHBOUR) != 0 && tell_neighbour(flags) == 0;
    int is_clean = open_and_check(mode, 1);
    if (has_neighbour) {
        FUZZ_REQUIRE(tell_neighbour(0) == 0);
    }
    if (is_clean) { /* closed and opened again, it is as clean */
        FUZZ_REQUIRE(open_and_check(EXERCISE_RECOVER, 0) == 1);
    }
}

/* ---- targets ---- */

int fuzz_initialize(void) {
    (void)template_get();
    if (to_neighbour < 0) {
        start_neighbour();
        template_restore();
        exercise(EXERCISE_HUGE); /* what is not damaged works */
        template_restore();
        exercise(EXERCISE_NEIGHBOUR);
    }
    return 0;
}

static uint64_t run_once(const uint8_t *data, size_t size,
                         void (*damage)(const uint8_t *data, size_t size)) {
    template_restore();
    damage(data + 1, size - 1);
    if ((data[0] & EXERCISE_WRONG_SUM) == 0) {
        template_fix_superblock((data[0] & EXERCISE_RAW_HEAD) == 0);
    }
    uint64_t begin = clock_ns();
    exercise(data[0]);
    return clock_ns() - begin;
}

void fuzz_run(const uint8_t *data, size_t size, void (*damage)(const uint8_t *data, size_t size)) {
    if (size == 0) {
        return;
    }
    /* Anything may be slow once; an input that is slow is so three times. */
    int tries = 3;
    while (tries > 0 && run_once(data, size, damage) > SECOND_NS) {
        tries--;
    }
    if (tries == 0) {
        fuzz_fail("took more than a second, three times");
    }
}
