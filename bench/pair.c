/* pair.c -- time of malloc and free, one thread, beside the allocators that are installed.
 *
 *     bench_pair [quick]
 *
 * Each operation is a call through a pointer to a wrapper, of the same shape for all; `driver` is
 * the wrapper alone, which always returns the same buffer. The first byte of each block is written.
 * Within a round a workload runs on all allocators in turn; the table shows the median of the
 * rounds, the lowest and the highest.
 *
 * Holds:  all blocks of a workload are freed when it ends
 * Not here: instruction counts (instructions.sh), several threads or processes.
 */
#include <sharena/sharena.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 11
#define ROUNDS_QUICK 5
#define BATCH 10000u
#define LIVE 100000u

/* ---- allocators ---- */

struct allocator {
    const char *name;
    void *(*allocate)(size_t size);
    void (*release)(void *block);
};

static char driver_buffer[64];

static void *driver_allocate(size_t size) {
    (void)size;
    return driver_buffer;
}

static void driver_release(void *block) {
    (void)block;
}

static sharena_t *heap;

static void *sharena_allocate(size_t size) {
    return sharena_malloc(heap, size);
}

static void sharena_release(void *block) {
    sharena_free(heap, block);
}

/* Not libc's, but found at run time; one set of wrappers for each. */
struct peer {
    void *(*allocate)(size_t size);
    void (*release)(void *block);
};

static struct peer libc, jemalloc, mimalloc, tcmalloc;

static void *libc_allocate(size_t size) {
    return libc.allocate(size);
}

static void libc_release(void *block) {
    libc.release(block);
}

static void *jemalloc_allocate(size_t size) {
    return jemalloc.allocate(size);
}

static void jemalloc_release(void *block) {
    jemalloc.release(block);
}

static void *mimalloc_allocate(size_t size) {
    return mimalloc.allocate(size);
}

static void mimalloc_release(void *block) {
    mimalloc.release(block);
}

static void *tcmalloc_allocate(size_t size) {
    return tcmalloc.allocate(size);
}

static void tcmalloc_release(void *block) {
    tcmalloc.release(block);
}

static struct allocator allocators[8];
static unsigned allocators_count;

static void add(const struct allocator *allocator) {
    allocators[allocators_count++] = *allocator;
}

/* Loads a peer under the names that its functions have in its library. */
static void add_peer(const char *library, const char *allocate, const char *release,
                     struct peer *peer, const struct allocator *allocator) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *found[2] = {NULL, NULL};
    if (handle != NULL) {
        found[0] = dlsym(handle, allocate);
        found[1] = dlsym(handle, release);
    }
    if (found[0] == NULL || found[1] == NULL) {
        printf("%s is not measured: %s\n", allocator->name, dlerror());
        return;
    }
    memcpy(&peer->allocate, &found[0], sizeof(found[0]));
    memcpy(&peer->release, &found[1], sizeof(found[1]));
    add(allocator);
}

static void open_heap(void) {
    const struct sharena_options options = {.capacity_bytes = 1ull << 36};
    int fd = memfd_create("bench_pair", MFD_CLOEXEC);
    if (fd < 0 || sharena_open_fd(fd, &options, &heap) != 0) {
        (void)fprintf(stderr, "bench_pair: no heap: %s\n", sharena_errormsg());
        exit(2);
    }
    (void)close(fd);
}

static void find_allocators(void) {
    open_heap();
    libc = (struct peer){malloc, free};
    add(&(struct allocator){"driver", driver_allocate, driver_release});
    add(&(struct allocator){"sharena", sharena_allocate, sharena_release});
    add(&(struct allocator){"libc", libc_allocate, libc_release});
    add_peer("libjemalloc.so.2", "malloc", "free", &jemalloc,
             &(struct allocator){"jemalloc", jemalloc_allocate, jemalloc_release});
    add_peer("libmimalloc.so.2", "mi_malloc", "mi_free", &mimalloc,
             &(struct allocator){"mimalloc", mimalloc_allocate, mimalloc_release});
    add_peer("libtcmalloc_minimal.so.4", "tc_malloc", "tc_free", &tcmalloc,
             &(struct allocator){"tcmalloc", tcmalloc_allocate, tcmalloc_release});
}

/* ---- workloads: each returns nanoseconds for one malloc and one free ---- */

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift64*; G. Marsaglia, S. Vigna. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static void *touched(const struct allocator *allocator, size_t size) {
    volatile char *block = allocator->allocate(size);
    if (block == NULL) {
        (void)fprintf(stderr, "bench_pair: %s has no %zu bytes\n", allocator->name, size);
        exit(2);
    }
    *block = 1;
    return (void *)(uintptr_t)block;
}

static double per_pair(uint64_t begin, unsigned pairs) {
    return (double)(now_ns() - begin) / pairs;
}

static double run_pairs(const struct allocator *allocator, size_t size, unsigned pairs) {
    for (unsigned i = 0; i < 100; i++) {
        allocator->release(touched(allocator, size));
    }
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < pairs; i++) {
        allocator->release(touched(allocator, size));
    }
    return per_pair(begin, pairs);
}

