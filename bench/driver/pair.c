/* pair.c -- one thread: a block is taken and given back at once; or many, in another order.
 *
 *     pair SIZE            nanoseconds of a malloc and the free that follows
 *     batch SIZE COUNT     of a malloc and its free, where COUNT blocks are taken, and then all of
 *                          them given back in random order
 */
#include "block.h"

#define BETWEEN_CLOCKS 1000u

void run_pairs(const struct job *job) {
    size_t size = job->args[0];
    uint64_t pairs = 0;
    heap_open(job, 1024, 64 * size);
    for (unsigned i = 0; i < 100; i++) {
        block_give(block_take(size));
    }
    uint64_t end = now_ns() + job->duration_ns;
    uint64_t begin_cpu = cpu_ns();
    do {
        for (unsigned i = 0; i < BETWEEN_CLOCKS; i++) {
            block_give(block_take(size));
        }
        pairs += BETWEEN_CLOCKS;
    } while (now_ns() < end);
    report("pair", (double)(cpu_ns() - begin_cpu) / (double)pairs, "ns");
    backend_close();
}

/* The numbers below count in random order. */
static uint32_t *random_order(size_t count) {
    uint32_t *order = table_make(count * sizeof(*order));
    uint64_t random = RANDOM_SEED;
    for (size_t i = 0; i < count; i++) {
        size_t other = random_below(&random, i + 1);
        order[i] = order[other];
        order[other] = (uint32_t)i;
    }
    return order;
}

static void run_batch(void **blocks, const uint32_t *order, size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        blocks[i] = block_take(size);
    }
    for (size_t i = 0; i < count; i++) {
        block_give(blocks[order[i]]);
    }
}

void run_batches(const struct job *job) {
    size_t size = job->args[0];
    size_t count = job->args[1];
    uint64_t pairs = 0;
    void **blocks = table_make(count * sizeof(*blocks));
    const uint32_t *order = random_order(count);
    heap_open(job, 2 * count, 2 * count * size);
    run_batch(blocks, order, size, count);
    uint64_t end = now_ns() + job->duration_ns;
    uint64_t begin_cpu = cpu_ns();
    do {
        run_batch(blocks, order, size, count);
        pairs += count;
    } while (now_ns() < end);
    report("pair", (double)(cpu_ns() - begin_cpu) / (double)pairs, "ns");
    backend_close();
}
