/* alloc.c -- allocation past the fast path: one request, served by whoever is in charge of its
 * size.
 *
 *     small    tcache -> bin          up to 14 KiB, alignment up to a page
 *     large    tcache -> arena        below a chunk; alignment up to what fits in one
 *     huge     tcache -> chunk pool   the rest
 *
 * Holds:  a block that left its owner is in pending.block until its caller has it
 * Lock:   none held on entry or return
 * Killed: see publish.h
 * Not here: the fast paths (api.c).
 */
#include "heap/alloc.h"

#include <errno.h>
#include <string.h>

#include "heap/arena.h"
#include "heap/bin.h"
#include "heap/fill.h"
#include "heap/heap.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "heap/misuse.h"
#include "heap/prof.h"
#include "heap/publish.h"
#include "heap/purge.h"
#include "heap/tcache.h"
#include "heap/watch.h"
#include "ipc/errors.h"
#include "ipc/journal.h"

#define FLAG_LG_ALIGN 0x3f
#define FLAGS_KNOWN (FLAG_LG_ALIGN | SHARENA_ZERO | SHARENA_TCACHE_NONE)

int alloc_request(size_t size, int flags, struct request *request) {
    int lg_align = flags & FLAG_LG_ALIGN;
    uint32_t arena = (uint32_t)flags >> 20;
    if ((flags & 0xfffff & ~FLAGS_KNOWN) != 0 || arena > ARENAS_MAX || lg_align > 46) {
        return error_set(EINVAL,
                         "flags %#x are not an or of SHARENA_LG_ALIGN, SHARENA_ZERO, "
                         "SHARENA_ARENA and SHARENA_TCACHE_NONE",
                         (unsigned)flags);
    }
    *request = (struct request){.size = size,
                                .alignment = (size_t)1 << lg_align,
                                .zero = (flags & SHARENA_ZERO) != 0,
                                .use_cache = (flags & SHARENA_TCACHE_NONE) == 0 && arena == 0,
                                .arena = arena};
    return 0;
}

uint32_t alloc_class_for(const sharena_t *heap, size_t size, size_t alignment) {
    const struct superblock *superblock = heap_superblock(heap);
    uint64_t capacity = superblock->total_bytes - superblock->data_offset;
    if (size > capacity || alignment > capacity / 2) {
        return SIZE_CLASSES_MAX;
    }
    if (alignment > PAGE_BYTES || (alignment > 16 && size > SMALL_BYTES_MAX)) {
        size = size < LARGE_BYTES_MIN ? LARGE_BYTES_MIN : size;
    } else if (alignment > 8) {
        size = sizeclass_aligned_size(size, alignment);
    }
    uint32_t size_class = sizeclass_of(size);
    return sizeclass_bytes(size_class) <= capacity ? size_class : SIZE_CLASSES_MAX;
}

/* One request with what follows from it. */
struct plan {
    const struct request *request;
    uint32_t size_class;
    uint32_t arena;
    int oblivious;
    enum fill fill;
    int wants_sample; /* the profile should know of it */
    int is_sampled;   /* self's hand has the sample for it */
};

static int is_huge(const struct plan *plan) {
    size_t pages = sizeclass_bytes(plan->size_class) / PAGE_BYTES;
    size_t align = plan->request->alignment / PAGE_BYTES;
    return plan->size_class >= SIZE_CLASSES_LARGE_END ||
           (align > 1 && pages + align - 1 > CHUNK_PAGES);
}

static uint32_t in_units(size_t alignment, size_t unit) {
    return alignment > unit ? (uint32_t)(alignment / unit) : 1;
}

static void *take_from_owner(sharena_t *heap, struct thread_slot *self, const struct plan *plan,
                             uint64_t *dirty) {
    size_t alignment = plan->request->alignment;
    size_t bytes = sizeclass_bytes(plan->size_class);
    *dirty = bytes;
    if (plan->size_class < SIZE_CLASSES_SMALL) {
        return bin_take_one(heap, self, plan->arena, plan->size_class);
    }
    if (is_huge(plan)) {
        return huge_alloc(heap, self, plan->size_class, in_units(alignment, CHUNK_BYTES), dirty);
    }
    int zero = 0;
    void *block = large_alloc(heap, self, plan->arena, plan->size_class,
                              in_units(alignment, PAGE_BYTES), plan->oblivious, &zero);
    *dirty = zero ? 0 : bytes;
    return block;
}

