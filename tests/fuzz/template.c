/* template.c -- makes the heap that every input damages, and puts it back. */
#include "template.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/arena.h"
#include "heap/chunk.h"
#include "heap/heap.h"
#include "heap/publish.h"
#include "heap/run.h"
#include "ipc/lock.h"

#define EXTENTS_MAX 256u

struct extent { /* of the file that is no hole */
    uint64_t begin;
    uint64_t end;
};

static struct template made;
static struct superblock first_superblock;
static struct extent extents[EXTENTS_MAX];
static uint32_t extent_count;

void fuzz_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "fuzz: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    abort();
}

/* ---- making, in a process that dies ---- */

/* What the maker tells its parent; shared memory. */
struct told {
    void *blocks[TEMPLATE_BLOCKS_MAX];
    uint32_t count;
};

static void *keep(struct told *told, void *block) {
    FUZZ_REQUIRE(block != NULL && told->count < TEMPLATE_BLOCKS_MAX);
    told->blocks[told->count++] = block;
    return block;
}

static void make_small(sharena_t *heap, struct told *told) {
    static const size_t sizes[] = {8, 16, 48, 64, 192, 1000, 5000, 14000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *freed[3];
        for (int j = 0; j < 3; j++) {
            (void)keep(told, sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE));
            freed[j] = sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE);
            FUZZ_REQUIRE(freed[j] != NULL);
        }
        for (int j = 0; j < 3; j++) {
            sharena_dallocx(heap, freed[j], SHARENA_TCACHE_NONE);
        }
    }
    for (int i = 0; i < 40; i++) { /* 14000 bytes: full runs, and one that is not current */
        (void)keep(told, sharena_mallocx(heap, 14000, SHARENA_TCACHE_NONE));
    }
    sharena_dallocx(heap, told->blocks[--told->count - 20], SHARENA_TCACHE_NONE);
    told->blocks[told->count - 20] = told->blocks[told->count];
}

static void make_big(sharena_t *heap, struct told *told) {
    static const size_t sizes[] = {20000, 30000, 100000, 24000, 300000, 50000, 3 << 20, 2 << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *before = sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE);
        (void)keep(told, sharena_mallocx(heap, sizes[i], SHARENA_TCACHE_NONE));
        FUZZ_REQUIRE(before != NULL);
        sharena_dallocx(heap, before, SHARENA_TCACHE_NONE); /* leaves dirty pages between blocks */
        if (i == 1) {
            FUZZ_REQUIRE(sharena_purge(heap) == 0); /* these are clean */
        }
    }
}

static void fill_cache(sharena_t *heap) {
    void *blocks[60];
    for (size_t size = 8; size <= 32768; size = size * 3 / 2 / 8 * 8 + 8) {
        size_t count = size <= 1024 ? 60 : size <= 14336 ? 10 : 3;
        FUZZ_REQUIRE(sharena_malloc_batch(heap, size, count, blocks) == count);
        sharena_free_batch(heap, count, blocks);
    }
}

/* ---- the dead, each a child that ends without a word ---- */

static void die_with_full_cache(sharena_t *heap) {
    fill_cache(heap);
}

static void die_publishing(sharena_t *heap) {
    void **where = sharena_root_get(heap, "where");
    void *block = sharena_malloc(heap, 200);
    FUZZ_REQUIRE(where != NULL && block != NULL);
    where[0] = NULL;
    publish_begin(heap_enter(heap), PENDING_MALLOC, &where[0], block);
}

static void die_freeing(sharena_t *heap) {
    void **where = sharena_root_get(heap, "where");
    FUZZ_REQUIRE(where != NULL && sharena_malloc_to(heap, 20000, &where[1]) == 0);
    publish_begin(heap_enter(heap), PENDING_FREE, &where[1], where[1]);
    where[1] = NULL;
}

static void die_with_run(sharena_t *heap) {
    struct thread_slot *self = heap_enter(heap);
    FUZZ_REQUIRE(arena_take(heap, self, shared_get(&self->arena) - 1, 3, 1) == 0);
}

static void die_with_span(sharena_t *heap) {
    struct thread_slot *self = heap_enter(heap);
    FUZZ_REQUIRE(pool_take(heap, self, 2, 1) == 0);
    uint32_t first = shared_get(&self->hand.first);
    uint32_t backed = shared_get(&heap_chunk(heap, first)->backed);
    struct pool *pool = heap_pool(heap);
    lock_acquire(heap, self, &pool->lock);
    journal_set(self, &heap_state(heap)->backed_pages,
                shared_get(&heap_state(heap)->backed_pages) + 5);
    journal_set(self, &self->hand.charged_first, first_page_of_chunk(first) + backed);
    journal_set(self, &self->hand.charged, 5u);
    journal_commit(self);
    lock_release(heap, self, &pool->lock);
}

static int die_in_init(void *ptr, void *arg) {
    (void)ptr;
    (void)arg;
    _exit(0);
}

static void die_making_a_root(sharena_t *heap) {
    FUZZ_REQUIRE(sharena_root_create(heap, "made", 100, die_in_init, NULL) == NULL);
}

static void die_in_a_section(sharena_t *heap) {
    struct thread_slot *self = heap_enter(heap);
    struct arena *arena = heap_arena(heap, shared_get(&self->arena) - 1);
    uint32_t start;
    lock_acquire(heap, self, &arena->lock);
    uint32_t page = run_find(heap, arena, 1, 1, 1, &start);
    FUZZ_REQUIRE(page != 0);
    (void)run_carve(heap, self, arena, page, start, 1, RUN_HAND);
    FUZZ_REQUIRE(!journal_is_empty(self));
}

