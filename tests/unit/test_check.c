/* test_check.c -- caches, hands, slots, roots and sums: broken by hand and found; the figures of a
 * known heap; checks of a heap that is at work, by many, and of those that die in one.
 */
/* ctest: not under valgrind: it waits for kills within seconds */
#include <pthread.h>
#include <semaphore.h>

#include "crowd.h"
#include "heap/arena.h"
#include "heap/audit.h"
#include "heap/bin.h"
#include "heap/chunk.h"
#include "heap/tcache.h"
#include "heap_parts.h"
#include "ipc/lock.h"

#define WILD 0xffffffffu
#define SIZE 64u /* of the blocks in the caches that are damaged */
#define CACHED 10u

static sharena_t *heap;
static struct thread_slot *self;
static struct tcache_stack *stack; /* holds CACHED blocks of SIZE */

static struct tcache_stack *stack_in(struct thread_slot *slot) {
    return &slot_tcache(slot)->stacks[sizeclass_of(SIZE) + 1];
}

static void fill_cache(void) {
    void *blocks[CACHED];
    assert_int_equal(sharena_malloc_batch(heap, SIZE, CACHED, blocks), CACHED);
    sharena_free_batch(heap, CACHED, blocks);
}

static int open_heap(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    self = fixture_self();
    stack = stack_in(self);
    fill_cache();
    return error;
}

/* ---- what is found ---- */

/* The heap is damaged, and a message says those words. */
static void assert_found(const char *words) {
    struct sharena_report report;
    assert_int_equal(sharena_check(heap, &report), EUCLEAN);
    assert_true(report.findings > 0);
    assert_says("broken rules");
    assert_says(report.messages[0]);
    for (uint64_t i = 0; i < report.findings && i < SHARENA_REPORT_MESSAGES; i++) {
        if (strstr(report.messages[i], words) != NULL) {
            return;
        }
    }
    fail_msg("no '%s' in %llu findings, the first: %s", words, (unsigned long long)report.findings,
             report.messages[0]);
}

static void assert_clean(void) {
    if (sharena_check(heap, NULL) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
}

/* With the field at that value the words are said; then it is as before, and clean. */
#define assert_finds(field, value, words)                                                          \
    do {                                                                                           \
        __typeof__(shared_get(field)) old_ = shared_get(field);                                    \
        shared_store(field, (__typeof__(old_))(value));                                            \
        assert_found(words);                                                                       \
        shared_store(field, old_);                                                                 \
        assert_clean();                                                                            \
    } while (0)

/* ---- caches ---- */

static shared_ptr *top_of(const struct tcache_stack *of) {
    return shared_get(&of->top);
}

static shared_ptr *bottom_of(const struct tcache_stack *of) {
    return shared_get(&of->bottom);
}

static void test_twice_in_one_cache(void **state) {
    (void)state;
    assert_true(stack_count(stack) >= CACHED);
    assert_finds(top_of(stack) - 1, shared_get(bottom_of(stack)), "in two caches");
    shared_store(top_of(stack), shared_get(bottom_of(stack))); /* one more */
    assert_finds(&stack->top, top_of(stack) + 1, "in two caches");
}

static void test_pointers_that_are_no_cached_blocks(void **state) {
    (void)state;
    shared_ptr *entry = bottom_of(stack);
    char *block = shared_get(entry);
    char *data = page_address(heap, first_page_of_chunk(first_chunk(heap)));
    char *other = sharena_malloc(heap, 2 * SIZE);
    char *large = sharena_malloc(heap, 20000);
    const void *const foreign[] = {NULL,
                                   &heap,
                                   heap,
                                   block + 8,
                                   block + 1,
                                   other,
                                   large,
                                   large + PAGE_BYTES,
                                   data - 1,
                                   data + shared_get(&heap_state(heap)->data_bytes),
                                   data + shared_get(&heap_state(heap)->data_bytes) - 1,
                                   (void *)UINTPTR_MAX};
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        assert_finds(entry, (uintptr_t)foreign[i], "which is no block of it");
    }
}

/* The bin has it and could hand it out. */
static void test_cached_and_free(void **state) {
    (void)state;
    char *taken = sharena_mallocx(heap, SIZE, SHARENA_TCACHE_NONE);
    sharena_dallocx(heap, taken, SHARENA_TCACHE_NONE);
    assert_finds(bottom_of(stack), (uintptr_t)taken, "which is no block of it");
    shared_store(top_of(stack), (void *)taken);
    assert_finds(&stack->top, top_of(stack) + 1, "which is no block of it");
}

