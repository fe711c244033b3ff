/* test_ctl_names.c -- what each name says after known allocations, and that doc/ lists them all. */
#include <stdbool.h>

#include "heap/bin.h"
#include "heap/ctl.h"
#include "heap/sizeclass.h"
#include "heap/tcache.h"
#include "heap_fixture.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

#ifndef SHARENA_SOURCE_DIR
#error "SHARENA_SOURCE_DIR must name the directory that has doc/"
#endif

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

/* ---- reading by type ---- */

static void get(const char *name, void *value, size_t bytes) {
    size_t length = bytes;
    int error = sharena_ctl(fixture_heap(), name, value, &length, NULL, 0);
    if (error != 0) {
        fail_msg("%s: %s", name, sharena_errormsg());
    }
    assert_int_equal(length, bytes);
}

static size_t get_size(const char *name) {
    size_t value = 0;
    get(name, &value, sizeof(value));
    return value;
}

static unsigned get_unsigned(const char *name) {
    unsigned value = 0;
    get(name, &value, sizeof(value));
    return value;
}

static bool get_bool(const char *name) {
    bool value = false;
    get(name, &value, sizeof(value));
    return value;
}

static const char *get_string(const char *name) {
    const char *value = NULL;
    get(name, &value, sizeof(value));
    assert_non_null(value);
    return value;
}

static size_t get_size_of(const char *format, unsigned index) {
    char name[64];
    (void)snprintf(name, sizeof(name), format, index);
    return get_size(name);
}

static int set(const char *name, const void *value, size_t bytes) {
    return sharena_ctl(fixture_heap(), name, NULL, NULL, (void *)(uintptr_t)value, bytes);
}

static void *block_of(size_t size) {
    void *block = sharena_malloc(fixture_heap(), size);
    assert_non_null(block);
    return block;
}

/* ---- constants ---- */

static void version_and_epoch(void **state) {
    (void)state;
    const char *version = NULL;
    get("version", &version, sizeof(version));
    assert_string_equal(version, SHARENA_VERSION);
    uint64_t before = get_size("epoch");
    uint64_t value = 1;
    size_t length = sizeof(value);
    assert_int_equal(sharena_ctl(fixture_heap(), "epoch", &value, &length, &value, length), 0);
    assert_int_equal(value, before + 1); /* the new one, unlike all other names */
    assert_int_equal(get_size("epoch"), before + 1);
}

static void options_are_those_in_force(void **state) {
    (void)state;
    struct conf *conf = &fixture_attachment()->conf;
    const struct conf_entry *entry;
    conf->reap_interval_ms = 250;
    conf->dirty_decay_ms = 10000;
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        char name[64];
        uint32_t number;
        memcpy(&number, (char *)conf + entry->offset, sizeof(number));
        (void)snprintf(name, sizeof(name), "opt.%s", entry->name);
        if (entry->type == CONF_ENUM) {
            assert_string_equal((const char *)(uintptr_t)get_size(name), conf_word(entry, number));
            continue;
        }
        uint64_t value = entry->type == CONF_BOOL ? get_bool(name)
                         : entry->type == CONF_MS ? get_size(name)
                                                  : get_unsigned(name);
        assert_int_equal(value, number);
    }
    conf->reap_interval_ms = CONF_MS_NEVER;
    assert_int_equal((ssize_t)get_size("opt.reap_interval_ms"), -1);
    assert_int_equal(get_unsigned("opt.lg_tcache_max"), 22);
    assert_true(get_bool("opt.tcache"));
    assert_int_equal(conf_parse("test", "narenas:3", conf), 0);
    assert_string_equal(get_string("opt.narenas.source"), "options.conf");
    assert_string_equal(get_string("opt.tcache.source"), "default");
    assert_string_equal(get_string("opt.tcache_nslots_large.source"), "default");
    conf->lg_tcache_max = 17;
    assert_int_equal(get_unsigned("opt.lg_tcache_max"), 17);
}

static void sizes_of_the_parts(void **state) {
    (void)state;
    assert_int_equal(get_size("arenas.page"), 4096);
    assert_int_equal(get_size("arenas.chunk"), 2 << 20);
    assert_int_equal(get_size("arenas.quantum"), 16);
    assert_int_equal(get_unsigned("arenas.nbins"), SIZE_CLASSES_SMALL);
    assert_int_equal(get_size("arenas.bin.0.size"), 8);
    assert_int_equal(get_size("arenas.bin.35.size"), SMALL_BYTES_MAX);
}

