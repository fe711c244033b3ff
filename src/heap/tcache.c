/* tcache.c -- a thread's own stacks of free blocks.
 *
 * Holds:  first <= bottom <= base <= top <= full == first + capacity, per stack, within one of its
 *         two homes; what is in [bottom, top) is blocks of its class, each owned by this slot
 *         alone                                                                         (audited)
 *         grown_bytes == sum of (capacity - least) x size
 * Lock:   none: the thread's own, or its reaper's, who holds the thread token
 * Killed: between the stores of a push: the block in flight is lost
 *         moving a stack copies into its unused part, then switches in one journaled step
 * Not here: filling and flushing small classes (bin.c).
 */
#include "heap/tcache.h"

#include "heap/backing.h"
#include "heap/bin.h"
#include "heap/huge.h"
#include "heap/large.h"
#include "ipc/journal.h"
#include "ipc/mapping.h"

#define GC_TICKS 64u                 /* slow paths between two steps of the GC */
#define ONE_SIDED_BYTES (128u << 10) /* room that a stack may get without being of use twice */

/* ---- storage and capacity ---- */

static int is_class(uint32_t stack_index) {
    return stack_index != 0 && stack_index <= SIZE_CLASSES_CACHED;
}

static shared_ptr *grown_part(const sharena_t *heap, const struct thread_slot *slot) {
    uint64_t index = (heap_offset(heap, slot) - THREADS_OFFSET) / THREAD_SLOT_BYTES;
    return (shared_ptr *)(void *)(heap_bytes(heap) + GROWN_OFFSET + index * GROWN_BYTES);
}

struct stack_home tcache_home(const sharena_t *heap, struct thread_slot *slot, uint32_t stack_index,
                              int is_grown) {
    shared_ptr *part = is_grown ? grown_part(heap, slot) : slot_tcache(slot)->storage;
    uint32_t size_class = stack_index - 1;
    if (stack_index == TCACHE_FLUSHING && !is_grown) {
        return (struct stack_home){part + TCACHE_STORAGE - FLUSH_ENTRIES, FLUSH_ENTRIES};
    }
    if (!is_class(stack_index)) {
        return (struct stack_home){part, 0};
    }
    return is_grown ? (struct stack_home){part + sizeclass_grown_first(size_class),
                                          sizeclass_grown_entries(size_class)}
                    : (struct stack_home){part + sizeclass_stack_first(size_class),
                                          sizeclass_stack_entries(size_class)};
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

static int is_cached(const struct conf *conf, uint32_t stack_index) {
    return is_class(stack_index) && conf->tcache &&
           sizeclass_bytes(stack_index - 1) <= (size_t)1 << conf->lg_tcache_max;
}

/* Without growing. Large classes have nothing: a few of their blocks are many bytes. */
static uint32_t least_capacity(const struct conf *conf, uint32_t stack_index) {
    if (!is_cached(conf, stack_index) || stack_index > SIZE_CLASSES_SMALL) {
        return 0;
    }
    uint32_t twice = 2 * sizeclass_run_shape(stack_index - 1)->regions;
    return clamp(clamp(twice, conf->tcache_nslots_small_min, conf->tcache_nslots_small_max), 1,
                 sizeclass_stack_entries(stack_index - 1));
}

static uint32_t most_capacity(const struct conf *conf, uint32_t stack_index) {
    if (!is_cached(conf, stack_index)) {
        return 0;
    }
    uint32_t entries = sizeclass_grown_entries(stack_index - 1);
    return stack_index > SIZE_CLASSES_SMALL ? clamp(conf->tcache_nslots_large, 1, entries)
                                            : entries;
}

/* Where memory is scarce, no thread may keep much of it from the others. */
static uint64_t growth_budget(const sharena_t *heap, const struct conf *conf) {
    uint64_t limit = heap_superblock(heap)->limit_bytes;
    return limit != 0 && limit / 16 < conf->tcache_bytes ? limit / 16 : conf->tcache_bytes;
}

/* The storage from `first` on becomes that of the stack, which holds `count` blocks there. */
static void switch_to(struct thread_slot *self, uint32_t stack_index, shared_ptr *first,
                      uint32_t count) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[stack_index];
    shared_order();
    journal_set(self, &tcache->first[stack_index], first);
    journal_set(self, &stack->bottom, first);
    journal_set(self, &stack->top, first + count);
    journal_commit(self);
    shared_store(&stack->base, first);
    shared_store(&stack->full, first + shared_get(&tcache->capacity[stack_index]));
}

