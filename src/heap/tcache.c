/* tcache.c -- a thread's own stacks of free blocks.
 *
 * Holds:  first <= bottom <= base <= top <= full <= first + entries, per class; what is in
 *         [bottom, top) is blocks of that class, each owned by this slot alone          (audited)
 * Lock:   none: the thread's own, or its reaper's, who holds the thread token
 * Killed: between the stores of a push: the block in flight is lost
 *         moving a stack copies into its unused part, then switches in one journaled step
 * Not here: filling and flushing small classes (bin.c).
 */
#include "heap/tcache.h"

#include "heap/bin.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "ipc/journal.h"

#define GC_TICKS 64u /* slow paths between two steps of the GC */

static shared_ptr *first_of(struct tcache *tcache, uint32_t stack_index) {
    return &tcache->storage[stack_index == 0 || stack_index > SIZE_CLASSES_CACHED
                                ? 0
                                : sizeclass_stack_first(stack_index - 1)];
}

void tcache_count_taken(struct thread_slot *self, uint64_t bytes) {
    shared_u64 *taken = &slot_tcache(self)->taken_bytes;
    shared_store(taken, shared_get(taken) + bytes);
}

void tcache_count_given(struct thread_slot *self, uint64_t bytes) {
    shared_u64 *given = &slot_tcache(self)->given_bytes;
    shared_store(given, shared_get(given) + bytes);
}

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high) {
    value = value < low ? low : value;
    return value > high ? high : value;
}

static uint32_t wanted_capacity(const struct conf *conf, uint32_t size_class) {
    uint32_t entries = sizeclass_stack_entries(size_class);
    if (!conf->tcache || sizeclass_bytes(size_class) > (size_t)1 << conf->lg_tcache_max) {
        return 0;
    }
    if (size_class >= SIZE_CLASSES_SMALL) {
        return clamp(conf->tcache_nslots_large, 0, entries);
    }
    uint32_t twice = 2 * sizeclass_run_shape(size_class)->regions;
    return clamp(clamp(twice, conf->tcache_nslots_small_min, conf->tcache_nslots_small_max), 1,
                 entries);
}

static void open_stacks(struct thread_slot *self, const struct conf *conf) {
    struct tcache *tcache = slot_tcache(self);
    for (uint32_t i = 0; i < TCACHE_STACKS; i++) {
        struct tcache_stack *stack = &tcache->stacks[i];
        shared_ptr *first = first_of(tcache, i);
        uint32_t capacity = i == 0 || i > SIZE_CLASSES_CACHED ? 0 : wanted_capacity(conf, i - 1);
        ASSERT(shared_get(&stack->top) == shared_get(&stack->bottom));
        journal_set(self, &stack->top, first);
        journal_set(self, &stack->bottom, first);
        journal_commit(self);
        shared_store(&stack->base, first);
        shared_store(&stack->full, first + capacity);
        shared_store(&tcache->lg_divisor[i], 1u);
        shared_store(&tcache->low_water[i], 0u);
    }
    shared_store(&tcache->gc_class, 0u);
    shared_store(&tcache->gc_ticks, 0u);
}

void tcache_open(sharena_t *heap, struct thread_slot *self, const struct conf *conf) {
    (void)heap;
    open_stacks(self, conf);
    shared_store(&slot_tcache(self)->taken_bytes, (uint64_t)0);
    shared_store(&slot_tcache(self)->given_bytes, (uint64_t)0);
}

/* Moves the stack to the beginning of its storage if that part is unused. */
static void compact(struct thread_slot *self, uint32_t stack_index) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[stack_index];
    shared_ptr *first = first_of(tcache, stack_index);
    shared_ptr *bottom = shared_get(&stack->bottom);
    uint32_t count = stack_count(stack);
    if (bottom != first && first + count <= bottom) {
        for (uint32_t i = 0; i < count; i++) {
            shared_store(&first[i], shared_get(&bottom[i])); /* unused: nobody owns what is here */
        }
        shared_order();
        journal_set(self, &stack->bottom, first);
        journal_set(self, &stack->top, first + count);
        journal_commit(self);
    }
    shared_store(&stack->base, shared_get(&stack->bottom));
}

/* Gives the oldest `count` blocks of a stack back. */
static void flush_oldest(sharena_t *heap, struct thread_slot *self, uint32_t stack_index,
                         uint32_t count) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[stack_index];
    uint32_t size_class = stack_index - 1;
    tcache_count_given(self, count * sizeclass_bytes(size_class));
    if (count != 0 && size_class < SIZE_CLASSES_SMALL) {
        bin_flush(heap, self, size_class, count);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            void *block = shared_get((shared_ptr *)shared_get(&stack->bottom));
            if (huge_is_block(heap, block)) {
                huge_free(heap, self, block, stack);
            } else {
                large_free(heap, self, block, stack);
            }
        }
    }
    compact(self, stack_index);
}