/* A block past the cache, in flight; NULL: ENOMEM. *dirty: how many bytes are not
 * known to be zero. */
static void *take_directly(sharena_t *heap, struct thread_slot *self, const struct plan *plan,
                           uint64_t *dirty) {
    void *block = take_from_owner(heap, self, plan, dirty);
    tcache_count_taken(self, block != NULL ? sizeclass_bytes(plan->size_class) : 0);
    return block;
}

/* Whether the block on top of the stack is aligned enough: blocks of other calls may not be. */
static int suits(const struct tcache_stack *stack, size_t alignment) {
    uintptr_t block = (uintptr_t)shared_get((shared_ptr *)shared_get(&stack->top) - 1);
    return (block & (alignment - 1)) == 0;
}

/* A block by cache or past it, owned by the cache (top) or in flight. */
enum source { FROM_CACHE, FROM_OWNER, FROM_NOWHERE };

static enum source find_source(sharena_t *heap, struct thread_slot *self, const struct plan *plan) {
    if (!plan->request->use_cache || plan->size_class >= SIZE_CLASSES_CACHED || plan->is_sampled) {
        return FROM_OWNER;
    }
    const struct tcache_stack *stack = &slot_tcache(self)->stacks[plan->size_class + 1];
    int filled = tcache_refill(heap, self, plan->size_class);
    if (filled < 0) {
        return FROM_NOWHERE;
    }
    return filled && suits(stack, plan->request->alignment) ? FROM_CACHE : FROM_OWNER;
}

/* Up to the real size: a later rallocx that zeroes goes on from there. dirty: how many bytes are
 * not known to be zero. */
static void fill_block(void *block, const struct plan *plan, uint64_t dirty) {
    size_t bytes = sizeclass_bytes(plan->size_class);
    fill_range(block, 0, plan->fill == FILL_ZERO && dirty < bytes ? dirty : bytes, plan->fill);
}

static void *try_once(sharena_t *heap, struct thread_slot *self, const struct plan *plan) {
    uint64_t dirty = sizeclass_bytes(plan->size_class);
    void *block = NULL;
    switch (find_source(heap, self, plan)) {
    case FROM_CACHE:
        block = tcache_pop(&slot_tcache(self)->stacks[plan->size_class + 1]);
        break;
    case FROM_OWNER:
        block = take_directly(heap, self, plan, &dirty);
        publish_end(self);
        break;
    default:
        break;
    }
    if (block != NULL) {
        fill_block(block, plan, dirty);
    }
    return block;
}

/* With a sample in self's hand and a class that has runs of its own; 0: not to be sampled, or it
 * cannot be. */
static int plan_sampled(sharena_t *heap, struct thread_slot *self, const struct plan *plan,
                        struct plan *sampled) {
    uint32_t size_class = plan->size_class;
    if (!plan->wants_sample || !prof_begin(heap_attachment(heap), self, plan->request->size,
                                           sizeclass_bytes(size_class))) {
        return 0;
    }
    *sampled = *plan;
    sampled->is_sampled = 1;
    sampled->size_class = size_class < SIZE_CLASSES_SMALL ? SIZE_CLASSES_SMALL : size_class;
    return 1;
}

static void *try_block(sharena_t *heap, struct thread_slot *self, const struct plan *plan) {
    struct plan sampled;
    void *block = NULL;
    if (plan_sampled(heap, self, plan, &sampled)) {
        block = try_once(heap, self, &sampled);
        prof_give(heap, self);
    }
    return block != NULL ? block : try_once(heap, self, plan);
}

/* The block is filled while it is still the cache's, or in flight. 1, or 0: no memory. */
static int try_once_to(sharena_t *heap, struct thread_slot *self, const struct plan *plan,
                       void **where) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[0];
    void *block = NULL;
    uint64_t dirty = sizeclass_bytes(plan->size_class);
    enum source source = find_source(heap, self, plan);
    if (source == FROM_NOWHERE) {
        return 0;
    }
    if (source == FROM_CACHE) {
        stack = &slot_tcache(self)->stacks[plan->size_class + 1];
        block = shared_get((shared_ptr *)shared_get(&stack->top) - 1);
    }
    publish_begin(self, PENDING_MALLOC, where, block);
    if (source == FROM_OWNER) {
        block = take_directly(heap, self, plan, &dirty);
    }
    if (block != NULL) {
        fill_block(block, plan, dirty);
        shared_publish(where, block); /* see publish.h */
        shared_order();
    }
    if (source == FROM_CACHE) {
        (void)tcache_pop(stack);
    }
    publish_end(self);
    return block != NULL;
}