static void test_stack_out_of_its_storage(void **state) {
    (void)state;
    const char *words = "out of its storage";
    uint32_t size_class = sizeclass_of(SIZE);
    shared_ptr *first = &slot_tcache(self)->storage[sizeclass_stack_first(size_class)];
    shared_ptr *end = first + sizeclass_stack_entries(size_class);
    assert_finds(&stack->top, bottom_of(stack) - 1, words);
    assert_finds(&stack->top, end + 1, words);
    assert_finds(&stack->top, (uintptr_t)top_of(stack) + 4, words);
    assert_finds(&stack->top, NULL, words);
    assert_finds(&stack->top, UINTPTR_MAX, words);
    assert_finds(&stack->bottom, first - 1, words);
    assert_finds(&stack->bottom, NULL, words);
    assert_finds(&stack->full, end + 1, words);
    assert_finds(&stack->base, 8, words);
    struct tcache_stack *empty = stack + 1;
    assert_int_equal(stack_count(empty), 0);
    shared_ptr *old = top_of(empty);
    shared_store(&empty->top, (void *)8); /* empty as well, but the next push goes there */
    shared_store(&empty->bottom, (void *)8);
    assert_found(words);
    shared_store(&empty->bottom, (void *)old);
    shared_store(&empty->top, old);
}

/* While one stack is wild, a block that is met twice is looked for in all. */
static void test_wild_stack_and_a_block_twice(void **state) {
    (void)state;
    struct tcache_stack *later = stack + 3;
    const struct tcache_stack old = *later;
    shared_store(&later->bottom, (void *)(uintptr_t)PAGE_BYTES);
    shared_store(&later->top, (void *)(uintptr_t)(2 * PAGE_BYTES));
    void *kept = shared_get(bottom_of(stack));
    shared_store(bottom_of(stack), shared_get(top_of(stack) - 1));
    assert_found("in two caches");
    assert_found("out of its storage");
    shared_store(bottom_of(stack), kept);
    *later = old;
}

/* ---- other threads ---- */

struct other {
    struct thread_slot *slot;
    sem_t is_ready;
    sem_t may_end;
};

static void *hold_cache(void *arg) {
    struct other *other = arg;
    fill_cache();
    other->slot = fixture_self();
    (void)sem_post(&other->is_ready);
    (void)sem_wait(&other->may_end);
    return NULL;
}

static pthread_t start_other(struct other *other) {
    pthread_t thread;
    assert_int_equal(sem_init(&other->is_ready, 0, 0), 0);
    assert_int_equal(sem_init(&other->may_end, 0, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, hold_cache, other), 0);
    (void)sem_wait(&other->is_ready);
    return thread;
}

static void end_other(struct other *other, pthread_t thread) {
    (void)sem_post(&other->may_end);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)sem_destroy(&other->is_ready);
    (void)sem_destroy(&other->may_end);
}

static void test_in_two_threads(void **state) {
    (void)state;
    struct other other;
    pthread_t thread = start_other(&other);
    const struct tcache_stack *theirs = stack_in(other.slot);
    assert_clean();
    assert_finds(bottom_of(theirs), (uintptr_t)shared_get(bottom_of(stack)), "in two caches");
    assert_finds(bottom_of(stack), (uintptr_t)shared_get(bottom_of(theirs)), "in two caches");
    end_other(&other, thread);
}

static void test_free_slot_that_owns_something(void **state) {
    (void)state;
    struct other other;
    end_other(&other, start_other(&other));
    struct thread_slot *slot = other.slot;
    assert_int_equal(shared_get(&slot->state), SLOT_FREE);
    assert_clean();
    struct tcache_stack *theirs = stack_in(slot);
    assert_int_equal(stack_count(theirs), 0);
    shared_store(top_of(theirs), shared_get(top_of(stack) - 1));
    shared_store(&stack->top, (void *)(top_of(stack) - 1)); /* it changes its owner, no more */
    assert_finds(&theirs->top, top_of(theirs) + 1, "free, but owns something");
    assert_finds(&slot->hand.kind, HAND_TAIL, "free, but owns something");
    shared_store(&stack->top, (void *)(top_of(stack) + 1));
    assert_clean();
}

