/* test_hooks.c -- functions of the application that are asked before pages come and go. */
#include "heap/hooks.h"

#include "heap/arena.h"
#include "heap_parts.h"

enum answer { DO_IT, LOOK_ON, REFUSE, DIE };

struct calls { /* of one hook */
    unsigned count;
    unsigned arena; /* of the last one */
    uint64_t pages;
};

static sharena_t *heap;
static struct sharena_chunk_hooks defaults;
static enum answer answer;
static struct calls backs;
static struct calls purges;

static void note(struct calls *calls, void *address, size_t bytes, unsigned arena) {
    assert_true(is_user_data(heap, address));
    assert_int_equal((uintptr_t)address % PAGE_BYTES, 0);
    assert_int_equal(bytes % PAGE_BYTES, 0);
    assert_int_not_equal(bytes, 0);
    calls->count++;
    calls->arena = arena;
    calls->pages += bytes / PAGE_BYTES;
}

static int reply(int (*hook)(sharena_t *, void *, size_t, unsigned), void *address, size_t bytes,
                 unsigned arena) {
    switch (answer) {
    case DO_IT:
        return hook(heap, address, bytes, arena);
    case LOOK_ON:
        return 0;
    case REFUSE:
        return EDQUOT;
    default:
        return raise(SIGKILL);
    }
}

static int back(sharena_t *of, void *address, size_t bytes, unsigned arena) {
    assert_ptr_equal(of, heap);
    note(&backs, address, bytes, arena);
    return reply(defaults.back, address, bytes, arena);
}

static int purge(sharena_t *of, void *address, size_t bytes, unsigned arena) {
    assert_ptr_equal(of, heap);
    note(&purges, address, bytes, arena);
    return reply(defaults.purge, address, bytes, arena);
}

static struct sharena_chunk_hooks read_hooks(const char *name) {
    struct sharena_chunk_hooks hooks = {0};
    size_t length = sizeof(hooks);
    assert_int_equal(sharena_ctl(heap, name, &hooks, &length, NULL, 0), 0);
    assert_int_equal(length, sizeof(hooks));
    return hooks;
}

static int set_hooks(const char *name, struct sharena_chunk_hooks hooks) {
    return sharena_ctl(heap, name, NULL, NULL, &hooks, sizeof(hooks));
}

static int open_hooked(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    assert_int_equal(arena_bind(heap, fixture_self(), 1), 0);
    assert_int_equal(arena_bind(heap, fixture_self(), 0), 0);
    defaults = read_hooks("arena.0.hooks");
    answer = DO_IT;
    memset(&backs, 0, sizeof(backs));
    memset(&purges, 0, sizeof(purges));
    assert_int_equal(set_hooks("arena.0.hooks", (struct sharena_chunk_hooks){back, purge}), 0);
    return error;
}

#define with_hooks(f) cmocka_unit_test_setup_teardown(f, open_hooked, heap_fixture_close)

static void *take(size_t bytes) {
    void *block = sharena_mallocx(heap, bytes, SHARENA_TCACHE_NONE);
    assert_non_null(block);
    memset(block, 0xa5, bytes);
    return block;
}

static void give(void *block) {
    sharena_dallocx(heap, block, SHARENA_TCACHE_NONE);
}

/* ---- */

static void what_was_set_can_be_read(void **state) {
    (void)state;
    assert_non_null(defaults.back);
    assert_non_null(defaults.purge);
    struct sharena_chunk_hooks hooks = read_hooks("arena.0.hooks");
    assert_ptr_equal(hooks.back, back);
    assert_ptr_equal(hooks.purge, purge);
    hooks = read_hooks("arena.1.hooks");
    assert_ptr_equal(hooks.back, defaults.back);
    assert_ptr_equal(hooks.purge, defaults.purge);
    assert_refused(set_hooks("arena.0.hooks", (struct sharena_chunk_hooks){NULL, purge}), EINVAL,
                   "NULL");
    assert_refused(set_hooks("arena.0.hooks", (struct sharena_chunk_hooks){back, NULL}), EINVAL,
                   "NULL");
    assert_refused(set_hooks("arena.2.hooks", defaults), ENOENT, "below 2");
    hooks = read_hooks("arena.0.hooks");
    assert_ptr_equal(hooks.back, back);
    assert_int_equal(set_hooks("arena.0.hooks", defaults), 0);
    give(take(100 * KIB));
    assert_int_equal(backs.count, 0);
}

/* Every page of user data that comes or goes is asked about, and no other. */
static void pages_are_asked_about_once(void **state) {
    (void)state;
    uint64_t before = books_now().stored;
    void *large = take(300 * KIB);
    void *huge = take(5 * MIB);
    assert_int_equal(backs.arena, 0);
    assert_int_equal(backs.pages, books_now().stored - before);
    assert_int_equal(purges.count, 0);
    give(large);
    give(huge);
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(purges.arena, 0);
    assert_int_equal(backs.pages - purges.pages, books_now().stored - before);
    assert_int_equal(books_now().stored, 0);
}

