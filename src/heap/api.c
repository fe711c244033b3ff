/* api.c -- the public calls on blocks: their fast paths, and what leads from them to the slow ones.
 *
 * The fast paths take no lock, make no atomic read-modify-write and no system call:
 *
 *   malloc   is the hint this heap? -> stack by the size table -> top != base -> pop
 *   free     user data of the hint's heap? -> stack by the page map -> top != full -> push
 *
 * The hint (thread.h) lives in memory that the kernel wipes in a child, so no check of the process
 * is needed. A pointer that is no block leads to stacks[0], which is always full.
 *
 * Holds:  a public call returns with no lock held and nothing in hand or pending
 * Lock:   none
 * Killed: in a push or pop: the block in flight is lost, or nothing (tcache.h)
 * Not here: everything that takes longer (alloc.c).
 */
#include <errno.h>
#include <string.h>

#include "heap/alloc.h"
#include "heap/fill.h"
#include "heap/heap.h"
#include "heap/large.h"
#include "heap/misuse.h"
#include "heap/prof.h"
#include "heap/tcache.h"
#include "ipc/errors.h"
#include "ipc/forking.h"

/* ---- malloc ---- */

HOT void *pop_or_null(struct tcache_stack *stack) {
    shared_ptr *top = shared_get_own(&stack->top);
    if (UNLIKELY(top == (shared_ptr *)shared_get_own(&stack->base))) {
        return NULL;
    }
    shared_store(&stack->top,
                 top - 1); /* commits: the block is the caller's; it stays readable there */
    return shared_get_own(top - 1);
}

/* What a thread does that only counts what it allocates: a cached block, unless this one is to be
 * sampled. NULL: that, or none is cached, or it does more, or less. */
static void *malloc_counted(sharena_t *heap, size_t size) {
    const struct thread_record *record = thread_record;
    const struct attachment *attachment = record->counted;
    if (attachment == NULL || attachment->mapping.base != heap || size > LARGE_BYTES_MAX) {
        return NULL;
    }
    struct tcache *tcache = record->hint_tcache;
    uint32_t size_class = sizeclass_of(size);
    uint64_t bytes = sizeclass_bytes(size_class);
    void *block = NULL;
    if (!prof_would_sample(attachment, bytes)) {
        block = pop_or_null(&tcache->stacks[size_class + 1]);
        (void)(block != NULL && prof_wants_sample(attachment, bytes));
    }
    return block;
}

static COLD void *malloc_slow(sharena_t *heap, size_t size) {
    const struct request request = {.size = size, .alignment = 1, .use_cache = 1};
    void *block = malloc_counted(heap, size);
    if (block != NULL) {
        return block;
    }
    struct thread_slot *self = heap_enter(heap);
    return self != NULL ? alloc_block(heap, self, &request) : NULL;
}

/* Sizes beyond the table. Not inlined: its registers would cost the fast path. */
static __attribute__((noinline)) void *malloc_beyond(sharena_t *heap, size_t size) {
    const struct thread_record *record = thread_record;
    if (LIKELY(record->hint_heap == heap && size <= (size_t)CACHED_BYTES_MAX)) {
        struct tcache *tcache = record->hint_tcache;
        void *block = pop_or_null(&tcache->stacks[sizeclass_of(size) + 1]);
        if (LIKELY(block != NULL)) {
            return block;
        }
    }
    return malloc_slow(heap, size);
}

SHARENA_API void *sharena_malloc(sharena_t *heap, size_t size) {
    const struct thread_record *record = thread_record;
    if (UNLIKELY(size > LOOKUP_BYTES_MAX)) {
        return malloc_beyond(heap, size);
    }
    if (UNLIKELY(record->hint_heap != heap)) {
        return malloc_slow(heap, size);
    }
    uint32_t offset = sizeclass_stack_offset[size];
    struct tcache_stack *stack =
        (struct tcache_stack *)(void *)((char *)record->hint_tcache + offset);
    shared_ptr *top = shared_get_own(&stack->top);
    if (UNLIKELY(top == (shared_ptr *)shared_get_own(&stack->base))) {
        return malloc_slow(heap, size);
    }
    shared_store(&stack->top,
                 top - 1); /* commits: the block is the caller's; it stays readable there */
    return shared_get_own(top - 1);
}

/* ---- free ---- */

/* A thread that can get no slot leaves the block as it is: better lost than freed
 * without a lock. */
static COLD void free_slow(sharena_t *heap, void *ptr) {
    int saved_errno = errno;
    if (ptr != NULL) {
        struct thread_slot *self = heap_enter(heap);
        if (self == NULL && errno == EINVAL) {
            misuse(heap, SHARENA_MISUSE_FOREIGN, ptr, "free in a heap that is not attached");
        }
        if (self != NULL) {
            alloc_free(heap, self, ptr, 1);
        }
    }
    errno = saved_errno;
}

