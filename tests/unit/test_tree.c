/* test_tree.c -- sets that are always in order, and come back as they were. */
#include "heap/tree.h"
#include "heap_parts.h"

#define MEMBERS 300u
#define MANY 100000u

/* The table and the root lie in the heap, because only what lies there can be rolled back. */
struct member {
    struct tree_node node;
    uint32_t payload;
};

struct table {
    shared_u32 root;
    uint32_t reserved;
    struct member members[];
};

static struct thread_slot *self;
static struct table *table;
static struct tree tree;
static uint32_t last; /* members are 1 to last */

static void make_table(uint32_t members) {
    size_t bytes = sizeof(struct table) + (members + 1) * sizeof(struct member);
    self = fixture_self();
    table = sharena_calloc(fixture_heap(), 1, bytes);
    assert_non_null(table);
    tree = (struct tree){(char *)table->members, sizeof(struct member), &table->root};
    last = members;
}

static int open_small(void **state) {
    int error = heap_fixture_open(state);
    make_table(MEMBERS);
    return error;
}

static int open_big(void **state) {
    int error = heap_fixture_open(state);
    make_table(MANY);
    return error;
}

static int close_table(void **state) {
    journal_commit(self);
    sharena_free(fixture_heap(), table);
    return heap_fixture_close(state);
}

static void set_size(uint32_t index, uint32_t size) {
    shared_store(&tree_at(tree, index)->size, size);
}

static void insert(uint32_t index) {
    tree_insert(self, tree, index);
    journal_commit(self);
}

static void remove_member(uint32_t index) {
    tree_remove(self, tree, index);
    journal_commit(self);
}

/* ---- the model: a sorted array ---- */

static uint32_t sorted[MEMBERS + 1];
static uint32_t count;

static uint64_t key(uint32_t index) {
    return (uint64_t)shared_get(&tree_at(tree, index)->size) << 32 | index;
}

static void model_insert(uint32_t index) {
    uint32_t at = count++;
    for (; at > 0 && key(sorted[at - 1]) > key(index); at--) {
        sorted[at] = sorted[at - 1];
    }
    sorted[at] = index;
}

static void model_remove(uint32_t at) {
    memmove(&sorted[at], &sorted[at + 1], (count - at - 1) * sizeof(sorted[0]));
    count--;
}

static uint32_t model_fit(uint32_t size) {
    for (uint32_t i = 0; i < count; i++) {
        if (shared_get(&tree_at(tree, sorted[i])->size) >= size) {
            return sorted[i];
        }
    }
    return 0;
}

static int model_has(uint32_t index) {
    for (uint32_t i = 0; i < count; i++) {
        if (sorted[i] == index) {
            return 1;
        }
    }
    return 0;
}

static void assert_is_the_model(void) {
    uint32_t at = tree_fit(tree, 0);
    assert_int_equal(tree_audit(tree), count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(at, sorted[i]);
        at = tree_next(tree, at);
    }
    assert_int_equal(tree_last(tree), count != 0 ? sorted[count - 1] : 0);
    assert_int_equal(at, 0);
}

static void random_steps(uint32_t steps, uint32_t sizes, uint64_t seed) {
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t index = (uint32_t)(clean_random(&seed) % last) + 1;
        if (count != 0 && clean_random(&seed) % 2 == 0) {
            uint32_t at = (uint32_t)(clean_random(&seed) % count);
            remove_member(sorted[at]);
            model_remove(at);
        } else if (!model_has(index)) {
            set_size(index, (uint32_t)(clean_random(&seed) % sizes) + 1);
            insert(index);
            model_insert(index);
        }
        assert_is_the_model();
        for (uint32_t size = 0; size <= sizes + 1; size += sizes / 8 + 1) {
            assert_int_equal(tree_fit(tree, size), model_fit(size));
        }
    }
}