/* The pages of another arena are not this one's business. */
static void hooks_are_of_one_arena(void **state) {
    (void)state;
    int flags = (int)SHARENA_ARENA(1) | SHARENA_TCACHE_NONE;
    answer = REFUSE;
    void *block = sharena_mallocx(heap, 300 * KIB, flags);
    assert_non_null(block);
    sharena_dallocx(heap, block, flags);
    assert_int_equal(sharena_ctl(heap, "arena.1.purge", NULL, NULL, NULL, 0), 0);
    assert_int_equal(backs.count + purges.count, 0);
    assert_int_equal(books_now().stored, 0);
}

/* A hook that says yes and does nothing: it is done all the same. */
static void what_a_hook_leaves_undone_is_done(void **state) {
    (void)state;
    answer = LOOK_ON;
    void *block = take(300 * KIB);
    assert_int_equal(stored_pages(page_of(heap, block), 75), 75);
    give(block);
    assert_int_equal(sharena_purge(heap), 0);
    assert_true(backs.count != 0 && purges.count != 0);
    assert_int_equal(books_now().stored, 0);
    unsigned char *again = sharena_calloc(heap, 1, 300 * KIB);
    assert_true(clean_is_zero(again, 300 * KIB));
    sharena_free(heap, again);
}

static void storage_may_be_refused(void **state) {
    (void)state;
    static const size_t sizes[] = {64, 300 * KIB, 5 * MIB};
    uint64_t charged = charged_pages();
    answer = REFUSE;
    for (size_t i = 0; i < 3; i++) {
        errno = 0;
        assert_null(sharena_malloc(heap, sizes[i]));
        assert_int_equal(errno, ENOMEM);
        assert_says("refused");
        assert_says(strerror(EDQUOT));
        assert_int_equal(books_now().stored, 0);
    }
    assert_true(charged_pages() <= charged + 16); /* tables */
    answer = DO_IT;
    for (size_t i = 0; i < 3; i++) {
        give(take(sizes[i]));
    }
}

static void pages_may_be_kept(void **state) {
    (void)state;
    void *large = take(300 * KIB);
    void *behind = take(16 * KIB);
    void *huge = take(5 * MIB);
    give(large);
    give(huge);
    struct books before = books_now();
    answer = REFUSE;
    assert_int_equal(sharena_purge(heap), 0);
    assert_true(purges.count >= 2);
    assert_books_are(&before);
    assert_int_equal(*(unsigned char *)large, 0xa5);
    answer = DO_IT;
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(books_now().report.pages_dirty, 0);
    give(behind);
}

/* A chunk whose dirty pages lie behind clean ones would have to lose them to leave its arena. */
static void a_chunk_with_kept_pages_stays(void **state) {
    (void)state;
    void *spare = take(1536 * KIB);
    void *a = take(640 * KIB);
    void *b = take(640 * KIB);
    void *c = take(640 * KIB);
    give(a);
    assert_int_equal(sharena_purge(heap), 0);
    give(c);
    give(spare);
    uint32_t chunks = shared_get(&heap_arena(heap, 0)->chunks);
    assert_int_not_equal(shared_get(&heap_arena(heap, 0)->spare), 0);
    answer = REFUSE;
    unsigned asked = purges.count;
    give(b);
    assert_int_equal(purges.count, asked + 1);
    assert_int_equal(shared_get(&heap_arena(heap, 0)->chunks), chunks);
    (void)books_now();
    answer = DO_IT;
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(books_now().stored, 0);
}

/* ---- death ---- */

static int die_in_back(void *arg) {
    (void)arg;
    answer = DIE;
    return sharena_malloc(heap, 5 * MIB) != NULL;
}

static int die_in_purge(void *arg) {
    (void)arg;
    answer = DIE;
    sharena_free(heap, sharena_malloc(heap, 3 * MIB)); /* its tcache must not serve it */
    return sharena_purge(heap);
}

/* The child has its parent's hooks; what it was about to do is settled without asking. */
static void whoever_dies_in_a_hook_is_reaped(void **state) {
    (void)state;
    void *huge = take(5 * MIB);
    give(huge);
    /* the child's thread gets this arena */
    assert_int_equal(set_hooks("arena.1.hooks", (struct sharena_chunk_hooks){back, purge}), 0);
    int status = child_wait(child_start(die_in_purge, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(sharena_purge(heap), 0);
    status = child_wait(child_start(die_in_back, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(sharena_reap(heap) >= 1);
    assert_int_equal(books_now().stored, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_hooks(what_was_set_can_be_read),      with_hooks(pages_are_asked_about_once),
        with_hooks(hooks_are_of_one_arena),        with_hooks(what_a_hook_leaves_undone_is_done),
        with_hooks(storage_may_be_refused),        with_hooks(pages_may_be_kept),
        with_hooks(a_chunk_with_kept_pages_stays), with_hooks(whoever_dies_in_a_hook_is_reaped),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