static void open_stacks(sharena_t *heap, struct thread_slot *self, const struct conf *conf) {
    struct tcache *tcache = slot_tcache(self);
    for (uint32_t i = 0; i < TCACHE_STACKS; i++) {
        ASSERT(stack_count(&tcache->stacks[i]) == 0);
        shared_store(&tcache->least[i], least_capacity(conf, i));
        shared_store(&tcache->capacity[i], shared_get(&tcache->least[i]));
        shared_store(&tcache->most[i], most_capacity(conf, i));
        shared_store(&tcache->demand[i], 0u);
        shared_store(&tcache->lg_divisor[i], 1u);
        shared_store(&tcache->low_water[i], 0u);
        switch_to(self, i, tcache_home(heap, self, i, 0).first, 0);
    }
    shared_store(&tcache->grown_bytes, (uint64_t)0);
    shared_store(&tcache->grown_most, growth_budget(heap, conf));
    shared_store(&tcache->gc_class, 0u);
    shared_store(&tcache->gc_ticks, 0u);
}

void tcache_open(sharena_t *heap, struct thread_slot *self, const struct conf *conf) {
    open_stacks(heap, self, conf);
    shared_store(&slot_tcache(self)->taken_bytes, (uint64_t)0);
    shared_store(&slot_tcache(self)->given_bytes, (uint64_t)0);
}

/* Moves the stack to `to`, of which it uses nothing. */
static void move(struct thread_slot *self, uint32_t stack_index, shared_ptr *to) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[stack_index];
    shared_ptr *bottom = shared_get(&stack->bottom);
    uint32_t count = stack_count(stack);
    for (uint32_t i = 0; i < count; i++) {
        shared_store(&to[i], shared_get(&bottom[i])); /* unused: nobody owns what is here */
    }
    switch_to(self, stack_index, to, count);
}

/* Moves the stack to the beginning of its storage if that part is unused. */
static void compact(struct thread_slot *self, uint32_t stack_index) {
    struct tcache *tcache = slot_tcache(self);
    struct tcache_stack *stack = &tcache->stacks[stack_index];
    shared_ptr *first = shared_get(&tcache->first[stack_index]);
    shared_ptr *bottom = shared_get(&stack->bottom);
    if (bottom != first && first + stack_count(stack) <= bottom) {
        move(self, stack_index, first);
    }
    shared_store(&stack->base, shared_get(&stack->bottom));
}

static void set_capacity(struct tcache *tcache, uint32_t stack_index, uint32_t capacity) {
    uint64_t bytes = sizeclass_bytes(stack_index - 1);
    uint64_t before = shared_get(&tcache->capacity[stack_index]) * bytes;
    shared_store(&tcache->grown_bytes,
                 shared_get(&tcache->grown_bytes) + capacity * bytes - before);
    shared_store(&tcache->capacity[stack_index], capacity);
    shared_store(&tcache->stacks[stack_index].full,
                 (shared_ptr *)shared_get(&tcache->first[stack_index]) + capacity);
}

/* Gives the stack room for `capacity` entries, if it can be backed: 1, else 0 and all
 * as before. */