static void remove_all(void) {
    while (count != 0) {
        remove_member(sorted[count - 1]);
        model_remove(count - 1);
    }
    assert_is_the_model();
    assert_int_equal(shared_get(&table->root), 0);
}

static void test_is_a_sorted_array(void **state) {
    (void)state;
    random_steps(2500, 1000, 1);
    remove_all();
}

/* With few sizes the order is that of the addresses. */
static void test_equal_sizes_are_ordered_by_address(void **state) {
    (void)state;
    random_steps(2500, 2, 2);
    remove_all();
    for (uint32_t i = last; i >= 1; i--) {
        set_size(i, 7);
        insert(i);
        assert_int_equal(tree_fit(tree, 7), i);
        assert_int_equal(tree_fit(tree, 8), 0);
    }
}

static void test_the_empty_tree(void **state) {
    (void)state;
    assert_int_equal(tree_audit(tree), 0);
    assert_int_equal(tree_fit(tree, 0), 0);
    assert_int_equal(tree_next(tree, 1), 0);
    set_size(5, UINT32_MAX);
    insert(5);
    assert_int_equal(tree_fit(tree, UINT32_MAX), 5);
    assert_int_equal(tree_next(tree, 4), 5); /* need not be in it */
    assert_int_equal(tree_next(tree, 5), 0);
    remove_member(5);
    assert_int_equal(shared_get(&table->root), 0);
}

/* The shape depends on the members only, not on their history. */
static void test_history_leaves_no_trace(void **state) {
    (void)state;
    struct member before[MEMBERS + 1];
    for (uint32_t i = 1; i <= last; i++) {
        set_size(i, i * 7919 % 50);
    }
    for (uint32_t i = 1; i <= last; i += 2) {
        insert(i);
    }
    memcpy(before, table->members, sizeof(before));
    uint32_t root = shared_get(&table->root);
    for (uint32_t i = 2; i <= last; i += 2) {
        insert(i);
    }
    for (uint32_t i = last - last % 2; i >= 2; i -= 2) {
        remove_member(i);
    }
    for (uint32_t i = 1; i <= last; i += 2) {
        assert_memory_equal(&before[i], &table->members[i], sizeof(before[i]));
    }
    assert_int_equal(shared_get(&table->root), root);
}

/* ---- the journal ---- */

static void test_what_was_not_committed_is_undone_exactly(void **state) {
    (void)state;
    static char before[sizeof(struct table) + (MEMBERS + 1) * sizeof(struct member)];
    uint64_t seed = 3;
    random_steps(500, 100, seed);
    for (uint32_t i = 1; i <= last; i++) {
        if (!model_has(i)) {
            set_size(i, (uint32_t)(clean_random(&seed) % 100) + 1);
        }
        memcpy(before, table, sizeof(before));
        for (uint32_t j = i; j <= last && j < i + 3; j++) { /* several changes of one section */
            if (model_has(j)) {
                tree_remove(self, tree, j);
            } else {
                tree_insert(self, tree, j);
            }
        }
        assert_int_not_equal(tree_audit(tree), UINT32_MAX);
        assert_false(journal_is_empty(self));
        journal_roll_back(fixture_heap(), self);
        assert_memory_equal(before, table, sizeof(before));
    }
    assert_is_the_model();
    remove_all();
}

/* Entries of the journal after one operation, which is committed. */
static uint32_t entries_of_insert(uint32_t index) {
    tree_insert(self, tree, index);
    uint32_t entries = shared_get(&self->journal.count);
    journal_commit(self);
    return entries;
}

static uint32_t entries_of_remove(uint32_t index) {
    tree_remove(self, tree, index);
    uint32_t entries = shared_get(&self->journal.count);
    journal_commit(self);
    return entries;
}

/* A section makes up to three changes and has some entries of its own. */
static void assert_fits_a_section(uint32_t entries) {
    assert_true(entries >= 1 && entries * 3 + 24 <= JOURNAL_ENTRIES);
}

