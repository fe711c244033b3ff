/* tree.c -- ordered sets of runs and of chunk spans, with journaled links.
 *
 * Holds:  in-order traversal gives rising (size, index)
 *         priority(parent) >= priority(child); ties by index
 * Lock:   the caller's. At most 2 x depth journal entries: 2 x 60 for a million nodes, with a
 *         probability of failure that the hash makes negligible; the journal checks it
 * Killed: the journal takes it back
 * Not here: what the nodes mean (arena.c, bin.c, chunk.c).
 */
#include "heap/tree.h"

#include "ipc/journal.h"

static uint32_t priority(uint32_t index) {
    uint32_t hash = index;
    hash = (hash ^ hash >> 16) * 0x85ebca6bu;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
    return hash ^ hash >> 16;
}

static int is_above(uint32_t a, uint32_t b) {
    uint32_t pa = priority(a);
    uint32_t pb = priority(b);
    return pa != pb ? pa > pb : a > b;
}

static uint64_t key(struct tree tree, uint32_t index) {
    return (uint64_t)shared_get(&tree_at(tree, index)->size) << 32 | index;
}

/* Splits the subtree `node` by `limit` and hangs the halves below `index`. */
static void split(struct thread_slot *self, struct tree tree, uint32_t node, uint32_t index) {
    uint64_t limit = key(tree, index);
    shared_u32 *less = &tree_at(tree, index)->left;
    shared_u32 *more = &tree_at(tree, index)->right;
    while (node != 0) {
        struct tree_node *at = tree_at(tree, node);
        if (key(tree, node) < limit) {
            journal_set(self, less, node);
            less = &at->right;
            node = shared_get(less);
        } else {
            journal_set(self, more, node);
            more = &at->left;
            node = shared_get(more);
        }
    }
    journal_set(self, less, 0u);
    journal_set(self, more, 0u);
}

void tree_insert(struct thread_slot *self, struct tree tree, uint32_t index) {
    uint64_t limit = key(tree, index);
    shared_u32 *link = tree.root;
    uint32_t node = shared_get(link);
    while (node != 0 && is_above(node, index)) {
        link = key(tree, node) < limit ? &tree_at(tree, node)->right : &tree_at(tree, node)->left;
        node = shared_get(link);
    }
    CHECK(node != index);
    split(self, tree, node, index);
    journal_set(self, link, index);
}

void tree_remove(struct thread_slot *self, struct tree tree, uint32_t index) {
    uint64_t limit = key(tree, index);
    shared_u32 *link = tree.root;
    uint32_t node = shared_get(link);
    while (node != index) {
        CHECK(node != 0);
        link = key(tree, node) < limit ? &tree_at(tree, node)->right : &tree_at(tree, node)->left;
        node = shared_get(link);
    }
    uint32_t left = shared_get(&tree_at(tree, index)->left);
    uint32_t right = shared_get(&tree_at(tree, index)->right);
    while (left != 0 && right != 0) {
        if (is_above(left, right)) {
            journal_set(self, link, left);
            link = &tree_at(tree, left)->right;
            left = shared_get(link);
        } else {
            journal_set(self, link, right);
            link = &tree_at(tree, right)->left;
            right = shared_get(link);
        }
    }
    journal_set(self, link, left != 0 ? left : right);
}

/* The first node whose key is at least `limit`. */
static uint32_t lower_bound(struct tree tree, uint64_t limit) {
    uint32_t best = 0;
    uint32_t node = shared_get(tree.root);
    while (node != 0) {
        if (key(tree, node) >= limit) {
            best = node;
            node = shared_get(&tree_at(tree, node)->left);
        } else {
            node = shared_get(&tree_at(tree, node)->right);
        }
    }
    return best;
}

uint32_t tree_fit(struct tree tree, uint32_t size) {
    return lower_bound(tree, (uint64_t)size << 32);
}

uint32_t tree_next(struct tree tree, uint32_t index) {
    return lower_bound(tree, key(tree, index) + 1);
}

uint32_t tree_last(struct tree tree) {
    uint32_t last = 0;
    for (uint32_t node = shared_get(tree.root); node != 0;
         node = shared_get(&tree_at(tree, node)->right)) {
        last = node;
    }
    return last;
}

static uint32_t audit(struct tree tree, uint32_t node, uint64_t low, uint64_t high) {
    if (node == 0) {
        return 0;
    }
    uint32_t left = shared_get(&tree_at(tree, node)->left);
    uint32_t right = shared_get(&tree_at(tree, node)->right);
    uint64_t own = key(tree, node);
    if (own < low || own > high || (left != 0 && !is_above(node, left)) ||
        (right != 0 && !is_above(node, right))) {
        return UINT32_MAX;
    }
    uint32_t below_left = audit(tree, left, low, own - 1);
    uint32_t below_right = audit(tree, right, own + 1, high);
    if (below_left == UINT32_MAX || below_right == UINT32_MAX) {
        return UINT32_MAX;
    }
    return below_left + below_right + 1;
}

uint32_t tree_audit(struct tree tree) {
    return audit(tree, shared_get(tree.root), 0, UINT64_MAX);
}
