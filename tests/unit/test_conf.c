/* test_conf.c -- configuration texts, their sources, and what a bad one is told. */
#include <fcntl.h>
#include <sys/stat.h>

#include "ipc/conf.h"
#include "scratch.h"

#define NO_FILE "/nonexistent/sharena.conf"

/* The application's own definition, in the place of the library's weak one. */
const char *sharena_conf;

static struct conf parsed(const char *text) {
    struct conf conf;
    conf_default(&conf);
    (void)error_set(0, "%s", "");
    int error = conf_parse("test", text, &conf);
    if (error != 0) {
        fail_msg("%s: %s", text, error_message());
    }
    return conf;
}

static int parse_error(const char *text) {
    struct conf conf;
    conf_default(&conf);
    return conf_parse("the test", text, &conf);
}

static void assert_default(const struct conf *conf) {
    assert_int_equal(conf->narenas, 0);
    assert_int_equal(conf->tcache, 1);
    assert_int_equal(conf->lg_tcache_max, 22);
    assert_int_equal(conf->tcache_nslots_small_min, 20);
    assert_int_equal(conf->tcache_nslots_small_max, 200);
    assert_int_equal(conf->tcache_nslots_large, 20);
    assert_int_equal(conf->tcache_bytes, 8 << 20);
    assert_int_equal(conf->cache_oblivious, 0);
    assert_int_equal(conf->abort_conf, 0);
    assert_int_equal(conf->reap_interval_ms, 1000);
    assert_int_equal(conf->purge, PURGE_DECAY);
    assert_int_equal(conf->dirty_decay_ms, 10000);
    assert_int_equal(conf->lg_dirty_mult, 3);
    assert_int_equal(conf->background_thread, 0);
    assert_int_equal(conf->prof, 0);
    assert_int_equal(conf->lg_prof_sample, 19);
}

/* ---- one text ---- */

static void nothing_changes_nothing(void **state) {
    (void)state;
    struct conf conf;
    memset(&conf, 0xff, sizeof(conf));
    conf_default(&conf);
    assert_default(&conf);
    conf = parsed("");
    assert_default(&conf);
    conf = parsed(" ,\n , # narenas:9\n\t");
    assert_default(&conf);
}

static void every_name_is_set(void **state) {
    (void)state;
    struct conf conf =
        parsed("narenas:1024,tcache:false,lg_tcache_max:12,tcache_nslots_small_min:1,"
               "tcache_nslots_small_max:4096,tcache_nslots_large:7,cache_oblivious:true,"
               "abort_conf:true,reap_interval_ms:250,purge:ratio,dirty_decay_ms:20,"
               "lg_dirty_mult:5,background_thread:true,"
               "zero:true,junk:free,quarantine_bytes:99,prof:true,lg_prof_sample:0,abort:false");
    assert_int_equal(conf.narenas, 1024);
    assert_int_equal(conf.tcache, 0);
    assert_int_equal(conf.lg_tcache_max, 12);
    assert_int_equal(conf.tcache_nslots_small_min, 1);
    assert_int_equal(conf.tcache_nslots_small_max, 4096);
    assert_int_equal(conf.tcache_nslots_large, 7);
    assert_int_equal(conf.cache_oblivious, 1);
    assert_int_equal(conf.abort_conf, 1);
    assert_int_equal(conf.reap_interval_ms, 250);
    assert_int_equal(conf.zero, 1);
    assert_int_equal(conf.junk, JUNK_FREE);
    assert_int_equal(conf.quarantine_bytes, 99);
    assert_int_equal(conf.purge, PURGE_RATIO);
    assert_int_equal(conf.dirty_decay_ms, 20);
    assert_int_equal(conf.lg_dirty_mult, 5);
    assert_int_equal(conf.background_thread, 1);
    assert_int_equal(conf.abort, 0);
    assert_int_equal(conf.prof, 1);
    assert_int_equal(conf.lg_prof_sample, 0);
}

static void blanks_lines_and_comments_are_tolerated(void **state) {
    (void)state;
    struct conf conf = parsed("# a file, narenas:1\n"
                              "\n"
                              "  narenas : 8  # more, lg_tcache_max:13\r\n"
                              "\tlg_tcache_max:16,tcache:false\r\n"
                              "tcache_nslots_large:0030");
    assert_int_equal(conf.narenas, 8);
    assert_int_equal(conf.lg_tcache_max, 16);
    assert_int_equal(conf.tcache, 0);
    assert_int_equal(conf.tcache_nslots_large, 30);
}