static void test_threads_of_arenas(void **state) {
    (void)state;
    struct arena *arena = heap_arena(heap, 0);
    uint32_t threads = shared_get(&arena->threads);
    assert_int_equal(threads, 1);
    assert_finds(&arena->threads, threads + 1, "1 thread slots use it, but it counts 2");
    assert_finds(&arena->threads, 0, "but it counts 0");
    assert_finds(&arena->threads, WILD, "but it counts 4294967295");
    assert_finds(&self->arena, 0, "0 thread slots use it");
    assert_finds(&self->arena, 78, "its arena 77 does not exist");
    assert_finds(&self->arena, WILD, "does not exist");
}

/* ---- hands ---- */

static void test_hand_that_carries_nothing(void **state) {
    (void)state;
    struct hand *hand = &self->hand;
    void *large = sharena_malloc(heap, 20000);
    const uint32_t numbers[] = {page_of(heap, large), first_chunk(heap),
                                first_page_of_chunk(end_chunk(heap)), 0, WILD};
    for (size_t i = 0; i < 5; i++) {
        shared_store(&hand->first, numbers[i]);
        assert_finds(&hand->kind, HAND_RUN, "carries the run");
        assert_finds(&hand->kind, HAND_SPAN, "carries the chunk");
    }
    assert_finds(&hand->kind, HAND_TAIL + 1, "a hand of kind 4 does not exist");
    assert_finds(&hand->kind, WILD, "does not exist");
}

/* A hand that does carry something is in order; one that denies it, or lies about it, is not. */
static void test_hand_that_carries(void **state) {
    (void)state;
    struct hand *hand = &self->hand;
    assert_int_equal(arena_take(heap, self, 0, 9, 1), 0);
    assert_clean();
    assert_finds(&hand->kind, HAND_EMPTY, "in transit, but 0 hands carry one");
    assert_finds(&hand->count, 8, "carries the run");
    assert_finds(&hand->first, shared_get(&hand->first) + 1, "carries the run");
    assert_finds(&hand->charged, 1, "backed pages");
    assert_finds(&hand->flags, 0, "backed pages");
    arena_give(heap, self);
    assert_int_equal(pool_take(heap, self, 3, 1), 0);
    assert_clean();
    assert_finds(&hand->kind, HAND_EMPTY, "in transit, but 0 hands carry one");
    assert_finds(&hand->count, 2, "carries the chunk");
    assert_finds(&hand->first, WILD, "carries the chunk");
    pool_give(heap, self);
    assert_clean();
}

/* ---- sums, names, bounds ---- */

static void test_backed_pages(void **state) {
    (void)state;
    shared_u64 *pages = &heap_state(heap)->backed_pages;
    assert_finds(pages, shared_get(pages) + 1, "by the walk");
    assert_finds(pages, shared_get(pages) - 1, "by the count");
    assert_finds(pages, 0, "0 by the count");
    assert_finds(pages, UINT64_MAX, "backed pages");
}

static void test_roots(void **state) {
    (void)state;
    struct root_table *table = heap_roots(heap);
    char *block = sharena_malloc(heap, SIZE);
    assert_int_equal(sharena_root_set(heap, "apple", block), 0);
    assert_clean();
    shared_ptr *object = &table->roots[0].object;
    assert_ptr_equal(shared_get(object), block);
    assert_finds(object, (uintptr_t)&heap, "root apple: names");
    assert_finds(object, NULL, "which is not in the heap");
    assert_finds(object, heap_state(heap)->data_begin - 1, "root apple");
    assert_finds(object, UINTPTR_MAX, "root apple");
    assert_finds(&table->high, SHARENA_ROOTS_MAX + 1, "1025 entries used of 1024");
    assert_finds(&table->high, WILD, "entries used of");
    assert_int_equal(sharena_root_set(heap, "apple", NULL), 0);
    assert_finds(&table->high, WILD, "entries used of");
}

/* What says how much there is to walk over. */
static void test_bounds(void **state) {
    (void)state;
    struct heap_state *books = heap_state(heap);
    shared_u32 *arenas = &heap_pool(heap)->arenas_made;
    uint64_t bytes = shared_get(&books->data_bytes);
    assert_finds(&books->threads_high, THREADS_MAX + 1, "4097 thread slots cannot be");
    assert_finds(&books->threads_high, WILD, "thread slots cannot be");
    assert_finds(arenas, ARENAS_MAX + 1, "1025 arenas cannot be");
    assert_finds(arenas, WILD, "arenas cannot be");
    assert_finds(&books->data_bytes, bytes + 1, "bytes of user data cannot be");
    assert_finds(&books->data_bytes, FIXTURE_CAPACITY + CHUNK_BYTES, "user data cannot be");
    assert_finds(&books->data_bytes, UINT64_MAX, "user data cannot be");
}

