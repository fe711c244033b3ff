/* test_stats_text.c -- the text for people: what is in its lines, and that they fit. */
#include <ctype.h>

#include "collect.h"
#include "heap_parts.h"

/* The first line that holds that word, with runs of blanks as one; "" if there is none. */
static const char *line_with(const char *text, const char *word) {
    static char line[256];
    const char *at = strstr(text, word);
    size_t used = 0;
    while (at != NULL && at > text && at[-1] != '\n') {
        at--;
    }
    for (; at != NULL && *at != '\n' && used < sizeof(line) - 1; at++) {
        if (*at != ' ' || (used > 0 && line[used - 1] != ' ')) {
            line[used++] = *at;
        }
    }
    line[used] = '\0';
    return line;
}

static void *block_of(size_t size) {
    void *block = sharena_malloc(fixture_heap(), size);
    assert_non_null(block);
    return block;
}

static void numbers_stand_in_their_lines(void **state) {
    (void)state;
    char expected[256];
    void *blocks[3] = {block_of(64), block_of(20000), block_of(5 << 20)};
    fixture_attachment()->conf.lg_tcache_max = 20;
    char *text = collect_text(fixture_heap(), NULL);
    fixture_attachment()->conf.lg_tcache_max = 15;
    uint64_t allocated = 64 + 20480 + (5 << 20);
    (void)snprintf(expected, sizeof(expected),
                   "allocated %llu 5.0 MiB blocks that the application has",
                   (unsigned long long)allocated);
    assert_string_equal(line_with(text, " allocated"), expected);
    assert_string_equal(line_with(text, "lg_tcache_max"), "lg_tcache_max 20 default");
    assert_string_equal(line_with(text, "reap_interval_ms"), "reap_interval_ms -1 options.conf");
    assert_string_equal(line_with(text, " huge "), "huge 5.0 MiB 1 1 0");
    assert_string_equal(line_with(text, " large "), "large 20.0 KiB 1 1 0");
    assert_string_equal(line_with(text, "20.0 KiB            1            1"), "20.0 KiB 1 1 0");
    assert_non_null(strstr(text, fixture_path()));
    (void)snprintf(expected, sizeof(expected), "thread %d ", (int)getpid());
    assert_non_null(strstr(line_with(text, expected), " arena 0 "));
    assert_non_null(strstr(line_with(text, fixture_process_name()), " alive 1 "));
    free(text);
    sharena_free_batch(fixture_heap(), 3, blocks);
}

/* The first "64 64 ..." is the bin: class of 64 bytes, 64 regions a run, 50 out, one run. */
static void a_bin_says_how_full_its_runs_are(void **state) {
    (void)state;
    void *blocks[48];
    for (size_t i = 0; i < 48; i++) {
        blocks[i] = sharena_mallocx(fixture_heap(), 64, SHARENA_TCACHE_NONE);
        assert_non_null(blocks[i]);
    }
    char *text = collect_text(fixture_heap(), NULL);
    assert_string_equal(line_with(text, "       64    64 "), "64 64 48 48 0 1 0.750 0 0 0");
    free(text);
    for (size_t i = 0; i < 48; i++) {
        sharena_dallocx(fixture_heap(), blocks[i], SHARENA_TCACHE_NONE);
    }
}

static void lines_fit_a_terminal(void **state) {
    (void)state;
    void *blocks[69];
    for (uint32_t i = 0; i < 69; i++) {
        blocks[i] = block_of(sizeclass_bytes(i));
    }
    char *text = collect_text(fixture_heap(), NULL);
    size_t column = 0;
    for (const char *at = text; *at != '\0'; at++) {
        column = *at == '\n' ? 0 : column + 1;
        assert_true(column <= 100);
        assert_true(isprint((unsigned char)*at) || *at == '\n');
        assert_false(at[0] == ' ' && at[1] == '\n');
    }
    assert_int_equal(column, 0);
    free(text);
    sharena_free_batch(fixture_heap(), 69, blocks);
}

static void letters_leave_parts_out(void **state) {
    (void)state;
    static const struct {
        const char *letter;
        const char *gone;
    } cases[] = {{"g", "options of"}, {"a", "\narena 0\n"}, {"b", "bins of"}, {"l", "huge blocks"},
                 {"x", "\nlocks"},    {"p", "\nprocesses"}, {"p", "\ncaches"}};
    void *blocks[2] = {block_of(64), block_of(5 << 20)};
    char *all = collect_text(fixture_heap(), "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = collect_text(fixture_heap(), cases[i].letter);
        assert_non_null(strstr(all, cases[i].gone));
        assert_null(strstr(text, cases[i].gone));
        free(text);
    }
    /* Of one arena the sum is the same as itself. */
    assert_null(strstr(all, "arenas together"));
    char *text = collect_text(fixture_heap(), "a");
    assert_non_null(strstr(text, "all 1 arenas together"));
    free(text);
    free(all);
    sharena_free_batch(fixture_heap(), 2, blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(numbers_stand_in_their_lines),
        with_heap(a_bin_says_how_full_its_runs_are),
        with_heap(lines_fit_a_terminal),
        with_heap(letters_leave_parts_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