static void later_pair_wins(void **state) {
    (void)state;
    struct conf conf = parsed("narenas:1,narenas:2,tcache:false,tcache:true");
    assert_int_equal(conf.narenas, 2);
    assert_int_equal(conf.tcache, 1);
}

static void unknown_name_lists_the_valid_ones(void **state) {
    (void)state;
    assert_refused(parse_error("narena:8"), EINVAL, "'narena:8'");
    assert_says("the test");
    for (size_t i = 0; conf_entry(i) != NULL; i++) {
        assert_says(conf_entry(i)->name);
    }
    assert_refused(parse_error("narenass:8"), EINVAL, "'narenass:8'");
    assert_refused(parse_error("narenas"), EINVAL, "'narenas'");
    assert_refused(parse_error("narenas=8"), EINVAL, "'narenas=8'");
    assert_refused(parse_error(":8"), EINVAL, "':8'");
}

static void bad_number_names_the_range(void **state) {
    (void)state;
    static const char *const values[] = {
        "1025", "-1",         "+1",          "0x10",
        "",     "8k",         "1.5",         "4294967296",
        "8 8",  "4294967297", "99999999999", "18446744073709551617"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "narenas:%s,tcache:true", values[i]);
        assert_refused(parse_error(text), EINVAL, "from 0 to 1024");
        (void)snprintf(text, sizeof(text), "'%s'", values[i]);
        assert_says(text);
    }
}

static void edges_of_every_range(void **state) {
    (void)state;
    for (size_t i = 0; conf_entry(i) != NULL; i++) {
        const struct conf_entry *entry = conf_entry(i);
        char text[64];
        if (entry->type == CONF_BOOL || entry->type == CONF_ENUM) {
            continue;
        }
        (void)snprintf(text, sizeof(text), "%s:%u", entry->name, entry->maximum);
        assert_int_equal(parse_error(text), 0);
        (void)snprintf(text, sizeof(text), "%s:%u", entry->name, entry->minimum);
        assert_int_equal(parse_error(text), 0);
        (void)snprintf(text, sizeof(text), "%s:%u", entry->name, entry->maximum + 1);
        assert_refused(parse_error(text), EINVAL, entry->name);
        if (entry->minimum > 0) {
            (void)snprintf(text, sizeof(text), "%s:%u", entry->name, entry->minimum - 1);
            assert_refused(parse_error(text), EINVAL, entry->name);
        }
    }
}

static void an_interval_may_be_never(void **state) {
    (void)state;
    assert_int_equal(parsed("reap_interval_ms:-1").reap_interval_ms, CONF_MS_NEVER);
    assert_int_equal(parsed("reap_interval_ms:-1,reap_interval_ms:0").reap_interval_ms, 0);
    static const char *const values[] = {"-2", "--1", "-", "never", "4294967295", "86400001"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "reap_interval_ms:%s", values[i]);
        assert_refused(parse_error(text), EINVAL, "from 0 to 86400000, or -1 for never");
    }
}

static void bad_bool_says_what_is_one(void **state) {
    (void)state;
    assert_refused(parse_error("tcache:1"), EINVAL, "true or false");
    assert_refused(parse_error("tcache:True"), EINVAL, "'True'");
    assert_refused(parse_error("tcache:truely"), EINVAL, "tcache");
    assert_refused(parse_error("cache_oblivious:"), EINVAL, "cache_oblivious");
}

static void a_word_is_one_of_those_listed(void **state) {
    (void)state;
    assert_int_equal(parsed("purge:ratio,purge: decay ").purge, PURGE_DECAY);
    static const char *const values[] = {"", "decay ratio", "Ratio", "rat", "ratios", "1", "-1"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "purge:%s", values[i]);
        assert_refused(parse_error(text), EINVAL, "decay or ratio");
    }
    for (size_t i = 0; conf_entry(i) != NULL; i++) {
        assert_int_equal(conf_entry(i)->words != NULL, conf_entry(i)->type == CONF_ENUM);
    }
}

static void first_error_is_told_and_the_rest_is_read(void **state) {
    (void)state;
    struct conf conf;
    conf_default(&conf);
    assert_refused(conf_parse("test", "first:1,second:2,narenas:3", &conf), EINVAL, "first");
    assert_int_equal(conf.narenas, 3);
}