static void bins_are_the_small_classes(void **state) {
    (void)state;
    for (unsigned i = 0; i < get_unsigned("arenas.nbins"); i++) {
        size_t size = get_size_of("arenas.bin.%u.size", i);
        size_t run_size = get_size_of("arenas.bin.%u.run_size", i);
        char name[64];
        (void)snprintf(name, sizeof(name), "arenas.bin.%u.nregs", i);
        unsigned nregs = get_unsigned(name);
        assert_int_equal(sharena_good_size(fixture_heap(), size), size);
        assert_int_equal(run_size % 4096, 0);
        assert_true(nregs > 0 && nregs * size <= run_size);
        void *block = block_of(size);
        uint32_t page;
        const struct run *run = bin_find_run(fixture_heap(), block, &page, NULL);
        assert_int_equal(shared_get(&run->size) * 4096, run_size);
        sharena_free(fixture_heap(), block);
    }
}

/* The fixture's capacity is 1 GiB: a class, hence the last one. */
static void lextents_go_up_to_the_capacity(void **state) {
    (void)state;
    unsigned count = get_unsigned("arenas.nlextents");
    assert_int_equal(get_size("arenas.lextent.0.size"), LARGE_BYTES_MIN);
    for (unsigned i = 0; i < count; i++) {
        size_t size = get_size_of("arenas.lextent.%u.size", i);
        assert_int_equal(sharena_good_size(fixture_heap(), size), size);
    }
    assert_int_equal(get_size_of("arenas.lextent.%u.size", count - 1), FIXTURE_CAPACITY);
    assert_int_equal(sharena_good_size(fixture_heap(), FIXTURE_CAPACITY + 1), 0);
}

/* ---- statistics ---- */

static void allocated_is_what_the_application_has(void **state) {
    (void)state;
    assert_int_equal(get_size("stats.allocated"), 0);
    void *small = block_of(50);           /* 64 */
    void *large = block_of(20000);        /* 20 KiB */
    void *huge = block_of((4 << 20) + 1); /* 5 MiB */
    assert_int_equal(get_size("stats.allocated"), 64 + 20480 + (5 << 20));
    size_t cached = get_size("stats.cached");
    assert_true(cached > 0 && cached % 64 == 0); /* the rest of the fill for `small` */
    sharena_free(fixture_heap(), small);
    sharena_free(fixture_heap(), large);
    assert_int_equal(get_size("stats.allocated"), 5 << 20);
    assert_int_equal(get_size("stats.cached"), cached + 64 + 20480);
    assert_int_equal(set("thread.tcache.flush", NULL, 0), 0);
    assert_int_equal(get_size("stats.cached"), 0);
    assert_int_equal(get_size("stats.allocated"), 5 << 20);
    sharena_free(fixture_heap(), huge);
    assert_int_equal(get_size("stats.allocated"), 0);
}

static void active_mapped_and_retained_add_up(void **state) {
    (void)state;
    assert_int_equal(get_size("stats.mapped"), 0);
    assert_int_equal(get_size("stats.retained"), 0);
    void *large = block_of(1 << 20);
    void *huge = block_of(5 << 20); /* 3 chunks, 2.5 of them pages of the block */
    assert_int_equal(get_size("stats.active"), 6 << 20);
    assert_int_equal(get_size("stats.mapped"), 8 << 20);
    assert_int_equal(get_size("stats.retained"), 0);
    sharena_free(fixture_heap(), huge);
    assert_int_equal(get_size("stats.active"), 1 << 20);
    assert_int_equal(get_size("stats.mapped"), 2 << 20);
    assert_int_equal(get_size("stats.retained"), 6 << 20);
    sharena_free(fixture_heap(), large);
    assert_int_equal(sharena_purge(fixture_heap()), 0);
    assert_int_equal(get_size("stats.active"), 0);
    assert_int_equal(get_size("stats.mapped") + get_size("stats.retained"), 8 << 20);
}

