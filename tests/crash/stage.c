/* stage.c -- one heap, the objects that are known to live in it, and those who survive a death.
 *
 * Not here: the operations (steps_*.c), the killing (trace.c).
 */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heap/geometry.h"
#include "heap/heap.h"
#include "ipc/lock.h"

#define CAPACITY_BYTES (256ull << 20)
#define WAIT_NS_MAX 1000000000ull
#define NAP_NS 50000000ull /* for a waiter to come to the lock */

/* For functions that return int: the message names what does not hold. */
#define DEMAND(x)                                                                                  \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #x,              \
                          sharena_errormsg());                                                     \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

uint64_t stage_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the heap ---- */

struct stage *stage_make(const char *name) {
    struct stage *stage =
        mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stage == MAP_FAILED) {
        return NULL;
    }
    (void)snprintf(stage->path, sizeof(stage->path), "/dev/shm/sharena-test-%d-%s", (int)getpid(),
                   name);
    (void)unlink(stage->path);
    return stage;
}

void stage_free(struct stage *stage) {
    if (stage->newcomer > 0) {
        (void)kill(stage->newcomer, SIGKILL);
        (void)waitpid(stage->newcomer, NULL, 0);
    }
    (void)unlink(stage->path);
    (void)munmap(stage, sizeof(*stage));
}

static int open_with(struct stage *stage, uint32_t flags, sharena_t **heap) {
    const struct sharena_options options = {.flags = flags,
                                            .capacity_bytes = CAPACITY_BYTES,
                                            .conf = "narenas:2,reap_interval_ms:-1,"
                                                    "dirty_decay_ms:-1,tcache_bytes:0"};
    int error = sharena_open(stage->path, &options, heap);
    if (error != 0) {
        (void)fprintf(stderr, "stage: open: %s\n", sharena_errormsg());
    }
    return error != 0 ? -1 : 0;
}

int stage_open(struct stage *stage) {
    return open_with(stage, SHARENA_CREATE, &stage->heap);
}

void stage_reset(struct stage *stage) {
    stage->heap = NULL;
    stage->objects = 0;
    stage->cell = NULL;
    stage->newcomer_is_first = 0;
    memset(stage->block, 0, sizeof(stage->block));
    atomic_store(&stage->waiter_is_in, 0);
}

/* ---- objects ---- */

static uint64_t word_of(uint64_t seed, size_t at) {
    return (seed * 31 + at + 1) * 0x9e3779b97f4a7c15ull;
}

/* The first and last words of each page: enough to see whether somebody else had the memory. */
static size_t next_place(size_t at, size_t bytes) {
    size_t next = at % 4096 == 0 && at + 4088 + 8 <= bytes ? at + 4088 : at / 4096 * 4096 + 4096;
    return next + 8 <= bytes ? next : bytes;
}

static void stamp(const struct object *object) {
    for (size_t at = 0; at + 8 <= object->bytes; at = next_place(at, object->bytes)) {
        uint64_t word = word_of(object->seed, at);
        memcpy((char *)object->block + at, &word, 8);
    }
}

static int compare(const struct object *object) {
    for (size_t at = 0; at + 8 <= object->bytes; at = next_place(at, object->bytes)) {
        uint64_t word = word_of(object->seed, at);
        DEMAND(memcmp((const char *)object->block + at, &word, 8) == 0);
    }
    return 0;
}

void stage_adopt(struct stage *stage, void *block, size_t bytes) {
    struct object *object = &stage->object[stage->objects];
    *object = (struct object){block, bytes, (uint64_t)stage->objects * 7919 + bytes};
    stamp(object);
    stage->objects++;
}

int stage_add(struct stage *stage, size_t bytes) {
    DEMAND(stage->objects < STAGE_OBJECTS_MAX);
    void *block = sharena_malloc(stage->heap, bytes);
    DEMAND(block != NULL);
    stage_adopt(stage, block, bytes);
    return 0;
}

int stage_add_cell(struct stage *stage) {
    stage->cell = sharena_calloc(stage->heap, 1, sizeof(*stage->cell));
    DEMAND(stage->cell != NULL);
    return 0;
}

static int compare_all(const struct stage *stage) {
    for (unsigned i = 0; i < stage->objects; i++) {
        if (compare(&stage->object[i]) != 0) {
            (void)fprintf(stderr, "stage: object %u, %zu bytes, was overwritten\n", i,
                          stage->object[i].bytes);
            return -1;
        }
    }
    return 0;
}