static void table_describes_the_struct(void **state) {
    (void)state;
    struct conf conf;
    size_t count = 0;
    conf_default(&conf);
    while (conf_entry(count) != NULL) {
        const struct conf_entry *entry = conf_entry(count++);
        uint32_t value;
        memcpy(&value, (const char *)&conf + entry->offset, sizeof(value));
        assert_in_range(value, entry->minimum, entry->maximum);
    }
    assert_int_equal(count * sizeof(uint32_t), offsetof(struct conf, source));
    assert_null(conf_entry(SIZE_MAX));
}

/* ---- all sources ---- */

/* Where each entry was set last; the others nowhere. */
static void assert_source(const struct conf *conf, const char *name, enum conf_source source) {
    const struct conf_entry *entry;
    for (size_t i = 0; (entry = conf_entry(i)) != NULL; i++) {
        if (strcmp(entry->name, name) == 0) {
            assert_int_equal(conf_source_of(conf, entry), source);
            return;
        }
    }
    fail_msg("no option %s", name);
}

static char path[SCRATCH_MAX];

static int clear_sources(void **state) {
    (void)state;
    sharena_conf = NULL;
    (void)scratch_path(path, "conf");
    return unsetenv("SHARENA_CONF");
}

static int remove_sources(void **state) {
    (void)state;
    sharena_conf = NULL;
    (void)unlink(path);
    return unsetenv("SHARENA_CONF");
}

static void write_file(const char *text, size_t bytes) {
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_int_equal(write(fd, text, bytes), bytes);
    assert_int_equal(close(fd), 0);
}

static void later_source_wins(void **state) {
    (void)state;
    struct conf conf;
    static const char text[] = "narenas:1,lg_tcache_max:20";
    assert_int_equal(conf_load_from(path, NULL, &conf), 0);
    assert_default(&conf);
    write_file(text, sizeof(text) - 1);
    assert_int_equal(conf_load_from(path, NULL, &conf), 0);
    assert_int_equal(conf.narenas, 1);
    sharena_conf = "narenas:2";
    assert_int_equal(conf_load_from(path, NULL, &conf), 0);
    assert_int_equal(conf.narenas, 2);
    assert_int_equal(setenv("SHARENA_CONF", "narenas:3", 1), 0);
    assert_int_equal(conf_load_from(path, NULL, &conf), 0);
    assert_int_equal(conf.narenas, 3);
    assert_int_equal(conf_load_from(path, "narenas:4", &conf), 0);
    assert_int_equal(conf.narenas, 4);
    assert_int_equal(conf.lg_tcache_max, 20); /* still the file's */
}

static void each_option_knows_its_source(void **state) {
    (void)state;
    struct conf conf;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static const char text[] = "narenas:1,tcache:true,lg_tcache_max:14,cache_oblivious:true";
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
    sharena_conf = "tcache:true,lg_tcache_max:14,cache_oblivious:true";
    assert_int_equal(setenv("SHARENA_CONF", "lg_tcache_max:14,cache_oblivious:true", 1), 0);
    assert_int_equal(conf_load_from(path, "cache_oblivious:false", &conf), 0);
    assert_source(&conf, "narenas", CONF_FROM_FILE);
    assert_source(&conf, "tcache", CONF_FROM_SYMBOL); /* though that set what it was already */
    assert_source(&conf, "lg_tcache_max", CONF_FROM_ENVIRONMENT);
    assert_source(&conf, "cache_oblivious", CONF_FROM_OPEN);
    assert_source(&conf, "reap_interval_ms", CONF_FROM_DEFAULT);
    assert_string_equal(conf_source_name(CONF_FROM_FILE), "/etc/sharena.conf");
    assert_string_equal(conf_source_name(CONF_FROM_OPEN), "options.conf");
    conf_default(&conf);
    assert_source(&conf, "cache_oblivious", CONF_FROM_DEFAULT);
}