static void resident_falls_with_a_purge(void **state) {
    (void)state;
    (void)fixture_self();
    size_t before = get_size("stats.resident");
    assert_int_equal(before, get_size("stats.metadata"));
    void *block = block_of(8 << 20);
    size_t with_block = get_size("stats.resident");
    assert_int_equal(with_block - (8 << 20), get_size("stats.metadata"));
    sharena_free(fixture_heap(), block);
    assert_int_equal(get_size("stats.resident"), with_block);
    assert_int_equal(sharena_purge(fixture_heap()), 0);
    assert_int_equal(get_size("stats.resident"), get_size("stats.metadata"));
}

static void an_arena_counts_threads_chunks_and_pages(void **state) {
    (void)state;
    assert_int_equal(get_unsigned("arenas.narenas"), 0); /* made with the first thread */
    (void)fixture_self();
    assert_int_equal(get_unsigned("arenas.narenas"), 1);
    assert_int_equal(get_unsigned("stats.arenas.0.nthreads"), 1);
    assert_int_equal(get_size("stats.arenas.0.chunks"), 0);
    void *block = block_of(100000); /* 112 KiB */
    assert_int_equal(get_size("stats.arenas.0.chunks"), 1);
    assert_int_equal(get_size("stats.arenas.0.pactive"), 28);
    assert_int_equal(get_size("stats.arenas.0.pdirty"), 0);
    sharena_dallocx(fixture_heap(), block, SHARENA_TCACHE_NONE);
    assert_int_equal(get_size("stats.arenas.0.pactive"), 0);
    assert_int_equal(get_size("stats.arenas.0.pdirty"), 28);
}

/* ---- the calling thread ---- */

static void the_arena_of_a_thread_can_be_changed(void **state) {
    (void)state;
    unsigned other = 1;
    unsigned before = 9;
    size_t length = sizeof(before);
    void *block = block_of(64);
    assert_int_equal(
        sharena_ctl(fixture_heap(), "thread.arena", &before, &length, &other, sizeof(other)), 0);
    assert_int_equal(before, 0);
    assert_int_equal(get_unsigned("thread.arena"), 1);
    assert_int_equal(get_unsigned("arenas.narenas"), 2);
    assert_int_equal(get_unsigned("stats.arenas.0.nthreads"), 0);
    assert_int_equal(get_unsigned("stats.arenas.1.nthreads"), 1);
    assert_int_equal(get_size("stats.cached"), 0); /* nothing of the old arena */
    sharena_free(fixture_heap(), block);
    block = block_of(64);
    sharena_free(fixture_heap(), block);
    other = 7;
    assert_int_equal(set("thread.arena", &other, sizeof(other)), ENOENT);
    assert_says("7");
    assert_int_equal(get_unsigned("thread.arena"), 1);
}

static void the_cache_of_a_thread_can_be_switched(void **state) {
    (void)state;
    bool enabled = false;
    assert_true(get_bool("thread.tcache.enabled"));
    sharena_free(fixture_heap(), block_of(64));
    assert_true(get_size("stats.cached") > 0);
    assert_int_equal(set("thread.tcache.enabled", &enabled, sizeof(enabled)), 0);
    assert_false(get_bool("thread.tcache.enabled"));
    assert_int_equal(get_size("stats.cached"), 0);
    sharena_free(fixture_heap(), block_of(64));
    assert_int_equal(get_size("stats.cached"), 0);
    enabled = true;
    assert_int_equal(set("thread.tcache.enabled", &enabled, sizeof(enabled)), 0);
    assert_true(get_bool("thread.tcache.enabled"));
    sharena_free(fixture_heap(), block_of(64));
    assert_true(get_size("stats.cached") > 0);
}

/* ---- processes, and their deaths ---- */

static unsigned find_pid(unsigned pid) {
    char name[64];
    unsigned found = 0;
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        unsigned value = 0;
        size_t length = sizeof(value);
        (void)snprintf(name, sizeof(name), "process.%u.pid", i);
        int error = sharena_ctl(fixture_heap(), name, &value, &length, NULL, 0);
        found += error == 0 && value == pid;
        assert_true(error == 0 || error == ENOENT);
    }
    return found;
}

