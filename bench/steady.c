/* steady.c -- a loop of malloc and free that stays in the thread's cache, for tools that count.
 *
 *     bench_steady pairs COUNT     warms up, then COUNT times: malloc of 64 bytes, free
 *     bench_steady empty COUNT     the same without the two calls
 *
 * Two runs with different COUNTs give the cost of one turn; less that of an empty turn, it is that
 * of the two calls with their arguments. instructions.sh and syscalls.sh do that.
 *
 * Holds:  no turn of the loop leaves the fast path
 * Not here: time (driver/).
 */
#include <sharena/sharena.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_BYTES 64
#define WARM_UP 10000

static __attribute__((noinline)) void pairs(sharena_t *heap, long count) {
    for (long i = 0; i < count; i++) {
        sharena_free(heap, sharena_malloc(heap, BLOCK_BYTES));
    }
}

static __attribute__((noinline)) void empty(long count) {
    for (long i = 0; i < count; i++) {
        __asm__ volatile("" ::: "memory");
    }
}

static sharena_t *open_heap(void) {
    const struct sharena_options options = {.capacity_bytes = 1ull << 30};
    sharena_t *heap = NULL;
    int fd = memfd_create("bench_steady", MFD_CLOEXEC);
    if (fd < 0 || sharena_open_fd(fd, &options, &heap) != 0) {
        (void)fprintf(stderr, "bench_steady: no heap: %s\n", sharena_errormsg());
        exit(2);
    }
    (void)close(fd);
    return heap;
}

int main(int argc, char **argv) {
    long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    int is_empty = count > 0 && strcmp(argv[1], "empty") == 0;
    if (count <= 0 || (!is_empty && strcmp(argv[1], "pairs") != 0)) {
        (void)fprintf(stderr, "usage: bench_steady pairs|empty COUNT\n");
        return 2;
    }
    sharena_t *heap = open_heap();
    pairs(heap, WARM_UP);
    if (is_empty) {
        empty(count);
    } else {
        pairs(heap, count);
    }
    return sharena_close(heap);
}