static void fill_and_empty(uint32_t (*size_of)(uint32_t index)) {
    uint32_t most = 0;
    for (uint32_t i = 1; i <= last; i++) {
        set_size(i, size_of(i));
        uint32_t entries = entries_of_insert(i);
        most = entries > most ? entries : most;
    }
    assert_int_equal(tree_audit(tree), last);
    for (uint32_t i = 1; i <= last; i++) {
        uint32_t entries = entries_of_remove((uint32_t)((uint64_t)i * 7919 % last) + 1);
        most = entries > most ? entries : most;
    }
    assert_int_equal(shared_get(&table->root), 0);
    assert_fits_a_section(most);
}

static uint32_t same_size(uint32_t index) {
    (void)index;
    return 1;
}

static uint32_t rising_size(uint32_t index) {
    return index;
}

static uint32_t random_size(uint32_t index) {
    return index * 2654435761u >> 8;
}

static void test_a_hundred_thousand_members_fit_the_journal(void **state) {
    (void)state;
    fill_and_empty(same_size);
    fill_and_empty(rising_size);
    fill_and_empty(random_size);
}

/* ---- damage ---- */

static void test_audit_sees_damage(void **state) {
    (void)state;
    for (uint32_t i = 1; i <= last; i++) {
        set_size(i, i);
        insert(i);
    }
    struct tree_node *root = tree_at(tree, shared_get(&table->root));
    assert_in_range(shared_get(&table->root), 2, last - 1); /* it has children on both sides */
    uint32_t left = shared_get(&root->left);
    uint32_t right = shared_get(&root->right);
    uint32_t size = shared_get(&root->size);
    shared_store(&root->size, size + last); /* out of order */
    assert_int_equal(tree_audit(tree), UINT32_MAX);
    shared_store(&root->size, size);
    shared_store(&root->left, right);
    shared_store(&root->right, left);
    assert_int_equal(tree_audit(tree), UINT32_MAX);
    shared_store(&root->left, left);
    shared_store(&root->right, right);
    assert_int_equal(tree_audit(tree), last);
    /* in order, but a child above its parent in priority: the root below its left child */
    struct tree_node *child = tree_at(tree, left);
    uint32_t hanging = shared_get(&child->right);
    shared_store(&root->left, hanging);
    shared_store(&child->right, shared_get(&table->root));
    shared_store(&table->root, left);
    assert_int_equal(tree_audit(tree), UINT32_MAX);
}

static int insert_twice(void *arg) {
    (void)arg;
    struct thread_slot *own = fixture_self();
    tree_insert(own, tree, 1);
    tree_insert(own, tree, 1);
    return 0;
}

static int remove_absent(void *arg) {
    (void)arg;
    tree_remove(fixture_self(), tree, 2);
    return 0;
}

static void test_wrong_use_stops(void **state) {
    (void)state;
    for (uint32_t i = 1; i <= 3; i++) {
        set_size(i, 1);
    }
    child_stops(insert_twice, NULL, "node != index");
    (void)sharena_reap(fixture_heap()); /* and what the child did is undone */
    assert_int_equal(tree_audit(tree), 0);
    insert(1);
    insert(3);
    child_stops(remove_absent, NULL, "node != 0");
    assert_int_equal(tree_audit(tree), 2);
}

#define with_small(f) cmocka_unit_test_setup_teardown(f, open_small, close_table)
#define with_big(f) cmocka_unit_test_setup_teardown(f, open_big, close_table)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_small(test_is_a_sorted_array),
        with_small(test_equal_sizes_are_ordered_by_address),
        with_small(test_the_empty_tree),
        with_small(test_history_leaves_no_trace),
        with_small(test_what_was_not_committed_is_undone_exactly),
        with_big(test_a_hundred_thousand_members_fit_the_journal),
        with_small(test_audit_sees_damage),
        with_small(test_wrong_use_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
