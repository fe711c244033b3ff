/* storm_table.c -- the table of a storm; see storm_table.h.
 *
 * Killed: a guard that is inherited stays marked until what its holder left is settled, so whoever
 * is
 *         killed while it settles leaves the same to the next.
 * Not here: what the threads do with it (storm_work.c).
 */
#include "storm_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storm_control.h"

#define WHOLE_BYTES 512u /* blocks up to this size are filled wholly */
#define SETTLE_TRIES 100000

static void guard_init(pthread_mutex_t *guard) {
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0 ||
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) != 0 ||
        pthread_mutex_init(guard, &attributes) != 0) {
        storm_fail("no robust mutex");
    }
    (void)pthread_mutexattr_destroy(&attributes);
}

static void init_guards(struct table *table) {
    for (uint32_t i = 0; i < TABLE_GROUPS; i++) {
        guard_init(&table->groups[i].guard);
    }
    for (uint32_t i = 0; i < TABLE_NAMES; i++) {
        guard_init(&table->names[i].guard);
    }
    for (uint32_t i = 0; i < TABLE_MADE; i++) {
        guard_init(&table->mades[i].guard);
    }
}

static int init_table(void *block, void *arg) {
    (void)arg;
    init_guards(block);
    return 0;
}

struct table *table_make(sharena_t *heap) {
    struct table *table =
        sharena_root_create(heap, "storm-table", sizeof(*table), init_table, NULL);
    if (table == NULL) {
        storm_fail("no table");
    }
    return table;
}

/* ---- guards ---- */

/* 1 locked; -1 inherited from the dead; 0 busy. */
static int guard_try(pthread_mutex_t *guard) {
    int error = pthread_mutex_trylock(guard);
    if (error == EBUSY) {
        return 0;
    }
    if (error != 0 && error != EOWNERDEAD) {
        storm_fail("a guard of the table cannot be locked: %s", strerror(error));
    }
    return error == 0 ? 1 : -1;
}

static void guard_is_settled(pthread_mutex_t *guard) {
    if (pthread_mutex_consistent(guard) != 0) {
        storm_fail("a guard of the table cannot be made consistent");
    }
}

void guard_unlock(pthread_mutex_t *guard) {
    if (pthread_mutex_unlock(guard) != 0) {
        storm_fail("a guard of the table cannot be unlocked");
    }
}

/* Counted before it is forgotten: a kill in between counts it twice, which is still a bound. */
static void settle_group(struct table *table, struct group *group) {
    (void)__atomic_fetch_add(&table->blocks_lost, group->blocks_in_flight, __ATOMIC_SEQ_CST);
    (void)__atomic_fetch_add(&table->bytes_lost, group->bytes_in_flight, __ATOMIC_SEQ_CST);
    __atomic_store_n(&group->bytes_in_flight, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&group->blocks_in_flight, 0, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < TABLE_CELLS; i++) {
        struct cell *cell = &group->cells[i];
        if (cell->block == NULL && cell->stamp != 0) {
            storm_fail("a cell lost its block but has the stamp %#llx",
                       (unsigned long long)cell->stamp);
        }
    }
}

int group_try_lock(sharena_t *heap, struct table *table, struct group *group) {
    int got = guard_try(&group->guard);
    if (got < 0) {
        (void)sharena_reap(heap);
        settle_group(table, group);
        guard_is_settled(&group->guard);
    }
    return got != 0;
}

void table_name(char name[16], const char *kind, uint32_t number) {
    (void)snprintf(name, 16, "%s-%u", kind, number);
}

/* A change that was cut short was made or not; nothing in between. */
static void settle_name(sharena_t *heap, struct named *named, uint32_t number) {
    char name[16];
    table_name(name, "name", number);
    void *found = sharena_root_get(heap, name);
    if (found != named->before && found != named->after) {
        storm_fail("root %s is %p after a kill, neither %p nor %p", name, found, named->before,
                   named->after);
    }
    named->before = found;
    __atomic_store_n(&named->after, found, __ATOMIC_RELEASE);
}

int named_try_lock(sharena_t *heap, struct table *table, uint32_t number) {
    struct named *named = &table->names[number];
    int got = guard_try(&named->guard);
    if (got < 0) {
        (void)sharena_reap(heap);
        settle_name(heap, named, number);
        guard_is_settled(&named->guard);
    }
    return got != 0;
}

/* A removal that was begun is ended; else the object is there, or made: it may be half made. */
static void settle_made(sharena_t *heap, struct made *made, uint32_t number) {
    char name[16];
    table_name(name, "made", number);
    if (made->removed != NULL) {
        if (sharena_root_set(heap, name, NULL) != 0 ||
            sharena_free_from(heap, &made->removed) != 0) {
            storm_fail("root %s could not be removed", name);
        }
    } else if (sharena_root_create(heap, name, TABLE_MADE_BYTES, made_init, NULL) == NULL) {
        storm_fail("root %s could not be made", name);
    }
}

