/* test_config.c -- configuration as users give it: options.conf, the environment, the symbol. */
#include "clean_heap.h"

static char path[SCRATCH_MAX];

static int clean_up(void **state) {
    (void)state;
    (void)unsetenv("SHARENA_CONF");
    sharena_conf = NULL;
    (void)unlink(path);
    return 0;
}

static int open_with_conf(const char *conf, sharena_t **heap) {
    struct sharena_options options = {.capacity_bytes = GIB, .conf = conf};
    return sharena_open(scratch_path(path, "config"), &options, heap);
}

static void test_good(void **state) {
    (void)state;
    static const char *const good[] = {
        "",
        "narenas:8,lg_tcache_max:16",
        "narenas:1",
        "tcache:false",
        "tcache:true, lg_tcache_max:22 ,tcache_nslots_large:3",
        "tcache_nslots_small_min:1,tcache_nslots_small_max:1",
        "cache_oblivious:true",
        " narenas : 3 # as in the file\nlg_tcache_max:12\n",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        sharena_t *heap;
        if (open_with_conf(good[i], &heap) != 0) {
            fail_msg("'%s': %s", good[i], sharena_errormsg());
        }
        void *blocks[300];
        for (size_t size = 1; size < 5 * MIB; size = size * 3 + 1) {
            size_t count = size > 100000 ? 5 : 300;
            assert_int_equal(sharena_malloc_batch(heap, size, count, blocks), count);
            for (size_t j = 0; j < count; j++) {
                assert_int_equal((uintptr_t)blocks[j] % (size <= 8 ? 8 : 16), 0);
                clean_fill(blocks[j], size < 100 ? size : 100, j);
            }
            for (size_t j = 0; j < count; j++) {
                size_t bytes = size < 100 ? size : 100;
                assert_int_equal(clean_compare(blocks[j], bytes, j), bytes);
            }
            sharena_free_batch(heap, count, blocks);
        }
        clean_end(heap, path, 0);
    }
}

static const struct {
    const char *conf;
    const char *word; /* what the message must name */
} bad[] = {
    {"narenas", "narenas"},
    {"narena:3", "narenas"}, /* lists what is valid */
    {"narenas:", "narenas"},
    {"narenas:1025", "1024"},
    {"narenas:-1", "'-1'"},
    {"narenas:3x", "'3x'"},
    {"narenas:99999999999999999999", "1024"},
    {"tcache:yes", "true or false"},
    {"tcache:1", "true or false"},
    {"lg_tcache_max:11", "12 to 22"},
    {"lg_tcache_max:23", "12 to 22"},
    {"narenas:2,no_such_name:1", "no_such_name"},
    {"tcache_nslots_small_min:50,tcache_nslots_small_max:40", "more than"},
    {":", "lg_tcache_max"},
};

static void assert_all_bad(int by_environment, const char *source) {
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sharena_t *heap = (sharena_t *)1;
        if (by_environment) {
            assert_int_equal(setenv("SHARENA_CONF", bad[i].conf, 1), 0);
        } else {
            sharena_conf = bad[i].conf;
        }
        assert_refused(open_with_conf(NULL, &heap), EINVAL, bad[i].word);
        assert_null(heap);
        if (strstr(bad[i].conf, "_min") == NULL) { /* two sources could have said that together */
            assert_says(source);
        }
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_bad(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sharena_t *heap = (sharena_t *)1;
        assert_refused(open_with_conf(bad[i].conf, &heap), EINVAL, bad[i].word);
        assert_null(heap);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_bad_environment(void **state) {
    (void)state;
    assert_all_bad(1, "SHARENA_CONF");
}

static void test_bad_symbol(void **state) {
    (void)state;
    assert_all_bad(0, "sharena_conf");
}

static int is_cached_after_free(sharena_t *heap) {
    struct sharena_report report;
    sharena_free(heap, sharena_malloc(heap, 64));
    assert_int_equal(sharena_check(heap, &report), 0);
    return report.blocks_cached != 0;
}

/* The options of the open win over the environment, and that over the symbol. */
static void test_later_ones_win(void **state) {
    (void)state;
    static const struct {
        const char *symbol;
        const char *environment;
        const char *option;
        int is_cached;
    } cases[] = {
        {NULL, NULL, NULL, 1},
        {"tcache:false", NULL, NULL, 0},
        {"tcache:false", "tcache:true", NULL, 1},
        {"tcache:false", "tcache:true", "tcache:false", 0},
        {NULL, "tcache:false", "tcache:true", 1},
        {NULL, "tcache:false", "narenas:2", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sharena_t *heap;
        sharena_conf = cases[i].symbol;
        (void)unsetenv("SHARENA_CONF");
        if (cases[i].environment != NULL) {
            assert_int_equal(setenv("SHARENA_CONF", cases[i].environment, 1), 0);
        }
        assert_int_equal(open_with_conf(cases[i].option, &heap), 0);
        assert_int_equal(is_cached_after_free(heap), cases[i].is_cached);
        clean_end(heap, path, 0);
    }
}

static int open_to_abort(void *arg) {
    sharena_t *heap;
    (void)arg;
    (void)close(2);
    return open_with_conf("abort_conf:true,narenas:x", &heap);
}

static void test_abort_conf(void **state) {
    (void)state;
    int status = child_wait(child_start(open_to_abort, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#define clean(f) cmocka_unit_test_teardown(f, clean_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        clean(test_good),
        clean(test_bad),
        clean(test_bad_environment),
        clean(test_bad_symbol),
        clean(test_later_ones_win),
        clean(test_abort_conf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