static void bad_source_is_named(void **state) {
    (void)state;
    struct conf conf;
    assert_refused(conf_load_from(NO_FILE, "bad", &conf), EINVAL, "options.conf");
    assert_int_equal(setenv("SHARENA_CONF", "bad", 1), 0);
    assert_refused(conf_load_from(NO_FILE, "narenas:1", &conf), EINVAL, "SHARENA_CONF");
    sharena_conf = "bad";
    assert_refused(conf_load_from(NO_FILE, NULL, &conf), EINVAL, "sharena_conf");
    write_file("bad", 3);
    assert_refused(conf_load_from(path, NULL, &conf), EINVAL, path);
}

static void unreadable_file_is_refused(void **state) {
    (void)state;
    struct conf conf;
    static char text[5000];
    assert_refused(conf_load_from("/dev/shm", NULL, &conf), EINVAL, "cannot be read");
    assert_int_equal(symlink(path, path), 0);
    assert_refused(conf_load_from(path, NULL, &conf), EINVAL, "cannot be read");
    assert_int_equal(unlink(path), 0);
    memset(text, ' ', sizeof(text));
    write_file(text, sizeof(text));
    assert_refused(conf_load_from(path, NULL, &conf), EINVAL, "cannot be read");
    write_file(text, 4095);
    assert_int_equal(conf_load_from(path, NULL, &conf), 0);
}

static void minimum_above_maximum_is_refused(void **state) {
    (void)state;
    struct conf conf;
    assert_refused(conf_load_from(NO_FILE, "tcache_nslots_small_max:10", &conf), EINVAL,
                   "tcache_nslots_small_min is 20");
    assert_int_equal(conf_load_from(NO_FILE, "tcache_nslots_small_min:200", &conf), 0);
}

static void system_file_is_optional(void **state) {
    (void)state;
    struct conf conf;
    if (access("/etc/sharena.conf", F_OK) == 0) {
        (void)fprintf(stderr, "skipped: this machine has an /etc/sharena.conf\n");
        skip();
    }
    assert_int_equal(conf_load("narenas:5", &conf), 0);
    assert_int_equal(conf.narenas, 5);
}

/* ---- abort_conf ---- */

struct abort_case {
    const char *symbol;
    const char *option;
    int out;
};

static int load_to_pipe(void *arg) {
    const struct abort_case *abort_case = arg;
    struct conf conf;
    (void)dup2(abort_case->out, STDERR_FILENO);
    sharena_conf = abort_case->symbol;
    return conf_load_from(NO_FILE, abort_case->option, &conf);
}

static void assert_aborts(const char *symbol, const char *option) {
    int ends[2];
    char text[512] = "";
    assert_int_equal(pipe(ends), 0);
    struct abort_case abort_case = {symbol, option, ends[1]};
    int status = child_wait(child_start(load_to_pipe, &abort_case));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "'bad'"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void abort_conf_aborts(void **state) {
    (void)state;
    assert_aborts("abort_conf:true", "bad");
    assert_aborts("bad", "abort_conf:true");
    assert_aborts(NULL, "bad,abort_conf:true");
}

static void abort_conf_spares_the_good(void **state) {
    (void)state;
    struct conf conf;
    assert_int_equal(conf_load_from(NO_FILE, "abort_conf:true,narenas:2", &conf), 0);
    assert_refused(conf_load_from(NO_FILE, "abort_conf:true,bad,abort_conf:false", &conf), EINVAL,
                   "'bad'");
}

#define with_sources(f) cmocka_unit_test_setup_teardown(f, clear_sources, remove_sources)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_nothing),
        cmocka_unit_test(every_name_is_set),
        cmocka_unit_test(blanks_lines_and_comments_are_tolerated),
        cmocka_unit_test(later_pair_wins),
        cmocka_unit_test(unknown_name_lists_the_valid_ones),
        cmocka_unit_test(bad_number_names_the_range),
        cmocka_unit_test(edges_of_every_range),
        cmocka_unit_test(an_interval_may_be_never),
        cmocka_unit_test(bad_bool_says_what_is_one),
        cmocka_unit_test(a_word_is_one_of_those_listed),
        cmocka_unit_test(first_error_is_told_and_the_rest_is_read),
        cmocka_unit_test(table_describes_the_struct),
        with_sources(later_source_wins),
        with_sources(bad_source_is_named),
        with_sources(each_option_knows_its_source),
        with_sources(unreadable_file_is_refused),
        with_sources(minimum_above_maximum_is_refused),
        with_sources(system_file_is_optional),
        with_sources(abort_conf_aborts),
        with_sources(abort_conf_spares_the_good),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