static int make_room(sharena_t *heap, struct thread_slot *self, uint32_t stack_index,
                     uint32_t capacity) {
    struct tcache *tcache = slot_tcache(self);
    struct stack_home home = tcache_home(heap, self, stack_index, 0);
    if (capacity > home.entries) {
        shared_u32 *backed = &tcache->backed[stack_index];
        home = tcache_home(heap, self, stack_index, 1);
        if (capacity > shared_get(backed)) {
            shared_store(backed, capacity); /* first: rather said of too many than of too few */
        }
        if (backing_add_metadata(heap, home.first, home.first + capacity) != 0) {
            return 0;
        }
        if (shared_get(&tcache->first[stack_index]) != (void *)home.first) {
            move(self, stack_index, home.first);
        }
    }
    set_capacity(tcache, stack_index, capacity);
    return 1;
}

/* ---- flushing and filling ---- */

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
    bin_flush_rest(heap, self);
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        flush_oldest(heap, self, i, stack_count(&tcache->stacks[i]));
    }
}

uint64_t tcache_grown_bytes(struct thread_slot *slot) {
    const struct tcache *tcache = slot_tcache(slot);
    uint64_t bytes = 0;
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        uint32_t entries = shared_get(&tcache->backed[i]);
        uint32_t most = sizeclass_grown_entries(i - 1);
        bytes += round_up((entries < most ? entries : most) * sizeof(shared_ptr), PAGE_BYTES);
    }
    return bytes;
}

void tcache_shrink(sharena_t *heap, struct thread_slot *self) {
    struct tcache *tcache = slot_tcache(self);
    if (tcache_grown_bytes(self) == 0) {
        return;
    }
    for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
        ASSERT(stack_count(&tcache->stacks[i]) == 0);
        set_capacity(tcache, i, shared_get(&tcache->least[i]));
        switch_to(self, i, tcache_home(heap, self, i, 0).first, 0);
    }
    if (mapping_punch(heap, heap_offset(heap, grown_part(heap, self)), GROWN_BYTES) == 0) {
        for (uint32_t i = 1; i <= SIZE_CLASSES_CACHED; i++) {
            shared_store(&tcache->backed[i], 0u);
        }
    }
}

