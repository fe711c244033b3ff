/* fragment.c -- how much memory is held beside how much is in use, while the sizes change.
 *
 *     fragment MIB    six rounds: MIB of blocks of the round's sizes are taken, then two thirds
 *                     of all live blocks given back at random. The last peak has 1.5 x MIB. Then
 *                     90 % are given back at random, and memory is returned to the system
 *                     (purged); then the rest, and purged again
 *
 * Held is what the file has, or for a private allocator the anonymous memory of the process, less
 * what each had before; all blocks are written to the last byte. The table of blocks is not
 * counted.
 */
#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ROUNDS 6u
#define MIB ((uint64_t)1 << 20)
#define TABLE_BLOCKS ((size_t)16 << 20) /* more than there can be: mapped, and touched as used */

/* So many percent of the blocks are of each class; the size within the class is random. */
#define CLASSES 4u
static const struct {
    unsigned low, high;
} classes[CLASSES] = {{16, 128}, {129, 1024}, {1025, 16384}, {16385, 262144}};

static const unsigned mixes[ROUNDS][CLASSES] = {{70, 25, 4, 1},  {60, 30, 9, 1},  {50, 35, 14, 1},
                                                {40, 40, 19, 1}, {50, 35, 14, 1}, {60, 30, 9, 1}};

struct live {
    uint64_t **blocks; /* each begins with its size */
    size_t count;
    uint64_t bytes;
    uint64_t random;
};

static uint64_t file_bytes(const struct job *job) {
    struct stat status;
    if (stat(job->path, &status) != 0) {
        die("no %s", job->path);
    }
    return (uint64_t)status.st_blocks * 512;
}

static uint64_t anonymous_bytes(void) {
    char line[128];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        die("no /proc/self/status");
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "RssAnon:", 8) == 0) {
            kib = strtoull(line + 8, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib << 10;
}

static double held_mib(const struct job *job, uint64_t before) {
    uint64_t bytes = backend_sharing == SHARING_THREADS ? anonymous_bytes() : file_bytes(job);
    return bytes < before ? 0 : (double)(bytes - before) / (double)MIB;
}

static size_t mix_size(const unsigned *mix, uint64_t *random) {
    unsigned percent = random_below(random, 100);
    unsigned which = 0;
    while (percent >= mix[which]) {
        percent -= mix[which++];
    }
    return classes[which].low + random_below(random, classes[which].high - classes[which].low + 1);
}

static void take_until(struct live *live, uint64_t bytes, const unsigned *mix) {
    while (live->bytes < bytes) {
        size_t size = mix_size(mix, &live->random);
        if (live->count == TABLE_BLOCKS) {
            die("more blocks than the table has room for");
        }
        uint64_t *block = block_take(size);
        (void)memset(block, 1, size);
        *block = size;
        live->blocks[live->count++] = block;
        live->bytes += size;
    }
}

static void give_at_random(struct live *live, uint64_t bytes_left) {
    while (live->count > 0 && live->bytes > bytes_left) {
        size_t index = random_below(&live->random, live->count);
        uint64_t *block = live->blocks[index];
        live->blocks[index] = live->blocks[--live->count];
        live->bytes -= *block;
        *block = block_stamp(block);
        block_give(block);
    }
}

/* Reports what is held now; returns it, in MiB. */
static double report_held(const struct job *job, const struct live *live, uint64_t before,
                          const char *when) {
    char name[64];
    double held = held_mib(job, before);
    (void)snprintf(name, sizeof(name), "%s, %.0f MiB in use: held", when,
                   (double)live->bytes / (double)MIB);
    report(name, held, "MiB");
    return held;
}

static void run_rounds(const struct job *job, struct live *live, uint64_t before) {
    double held = 0;
    double used = 1;
    char when[32];
    for (unsigned round = 0; round < ROUNDS; round++) {
        take_until(live, live->bytes + job->args[0] * MIB, mixes[round]);
        (void)snprintf(when, sizeof(when), "peak %u", round + 1);
        held = report_held(job, live, before, when);
        used = (double)live->bytes / (double)MIB;
        give_at_random(live, live->bytes / 3);
    }
    report("the last peak: held for each that is in use", held / used, "1");
}

void run_fragmentation(const struct job *job) {
    size_t bytes = job->args[0] * MIB;
    struct live live = {.blocks = table_make(TABLE_BLOCKS * sizeof(void *)), .random = RANDOM_SEED};
    if (backend_sharing == SHARING_BARE) {
        not_applicable("no allocator");
    }
    if (backend_sharing == SHARING_FILE) {
        not_applicable("its file has its full size from the beginning");
    }
    heap_open(job, 2 * bytes / 1024, 2 * bytes);
    uint64_t before = backend_sharing == SHARING_THREADS ? anonymous_bytes() : 0;
    run_rounds(job, &live, before);
    give_at_random(&live, live.bytes / 10);
    double held = report_held(job, &live, before, "10 % left");
    backend_purge();
    report("returned", held - report_held(job, &live, before, "purged"), "MiB");
    give_at_random(&live, 0);
    backend_purge();
    (void)report_held(job, &live, before, "none left, purged");
    backend_close();
}
