/* test_stats_json.c -- the JSON, parsed, says what the test did. */
#include <sys/wait.h>

#include "collect.h"
#include "heap/bin.h"
#include "heap_parts.h"

static void *block_of(size_t size) {
    void *block = sharena_malloc(fixture_heap(), size);
    assert_non_null(block);
    return block;
}

static void a_new_heap_has_nothing(void **state) {
    (void)state;
    json_t *stats = collect_json(fixture_heap(), "J");
    assert_string_equal(json_text(stats, "version"), SHARENA_VERSION);
    assert_string_equal(json_text(stats, "heap.path"), fixture_path());
    assert_int_equal(strlen(json_text(stats, "heap.uuid")), 36);
    assert_int_equal(json_number(stats, "heap.base"), (uintptr_t)fixture_heap());
    assert_int_equal(json_number(stats, "heap.capacity"), FIXTURE_CAPACITY);
    assert_int_equal(json_number(stats, "heap.page"), 4096);
    assert_int_equal(json_number(stats, "heap.chunk"), 2 << 20);
    assert_true(json_is_false(json_find(stats, "heap.readonly")));
    assert_int_equal(json_number(stats, "summary.allocated"), 0);
    assert_int_equal(json_number(stats, "summary.cached"), 0);
    assert_int_equal(json_number(stats, "summary.small.nmalloc"), 0);
    assert_int_equal(json_array_size(json_find(stats, "huge")), 0);
    assert_int_equal(json_array_size(json_find(stats, "processes")), 1);
    json_decref(stats);
}

static void options_have_value_and_source(void **state) {
    (void)state;
    struct conf *conf = &fixture_attachment()->conf;
    struct conf before = *conf;
    const struct conf_entry *entry;
    assert_int_equal(conf_parse("test", "narenas:7,reap_interval_ms:-1", conf), 0);
    json_t *stats = collect_json(fixture_heap(), "J");
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        json_t *option = json_object_get(json_find(stats, "opt"), entry->name);
        assert_non_null(json_text(option, "source"));
        assert_non_null(json_find(option, "value"));
    }
    assert_int_equal(json_number(stats, "opt.narenas.value"), 7);
    assert_string_equal(json_text(stats, "opt.narenas.source"), "options.conf");
    assert_int_equal((int64_t)json_number(stats, "opt.reap_interval_ms.value"), -1);
    assert_true(json_is_true(json_find(stats, "opt.tcache.value")));
    assert_string_equal(json_text(stats, "opt.tcache.source"), "default");
    assert_string_equal(json_text(stats, "opt.purge.value"), "decay");
    json_decref(stats);
    *conf = before;
}

static void blocks_are_where_they_should_be(void **state) {
    (void)state;
    void *small[300];
    for (size_t i = 0; i < 300; i++) {
        small[i] = block_of(64);
    }
    void *large = block_of(20000);
    void *huge = block_of((4 << 20) + 1);
    for (size_t i = 200; i < 300; i++) {
        sharena_free(fixture_heap(), small[i]); /* some go on into the cache, some back */
    }
    json_t *stats = collect_json(fixture_heap(), "J");
    uint32_t bin_class = sizeclass_of(64);
    json_t *bin = json_item(stats, "arenas.0.bins", "bin", bin_class);
    assert_int_equal(json_number(bin, "size"), 64);
    uint64_t cached = json_number(json_item(stats, "caches", "size", 64), "blocks");
    assert_int_equal(json_number(bin, "curregs"), 200 + cached);
    assert_int_equal(json_number(bin, "nmalloc") - json_number(bin, "ndalloc"), 200 + cached);
    assert_int_equal(json_number(bin, "allocated"), 64 * (200 + cached));
    assert_true(json_number(bin, "nfills") >= 2 && json_number(bin, "nfills") <= 300);
    assert_int_equal(json_number(bin, "curruns"), (200 + cached + 63) / 64);
    double util = json_real_value(json_find(bin, "utilization"));
    assert_true(util > 0.7 && util <= 1.0);
    json_t *extent = json_item(stats, "arenas.0.lextents", "size", 20480);
    assert_int_equal(json_number(extent, "curlextents"), 1);
    assert_int_equal(json_number(json_item(stats, "huge", "size", 5 << 20), "curlextents"), 1);
    assert_int_equal(json_number(stats, "summary.allocated"), 200 * 64 + 20480 + (5 << 20));
    assert_int_equal(json_number(stats, "summary.cached"), 64 * cached);
    assert_int_equal(json_number(stats, "summary.large.current"), 1);
    assert_int_equal(json_number(stats, "summary.huge.allocated"), 5 << 20);
    assert_int_equal(json_number(stats, "processes.0.cached"), 64 * cached);
    json_decref(stats);
    sharena_free_batch(fixture_heap(), 200, small);
    sharena_free(fixture_heap(), large);
    sharena_free(fixture_heap(), huge);
}

