/* alloc.h -- allocation past the fast path: one request, served by whoever is in charge of its
 * size. */
#ifndef SHARENA_HEAP_ALLOC_H
#define SHARENA_HEAP_ALLOC_H

#include <stddef.h>

#include "heap/geometry.h"

struct request {
    size_t size;
    size_t alignment; /* a power of two; 1: what the size class gives */
    int zero;
    int use_cache;
    uint32_t arena; /* arena index + 1; 0: the thread's own */
};

/* The request for jemalloc's flags. 0, or EINVAL with error_set. */
int alloc_request(size_t size, int flags, struct request *request)
    __attribute__((warn_unused_result));

/* A block, or NULL with errno and error_set. Before it gives up for want of memory it reaps the
 * dead, gives all free memory back, and tries once more. */
void *alloc_block(sharena_t *heap, struct thread_slot *self, const struct request *request);

/* The same, published in *where by the recoverable step of publish.h. 0 or an errno value. */
int alloc_block_to(sharena_t *heap, struct thread_slot *self, const struct request *request,
                   void **where) __attribute__((warn_unused_result));

/* Gives a block back: into the cache, or past it. What is none is reported and left. */
void alloc_free(sharena_t *heap, struct thread_slot *self, void *ptr, int use_cache);

/* Frees the block in *where, which is not NULL, and clears it, by the recoverable step of
 * publish.h. 0, or EINVAL with error_set if it is none: then it is reported, and nothing was
 * done. */
int alloc_free_from(sharena_t *heap, struct thread_slot *self, void **where);

/* The class of a live block; SIZE_CLASSES_MAX if it is none, which is reported. */
uint32_t alloc_class_of(const sharena_t *heap, const void *ptr);

/* The same for a block that is to be freed or resized: where the configuration asks for it, it is
 * also looked for in the caches. */
uint32_t alloc_live_class(sharena_t *heap, struct thread_slot *self, const void *ptr);

/* Makes the block one of `size_class` in place if it can: 1 or 0. */
int alloc_resize(sharena_t *heap, struct thread_slot *self, void *ptr, uint32_t size_class);

/* The class that would serve the request, SIZE_CLASSES_MAX if the heap cannot. */
uint32_t alloc_class_for(const sharena_t *heap, size_t size, size_t alignment);

#endif