/* ---- one that waits for the lock ---- */

uint64_t stage_lock_of(const struct stage *stage, pid_t task) {
    sharena_t *heap = stage->heap;
    uint32_t high = heap != NULL ? shared_get(&heap_state(heap)->threads_high) : 0;
    for (uint32_t i = 0; i < high; i++) {
        const struct thread_slot *slot = heap_thread(heap, i);
        uint64_t wanted = shared_get(&slot->lock_wanted);
        if (shared_get(&slot->state) == SLOT_USED && shared_get(&slot->tid) == (uint32_t)task &&
            wanted != 0) {
            const struct shared_lock *lock =
                (const struct shared_lock *)(const void *)(heap_bytes(heap) + wanted);
            return robust_mutex_tid(&lock->mutex) == (uint32_t)task ? wanted : 0;
        }
    }
    return 0;
}

static struct shared_lock *lock_at(const struct stage *stage, uint64_t offset) {
    return (struct shared_lock *)(void *)(heap_bytes(stage->heap) + offset);
}

static void wait_for_lock(struct stage *stage, uint64_t offset) {
    struct thread_slot *self = heap_enter(stage->heap); /* may wait for it as well */
    if (self == NULL) {
        (void)fprintf(stderr, "stage: the waiter has no slot: %s\n", sharena_errormsg());
        _exit(1);
    }
    lock_acquire(stage->heap, self, lock_at(stage, offset));
    atomic_store(&stage->waiter_in_ns, stage_now_ns());
    lock_release(stage->heap, self, lock_at(stage, offset));
    _exit(stage_go_on(stage, stage->heap) == 0 ? 0 : 1);
}

pid_t stage_start_waiter(struct stage *stage, uint64_t lock_offset) {
    uint64_t until = stage_now_ns() + NAP_NS;
    const struct shared_lock *lock = lock_at(stage, lock_offset);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        wait_for_lock(stage, lock_offset);
    }
    while (pid > 0 && stage_now_ns() < until &&
           ((unsigned)__atomic_load_n(&lock->mutex.__data.__lock, __ATOMIC_RELAXED) &
            FUTEX_WAITERS) == 0) {
        (void)sched_yield();
    }
    return pid;
}

/* Waits for a child, but not for ever. */
static int await_child(pid_t pid, int *status) {
    uint64_t until = stage_now_ns() + 10 * WAIT_NS_MAX;
    while (waitpid(pid, status, WNOHANG) == 0) {
        if (stage_now_ns() > until) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, status, 0);
            (void)fprintf(stderr, "stage: a survivor hung\n");
            return -1;
        }
        (void)sched_yield();
    }
    return 0;
}

int stage_await_waiter(struct stage *stage, pid_t pid, uint64_t killed_ns) {
    int status = 0;
    DEMAND(pid > 0 && await_child(pid, &status) == 0 && status == 0);
    uint64_t in_ns = atomic_load(&stage->waiter_in_ns);
    uint64_t waited = in_ns > killed_ns ? in_ns - killed_ns : 0;
    if (waited > stage->longest_wait_ns) {
        stage->longest_wait_ns = waited;
    }
    DEMAND(waited < WAIT_NS_MAX);
    return 0;
}

/* ---- those who go on ---- */

/* Blocks of all kinds: by way of the cache, and straight from their owners, so that each lock is
 * taken. Few pages: each costs a fault in each process. */