/* ---- figures ---- */

static void test_figures(void **state) {
    (void)state;
    struct sharena_report report;
    void *blocks[10];
    void *large[2];
    const struct arena *arena = heap_arena(heap, 0);
    uint64_t huge_pages = 5 * MIB / PAGE_BYTES;
    tcache_flush(heap, self);
    for (size_t i = 0; i < 10; i++) {
        blocks[i] = sharena_mallocx(heap, 100, SHARENA_TCACHE_NONE);
    }
    for (size_t i = 0; i < 2; i++) {
        large[i] = sharena_mallocx(heap, 20000, SHARENA_TCACHE_NONE);
    }
    void *huge = sharena_mallocx(heap, 5 * MIB, SHARENA_TCACHE_NONE);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.findings, 0);
    assert_int_equal(report.blocks_live, 13);
    assert_int_equal(report.bytes_live, 10 * 112 + 2 * 20480 + 5 * MIB);
    assert_int_equal(report.blocks_cached, 0);
    assert_int_equal(report.bytes_cached, 0);
    assert_int_equal(report.chunks, 4);
    assert_int_equal(report.chunks_free, 0);
    assert_int_equal(report.pages_dirty, shared_get(&arena->pages_dirty));
    assert_int_equal(report.pages_backed,
                     shared_get(&arena->pages_used) + shared_get(&arena->pages_dirty) + huge_pages);
    uint64_t dirty = report.pages_dirty;
    uint64_t backed = report.pages_backed;

    sharena_dallocx(heap, huge, SHARENA_TCACHE_NONE);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 12);
    assert_int_equal(report.chunks, 4);
    assert_int_equal(report.chunks_free, 3);
    assert_int_equal(report.pages_dirty, dirty + huge_pages);
    assert_int_equal(report.pages_backed, backed);

    sharena_free_batch(heap, 10, blocks);            /* into the cache */
    sharena_free(heap, sharena_malloc(heap, 20000)); /* so that they are cached */
    sharena_dallocx(heap, large[0], SHARENA_TCACHE_NONE);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 1);
    assert_int_equal(report.bytes_live, 20480);
    assert_int_equal(report.blocks_cached, 11);
    assert_int_equal(report.bytes_cached, 10 * 112 + 20480);

    sharena_dallocx(heap, large[1], SHARENA_TCACHE_NONE);
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(sharena_check(heap, &report), 0);
    assert_int_equal(report.blocks_live, 0);
    assert_int_equal(report.blocks_cached, 0);
    assert_int_equal(report.pages_dirty, 0);
    assert_int_equal(report.chunks, 4);
}

/* ---- of a heap at work ---- */

#define PLACES 512u

struct market {
    void *places[PLACES]; /* exchanged atomically: who takes a block out owns it */
    uint32_t is_over;     /* atomic */
};

/* Blocks of all kinds go from hand to hand. */
static void trade(struct market *market, uint64_t seed) {
    while (!__atomic_load_n(&market->is_over, __ATOMIC_ACQUIRE)) {
        uint64_t random = clean_random(&seed);
        size_t size = random % 64 == 0 ? random >> 43 : random >> 52;
        void *block = random % 3 == 0 ? NULL : sharena_malloc(heap, size);
        void **place = &market->places[random / 64 % PLACES];
        sharena_free(heap, __atomic_exchange_n(place, block, __ATOMIC_ACQ_REL));
        if (random % 5000 == 1) {
            (void)sharena_purge(heap);
        }
    }
}

static void *trade_in_thread(void *market) {
    trade(market, (uintptr_t)&market); /* a seed of its own */
    return NULL;
}

static int trade_in_process(void *market) {
    trade(market, (uint64_t)getpid());
    return 0;
}

static void test_while_others_work(void **state) {
    (void)state;
    struct market *market = sharena_calloc(heap, 1, sizeof(*market));
    pthread_t threads[2];
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = child_start(trade_in_process, market);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, trade_in_thread, market), 0);
    }
    int broken = 0;
    struct sharena_report report;
    for (int i = 0; i < 50 && !broken; i++) {
        crowd_sleep_us(1000);
        broken = sharena_check(heap, &report);
    }
    __atomic_store_n(&market->is_over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(child_wait_ms(pids[i], 5000), 0);
    }
    if (broken) {
        fail_msg("not clean: %s; %s", report.messages[0], report.messages[1]);
    }
    sharena_free_batch(heap, PLACES, market->places);
    sharena_free(heap, market);
    (void)sharena_reap(heap);
    clean_check(heap, 0);
}