static void leave_the_dead(sharena_t *heap) {
    static void (*const ends[])(sharena_t *) = {
        die_with_full_cache, die_publishing,    die_freeing,     die_with_run,
        die_with_span,       die_making_a_root, die_in_a_section};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            ends[i](heap);
            _exit(0);
        }
        FUZZ_REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    }
}

static void make_heap(int fd, struct told *told) {
    const struct sharena_options options = {.capacity_bytes = TEMPLATE_CAPACITY,
                                            .base_address = TEMPLATE_BASE,
                                            .conf =
                                                "narenas:2,cache_oblivious:true,dirty_decay_ms:-1"};
    sharena_t *heap = NULL;
    FUZZ_REQUIRE(sharena_open_fd(fd, &options, &heap) == 0);
    make_small(heap, told);
    make_big(heap, told);
    void **where = sharena_calloc(heap, 1, 64);
    FUZZ_REQUIRE(where != NULL && sharena_root_set(heap, "where", where) == 0);
    FUZZ_REQUIRE(sharena_root_set(heap, "first", told->blocks[0]) == 0);
    FUZZ_REQUIRE(sharena_root_set(heap, "gone", told->blocks[1]) == 0);
    FUZZ_REQUIRE(sharena_root_set(heap, "last", told->blocks[2]) == 0);
    FUZZ_REQUIRE(sharena_root_set(heap, "gone", NULL) == 0);
    FUZZ_REQUIRE(sharena_check(heap, NULL) == 0);
    leave_the_dead(heap);
}

/* ---- keeping and putting back ---- */

static uint64_t seek(uint64_t from, int whence) {
    off_t at = lseek(made.fd, (off_t)from, whence);
    return at < 0 ? made.total_bytes : (uint64_t)at;
}

/* The blocks' contents mean nothing, but for the page that pending steps point to. */
static void drop_user_data(void) {
    const struct superblock *superblock = (const void *)made.bytes;
    uint64_t begin = superblock->data_offset;
    char page[PAGE_BYTES];
    const struct root_table *roots = (const void *)(made.bytes + ROOTS_OFFSET);
    uint64_t where = (uint64_t)(uintptr_t)shared_get(&roots->roots[0].object) - TEMPLATE_BASE;
    FUZZ_REQUIRE(strcmp(roots->roots[0].name, "where") == 0 && where < made.total_bytes);
    where = where / PAGE_BYTES * PAGE_BYTES;
    memcpy(page, made.bytes + where, PAGE_BYTES);
    FUZZ_REQUIRE(madvise(made.bytes + begin, made.total_bytes - begin, MADV_REMOVE) == 0);
    memcpy(made.bytes + where, page, PAGE_BYTES);
}

static void keep_intact(void) {
    char *intact = mmap(NULL, made.total_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    FUZZ_REQUIRE(intact != MAP_FAILED);
    for (uint64_t at = 0; (at = seek(at, SEEK_DATA)) < made.total_bytes;) {
        uint64_t end = seek(at, SEEK_HOLE);
        FUZZ_REQUIRE(extent_count < EXTENTS_MAX);
        memcpy(intact + at, made.bytes + at, end - at);
        extents[extent_count++] = (struct extent){at, end};
        at = end;
    }
    made.intact = intact;
    memcpy(&first_superblock, intact, sizeof(first_superblock));
}

const struct template *template_get(void) {
    if (made.bytes != NULL) {
        return &made;
    }
    struct told *told =
        mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = -1;
    made.fd = memfd_create("sharena-fuzz", MFD_CLOEXEC);
    FUZZ_REQUIRE(told != MAP_FAILED && made.fd >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        make_heap(made.fd, told);
        _exit(0);
    }
    FUZZ_REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    made.total_bytes = (uint64_t)lseek(made.fd, 0, SEEK_END);
    made.bytes = mmap(NULL, made.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    FUZZ_REQUIRE(made.bytes != MAP_FAILED);
    memcpy(made.blocks, told->blocks, sizeof(told->blocks));
    made.count = told->count;
    (void)munmap(told, sizeof(*told));
    drop_user_data();
    keep_intact();
    return &made;
}

static void put_back(uint64_t begin, uint64_t end) {
    for (uint64_t at = begin; at < end; at += PAGE_BYTES) {
        if (memcmp(made.bytes + at, made.intact + at, PAGE_BYTES) != 0) {
            memcpy(made.bytes + at, made.intact + at, PAGE_BYTES);
        }
    }
}

/* What lies in [begin, end) was a hole. */
static void punch(uint64_t begin, uint64_t end) {
    if (begin < end) {
        FUZZ_REQUIRE(madvise(made.bytes + begin, end - begin, MADV_REMOVE) == 0);
    }
}

void template_restore(void) {
    uint32_t next = 0;
    for (uint64_t at = 0; (at = seek(at, SEEK_DATA)) < made.total_bytes;) {
        uint64_t end = seek(at, SEEK_HOLE);
        while (at < end) {
            while (next < extent_count && extents[next].end <= at) {
                next++;
            }
            uint64_t begin = next < extent_count ? extents[next].begin : made.total_bytes;
            uint64_t until = begin < end ? begin : end;
            if (at < until) {
                punch(at, until);
                at = until;
            } else {
                at = extents[next].end < end ? extents[next].end : end;
            }
        }
    }
    for (uint32_t i = 0; i < extent_count; i++) {
        put_back(extents[i].begin, extents[i].end);
    }
}

void template_fix_superblock(int all) {
    struct superblock *superblock = (void *)made.bytes;
    if (all) {
        superblock->magic = first_superblock.magic;
        superblock->endian = first_superblock.endian;
        superblock->format_version = first_superblock.format_version;
        superblock->fingerprint = first_superblock.fingerprint;
    }
    superblock->checksum =
        superblock_hash(SUPERBLOCK_HASH_SEED, superblock, offsetof(struct superblock, checksum));
}