static void merged_is_the_sum_of_the_arenas(void **state) {
    (void)state;
    unsigned second = 1; /* makes one more */
    void *one = block_of(100);
    assert_int_equal(
        sharena_ctl(fixture_heap(), "thread.arena", NULL, NULL, &second, sizeof(second)), 0);
    void *two = block_of(100);
    json_t *stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_array_size(json_find(stats, "arenas")), 2);
    static const char *const keys[] = {
        "chunks",        "pactive",         "pdirty",          "pclean",
        "small.nmalloc", "small.allocated", "lock.acquired",   "purged",
        "npurge",        "bins.0.nmalloc",  "bins.0.curruns",  "bins.0.nfills",
        "bins.0.nruns",  "nthreads",        "large.allocated", "bins.0.lock.acquired"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char path[3][64];
        static const char *const wholes[] = {"arenas.0", "arenas.1", "merged"};
        for (size_t j = 0; j < 3; j++) {
            (void)snprintf(path[j], sizeof(path[j]), "%s.%s", wholes[j], keys[i]);
        }
        assert_int_equal(json_number(stats, path[0]) + json_number(stats, path[1]),
                         json_number(stats, path[2]));
    }
    assert_int_equal(json_number(stats, "arenas.1.arena"), 1);
    assert_int_equal(json_number(stats, "merged.bins.0.size"), 112);
    assert_int_equal(json_number(stats, "merged.small.current"),
                     2 + json_number(stats, "caches.0.blocks"));
    json_decref(stats);
    sharena_free(fixture_heap(), one);
    sharena_free(fixture_heap(), two);
}

static int cache_and_wait(void *arg) {
    const int *pipes = arg;
    char byte = 0;
    void *block = sharena_malloc(fixture_heap(), 1000);
    REQUIRE(block != NULL);
    sharena_free(fixture_heap(), block);
    REQUIRE(prctl(PR_SET_NAME, "n\xc3m\x1b\"e") == 0); /* too late: it has attached as it was */
    REQUIRE(write(pipes[1], &byte, 1) == 1);
    (void)pause();
    return 0;
}

static const char *state_of(pid_t pid) {
    static char text[16];
    json_t *stats = collect_json(fixture_heap(), "J");
    json_t *process = json_item(stats, "processes", "pid", (uint64_t)pid);
    (void)snprintf(text, sizeof(text), "%s", process == NULL ? "" : json_text(process, "state"));
    json_decref(stats);
    return text;
}

static void processes_are_alive_stopped_or_dead(void **state) {
    (void)state;
    int pipes[2];
    char byte;
    int status;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = child_start(cache_and_wait, pipes);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    json_t *stats = collect_json(fixture_heap(), "J");
    json_t *process = json_item(stats, "processes", "pid", (uint64_t)child);
    assert_string_equal(json_text(process, "state"), "alive");
    assert_int_equal(json_number(process, "nthreads"), 1);
    assert_int_equal(json_array_size(json_find(process, "threads")), 1);
    assert_int_equal(json_number(process, "threads.0.tid"), (uint64_t)child);
    assert_true(json_number(process, "cached") >= 1024);
    assert_int_equal(json_number(process, "cached"), json_number(process, "threads.0.cached"));
    assert_int_equal(
        json_number(process, "threads.0.allocated"),
        json_number(process, "threads.0.deallocated")); /* all that it took, it caches */
    assert_string_equal(json_text(process, "name"), json_text(stats, "processes.0.name"));
    assert_true(json_number(process, "attached_ns") >
                json_number(stats, "processes.0.attached_ns"));
    json_decref(stats);
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_string_equal(state_of(child), "stopped");
    assert_int_equal(kill(child, SIGKILL), 0);
    (void)child_wait(child);
    assert_string_equal(state_of(child), "dead");
    assert_int_equal(sharena_reap(fixture_heap()), 1);
    assert_string_equal(state_of(child), "");
    stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_number(stats, "deaths.reaped_processes"), 1);
    assert_int_equal(json_number(stats, "deaths.reaped"), 1);
    assert_true(json_number(stats, "deaths.reaped_bytes") >= 1024);
    json_decref(stats);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