SHARENA_API void sharena_free(sharena_t *heap, void *ptr) {
    const struct thread_record *record = thread_record;
    uint64_t offset = (uintptr_t)ptr - record->data_begin;
    if (UNLIKELY(offset >= record->data_bytes)) { /* another heap, NULL, wild, or a new chunk */
        free_slow(heap, ptr);
        return;
    }
    uint32_t map_entry = shared_get(&record->data_page_map[offset >> LG_PAGE]);
    struct tcache_stack *stack =
        (struct tcache_stack *)(void *)((char *)record->hint_tcache + map_entry);
    shared_ptr *top = shared_get_own(&stack->top);
    if (UNLIKELY(top == (shared_ptr *)shared_get_own(&stack->full))) {
        free_slow(heap, ptr);
        return;
    }
    shared_store(top, ptr); /* above top: nobody's yet */
    shared_order();
    shared_store(&stack->top, top + 1); /* commits: the block is the cache's */
}

SHARENA_API void sharena_free_sized(sharena_t *heap, void *ptr, size_t size) {
    sharena_sdallocx(heap, ptr, size, 0);
}

/* ---- the others ---- */

SHARENA_API void *sharena_calloc(sharena_t *heap, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return error_null(ENOMEM, "%zu x %zu bytes are more than can be counted", count, size);
    }
    if (bytes <= SMALL_BYTES_MAX) {
        void *block = sharena_malloc(heap, bytes);
        return block != NULL ? memset(block, 0, bytes) : NULL;
    }
    return sharena_mallocx(heap, bytes, SHARENA_ZERO);
}

SHARENA_API void *sharena_aligned_alloc(sharena_t *heap, size_t alignment, size_t size) {
    struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return NULL;
    }
    const struct superblock *superblock = heap_superblock(heap);
    uint64_t capacity = superblock->total_bytes - superblock->data_offset;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > capacity / 2) {
        return error_null(EINVAL,
                          "alignment %zu is not a power of two up to half of the heap's "
                          "capacity",
                          alignment);
    }
    return sharena_mallocx(heap, size, __builtin_ctzll(alignment));
}

SHARENA_API void *sharena_mallocx(sharena_t *heap, size_t size, int flags) {
    struct request request;
    int error = alloc_request(size, flags, &request);
    struct thread_slot *self = error == 0 ? heap_enter(heap) : NULL;
    if (error != 0) {
        errno = error;
    }
    return self != NULL ? alloc_block(heap, self, &request) : NULL;
}

/* The block became one of `size_class` where it is: its new tail is filled as a new block is. */
static void fill_tail(sharena_t *heap, void *ptr, size_t old_bytes, uint32_t size_class, int zero) {
    const struct attachment *attachment = registry_find(heap);
    fill_range(ptr, old_bytes, sizeclass_bytes(size_class), fill_for_new(&attachment->conf, zero));
}

/* The real size of a live block of that class; 0 for what is none. */
static size_t bytes_of(uint32_t size_class) {
    return size_class != SIZE_CLASSES_MAX ? sizeclass_bytes(size_class) : 0;
}

SHARENA_API void *sharena_rallocx(sharena_t *heap, void *ptr, size_t size, int flags) {
    struct request request;
    if (ptr == NULL) {
        return sharena_mallocx(heap, size, flags);
    }
    int error = alloc_request(size, flags, &request);
    struct thread_slot *self = error == 0 ? heap_enter(heap) : NULL;
    if (self == NULL) {
        errno = error != 0 ? error : errno;
        return NULL;
    }
    size_t old_bytes = bytes_of(alloc_live_class(heap, self, ptr));
    if (old_bytes == 0) {
        return error_null(EINVAL, "%p is not a live block of the heap %p", ptr, (void *)heap);
    }
    uint32_t size_class = alloc_class_for(heap, size, request.alignment);
    if (size_class != SIZE_CLASSES_MAX && ((uintptr_t)ptr & (request.alignment - 1)) == 0 &&
        alloc_resize(heap, self, ptr, size_class)) {
        fill_tail(heap, ptr, old_bytes, size_class, request.zero);
        return ptr;
    }
    void *block = alloc_block(heap, self, &request);
    if (block != NULL) {
        memcpy(block, ptr, old_bytes < size ? old_bytes : size);
        alloc_free(heap, self, ptr, request.use_cache);
    }
    return block;
}

SHARENA_API void *sharena_realloc(sharena_t *heap, void *ptr, size_t size) {
    return sharena_rallocx(heap, ptr, size, 0);
}