/* A thread that only moves its own stack, which needs no lock, while it is looked at. */
static void *churn(void *arg) {
    struct market *market = arg;
    void *blocks[400];
    for (size_t turn = 0; !__atomic_load_n(&market->is_over, __ATOMIC_ACQUIRE); turn++) {
        size_t count = 50 + turn * 37 % 350;
        (void)sharena_malloc_batch(heap, SIZE, count, blocks);
        sharena_free_batch(heap, count, blocks);
    }
    return NULL;
}

/* A process that dies while it moves its own stack: no lock tells of it. */
static int die_moving(void *arg) {
    struct thread_slot *own = heap_enter(heap);
    REQUIRE(own != NULL);
    (void)arg;
    sharena_free(heap, sharena_malloc(heap, SIZE));
    struct tcache_stack *moved = &slot_tcache(own)->stacks[sizeclass_of(SIZE) + 1];
    REQUIRE(stack_count(moved) > 1);
    journal_set(own, &moved->bottom, shared_get(&moved->top));
    journal_set(own, &moved->top, shared_get(&moved->bottom) - 8);
    (void)raise(SIGKILL);
    return 1;
}

static void test_died_moving_its_stack(void **state) {
    (void)state;
    struct sharena_report report;
    (void)sharena_reap(heap);
    assert_true(WIFSIGNALED(child_wait(child_start(die_moving, NULL))));
    assert_int_equal(sharena_check(heap, &report), 0); /* undoes, looks again, and then reaps */
    assert_int_equal(sharena_reap(heap), 0);
}

