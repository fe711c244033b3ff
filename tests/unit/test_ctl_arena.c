/* test_ctl_arena.c -- giving the memory of one arena back, by name. */
#include "heap/ctl_arena.h"

#include "heap/arena.h"
#include "heap_parts.h"

static sharena_t *heap;

static int get(const char *name, void *value, size_t bytes) {
    return sharena_ctl(heap, name, value, &bytes, NULL, 0);
}

static size_t get_size(const char *name) {
    size_t value = 0;
    assert_int_equal(get(name, &value, sizeof(value)), 0);
    return value;
}

static int act(const char *name) {
    return sharena_ctl(heap, name, NULL, NULL, NULL, 0);
}

static int set_size(const char *name, size_t value) {
    return sharena_ctl(heap, name, NULL, NULL, &value, sizeof(value));
}

static int open_two(void **state) {
    int error = heap_fixture_open(state);
    heap = fixture_heap();
    assert_int_equal(arena_bind(heap, fixture_self(), 1), 0);
    return error;
}

#define with_two(f) cmocka_unit_test_setup_teardown(f, open_two, heap_fixture_close)

static void make_dirty(unsigned arena, size_t bytes) {
    int flags = (int)SHARENA_ARENA(arena) | SHARENA_TCACHE_NONE;
    sharena_dallocx(heap, sharena_mallocx(heap, bytes, flags), flags);
}

static void purge_is_of_that_arena(void **state) {
    (void)state;
    make_dirty(0, 300 * KIB);
    make_dirty(1, 400 * KIB);
    size_t first = get_size("stats.arenas.0.pdirty");
    size_t second = get_size("stats.arenas.1.pdirty");
    assert_true(first >= 75 && second >= 100);
    assert_int_equal(act("arena.1.purge"), 0);
    assert_int_equal(get_size("stats.arenas.0.pdirty"), first);
    assert_int_equal(get_size("stats.arenas.1.pdirty"), 0);
    assert_int_equal(get_size("stats.arenas.0.npurge"), 0);
    assert_int_equal(get_size("stats.arenas.0.purged"), 0);
    assert_int_equal(get_size("stats.arenas.1.npurge"), 1);
    assert_int_equal(get_size("stats.arenas.1.purged"), second);
}

static void decay_takes_what_is_due(void **state) {
    (void)state;
    make_dirty(0, 300 * KIB);
    size_t dirty = get_size("stats.arenas.0.pdirty");
    assert_int_equal(act("arena.0.decay"), 0);
    assert_int_equal(get_size("stats.arenas.0.pdirty"), dirty); /* the option says never */
    fixture_attachment()->conf.dirty_decay_ms = 1000000;
    assert_int_equal(act("arena.0.decay"), 0);
    assert_int_equal(get_size("stats.arenas.0.pdirty"), dirty);
    shared_u64 *start = &heap_arena(heap, 0)->decay.start_ns;
    shared_store(start, shared_get(start) - 500000000000ull);
    assert_int_equal(act("arena.0.decay"), 0);
    assert_in_range(get_size("stats.arenas.0.pdirty"), dirty / 2 - 1, dirty / 2 + 1);
}

static void a_period_is_the_arenas(void **state) {
    (void)state;
    fixture_attachment()->conf.dirty_decay_ms = 777;
    assert_int_equal(get_size("arena.0.dirty_decay_ms"), 777);
    assert_int_equal(set_size("arena.0.dirty_decay_ms", 123), 0);
    assert_int_equal(get_size("arena.0.dirty_decay_ms"), 123);
    assert_int_equal(get_size("arena.1.dirty_decay_ms"), 777);
    assert_int_equal(set_size("arena.1.dirty_decay_ms", SIZE_MAX), 0);
    assert_int_equal(get_size("arena.1.dirty_decay_ms"), SIZE_MAX);
    assert_int_equal(set_size("arena.1.dirty_decay_ms", 86400000), 0);
    assert_int_equal(get_size("arena.1.dirty_decay_ms"), 86400000);
    assert_refused(set_size("arena.1.dirty_decay_ms", 86400001), EINVAL, "86400000");
    assert_refused(set_size("arena.1.dirty_decay_ms", SIZE_MAX - 1), EINVAL, "86400000");
    assert_int_equal(get_size("arena.1.dirty_decay_ms"), 86400000);
    assert_int_equal(set_size("arena.0.dirty_decay_ms", 0), 0);
    assert_int_equal(get_size("arena.0.dirty_decay_ms"), 0);
    assert_refused(act("arena.2.purge"), ENOENT, "below 2");
    assert_refused(act("arena.2.decay"), ENOENT, "below 2");
}

static void the_pool_counts_as_well(void **state) {
    (void)state;
    sharena_free(heap, sharena_malloc(heap, 6 * MIB));
    assert_int_equal(get_size("stats.pool.pdirty"), 6 * MIB / PAGE_BYTES);
    assert_int_equal(get_size("stats.pool.purged"), 0);
    assert_int_equal(sharena_purge(heap), 0);
    assert_int_equal(get_size("stats.pool.pdirty"), 0);
    assert_int_equal(get_size("stats.pool.npurge"), 1);
    assert_int_equal(get_size("stats.pool.purged"), 6 * MIB / PAGE_BYTES);
}

/* Who only looks may ask, and do nothing. */
static pid_t looker; /* forked before any heap is attached */
static int to_looker[2];

static int wait_then_look(void *arg) {
    char path[SCRATCH_MAX];
    (void)arg;
    REQUIRE(read(to_looker[0], path, sizeof(path)) == (ssize_t)sizeof(path));
    const struct sharena_options options = {.flags = SHARENA_READONLY};
    size_t value = 0;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    REQUIRE(get("arena.0.dirty_decay_ms", &value, sizeof(value)) == 0 && value == 55);
    REQUIRE(act("arena.0.purge") == EROFS && act("arena.0.decay") == EROFS);
    REQUIRE(set_size("arena.0.dirty_decay_ms", 5) == EROFS);
    return sharena_close(heap);
}

static void who_only_looks_changes_nothing(void **state) {
    (void)state;
    char path[SCRATCH_MAX] = "";
    assert_int_equal(set_size("arena.0.dirty_decay_ms", 55), 0);
    (void)snprintf(path, sizeof(path), "%s", fixture_path());
    assert_int_equal(write(to_looker[1], path, sizeof(path)), sizeof(path));
    assert_int_equal(child_wait(looker), 0);
    looker = 0;
}

int main(void) {
    assert_int_equal(pipe(to_looker), 0);
    looker = child_start(wait_then_look, NULL);
    const struct CMUnitTest tests[] = {
        with_two(purge_is_of_that_arena),         with_two(decay_takes_what_is_due),
        with_two(a_period_is_the_arenas),         with_two(the_pool_counts_as_well),
        with_two(who_only_looks_changes_nothing),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