int made_try_lock(sharena_t *heap, struct table *table, uint32_t number) {
    struct made *made = &table->mades[number];
    int got = guard_try(&made->guard);
    if (got < 0) {
        (void)sharena_reap(heap);
        settle_made(heap, made, number);
        guard_is_settled(&made->guard);
    }
    return got != 0;
}

void table_rearm(sharena_t *heap, struct table *table) {
    init_guards(table);
    for (uint32_t i = 0; i < TABLE_GROUPS; i++) {
        settle_group(table, &table->groups[i]);
    }
    for (uint32_t i = 0; i < TABLE_NAMES; i++) {
        settle_name(heap, &table->names[i], i);
    }
    for (uint32_t i = 0; i < TABLE_MADE; i++) {
        settle_made(heap, &table->mades[i], i);
    }
}

/* ---- contents ---- */

static uint64_t word_at(uint64_t stamp, uint64_t at) {
    return (stamp ^ at) * 0x9e3779b97f4a7c15ull;
}

/* The next place of a word that is filled and verified. */
static uint64_t next_place(uint64_t at, uint64_t bytes) {
    int at_an_end = at < WHOLE_BYTES / 2 || at + WHOLE_BYTES / 2 >= bytes;
    if (bytes <= WHOLE_BYTES || at_an_end) {
        return at + sizeof(uint64_t);
    }
    uint64_t tail = (bytes - WHOLE_BYTES / 2 + 7) / sizeof(uint64_t) * sizeof(uint64_t);
    return at + 4096 < tail ? at + 4096 : tail;
}

static uint64_t part_bytes(uint64_t at, uint64_t bytes) {
    return bytes - at < sizeof(uint64_t) ? bytes - at : sizeof(uint64_t);
}

void cell_fill(struct cell *cell, uint64_t stamp) {
    for (uint64_t at = 0; at < cell->bytes; at = next_place(at, cell->bytes)) {
        uint64_t word = word_at(stamp, at);
        memcpy((char *)cell->block + at, &word, part_bytes(at, cell->bytes));
    }
    __atomic_store_n(&cell->stamp, stamp, __ATOMIC_RELEASE);
}

void cell_verify(const struct cell *cell) {
    for (uint64_t at = 0; cell->stamp != 0 && at < cell->bytes; at = next_place(at, cell->bytes)) {
        uint64_t word = word_at(cell->stamp, at);
        uint64_t found = 0;
        memcpy(&found, (const char *)cell->block + at, part_bytes(at, cell->bytes));
        if (memcmp(&found, &word, part_bytes(at, cell->bytes)) != 0) {
            storm_fail("block %p of %llu bytes: at %llu there is %#llx, not %#llx", cell->block,
                       (unsigned long long)cell->bytes, (unsigned long long)at,
                       (unsigned long long)found, (unsigned long long)word);
        }
    }
}

int made_init(void *block, void *arg) {
    (void)arg;
    struct cell cell = {.block = block, .bytes = TABLE_MADE_BYTES};
    cell_fill(&cell, (uintptr_t)block | 1);
    return 0;
}

void made_verify(const void *block) {
    const struct cell cell = {.block = (void *)(uintptr_t)block,
                              .bytes = TABLE_MADE_BYTES,
                              .stamp = (uintptr_t)block | 1};
    cell_verify(&cell);
}

void table_add_objects(sharena_t *heap, struct table *table, uint64_t count) {
    while (table->object_count < count) {
        struct object *object = sharena_malloc(heap, sizeof(*object) + table->object_count % 40);
        if (object == NULL) {
            storm_fail("no memory for %llu objects", (unsigned long long)count);
        }
        object->stamp = word_at((uintptr_t)object, 1);
        object->next = table->objects;
        table->objects = object;
        table->object_count++;
    }
}

/* ---- the whole table ---- */

static void wait_for(int (*try_lock)(sharena_t *, struct table *, uint32_t), sharena_t *heap,
                     struct table *table, uint32_t number, pthread_mutex_t *guard) {
    int tries = 0;
    while (!try_lock(heap, table, number)) {
        if (++tries == SETTLE_TRIES) {
            storm_fail("a guard of the table is held though nobody works");
        }
        storm_sleep_us(100);
    }
    guard_unlock(guard);
}

static int group_number_try_lock(sharena_t *heap, struct table *table, uint32_t number) {
    return group_try_lock(heap, table, &table->groups[number]);
}

void table_settle(sharena_t *heap, struct table *table) {
    for (uint32_t i = 0; i < TABLE_GROUPS; i++) {
        wait_for(group_number_try_lock, heap, table, i, &table->groups[i].guard);
    }
    for (uint32_t i = 0; i < TABLE_NAMES; i++) {
        wait_for(named_try_lock, heap, table, i, &table->names[i].guard);
    }
    for (uint32_t i = 0; i < TABLE_MADE; i++) {
        wait_for(made_try_lock, heap, table, i, &table->mades[i].guard);
    }
}