static void purged_pages_are_counted(void **state) {
    (void)state;
    sharena_free(fixture_heap(), block_of(1 << 20));
    sharena_free(fixture_heap(), block_of(6 << 20));
    json_t *stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_number(stats, "merged.purged"), 0);
    assert_int_equal(json_number(stats, "pool.purged"), 0);
    uint64_t dirty = json_number(stats, "summary.dirty") / PAGE_BYTES;
    assert_int_equal(json_number(stats, "arenas.0.pdirty") + json_number(stats, "pool.pdirty"),
                     dirty);
    assert_true(dirty >= (6 << 20) / PAGE_BYTES);
    json_decref(stats);
    assert_int_equal(sharena_purge(fixture_heap()), 0);
    stats = collect_json(fixture_heap(), "J");
    assert_int_equal(json_number(stats, "summary.dirty"), 0);
    assert_true(json_number(stats, "merged.purged") + json_number(stats, "pool.purged") >= dirty);
    assert_true(json_number(stats, "pool.npurge") >= 1);
    json_decref(stats);
}

/* A path and a name are bytes; JSON is text. */
static void what_is_not_utf8_is_written_nevertheless(void **state) {
    (void)state;
    struct attachment *attachment = fixture_attachment();
    struct process_slot *process = heap_process(fixture_heap(), 0);
    char path[FILE_NAME_BYTES];
    char name[16];
    memcpy(path, attachment->file.name, sizeof(path));
    memcpy(name, process->name, sizeof(name));
    (void)snprintf(attachment->file.name, sizeof(path), "/a\xff\"\\\n/b");
    memcpy(process->name, "0123456789abcd\xc3", 15); /* no end, and half of a letter */
    process->name[15] = 'x';
    json_t *stats = collect_json(fixture_heap(), "J");
    memcpy(attachment->file.name, path, sizeof(path));
    memcpy(process->name, name, sizeof(name));
    assert_string_equal(json_text(stats, "heap.path"), "/a?\"\\\n/b");
    assert_string_equal(json_text(stats, "processes.0.name"), "0123456789abcd?");
    json_decref(stats);
}

/* Another parser reads it as well, where there is one. */
static int run_python(void *path) {
    static const char program[] =
        "import json, sys\n"
        "stats = json.load(open(sys.argv[1]))['sharena']\n"
        "assert stats['summary']['allocated'] == 1 << 20, stats['summary']\n"
        "assert stats['arenas'][0]['large']['nmalloc'] == 1, stats['arenas']\n"
        "assert [x['pid'] for x in stats['processes']] == [int(sys.argv[2])]\n";
    char pid[16];
    (void)snprintf(pid, sizeof(pid), "%d", (int)getppid());
    (void)execlp("python3", "python3", "-c", program, (char *)path, pid, (char *)NULL);
    return CHILD_SKIP;
}

static void python_reads_it(void **state) {
    (void)state;
    char path[SCRATCH_MAX];
    void *block = block_of(1 << 20);
    char *text = collect_text(fixture_heap(), "J");
    FILE *file = fopen(scratch_path(path, "json"), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    free(text);
    sharena_free(fixture_heap(), block);
    int status = child_wait(child_start(run_python, path));
    (void)unlink(path);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIP) {
        skip();
    }
    assert_int_equal(status, 0);
}

static void letters_leave_parts_out(void **state) {
    (void)state;
    static const struct {
        const char *opts;
        const char *gone;
    } cases[] = {{"Jg", "heap"},        {"gJ", "opt"},
                 {"Jm", "merged"},      {"Ja", "arenas"},
                 {"Jb", "merged.bins"}, {"Jb", "arenas.0.bins"},
                 {"Jl", "huge"},        {"Jl", "merged.lextents"},
                 {"Jx", "locks"},       {"Jx", "merged.lock"},
                 {"Jp", "processes"},   {"Jp", "caches"},
                 {"Jdeh", "nothing"}};
    void *block = block_of(64);
    json_t *all = collect_json(fixture_heap(), "J");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *stats = collect_json(fixture_heap(), cases[i].opts);
        assert_null(json_find(stats, cases[i].gone));
        assert_true(json_find(all, cases[i].gone) != NULL || cases[i].opts[1] == 'd');
        assert_non_null(json_find(stats, "summary.allocated"));
        json_decref(stats);
    }
    json_decref(all);
    json_t *least = collect_json(fixture_heap(), "Jgmablxp");
    assert_int_equal(json_object_size(least), 4); /* version, summary, deaths, pool */
    json_decref(least);
    sharena_free(fixture_heap(), block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(a_new_heap_has_nothing),
        with_heap(options_have_value_and_source),
        with_heap(blocks_are_where_they_should_be),
        with_heap(merged_is_the_sum_of_the_arenas),
        with_heap(processes_are_alive_stopped_or_dead),
        with_heap(what_is_not_utf8_is_written_nevertheless),
        with_heap(purged_pages_are_counted),
        with_heap(python_reads_it),
        with_heap(letters_leave_parts_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
