/* content.c -- for tests of the command: a process that fills a heap as it is told, line by line.
 *
 *     content FILE CAPACITY [CONF]
 *
 * Each line on stdin is one order, answered by one line on stdout: "ok ..." or "no: why". At the end
 * of the input it ends without a word to the heap's blocks: what was allocated stays.
 *
 *     alloc SIZE COUNT    blocks, which it remembers by their size
 *     align SIZE BYTES    one block at a multiple of BYTES
 *     free SIZE EVERY     each EVERYth of the blocks of that size that it remembers
 *     cycle SIZE COUNT    mallocx and dallocx past the cache, so often
 *     flush, purge        the thread's cache; the free pages
 *     threads COUNT       so many more, each of which has used the heap once and then waits
 *     report              ok LIVE LIVE_BYTES CACHED CACHED_BYTES BACKED DIRTY CHUNKS CHUNKS_FREE
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sharena/sharena.h>

#define BLOCKS_MAX 1000000u

struct block {
    void *at;
    size_t size;
};

static sharena_t *heap;
static struct block blocks[BLOCKS_MAX];
static size_t used;

static int say_no(const char *why) {
    (void)printf("no: %s\n", why);
    return 1;
}

static int do_alloc(size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *at = used < BLOCKS_MAX ? sharena_malloc(heap, size) : NULL;
        if (at == NULL) {
            return say_no(sharena_errormsg());
        }
        blocks[used++] = (struct block){at, size};
    }
    return 0;
}

static int do_align(size_t size, size_t alignment) {
    void *at = used < BLOCKS_MAX ? sharena_aligned_alloc(heap, alignment, size) : NULL;
    if (at == NULL) {
        return say_no(sharena_errormsg());
    }
    blocks[used++] = (struct block){at, size};
    return 0;
}

static int do_free(size_t size, size_t every) {
    size_t seen = 0;
    size_t kept = 0;
    for (size_t i = 0; i < used; i++) {
        if (blocks[i].size == size && seen++ % (every == 0 ? 1 : every) == 0) {
            sharena_free(heap, blocks[i].at);
        } else {
            blocks[kept++] = blocks[i];
        }
    }
    used = kept;
    return 0;
}

static int do_cycle(size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *at = sharena_mallocx(heap, size, SHARENA_TCACHE_NONE);
        if (at == NULL) {
            return say_no(sharena_errormsg());
        }
        sharena_dallocx(heap, at, SHARENA_TCACHE_NONE);
    }
    return 0;
}

static int do_report(void) {
    struct sharena_report r;
    if (sharena_check(heap, &r) != 0) {
        return say_no(sharena_errormsg());
    }
    (void)printf("ok %ju %ju %ju %ju %ju %ju %ju %ju\n", (uintmax_t)r.blocks_live,
                 (uintmax_t)r.bytes_live, (uintmax_t)r.blocks_cached, (uintmax_t)r.bytes_cached,
                 (uintmax_t)r.pages_backed, (uintmax_t)r.pages_dirty, (uintmax_t)r.chunks,
                 (uintmax_t)r.chunks_free);
    return 1;
}

static void *use_and_wait(void *ready) {
    void *volatile block = sharena_malloc(heap, 64);
    sharena_free(heap, block);
    (void)pthread_barrier_wait(ready);
    for (;;) {
        (void)pause();
    }
    return NULL;
}

static int do_threads(size_t count) {
    static pthread_barrier_t ready;
    pthread_t thread;
    (void)pthread_barrier_init(&ready, NULL, (unsigned)count + 1);
    for (size_t i = 0; i < count; i++) {
        if (pthread_create(&thread, NULL, use_and_wait, &ready) != 0) {
            return say_no("no thread");
        }
    }
    (void)pthread_barrier_wait(&ready);
    return 0;
}

/* 0: done; 1: it has answered. */
static int obey(const char *line) {
    char order[16];
    char *at;
    (void)snprintf(order, sizeof(order), "%.*s", (int)strcspn(line, " \n"), line);
    size_t first = strtoull(line + strcspn(line, " "), &at, 10);
    size_t second = strtoull(at, NULL, 10);
    if (strcmp(order, "alloc") == 0) {
        return do_alloc(first, second);
    }
    if (strcmp(order, "align") == 0) {
        return do_align(first, second);
    }
    if (strcmp(order, "free") == 0) {
        return do_free(first, second);
    }
    if (strcmp(order, "cycle") == 0) {
        return do_cycle(first, second);
    }
    if (strcmp(order, "flush") == 0) {
        return sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0) == 0
                   ? 0
                   : say_no(sharena_errormsg());
    }
    if (strcmp(order, "purge") == 0) {
        return sharena_purge(heap) == 0 ? 0 : say_no(sharena_errormsg());
    }
    if (strcmp(order, "threads") == 0) {
        return do_threads(first);
    }
    return strcmp(order, "report") == 0 ? do_report() : say_no("no such order");
}

int main(int argc, char **argv) {
    char line[128];
    struct sharena_options options = {.conf = argc > 3 ? argv[3] : NULL};
    if (argc < 3) {
        return 2;
    }
    options.capacity_bytes = strtoull(argv[2], NULL, 10);
    if (sharena_open(argv[1], &options, &heap) != 0) {
        (void)say_no(sharena_errormsg());
        return 1;
    }
    (void)printf("ok %d\n", (int)getpid());
    (void)fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (obey(line) == 0) {
            (void)puts("ok");
        }
        (void)fflush(stdout);
    }
    return 0;
}