static int attach_and_wait(void *arg) {
    const int *pipes = arg;
    char byte = 0;
    void *block = sharena_malloc(fixture_heap(), 64);
    REQUIRE(block != NULL);
    sharena_free(fixture_heap(), block);
    REQUIRE(write(pipes[1], &byte, 1) == 1);
    (void)pause();
    return 0;
}

static void processes_are_counted_while_they_live(void **state) {
    (void)state;
    int pipes[2];
    char byte;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(get_unsigned("processes.count"), 1);
    assert_int_equal(get_unsigned("process.0.pid"), (unsigned)getpid());
    pid_t child = child_start(attach_and_wait, pipes);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(get_unsigned("processes.count"), 2);
    assert_int_equal(find_pid((unsigned)child), 1);
    assert_int_equal(get_size("stats.reaped"), 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    (void)child_wait(child);
    assert_int_equal(get_unsigned("processes.count"), 1); /* not reaped yet, but dead */
    assert_int_equal(find_pid((unsigned)child), 1);
    assert_string_equal(get_string("process.1.state"), "dead");
    size_t cached = get_size("stats.cached"); /* the dead one's */
    assert_true(cached > 0);
    assert_int_equal(get_size("stats.reaped_processes"), 0);
    assert_int_equal(sharena_reap(fixture_heap()), 1);
    assert_int_equal(find_pid((unsigned)child), 0);
    assert_int_equal(get_size("stats.reaped"), 1);
    assert_int_equal(get_size("stats.reaped_processes"), 1);
    assert_int_equal(get_size("stats.reaped_bytes"), cached);
    assert_int_equal(get_size("stats.cached"), 0);
    assert_int_equal(get_size("stats.recovered"), 0);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

/* The child dies within a section: between its first journaled store and the commit. */
static int die_in_a_section(void *arg) {
    (void)arg;
    struct thread_slot *self = fixture_self();
    struct bin *bin = &heap_arena(fixture_heap(), shared_get(&self->arena) - 1)->bins[4];
    lock_acquire(fixture_heap(), self, &bin->lock);
    journal_set(self, &bin->runs, 99u);
    (void)raise(SIGKILL);
    return 0;
}

static void an_undone_section_is_counted(void **state) {
    (void)state;
    pid_t child = child_start(die_in_a_section, NULL);
    (void)child_wait(child);
    assert_int_equal(sharena_reap(fixture_heap()), 1);
    assert_int_equal(get_size("stats.recovered"), 1);
    assert_int_equal(get_size("stats.recovered_cold"), 0);
    assert_int_equal(get_size("stats.taken_over"), 0); /* the kernel had marked the lock */
}

/* ---- attached for reading only ---- */

static int read_only(void *arg) {
    const struct sharena_options options = {.flags = SHARENA_READONLY};
    sharena_t *heap = NULL;
    const size_t *expected = arg;
    size_t value = 0;
    unsigned number = 0;
    size_t length = sizeof(value);
    REQUIRE(sharena_close(fixture_heap()) == 0);
    REQUIRE(sharena_open(fixture_path(), &options, &heap) == 0);
    REQUIRE(sharena_ctl(heap, "stats.allocated", &value, &length, NULL, 0) == 0);
    REQUIRE(value == expected[0]);
    REQUIRE(sharena_ctl(heap, "stats.active", &value, &length, NULL, 0) == 0);
    REQUIRE(value == expected[1]);
    REQUIRE(sharena_ctl(heap, "stats.mapped", &value, &length, NULL, 0) == 0);
    REQUIRE(value == expected[2]);
    length = sizeof(number);
    REQUIRE(sharena_ctl(heap, "arenas.narenas", &number, &length, NULL, 0) == 0);
    REQUIRE(number == 1);
    REQUIRE(sharena_ctl(heap, "processes.count", &number, &length, NULL, 0) == 0);
    REQUIRE(number == 1); /* the parent: who only looks has no slot */
    REQUIRE(sharena_ctl(heap, "thread.arena", &number, &length, NULL, 0) == EROFS);
    REQUIRE(sharena_ctl(heap, "thread.tcache.flush", NULL, NULL, NULL, 0) == EROFS);
    return sharena_close(heap);
}

static void who_only_looks_gets_the_same_numbers(void **state) {
    (void)state;
    void *small = block_of(100);
    void *large = block_of(50000);
    void *huge = block_of(3 << 20);
    size_t expected[3] = {get_size("stats.allocated"), get_size("stats.active"),
                          get_size("stats.mapped")};
    child_run(read_only, expected);
    sharena_free(fixture_heap(), small);
    sharena_free(fixture_heap(), large);
    sharena_free(fixture_heap(), huge);
}

/* ---- documentation ---- */

static char *read_doc(const char *name) {
    char path[SCRATCH_MAX];
    (void)snprintf(path, sizeof(path), "%s/doc/%s", SHARENA_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 16);
    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 16) - 1, file) < (1 << 16) - 1);
    (void)fclose(file);
    return text;
}

