/* storm_table.h -- for the crash tests: everything that the application of a storm knows, in the
 * heap.
 *
 * A table of cells, each empty or with a block, in groups that one robust mutex guards: whoever
 * gets a guard frees what others allocated, or allocates. A kill leaves it so:
 *
 *     cell      block     stamp       means
 *               NULL      0           empty
 *               set       0           a block with undefined contents: the filling, or the free,
 *                                     was cut short
 *               set       not 0       a block whose contents follow from stamp and bytes
 *
 * Whoever inherits a guard from the dead calls sharena_reap() before it looks (sharena_malloc_to's
 * contract); then each block is in its cell or free, and the accounts are exact. Plain malloc and
 * free may lose the block in flight; what can be lost at most stands in the group meanwhile.
 */
#ifndef TESTS_CRASH_STORM_TABLE_H
#define TESTS_CRASH_STORM_TABLE_H

#include <pthread.h>
#include <stdint.h>

#include <sharena/sharena.h>

#define TABLE_GROUPS 256u
#define TABLE_CELLS 32u
#define TABLE_NAMES 16u /* roots that are set and removed */
#define TABLE_MADE 8u   /* roots that are created with their object, and removed */
#define TABLE_MADE_BYTES 600u

struct cell {
    void *block;
    uint64_t bytes; /* that were asked for; valid while there is a block */
    uint64_t stamp;
};

struct group {
    pthread_mutex_t guard;
    uint64_t blocks_in_flight; /* what a kill may lose now, at most: 0 but for plain calls */
    uint64_t bytes_in_flight;
    struct cell cells[TABLE_CELLS];
};

struct named { /* root "name-I" is `before`, or `after` if a kill cut the change short */
    pthread_mutex_t guard;
    void *before;
    void *after;
};

struct made { /* root "made-I": an object made by sharena_root_create(); `removed`: being freed */
    pthread_mutex_t guard;
    void *removed;
};

struct object { /* one of many that nobody touches */
    struct object *next;
    uint64_t stamp;
};

struct table {
    uint64_t blocks_lost; /* by kills in plain calls, at most */
    uint64_t bytes_lost;
    struct object *objects;
    uint64_t object_count;
    struct group groups[TABLE_GROUPS];
    struct named names[TABLE_NAMES];
    struct made mades[TABLE_MADE];
};

/* Adds objects until there are that many. Nobody works. */
void table_add_objects(sharena_t *heap, struct table *table, uint64_t count);

/* What the application has, by the table. */
struct accounts {
    uint64_t blocks;
    uint64_t bytes; /* usable */
};

/* Makes the table, or finds it. */
struct table *table_make(sharena_t *heap);

/* Makes all guards anew, for they hold thread ids of the past: all who used them were killed, and
 * the heap was opened since. Nobody else is attached. */
void table_rearm(sharena_t *heap, struct table *table);

/* 1: the caller has the guard, and what a dead holder left is settled; 0: somebody else has it. */
int group_try_lock(sharena_t *heap, struct table *table, struct group *group);
int named_try_lock(sharena_t *heap, struct table *table, uint32_t number);
int made_try_lock(sharena_t *heap, struct table *table, uint32_t number);
void guard_unlock(pthread_mutex_t *guard);

/* Fills the block as stamp says, then sets it; ends the process if the contents are others. Of long
 * blocks both ends and one word of each page. */
void cell_fill(struct cell *cell, uint64_t stamp);
void cell_verify(const struct cell *cell);

void table_name(char name[16], const char *kind, uint32_t number);

/* init of sharena_root_create() for "made-I", and its check. */
int made_init(void *block, void *arg);
void made_verify(const void *block);

/* Takes each guard in turn, so that what the dead left is settled. Nobody works. */
void table_settle(sharena_t *heap, struct table *table);

/* Verifies all contents and counts. Nobody works; settled. */
struct accounts table_count(sharena_t *heap, const struct table *table);

/* sharena_check() and table_count() agree; 0, or what it says is on stderr. */
int table_account(sharena_t *heap, const struct table *table, struct sharena_report *report);

/* Frees everything, the table too. */
void table_free(sharena_t *heap, struct table *table);

void print_findings(const struct sharena_report *report);

#endif