void tcache_enable(sharena_t *heap, struct thread_slot *self, const struct conf *conf,
                   int enabled) {
    struct conf changed = *conf;
    changed.tcache = enabled ? 1 : 0;
    tcache_flush(heap, self);
    open_stacks(heap, self, &changed);
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

/* How many entries more the stack may have: as many as it has, within the budget. */
static uint32_t affordable(const struct tcache *tcache, uint32_t index) {
    uint32_t capacity = shared_get(&tcache->capacity[index]);
    uint64_t most = shared_get(&tcache->most[index]);
    uint64_t room = shared_get(&tcache->grown_most) - shared_get(&tcache->grown_bytes);
    uint64_t more = capacity != 0 ? capacity : 1;
    more = more < most - capacity ? more : most - capacity;
    return (uint32_t)(more < room / sizeclass_bytes(index - 1) ? more
                                                               : room / sizeclass_bytes(index - 1));
}

/* Whether a thread that only takes blocks of the class, or only frees them, gains by more room: a
 * batch is as cheap as it is big, but what it holds is not in use. */
static int is_short_batch(const struct tcache *tcache, uint32_t index) {
    uint64_t capacity = shared_get(&tcache->capacity[index]);
    return index != 0 && index <= SIZE_CLASSES_SMALL &&
           2 * capacity * sizeclass_bytes(index - 1) <= ONE_SIDED_BYTES;
}

int tcache_refill(sharena_t *heap, struct thread_slot *self, uint32_t size_class) {
    struct tcache *tcache = slot_tcache(self);
    uint32_t index = size_class + 1;
    struct tcache_stack *stack = &tcache->stacks[index];
    if (stack_count(stack) != 0) {
        if (shared_get(&stack->top) == shared_get(&stack->base)) {
            lower_mark(tcache, index);
        }
        return 1;
    }
    if (shared_get(&tcache->low_water[index]) && is_short_batch(tcache, index)) {
        (void)make_room(heap, self, index,
                        stack_capacity(tcache, index) + affordable(tcache, index));
    }
    uint32_t capacity = stack_capacity(tcache, index);
    shared_store(&tcache->low_water[index], 1u);
    shared_store(&tcache->demand[index], shared_get(&tcache->demand[index]) | TCACHE_RAN_DRY);
    if (capacity == 0 || size_class >= SIZE_CLASSES_SMALL) {
        return 0;
    }
    uint32_t want = capacity >> shared_get(&tcache->lg_divisor[index]);
    uint32_t got = bin_fill(heap, self, shared_get(&self->arena) - 1, size_class, want ? want : 1);
    tcache_count_taken(self, got * sizeclass_bytes(size_class));
    return got != 0 ? 1 : -1;
}

/* ---- the GC ---- */

/* A stack that ran neither full nor dry since the last step gives a quarter of what it grew by
 * back. */
static void shrink(struct tcache *tcache, uint32_t index) {
    const struct tcache_stack *stack = &tcache->stacks[index];
    uint32_t capacity = shared_get(&tcache->capacity[index]);
    uint32_t grown = capacity - shared_get(&tcache->least[index]);
    if ((shared_get(&tcache->demand[index]) & TCACHE_RAN_FULL) == 0 &&
        !shared_get(&tcache->low_water[index]) && grown != 0) {
        uint32_t used = (uint32_t)((shared_ptr *)shared_get(&stack->top) -
                                   (shared_ptr *)shared_get(&tcache->first[index]));
        set_capacity(tcache, index, clamp(capacity - (grown + 3) / 4, used, capacity));
    }
    shared_store(&tcache->demand[index], shared_get(&tcache->demand[index]) & TCACHE_RAN_DRY);
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
    shrink(tcache, index);
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

/* ---- growing ---- */

/* The next step of the GC, at once, for another stack that grew: it may have no use for that. */
static void reclaim(sharena_t *heap, struct thread_slot *self, uint32_t for_index) {
    struct tcache *tcache = slot_tcache(self);
    uint32_t index = shared_get(&tcache->gc_class);
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        index = index % SIZE_CLASSES_CACHED + 1;
        if (index != for_index &&
            shared_get(&tcache->capacity[index]) > shared_get(&tcache->least[index])) {
            shared_store(&tcache->gc_class, index);
            gc_step(heap, self, index);
            return;
        }
    }
}

/* Of a full stack: 1 if it has room now. */
static int grow(sharena_t *heap, struct thread_slot *self, uint32_t index) {
    struct tcache *tcache = slot_tcache(self);
    uint32_t demand = shared_get(&tcache->demand[index]);
    shared_store(&tcache->demand[index], TCACHE_RAN_FULL);
    if (((demand & TCACHE_RAN_DRY) == 0 && !is_short_batch(tcache, index)) ||
        shared_get(&tcache->capacity[index]) >= shared_get(&tcache->most[index])) {
        return 0;
    }
    uint32_t more = affordable(tcache, index);
    if (more == 0) {
        reclaim(heap, self, index);
        return 0;
    }
    return make_room(heap, self, index, shared_get(&tcache->capacity[index]) + more);
}

int tcache_push_slow(sharena_t *heap, struct thread_slot *self, uint32_t stack_index, void *block) {
    struct tcache_stack *stack = &slot_tcache(self)->stacks[stack_index];
    if (shared_get(&stack->top) == shared_get(&stack->full)) {
        compact(self, stack_index);
    }
    uint32_t count = stack_count(stack);
    if (shared_get(&stack->top) == shared_get(&stack->full) && !grow(heap, self, stack_index) &&
        count != 0) {
        flush_oldest(heap, self, stack_index, (count + 1) / 2);
    }
    shared_ptr *top = shared_get(&stack->top);
    if (top == (shared_ptr *)shared_get(&stack->full)) {
        return 0; /* not cached */
    }
    shared_store(top, block);
    shared_order();
    shared_store(&stack->top, top + 1); /* commits: the block is the cache's */
    return 1;
}
