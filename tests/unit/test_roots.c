/* test_roots.c -- the root table: its entries, and what a kill leaves in them. */
#include "heap/roots.h"

#include "heap/alloc.h"
#include "heap_parts.h"
#include "ipc/lock.h"

static struct root_table *table(void) {
    return heap_roots(fixture_heap());
}

static struct root *entry_of(const char *name) {
    for (uint32_t i = 0; i < shared_get(&table()->high); i++) {
        struct root *root = &table()->roots[i];
        if (shared_get(&root->state) != ROOT_FREE && strcmp(root->name, name) == 0) {
            return root;
        }
    }
    return NULL;
}

static void test_entries_are_used_again(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *block = sharena_malloc(heap, 8);
    assert_int_equal(sharena_root_set(heap, "a", block), 0);
    assert_int_equal(sharena_root_set(heap, "b", block), 0);
    assert_int_equal(sharena_root_set(heap, "c", block), 0);
    assert_int_equal(shared_get(&table()->high), 3);
    struct root *b = entry_of("b");
    assert_int_equal(sharena_root_set(heap, "b", NULL), 0);
    assert_int_equal(shared_get(&b->state), ROOT_FREE);
    assert_int_equal(sharena_root_set(heap, "d", block), 0);
    assert_ptr_equal(entry_of("d"), b);
    assert_int_equal(shared_get(&table()->high), 3);
    assert_ptr_equal(shared_get(&b->object), block);
    assert_null(shared_get(&b->block));
    assert_int_equal(b->name[1], 0);
    for (const char *name = "acd"; *name != '\0'; name++) {
        const char one[2] = {*name, '\0'};
        assert_int_equal(sharena_root_set(heap, one, NULL), 0);
    }
    sharena_free(heap, block);
}

static void test_locks(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    assert_int_equal(table()->lock.rank, RANK_NAMES);
    for (uint32_t i = 0; i < SHARENA_ROOTS_MAX; i++) {
        assert_int_equal(table()->roots[i].lock.rank, RANK_ROOT);
    }
    struct shared_lock *last = &table()->roots[SHARENA_ROOTS_MAX - 1].lock;
    lock_acquire(fixture_heap(), self, last);
    assert_true(lock_is_held(self, last));
    lock_release(fixture_heap(), self, last);
}

/* ---- kills ---- */

static int die_while_setting(void *arg) {
    struct thread_slot *self = fixture_self();
    struct root *root = entry_of("name");
    lock_acquire(fixture_heap(), self, &table()->lock);
    journal_set(self, &root->object, arg);
    journal_set(self, &root->state, (uint32_t)ROOT_FREE);
    return kill(getpid(), SIGKILL);
}

static void test_killed_while_setting(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *old = sharena_malloc(heap, 8);
    void *new = sharena_malloc(heap, 8);
    assert_int_equal(sharena_root_set(heap, "name", old), 0);
    assert_true(WIFSIGNALED(child_wait(child_start(die_while_setting, new))));
    assert_ptr_equal(sharena_root_get(heap, "name"), old); /* whoever locks, rolls back */
    assert_int_equal(sharena_root_set(heap, "name", new), 0);
    assert_ptr_equal(sharena_root_get(heap, "name"), new);
    assert_int_equal(sharena_root_set(heap, "name", NULL), 0);
    sharena_free(heap, old);
    sharena_free(heap, new);
}

static int die(void *ptr, void *arg) {
    (void)arg;
    memset(ptr, 0xee, 64); /* half made */
    return kill(getpid(), SIGKILL);
}

static int die_while_making(void *arg) {
    (void)arg;
    return sharena_root_create(fixture_heap(), "name", 64, die, NULL) == NULL;
}

static int init_nothing(void *ptr, void *arg) {
    (void)ptr;
    (*(int *)arg)++;
    return 0;
}

/* The block of the dead maker stands in the entry until somebody makes the object anew. */
static void test_killed_while_making(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    int calls = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(WIFSIGNALED(child_wait(child_start(die_while_making, NULL))));
        struct root *root = entry_of("name");
        assert_non_null(root);
        assert_int_equal(shared_get(&root->state), ROOT_MAKING);
        assert_non_null(shared_get(&root->block));
        assert_null(sharena_root_get(heap, "name"));
    }
    (void)sharena_reap(heap);
    clean_check(heap, 1); /* not three: each maker frees what the one before left */
    unsigned char *made = sharena_root_create(heap, "name", 64, init_nothing, &calls);
    assert_non_null(made);
    assert_int_equal(calls, 1);
    assert_true(clean_is_zero(made, 64));
    assert_null(shared_get(&entry_of("name")->block));
    clean_check(heap, 1);
    assert_int_equal(sharena_root_set(heap, "name", NULL), 0);
    sharena_free(heap, made);
}

/* The lock of the dead maker still names its slot, which is another thread's by now. */
static int make_after_death(void *arg) {
    const uint32_t *slot = arg;
    int calls = 0;
    REQUIRE(shared_get(&fixture_self()->index) == *slot);
    REQUIRE(sharena_root_create(fixture_heap(), "name", 64, init_nothing, &calls) != NULL);
    REQUIRE(calls == 1);
    return 0;
}

static void test_successor_in_the_slot_of_a_dead_maker(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    assert_true(WIFSIGNALED(child_wait(child_start(die_while_making, NULL))));
    uint32_t slot = shared_get(&entry_of("name")->lock.owner) - 1;
    assert_int_equal(sharena_reap(heap), 1);
    child_run(make_after_death, &slot);
    void *made = sharena_root_get(heap, "name");
    assert_non_null(made);
    assert_int_equal(sharena_root_set(heap, "name", NULL), 0);
    sharena_free(heap, made);
}

/* Killed between the claim of a name and its lock: the name is being made by nobody. */
static int die_after_the_claim(void *arg) {
    (void)arg;
    struct thread_slot *self = fixture_self();
    struct root *root = &table()->roots[0];
    lock_acquire(fixture_heap(), self, &table()->lock);
    memset(root->name, 0, sizeof(root->name));
    memcpy(root->name, "name", 5);
    journal_set(self, &table()->high, 1u);
    journal_set(self, &root->state, (uint32_t)ROOT_MAKING);
    journal_commit(self);
    lock_release(fixture_heap(), self, &table()->lock);
    return kill(getpid(), SIGKILL);
}

static void test_killed_after_the_claim(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    int calls = 0;
    assert_true(WIFSIGNALED(child_wait(child_start(die_after_the_claim, NULL))));
    assert_int_equal(sharena_root_set(heap, "name", NULL), EBUSY);
    void *made = sharena_root_create(heap, "name", 64, init_nothing, &calls);
    assert_non_null(made);
    assert_int_equal(calls, 1);
    assert_int_equal(sharena_root_set(heap, "name", NULL), 0);
    sharena_free(heap, made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(test_entries_are_used_again),
        with_heap(test_locks),
        with_heap(test_killed_while_setting),
        with_heap(test_killed_while_making),
        with_heap(test_successor_in_the_slot_of_a_dead_maker),
        with_heap(test_killed_after_the_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