static int try_block_to(sharena_t *heap, struct thread_slot *self, const struct plan *plan,
                        void **where) {
    struct plan sampled;
    int is_done = 0;
    if (plan_sampled(heap, self, plan, &sampled)) {
        is_done = try_once_to(heap, self, &sampled, where);
        prof_give(heap, self);
    }
    return is_done || try_once_to(heap, self, plan, where);
}

static int make_plan(sharena_t *heap, struct thread_slot *self, const struct request *request,
                     struct plan *plan) {
    const struct attachment *attachment = heap_attachment(heap);
    *plan = (struct plan){.request = request,
                          .size_class = alloc_class_for(heap, request->size, request->alignment),
                          .arena = shared_get(&self->arena) - 1,
                          .oblivious = attachment->conf.cache_oblivious && request->alignment <= 64,
                          .fill = fill_for_new(&attachment->conf, request->zero)};
    if (plan->size_class == SIZE_CLASSES_MAX) {
        return error_set(ENOMEM,
                         "%zu bytes at a multiple of %zu are more than this heap can ever "
                         "have: make one with a higher capacity",
                         request->size, request->alignment);
    }
    if (request->arena > shared_get(&heap_pool(heap)->arenas_made)) {
        return error_set(EINVAL, "there is no arena %u in this heap", request->arena - 1);
    }
    if (request->arena != 0) {
        plan->arena = request->arena - 1;
    }
    plan->wants_sample = prof_wants_sample(attachment, sizeclass_bytes(plan->size_class));
    return 0;
}

void *alloc_block(sharena_t *heap, struct thread_slot *self, const struct request *request) {
    struct plan plan;
    int error = make_plan(heap, self, request, &plan);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    tcache_tick(heap, self);
    void *block = try_block(heap, self, &plan);
    if (block == NULL) {
        heap_purge(heap, self);
        block = try_block(heap, self, &plan);
    }
    if (block == NULL) {
        errno = ENOMEM;
    }
    return block;
}

int alloc_block_to(sharena_t *heap, struct thread_slot *self, const struct request *request,
                   void **where) {
    struct plan plan;
    int error = make_plan(heap, self, request, &plan);
    if (error != 0) {
        return error;
    }
    tcache_tick(heap, self);
    if (try_block_to(heap, self, &plan, where)) {
        return 0;
    }
    heap_purge(heap, self);
    return try_block_to(heap, self, &plan, where) ? 0 : ENOMEM;
}

static COLD uint32_t not_live(const sharena_t *heap, enum sharena_misuse_kind kind, const void *ptr,
                              const char *text) {
    misuse(heap, kind, ptr, text);
    return SIZE_CLASSES_MAX;
}

static COLD uint32_t not_in_heap(const sharena_t *heap, const void *ptr) {
    return not_live(heap, SHARENA_MISUSE_FOREIGN, ptr,
                    registry_heap_of(ptr) == NULL || registry_heap_of(ptr) == heap
                        ? "pointer that is not in this heap"
                        : "pointer that is not in this heap but in another one");
}

/* The class of a region, if it may be live: a bin has it if its bit is set. */
static uint32_t class_of_region(const sharena_t *heap, const void *ptr) {
    uint32_t first;
    uint32_t index;
    struct run *run = bin_find_run(heap, ptr, &first, &index);
    if (run == NULL) {
        return not_live(heap, SHARENA_MISUSE_NOT_A_BLOCK, ptr,
                        "pointer that is not the start of a block");
    }
    if ((shared_get(run_bitmap_word(run, index)) >> index % 64 & 1) != 0) {
        return not_live(heap, SHARENA_MISUSE_DOUBLE_FREE, ptr,
                        "double free of a small block, or use of a free one");
    }
    return shared_get(&run->size_class);
}

