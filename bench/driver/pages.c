/* pages.c -- what memory costs that nobody in this process has touched yet.
 *
 *     growth MIB     from an empty heap to MIB in blocks of a page, and back: nanoseconds per
 *                    page to take and touch, to give back, and to return to the system
 *     touch MIB      another process made the memory: nanoseconds per page to write to blocks
 *                    that it took, and to take and touch what it took and gave back
 *
 * Without an allocator (bare) it is what the kernel charges: MADV_POPULATE_WRITE by chunks of 2 MiB
 * where sharena takes memory, a fault per page where the application touches it, and holes punched.
 */
#include "block.h"
#include "team.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)
#define MIB ((size_t)1 << 20)

static double per_page(uint64_t begin_cpu, size_t pages) {
    return (double)(cpu_ns() - begin_cpu) / (double)pages;
}

/* ---- without an allocator ---- */

struct bare {
    int fd;
    char *base;
    size_t bytes;
};

static struct bare bare_open(const struct job *job) {
    struct bare bare = {.bytes = job->args[0] * MIB};
    bare.fd = open(job->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (bare.fd < 0 || ftruncate(bare.fd, (off_t)bare.bytes) != 0) {
        die("%s: %s", job->path, strerror(errno));
    }
    bare.base = mmap(NULL, bare.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bare.fd, 0);
    if (bare.base == MAP_FAILED) {
        die("mmap: %s", strerror(errno));
    }
    return bare;
}

static void bare_close(const struct bare *bare) {
    (void)munmap(bare->base, bare->bytes);
    (void)close(bare->fd);
}

static void bare_populate(const struct bare *bare) {
    for (size_t at = 0; at < bare->bytes; at += CHUNK) {
        if (madvise(bare->base + at, CHUNK, MADV_POPULATE_WRITE) != 0) {
            die("madvise: %s", strerror(errno));
        }
    }
}

static void bare_punch(const struct bare *bare) {
    for (size_t at = 0; at < bare->bytes; at += CHUNK) {
        if (fallocate(bare->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                      (off_t)CHUNK) != 0) {
            die("fallocate: %s", strerror(errno));
        }
    }
}

static void grow_bare(const struct job *job) {
    struct bare bare = bare_open(job);
    uint64_t begin_cpu = cpu_ns();
    bare_populate(&bare);
    report("take", per_page(begin_cpu, bare.bytes / PAGE), "ns");
    begin_cpu = cpu_ns();
    bare_punch(&bare);
    report("return", per_page(begin_cpu, bare.bytes / PAGE), "ns");
    bare_close(&bare);
}

static void bare_make(const struct job *job, void *shared) {
    (void)shared;
    struct bare bare = bare_open(job);
    bare_populate(&bare);
    bare_close(&bare);
}

static void touch_bare(const struct job *job) {
    child_run(bare_make, job, NULL);
    struct bare bare = bare_open(job);
    uint64_t begin_cpu = cpu_ns();
    for (size_t at = 0; at < bare.bytes; at += PAGE) {
        *(volatile char *)(bare.base + at) = 1;
    }
    report("touch", per_page(begin_cpu, bare.bytes / PAGE), "ns");
    bare_close(&bare);
    bare = bare_open(job);
    begin_cpu = cpu_ns();
    bare_populate(&bare);
    report("reuse", per_page(begin_cpu, bare.bytes / PAGE), "ns");
    bare_close(&bare);
}

/* ---- with one ---- */

/* A table of the blocks is in front of them. */
struct pages {
    size_t count;
    void *blocks[];
};

static struct pages *pages_make(const struct job *job) {
    size_t count = job->args[0] * MIB / PAGE;
    struct pages *pages = table_make(sizeof(*pages) + count * sizeof(void *));
    pages->count = count;
    return pages;
}

static void pages_heap_open(const struct job *job) {
    heap_open(job, job->args[0] * MIB / PAGE, job->args[0] * MIB);
}

static void pages_take(struct pages *pages) {
    for (size_t i = 0; i < pages->count; i++) {
        pages->blocks[i] = block_take(PAGE);
    }
}

static void pages_give(const struct pages *pages) {
    for (size_t i = 0; i < pages->count; i++) {
        block_give(pages->blocks[i]);
    }
}

void run_growth(const struct job *job) {
    if (backend_sharing == SHARING_BARE) {
        grow_bare(job);
        return;
    }
    struct pages *pages = pages_make(job);
    pages_heap_open(job);
    uint64_t begin_cpu = cpu_ns();
    pages_take(pages);
    report("take", per_page(begin_cpu, pages->count), "ns");
    begin_cpu = cpu_ns();
    pages_give(pages);
    report("give back", per_page(begin_cpu, pages->count), "ns");
    begin_cpu = cpu_ns();
    backend_purge();
    report("return", per_page(begin_cpu, pages->count), "ns");
    backend_close();
}

static void take_in_child(const struct job *job, void *shared) {
    pages_heap_open(job);
    pages_take(shared);
    backend_close();
}

static void give_in_child(const struct job *job, void *shared) {
    pages_heap_open(job);
    pages_give(shared);
    backend_close();
}

void run_touch(const struct job *job) {
    if (backend_sharing == SHARING_BARE) {
        touch_bare(job);
        return;
    }
    if (backend_sharing != SHARING_PROCESSES) {
        not_applicable("no memory of other processes");
    }
    struct pages *pages = pages_make(job);
    child_run(take_in_child, job, pages);
    pages_heap_open(job);
    uint64_t begin_cpu = cpu_ns();
    for (size_t i = 0; i < pages->count; i++) {
        *(volatile uint64_t *)pages->blocks[i] = block_stamp(pages->blocks[i]);
    }
    report("touch", per_page(begin_cpu, pages->count), "ns");
    backend_close();
    child_run(give_in_child, job, pages);
    pages_heap_open(job);
    begin_cpu = cpu_ns();
    pages_take(pages);
    report("reuse", per_page(begin_cpu, pages->count), "ns");
    backend_close();
}