/* The row "| `name` | cells ..." of a table. */
static const char *find_row(const char *text, const char *name) {
    char begin[96];
    (void)snprintf(begin, sizeof(begin), "\n| `%s` |", name);
    const char *row = strstr(text, begin);
    if (row == NULL) {
        fail_msg("%s is in no row of the table", name);
    }
    return row + 1;
}

static void assert_cell(const char *row, const char *cell) {
    char line[1024] = "";
    char wanted[96];
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(row, "\n"), row);
    (void)snprintf(wanted, sizeof(wanted), "| %s |", cell);
    if (strstr(line, wanted) == NULL) {
        fail_msg("no cell '%s' in: %s", cell, line);
    }
}

/* "arenas.bin.#.size" as the manual writes it. */
static void write_name(const char *pattern, char *name) {
    char letter = 'i';
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '#') {
            name += sprintf(name, "<%c>", letter++);
        } else {
            *name++ = *pattern;
        }
    }
    *name = '\0';
}

static void every_name_is_documented_with_type_and_access(void **state) {
    (void)state;
    static const char *const types[] = {"-",
                                        "bool",
                                        "unsigned",
                                        "size_t",
                                        "uint64_t",
                                        "const char *",
                                        "struct sharena_chunk_hooks"};
    char *text = read_doc("ctl.md");
    const struct ctl_name *row;
    for (size_t i = 0; (row = ctl_name(i)) != NULL; i++) {
        char name[64];
        write_name(row->pattern, name);
        const char *line = find_row(text, name);
        assert_cell(line, types[row->type]);
        assert_cell(line, row->read == NULL ? "action" : row->write == NULL ? "r" : "rw");
    }
    free(text);
}

static void every_option_is_documented_with_default_and_range(void **state) {
    (void)state;
    struct conf conf;
    char *text = read_doc("configuration.md");
    const struct conf_entry *entry;
    conf_default(&conf);
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        const char *line = find_row(text, entry->name);
        char cell[64];
        uint32_t number;
        memcpy(&number, (char *)&conf + entry->offset, sizeof(number));
        if (entry->type == CONF_BOOL) {
            assert_cell(line, "bool");
            assert_cell(line, number ? "true" : "false");
        } else if (entry->type == CONF_ENUM) {
            assert_cell(line, "word");
            assert_cell(line, conf_word(entry, number));
        } else {
            assert_cell(line, "number");
            (void)snprintf(cell, sizeof(cell), "%u", number);
            assert_cell(line, cell);
            (void)snprintf(cell, sizeof(cell), "%u to %u%s", entry->minimum, entry->maximum,
                           entry->type == CONF_MS ? ", or -1: never" : "");
            assert_cell(line, cell);
        }
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(version_and_epoch),
        with_heap(options_are_those_in_force),
        with_heap(sizes_of_the_parts),
        with_heap(bins_are_the_small_classes),
        with_heap(lextents_go_up_to_the_capacity),
        with_heap(allocated_is_what_the_application_has),
        with_heap(active_mapped_and_retained_add_up),
        with_heap(resident_falls_with_a_purge),
        with_heap(an_arena_counts_threads_chunks_and_pages),
        with_heap(the_arena_of_a_thread_can_be_changed),
        with_heap(the_cache_of_a_thread_can_be_switched),
        with_heap(processes_are_counted_while_they_live),
        with_heap(an_undone_section_is_counted),
        with_heap(who_only_looks_gets_the_same_numbers),
        cmocka_unit_test(every_name_is_documented_with_type_and_access),
        cmocka_unit_test(every_option_is_documented_with_default_and_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