/* A random order of 0..BATCH-1, the same in every round. */
static const unsigned *batch_order(void) {
    static unsigned order[BATCH];
    uint64_t random = 88172645463325252ull;
    for (unsigned i = 0; i < BATCH && order[BATCH - 1] == 0; i++) {
        unsigned other = (unsigned)(next_random(&random) % (i + 1));
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

static double run_batches(const struct allocator *allocator, size_t size, unsigned pairs) {
    static void *blocks[BATCH];
    const unsigned *order = batch_order();
    uint64_t begin = now_ns();
    for (unsigned done = 0; done < pairs; done += BATCH) {
        for (unsigned i = 0; i < BATCH; i++) {
            blocks[i] = touched(allocator, size);
        }
        for (unsigned i = 0; i < BATCH; i++) {
            allocator->release(blocks[order[i]]);
        }
    }
    return per_pair(begin, pairs);
}

/* 60 % up to 128 bytes, 30 % to 1 KiB, 9 % to 16 KiB, 1 % to 256 KiB; never more than `most`. */
static size_t random_size(uint64_t *random, size_t most) {
    static const struct {
        unsigned percent;
        unsigned low, high;
    } mix[] = {{60, 16, 128}, {90, 129, 1024}, {99, 1025, 16384}, {100, 16385, 262144}};
    uint64_t bits = next_random(random);
    unsigned percent = (unsigned)(bits >> 32) % 100;
    unsigned which = 0;
    while (percent >= mix[which].percent) {
        which++;
    }
    size_t size =
        mix[which].low + (unsigned)(bits & 0xffffffffu) % (mix[which].high - mix[which].low + 1);
    return size <= most ? size : most;
}

/* LIVE blocks; a random one is freed and replaced. */
static double run_replacements(const struct allocator *allocator, size_t most, unsigned pairs) {
    static void *blocks[LIVE];
    uint64_t random = 88172645463325252ull;
    for (unsigned i = 0; i < LIVE; i++) {
        blocks[i] = touched(allocator, random_size(&random, most));
    }
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < pairs; i++) {
        void **slot = &blocks[next_random(&random) % LIVE];
        allocator->release(*slot);
        *slot = touched(allocator, random_size(&random, most));
    }
    double ns = per_pair(begin, pairs);
    for (unsigned i = 0; i < LIVE; i++) {
        allocator->release(blocks[i]);
    }
    return ns;
}

static const struct workload {
    const char *name;
    double (*run)(const struct allocator *allocator, size_t size, unsigned pairs);
    size_t size;
    unsigned pairs;
} workloads[] = {
    {"pair 16 B", run_pairs, 16, 4000000},
    {"pair 64 B", run_pairs, 64, 4000000},
    {"pair 1 KiB", run_pairs, 1024, 4000000},
    {"pair 8 KiB", run_pairs, 8192, 2000000},
    {"pair 32 KiB", run_pairs, 32768, 200000},
    {"pair 64 KiB", run_pairs, 65536, 100000},
    {"pair 1 MiB", run_pairs, 1 << 20, 100000},
    {"pair 4 MiB", run_pairs, 4 << 20, 100000},
    {"10000 x 64 B, random order", run_batches, 64, 1000000},
    {"10000 x 512 B, random order", run_batches, 512, 500000},
    {"replace 1 of 100000, to 8 KiB", run_replacements, 8192, 500000},
    {"replace 1 of 100000, to 256 KiB", run_replacements, 262144, 500000},
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

/* ---- rounds and the table ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const struct workload *workload, unsigned rounds) {
    double ns[8][ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < allocators_count; i++) {
            ns[i][round] = workload->run(&allocators[i], workload->size, workload->pairs);
        }
    }
    printf("%-31s", workload->name);
    for (unsigned i = 0; i < allocators_count; i++) {
        char spread[32];
        qsort(ns[i], rounds, sizeof(double), compare);
        (void)snprintf(spread, sizeof(spread), "(%.1f-%.1f)", ns[i][0], ns[i][rounds - 1]);
        printf(" %7.1f %-15s", ns[i][rounds / 2], spread);
    }
    printf("\n");
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    int is_quick = argc == 2 && strcmp(argv[1], "quick") == 0;
    if (argc > 1 && !is_quick) {
        (void)fprintf(stderr, "usage: bench_pair [quick]\n");
        return 2;
    }
    unsigned rounds = is_quick ? ROUNDS_QUICK : ROUNDS_MAX;
    find_allocators();
    printf("ns for one malloc and one free: median of %u rounds (lowest-highest)\n%-31s", rounds,
           "");
    for (unsigned i = 0; i < allocators_count; i++) {
        printf(" %7s %-15s", allocators[i].name, "");
    }
    printf("\n");
    for (size_t i = 0; i < WORKLOADS; i++) {
        measure(&workloads[i], rounds);
    }
    return sharena_close(heap);
}