static void count_block(sharena_t *heap, const void *block, uint64_t bytes,
                        struct accounts *accounts) {
    uint64_t usable = sharena_usable_size(heap, block);
    if (usable < bytes) {
        storm_fail("block %p of %llu bytes has room for %llu", block, (unsigned long long)bytes,
                   (unsigned long long)usable);
    }
    accounts->blocks++;
    accounts->bytes += usable;
}

static void count_groups(sharena_t *heap, const struct table *table, struct accounts *accounts) {
    for (uint32_t i = 0; i < TABLE_GROUPS * TABLE_CELLS; i++) {
        const struct cell *cell = &table->groups[i / TABLE_CELLS].cells[i % TABLE_CELLS];
        if (cell->block != NULL) {
            cell_verify(cell);
            count_block(heap, cell->block, cell->bytes, accounts);
        }
    }
}

static void count_objects(sharena_t *heap, const struct table *table, struct accounts *accounts) {
    uint64_t count = 0;
    for (const struct object *object = table->objects; object != NULL; object = object->next) {
        if (object->stamp != word_at((uintptr_t)object, 1)) {
            storm_fail("object %llu at %p changed", (unsigned long long)count,
                       (const void *)object);
        }
        count_block(heap, object, sizeof(*object), accounts);
        count++;
    }
    if (count != table->object_count) {
        storm_fail("%llu objects are left of %llu", (unsigned long long)count,
                   (unsigned long long)table->object_count);
    }
}

struct accounts table_count(sharena_t *heap, const struct table *table) {
    struct accounts accounts = {0};
    char name[16];
    count_block(heap, table, sizeof(*table), &accounts);
    count_groups(heap, table, &accounts);
    count_objects(heap, table, &accounts);
    for (uint32_t i = 0; i < TABLE_MADE; i++) {
        table_name(name, "made", i);
        const void *object = sharena_root_get(heap, name);
        if (object != NULL) {
            made_verify(object);
            count_block(heap, object, TABLE_MADE_BYTES, &accounts);
        }
    }
    for (uint32_t i = 0; i < TABLE_NAMES; i++) {
        table_name(name, "name", i);
        if (sharena_root_get(heap, name) != table->names[i].before) {
            storm_fail("root %s is not what the table says", name);
        }
    }
    return accounts;
}

void print_findings(const struct sharena_report *report) {
    (void)fprintf(stderr, "%llu findings\n", (unsigned long long)report->findings);
    for (uint64_t i = 0; i < report->findings && i < SHARENA_REPORT_MESSAGES; i++) {
        (void)fprintf(stderr, "    %s\n", report->messages[i]);
    }
}

int table_account(sharena_t *heap, const struct table *table, struct sharena_report *report) {
    if (sharena_check(heap, report) != 0) {
        (void)fprintf(stderr, "the heap is not clean: %s\n", sharena_errormsg());
        print_findings(report);
        return 1;
    }
    struct accounts accounts = table_count(heap, table);
    int64_t blocks = (int64_t)(report->blocks_live - accounts.blocks);
    int64_t bytes = (int64_t)(report->bytes_live - accounts.bytes);
    if (blocks < 0 || bytes < 0 || (uint64_t)blocks > table->blocks_lost ||
        (uint64_t)bytes > table->bytes_lost) {
        (void)fprintf(stderr,
                      "the heap has %llu blocks of %llu bytes, the table %llu of %llu: %lld blocks "
                      "and %lld bytes missing, of which %llu and %llu may be\n",
                      (unsigned long long)report->blocks_live,
                      (unsigned long long)report->bytes_live, (unsigned long long)accounts.blocks,
                      (unsigned long long)accounts.bytes, (long long)blocks, (long long)bytes,
                      (unsigned long long)table->blocks_lost,
                      (unsigned long long)table->bytes_lost);
        return 1;
    }
    return 0;
}

void table_free(sharena_t *heap, struct table *table) {
    char name[16];
    for (uint32_t i = 0; i < TABLE_GROUPS * TABLE_CELLS; i++) {
        (void)sharena_free_from(heap, &table->groups[i / TABLE_CELLS].cells[i % TABLE_CELLS].block);
    }
    for (uint32_t i = 0; i < TABLE_NAMES; i++) {
        table_name(name, "name", i);
        (void)sharena_root_set(heap, name, NULL);
    }
    for (uint32_t i = 0; i < TABLE_MADE; i++) {
        table_name(name, "made", i);
        void *object = sharena_root_get(heap, name);
        (void)sharena_root_set(heap, name, NULL);
        sharena_free(heap, object);
    }
    for (struct object *object = table->objects; object != NULL;) {
        struct object *next = object->next;
        sharena_free(heap, object);
        object = next;
    }
    (void)sharena_root_set(heap, "storm-table", NULL);
    sharena_free(heap, table);
}
