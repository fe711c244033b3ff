/* tree.h -- ordered sets of runs and of chunk spans: by size, then by address.
 *
 * A treap: a search tree by (size, index) that is a heap by a hash of the index, so its shape
 * depends on its members only, never on their history, and needs no balance fields. Expected depth
 * is 1.4 lg n. Every change is journaled; an insertion or removal writes at most as many links as
 * the tree is deep. Source: Seidel and Aragon, "Randomized search trees", 1996.
 *
 * Nodes are the entries of a flat table; a link is an entry's index, 0 is none.
 */
#ifndef SHARENA_HEAP_TREE_H
#define SHARENA_HEAP_TREE_H

#include <stdint.h>

#include "ipc/layout.h"

/* What struct run and struct chunk begin with. */
struct tree_node {
    shared_u32 left;
    shared_u32 right;
    shared_u32 size;
};

struct tree { /* private: which table, which root */
    char *nodes;
    uint32_t node_bytes;
    shared_u32 *root;
};

/* The caller holds the lock of the tree, has set the node's size, and the node is in no tree. */
void tree_insert(struct thread_slot *self, struct tree tree, uint32_t index);
void tree_remove(struct thread_slot *self, struct tree tree, uint32_t index);

/* The first node of at least that size: best fit, lowest address; 0 if none. */
uint32_t tree_fit(struct tree tree, uint32_t size);

/* The first of all: tree_fit(tree, 0). The one after `index`, which need not be in the tree. */
uint32_t tree_next(struct tree tree, uint32_t index);

/* The last of all, the highest of the biggest; 0 if there is none. */
uint32_t tree_last(struct tree tree);

/* Debug: order and heap property hold below the root. Returns the number of nodes, or
 * UINT32_MAX. */
uint32_t tree_audit(struct tree tree);

static inline struct tree_node *tree_at(struct tree tree, uint32_t index) {
    return (struct tree_node *)(void *)(tree.nodes + (uint64_t)index * tree.node_bytes);
}

#endif