static void test_while_a_stack_moves(void **state) {
    (void)state;
    static struct market market;
    pthread_t thread;
    market.is_over = 0;
    assert_int_equal(pthread_create(&thread, NULL, churn, &market), 0);
    int broken = 0;
    for (int i = 0; i < 500 && !broken; i++) {
        broken = sharena_check(heap, NULL);
    }
    __atomic_store_n(&market.is_over, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (broken) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
}

/* ---- several checks ---- */

static int check_often(void *arg) {
    (void)arg;
    for (int i = 0; i < 300; i++) {
        REQUIRE(sharena_check(heap, NULL) == 0);
    }
    return 0;
}

static void test_at_once(void **state) {
    (void)state;
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = child_start(check_often, NULL);
    }
    assert_int_equal(check_often(NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(child_wait_ms(pids[i], 5000), 0);
    }
}

static int check_for_ever(void *arg) {
    (void)arg;
    while (sharena_check(heap, NULL) == 0) {
    }
    return 1;
}

/* Whoever dies in a check leaves locks, and no more. */
static void test_killed_in_a_check(void **state) {
    (void)state;
    uint64_t random = 7;
    for (int i = 0; i < 30; i++) {
        pid_t pid = child_start(check_for_ever, NULL);
        crowd_sleep_us((long)(1000 + clean_random(&random) % 3000));
        crowd_kill(pid);
        assert_clean();
        sharena_free(heap, sharena_malloc(heap, 20000));
        fill_cache();
    }
}

/* The kernel marks 2048 mutexes of a dead thread; a big heap has more locks than that. */
#define ARENAS_MANY 80u

static char path[SCRATCH_MAX];

static int die_with_many_locks(void *arg) {
    struct thread_slot *slot = heap_enter(heap);
    (void)arg;
    REQUIRE(slot != NULL);
    for (uint32_t i = 0; i < ARENAS_MANY; i++) {
        REQUIRE(arena_bind(heap, slot, i) == 0);
    }
    for (uint32_t i = 0; i < ARENAS_MANY; i++) {
        for (uint32_t j = 0; j < SIZE_CLASSES_SMALL; j++) {
            shared_store(&slot->held_rank, RANK_NONE);
            lock_acquire(heap, slot, &heap_arena(heap, i)->bins[j].lock);
        }
    }
    return kill(getpid(), SIGKILL);
}

/* In a process of its own, which can be given up if it hangs. */
static int survive_many_locks(void *arg) {
    const struct sharena_options options = clean_options();
    (void)arg;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(WIFSIGNALED(child_wait(child_start(die_with_many_locks, NULL))));
    REQUIRE(sharena_reap(heap) == 1);
    REQUIRE(sharena_check(heap, NULL) == 0);
    for (uint32_t i = 0; i < ARENAS_MANY; i++) {
        void *block = sharena_mallocx(heap, SIZE, SHARENA_ARENA(i));
        REQUIRE(block != NULL);
        sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
    }
    REQUIRE(sharena_check(heap, NULL) == 0);
    return sharena_close(heap);
}

static int remove_path(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

static void test_killed_with_many_locks(void **state) {
    (void)state;
    scratch_path(path, "many-locks");
    assert_int_equal(child_wait_ms(child_start(survive_many_locks, NULL), 5000), 0);
}

/* ---- arguments ---- */

static void test_read_only(void **state) {
    (void)state;
    struct sharena_report report;
    const struct sharena_options readonly = {.flags = SHARENA_READONLY};
    sharena_t *other = clean_open(scratch_path(path, "read-only"));
    clean_check(other, 0);
    assert_int_equal(sharena_close(other), 0);
    other = clean_open_with(path, &readonly);
    memset(&report, 0xff, sizeof(report));
    assert_refused(sharena_check(other, &report), EROFS, "read-only");
    assert_int_equal(report.findings, 0);
    assert_int_equal(report.messages[0][0], 0);
    assert_refused(sharena_check(other, NULL), EROFS, "read-only");
    assert_int_equal(sharena_close(other), 0);
    assert_refused(sharena_check(other, &report), EINVAL, "not an attached heap");
    assert_int_equal(sharena_unlink(path), 0);
}

static void test_no_report(void **state) {
    (void)state;
    shared_u64 *pages = &heap_state(heap)->backed_pages;
    assert_int_equal(sharena_check(heap, NULL), 0);
    shared_store(pages, shared_get(pages) + 1);
    assert_refused(sharena_check(heap, NULL), EUCLEAN, "1 broken rules");
    assert_says("the first: backed pages");
    shared_store(pages, shared_get(pages) - 1);
}

/* More findings than a report has room for: the first are told, all are counted. */
static void test_many_findings(void **state) {
    (void)state;
    struct sharena_report report;
    uint64_t count = stack_count(stack);
    void *kept[256];
    assert_true(count > SHARENA_REPORT_MESSAGES && count <= 256);
    for (uint64_t i = 0; i < count; i++) {
        kept[i] = shared_get(bottom_of(stack) + i);
        shared_store(bottom_of(stack) + i, (void *)(uintptr_t)(i + 1));
    }
    assert_int_equal(sharena_check(heap, &report), EUCLEAN);
    for (uint64_t i = 0; i < count; i++) {
        shared_store(bottom_of(stack) + i, kept[i]);
    }
    assert_int_equal(report.findings, count);
    for (uint64_t i = 0; i < SHARENA_REPORT_MESSAGES; i++) {
        assert_non_null(strstr(report.messages[i], "no block of it"));
    }
}

/* Who looks on sees where the walk is; one that cannot go on stays where it is. */
static void test_progress(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_non_null(sharena_malloc(heap, CHUNK_BYTES));
    }
    audit_progress = 7;
    assert_clean();
    assert_int_equal(audit_progress, 1000);
    struct chunk *last = heap_chunk(heap, end_chunk(heap) - 1);
    uint16_t state_before = shared_get(&last->state);
    shared_store(&last->state, (uint16_t)77);
    assert_found("state 77 does not exist");
    assert_in_range(audit_progress, 250, 499);
    shared_store(&last->state, state_before);
}

#define with(f) cmocka_unit_test_setup_teardown(f, open_heap, heap_fixture_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        with(test_twice_in_one_cache),
        with(test_pointers_that_are_no_cached_blocks),
        with(test_cached_and_free),
        with(test_stack_out_of_its_storage),
        with(test_wild_stack_and_a_block_twice),
        with(test_in_two_threads),
        with(test_free_slot_that_owns_something),
        with(test_threads_of_arenas),
        with(test_hand_that_carries_nothing),
        with(test_hand_that_carries),
        with(test_backed_pages),
        with(test_roots),
        with(test_bounds),
        with(test_figures),
        with(test_while_others_work),
        with(test_while_a_stack_moves),
        with(test_died_moving_its_stack),
        with(test_at_once),
        with(test_killed_in_a_check),
        cmocka_unit_test_teardown(test_killed_with_many_locks, remove_path),
        with(test_read_only),
        with(test_no_report),
        with(test_many_findings),
        with(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