static const struct {
    size_t bytes;
    int flags;
} kinds[] = {{8, 0},
             {64, 0},
             {640, 0},
             {8192, 0},
             {20000, 0},
             {64, SHARENA_TCACHE_NONE},
             {320, SHARENA_TCACHE_NONE},
             {14336, SHARENA_TCACHE_NONE},
             {100000, SHARENA_TCACHE_NONE},
             {2 << 20, SHARENA_TCACHE_NONE}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int use_heap(sharena_t *heap) {
    struct object objects[KINDS];
    for (size_t i = 0; i < KINDS; i++) {
        void *block = sharena_mallocx(heap, kinds[i].bytes, kinds[i].flags);
        DEMAND(block != NULL);
        objects[i] = (struct object){block, kinds[i].bytes, i};
        stamp(&objects[i]);
    }
    for (size_t i = 0; i < KINDS; i++) {
        DEMAND(compare(&objects[i]) == 0);
        sharena_dallocx(heap, objects[i].block, kinds[i].flags);
    }
    return 0;
}

static int check(sharena_t *heap, struct sharena_report *report) {
    if (sharena_check(heap, report) != 0) {
        for (unsigned i = 0; i < report->findings && i < SHARENA_REPORT_MESSAGES; i++) {
            (void)fprintf(stderr, "stage: finding: %s\n", report->messages[i]);
        }
        return -1;
    }
    return 0;
}

int stage_go_on(struct stage *stage, sharena_t *heap) {
    struct sharena_report report;
    DEMAND(use_heap(heap) == 0);
    (void)sharena_reap(heap);
    DEMAND(check(heap, &report) == 0);
    return compare_all(stage);
}

static int be_newcomer_once(struct stage *stage) {
    sharena_t *heap = NULL;
    struct sharena_report report;
    DEMAND(open_with(stage, SHARENA_OPEN_ONLY, &heap) == 0);
    if (stage->newcomer_is_first) { /* attaching alone has mended everything */
        DEMAND(check(heap, &report) == 0);
        DEMAND(sharena_reap(heap) == 0);
    }
    DEMAND(stage_go_on(stage, heap) == 0);
    DEMAND(sharena_close(heap) == 0);
    return 0;
}

int stage_start_newcomer(struct stage *stage) {
    pid_t parent = getpid();
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid != 0) {
        stage->newcomer = pid;
        return pid > 0 ? 0 : -1;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    for (int done = 0;; done++) {
        while (atomic_load(&stage->command) == done) {
            (void)syscall(SYS_futex, &stage->command, FUTEX_WAIT, done, NULL, NULL, 0);
        }
        atomic_store(&stage->result, be_newcomer_once(stage));
        atomic_store(&stage->answer, done + 1);
        (void)syscall(SYS_futex, &stage->answer, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

int stage_call_newcomer(struct stage *stage) {
    const struct timespec patience = {10, 0};
    int call = atomic_fetch_add(&stage->command, 1) + 1;
    (void)syscall(SYS_futex, &stage->command, FUTEX_WAKE, 1, NULL, NULL, 0);
    while (atomic_load(&stage->answer) != call) {
        DEMAND(syscall(SYS_futex, &stage->answer, FUTEX_WAIT, call - 1, &patience, NULL, 0) == 0 ||
               errno != ETIMEDOUT);
    }
    return atomic_load(&stage->result);
}

/* ---- the account ---- */

/* Pages of user data that the file system has. */
static uint64_t stored_pages(const struct stage *stage) {
    int fd = open(stage->path, O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)heap_superblock(stage->heap)->data_offset;
    uint64_t pages = 0;
    while (fd >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
        off_t hole = lseek(fd, at, SEEK_HOLE);
        pages += (uint64_t)(hole - at) / PAGE_BYTES;
        at = hole;
    }
    (void)close(fd);
    return pages;
}

static void free_known(struct stage *stage) {
    for (unsigned i = 0; i < stage->objects; i++) {
        sharena_free(stage->heap, stage->object[i].block);
    }
    if (stage->cell != NULL) {
        (void)sharena_free_from(stage->heap, stage->cell);
        sharena_free(stage->heap, stage->cell);
    }
}

int stage_account(struct stage *stage, struct allowance allowance) {
    struct sharena_report report;
    free_known(stage);
    DEMAND(sharena_purge(stage->heap) == 0);
    DEMAND(check(stage->heap, &report) == 0);
    if (report.blocks_live > allowance.blocks || report.bytes_live > allowance.bytes) {
        (void)fprintf(stderr, "stage: %llu blocks, %llu bytes are missing; allowed: %u, %zu\n",
                      (unsigned long long)report.blocks_live, (unsigned long long)report.bytes_live,
                      allowance.blocks, allowance.bytes);
        return -1;
    }
    DEMAND(report.blocks_cached == 0 && report.pages_dirty == 0);
    DEMAND(report.pages_backed == stored_pages(stage));
    DEMAND(report.blocks_live != 0 || report.pages_backed == 0);
    DEMAND(sharena_close(stage->heap) == 0);
    stage->heap = NULL;
    DEMAND(sharena_unlink(stage->path) == 0);
    return 0;
}