uint32_t alloc_class_of(const sharena_t *heap, const void *ptr) {
    if (!is_user_data(heap, ptr)) {
        return not_in_heap(heap, ptr);
    }
    uint32_t page = page_of(heap, ptr);
    uint32_t stack = shared_get(heap_page_map(heap) + page) / (uint32_t)sizeof(struct tcache_stack);
    if (stack == 0) {
        return not_live(heap, SHARENA_MISUSE_NOT_A_BLOCK, ptr,
                        "pointer that is not a live block: it was freed, or points into one");
    }
    if (stack <= SIZE_CLASSES_SMALL) {
        return class_of_region(heap, ptr);
    }
    if (!large_is_block(heap, ptr) && !huge_is_block(heap, ptr)) {
        return not_live(heap, SHARENA_MISUSE_NOT_A_BLOCK, ptr,
                        "pointer that is not the start of a block");
    }
    if (stack <= SIZE_CLASSES_CACHED) {
        return stack - 1;
    }
    const struct chunk *chunk = heap_chunk(heap, chunk_of_page(page));
    return shared_get(&chunk->state) == CHUNK_ARENA ? shared_get(&heap_run(heap, page)->size_class)
                                                    : shared_get(&chunk->size_class);
}

uint32_t alloc_live_class(sharena_t *heap, struct thread_slot *self, const void *ptr) {
    uint32_t size_class = alloc_class_of(heap, ptr);
    return size_class == SIZE_CLASSES_MAX || watch_is_live(heap, self, ptr, size_class)
               ? size_class
               : SIZE_CLASSES_MAX;
}

/* What alloc_live_class() found to be a live block of that class. */
static void free_block(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class,
                       int use_cache) {
    uint32_t stack = shared_get(heap_page_map(heap) + page_of(heap, ptr)) /
                     (uint32_t)sizeof(struct tcache_stack);
    tcache_tick(heap, self);
    if (watch_kept(heap, self, ptr, size_class)) {
        return;
    }
    if (!use_cache || !tcache_push_slow(heap, self, stack, ptr)) {
        publish_give_back(heap, self, ptr);
        tcache_count_given(self, sizeclass_bytes(size_class));
    }
    purge_after_free(heap, self);
}

void alloc_free(sharena_t *heap, struct thread_slot *self, void *ptr, int use_cache) {
    uint32_t size_class = alloc_live_class(heap, self, ptr);
    if (size_class != SIZE_CLASSES_MAX) {
        free_block(heap, self, ptr, size_class, use_cache);
    }
}

int alloc_free_from(sharena_t *heap, struct thread_slot *self, void **where) {
    void *block = *where;
    uint32_t size_class = alloc_live_class(heap, self, block); /* before anything is changed */
    if (size_class == SIZE_CLASSES_MAX) {
        return error_set(EINVAL, "%p is not a live block of the heap %p", block, (void *)heap);
    }
    publish_begin(self, PENDING_FREE, where, block);
    shared_publish(where, NULL);
    shared_order();
    free_block(heap, self, block, size_class, 1);
    publish_end(self);
    return 0;
}

/* The tail is filled while it is still the block's: to shrink cannot fail. */
static int resize_in_place(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t old_class,
                           uint32_t size_class) {
    int is_huge_block = huge_is_block(heap, ptr);
    if (is_huge_block != (size_class >= SIZE_CLASSES_LARGE_END)) {
        return 0;
    }
    watch_freed(heap, ptr, sizeclass_bytes(size_class), sizeclass_bytes(old_class));
    return is_huge_block ? huge_resize(heap, self, ptr, size_class)
                         : large_resize(heap, self, ptr, size_class);
}

/* For the profile a resized block is a new one. So one that is sampled, or would be, moves. */
int alloc_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class) {
    const struct attachment *attachment = heap_attachment(heap);
    uint32_t old = alloc_class_of(heap, ptr);
    uint64_t bytes = sizeclass_bytes(size_class);
    if (old == SIZE_CLASSES_MAX || prof_is_sampled(heap, page_of(heap, ptr))) {
        return 0;
    }
    if (old == size_class) {
        return 1;
    }
    if (old < SIZE_CLASSES_SMALL || size_class < SIZE_CLASSES_SMALL ||
        prof_would_sample(attachment, bytes) ||
        !resize_in_place(heap, self, ptr, old, size_class)) {
        return 0;
    }
    (void)prof_wants_sample(attachment, bytes);
    tcache_count_taken(self, bytes);
    tcache_count_given(self, sizeclass_bytes(old));
    purge_after_free(heap, self);
    return 1;
}