void tcache_flush(sharena_t *heap, struct thread_slot *self) {
    struct tcache *tcache = slot_tcache(self);
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        flush_oldest(heap, self, i, stack_count(&tcache->stacks[i]));
    }
}

void tcache_enable(sharena_t *heap, struct thread_slot *self, const struct conf *conf,
                   int enabled) {
    struct conf changed = *conf;
    changed.tcache = enabled ? 1 : 0;
    tcache_flush(heap, self);
    open_stacks(self, &changed);
}

void *tcache_pop(struct tcache_stack *stack) {
    shared_ptr *top = (shared_ptr *)shared_get(&stack->top) - 1;
    shared_store(&stack->top,
                 top); /* commits: the block is the caller's; it stays readable there */
    return shared_get_own(top);
}

/* The mark was reached with blocks left below it: half of them were not needed so far. */
static void lower_mark(struct tcache *tcache, uint32_t stack_index) {
    struct tcache_stack *stack = &tcache->stacks[stack_index];
    shared_ptr *bottom = shared_get(&stack->bottom);
    uint32_t half = (uint32_t)((shared_ptr *)shared_get(&stack->base) - bottom) / 2;
    shared_store(&stack->base, bottom + half);
    shared_store(&tcache->low_water[stack_index], 1u);
}

int tcache_refill(sharena_t *heap, struct thread_slot *self, uint32_t size_class) {
    struct tcache *tcache = slot_tcache(self);
    uint32_t index = size_class + 1;
    struct tcache_stack *stack = &tcache->stacks[index];
    uint32_t capacity = stack_capacity(tcache, index);
    if (stack_count(stack) != 0) {
        if (shared_get(&stack->top) == shared_get(&stack->base)) {
            lower_mark(tcache, index);
        }
        return 1;
    }
    if (capacity == 0 || size_class >= SIZE_CLASSES_SMALL) {
        return 0;
    }
    shared_store(&tcache->low_water[index], 1u);
    uint32_t want = capacity >> shared_get(&tcache->lg_divisor[index]);
    uint32_t got = bin_fill(heap, self, shared_get(&self->arena) - 1, size_class, want ? want : 1);
    tcache_count_taken(self, got * sizeclass_bytes(size_class));
    return got != 0 ? 1 : -1;
}

int tcache_push_slow(sharena_t *heap, struct thread_slot *self, uint32_t stack_index, void *block) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[stack_index];
    if (stack_capacity(slot_tcache(self), stack_index) == 0) {
        return 0;
    }
    uint32_t count = stack_count(stack);
    if (shared_get(&stack->top) == shared_get(&stack->full)) {
        compact(self, stack_index);
    }
    if (shared_get(&stack->top) == shared_get(&stack->full)) {
        flush_oldest(heap, self, stack_index, (count + 1) / 2);
    }
    shared_ptr *top = shared_get(&stack->top);
    shared_store(top, block);
    shared_order();
    shared_store(&stack->top, top + 1); /* commits: the block is the cache's */
    return 1;
}

/* What lay below the mark since the last step goes, but for a quarter; then the mark is set anew.
 * Fills become smaller where the cache proved too big, and bigger where it ran dry. */
static void gc_step(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[index];
    shared_u32 *divisor = &tcache->lg_divisor[index];
    uint32_t unused = (uint32_t)((shared_ptr *)shared_get(&stack->base) -
                                 (shared_ptr *)shared_get(&stack->bottom));
    uint32_t capacity = stack_capacity(tcache, index);
    if (unused != 0) {
        flush_oldest(heap, self, index, unused - unused / 4);
        if (capacity >> (shared_get(divisor) + 1) >= 1) {
            shared_store(divisor, shared_get(divisor) + 1);
        }
    } else if (shared_get(&tcache->low_water[index]) && shared_get(divisor) > 1) {
        shared_store(divisor, shared_get(divisor) - 1);
    }
    shared_store(&tcache->low_water[index], 0u);
    shared_store(&stack->base, shared_get(&stack->top));
}

void tcache_tick(sharena_t *heap, struct thread_slot *self) {
    struct tcache *tcache = slot_tcache(self);
    uint32_t ticks = shared_get(&tcache->gc_ticks) + 1;
    if (ticks < GC_TICKS) {
        shared_store(&tcache->gc_ticks, ticks);
        return;
    }
    uint32_t index = shared_get(&tcache->gc_class) % SIZE_CLASSES_CACHED + 1;
    shared_store(&tcache->gc_ticks, 0u);
    shared_store(&tcache->gc_class, index);
    gc_step(heap, self, index);
}