SHARENA_API size_t sharena_xallocx(sharena_t *heap, void *ptr, size_t size, size_t extra,
                                   int flags) {
    struct request request;
    struct thread_slot *self = heap_enter(heap);
    size_t old_bytes =
        bytes_of(self != NULL ? alloc_live_class(heap, self, ptr) : alloc_class_of(heap, ptr));
    size_t most = extra > SIZE_MAX - size ? SIZE_MAX : size + extra;
    if (self == NULL || old_bytes == 0 || alloc_request(size, flags, &request) != 0) {
        return old_bytes;
    }
    uint32_t least_class = alloc_class_for(heap, size, 1);
    uint64_t total = heap_superblock(heap)->total_bytes;
    /* Downwards, so that a block that is in the range already stays if it cannot grow. The class of
     * size + extra may be one that is not wholly within it: jemalloc's too. */
    for (uint32_t size_class = sizeclass_of(most < total ? most : total);
         least_class != SIZE_CLASSES_MAX && size_class >= least_class && size_class > 0;
         size_class--) {
        if (alloc_resize(heap, self, ptr, size_class)) {
            fill_tail(heap, ptr, old_bytes, size_class, request.zero);
            return sizeclass_bytes(size_class);
        }
    }
    return old_bytes;
}

SHARENA_API size_t sharena_sallocx(sharena_t *heap, const void *ptr, int flags) {
    (void)flags;
    return bytes_of(alloc_class_of(heap, ptr));
}

SHARENA_API size_t sharena_usable_size(sharena_t *heap, const void *ptr) {
    return ptr != NULL ? sharena_sallocx(heap, ptr, 0) : 0;
}

SHARENA_API void sharena_dallocx(sharena_t *heap, void *ptr, int flags) {
    if ((flags & SHARENA_TCACHE_NONE) == 0 && ((uint32_t)flags >> 20) == 0) {
        sharena_free(heap, ptr);
        return;
    }
    int saved_errno = errno;
    struct thread_slot *self = heap_enter(heap);
    if (self != NULL) {
        alloc_free(heap, self, ptr, 0);
    }
    errno = saved_errno;
}

SHARENA_API void sharena_sdallocx(sharena_t *heap, void *ptr, size_t size, int flags) {
    if (ptr == NULL) {
        return;
    }
    size_t alignment = (size_t)1 << (flags & 0x3f);
    uint32_t size_class = alloc_class_of(heap, ptr);
    if (size_class == SIZE_CLASSES_MAX) {
        return;
    }
    if (size_class < alloc_class_for(heap, size, alignment)) {
        misuse(heap, SHARENA_MISUSE_SIZE, ptr, "sized free with a size that the block never had");
        return;
    }
    sharena_dallocx(heap, ptr, flags);
}

SHARENA_API size_t sharena_nallocx(sharena_t *heap, size_t size, int flags) {
    struct request request;
    if (heap_attachment(heap) == NULL || alloc_request(size, flags, &request) != 0) {
        return 0;
    }
    uint32_t size_class = alloc_class_for(heap, size, request.alignment);
    return size_class != SIZE_CLASSES_MAX ? sizeclass_bytes(size_class) : 0;
}

SHARENA_API size_t sharena_good_size(sharena_t *heap, size_t size) {
    return sharena_nallocx(heap, size, 0);
}

SHARENA_API size_t sharena_malloc_batch(sharena_t *heap, size_t size, size_t count, void **ptrs) {
    size_t made = 0;
    while (made < count && (ptrs[made] = sharena_malloc(heap, size)) != NULL) {
        made++;
    }
    return made;
}

SHARENA_API void sharena_free_batch(sharena_t *heap, size_t count, void **ptrs) {
    for (size_t i = 0; i < count; i++) {
        sharena_free(heap, ptrs[i]);
    }
}

/* ---- in one step ---- */

static int check_where(const sharena_t *heap, void *const *where) {
    if (where == NULL || !is_user_data(heap, where) || (uintptr_t)where % sizeof(void *) != 0) {
        return error_set(EINVAL, "the pointer variable %p is not in the heap %p",
                         (const void *)where, (const void *)heap);
    }
    return 0;
}

SHARENA_API int sharena_malloc_to(sharena_t *heap, size_t size, void **where) {
    const struct request request = {.size = size, .alignment = 1, .use_cache = 1};
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return errno;
    }
    int error = check_where(heap, where);
    return error == 0 ? alloc_block_to(heap, self, &request, where) : error;
}

SHARENA_API int sharena_free_from(sharena_t *heap, void **where) {
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return errno;
    }
    int error = check_where(heap, where);
    return error == 0 && *where != NULL ? alloc_free_from(heap, self, where) : error;
}
