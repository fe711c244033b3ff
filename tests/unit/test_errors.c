/* test_errors.c -- the sentence of the last error, and what a broken invariant does. */
#include <pthread.h>

#include "ipc/check.h"
#include "scratch.h"

static void set_returns_the_error(void **state) {
    (void)state;
    assert_int_equal(error_set(ENOMEM, "no room for %d", 7), ENOMEM);
    assert_string_equal(error_message(), "no room for 7");
}

static void null_sets_errno(void **state) {
    (void)state;
    errno = 0;
    assert_null(error_null(EPERM, "not you: %s", "me"));
    assert_int_equal(errno, EPERM);
    assert_string_equal(error_message(), "not you: me");
}

static void errno_can_be_named(void **state) {
    (void)state;
    errno = ENOSPC;
    assert_int_equal(error_set(errno, "failed: %m"), ENOSPC);
    assert_says(strerror(ENOSPC));
}

static void long_message_is_cut_and_terminated(void **state) {
    (void)state;
    char text[4096];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(error_set(EINVAL, "%s", text), EINVAL);
    assert_in_range(strlen(error_message()), 100, sizeof(text) - 2);
    assert_int_equal(strspn(error_message(), "x"), strlen(error_message()));
}

static void *look_and_set(void *arg) {
    int *was_empty = arg;
    *was_empty = error_message()[0] == '\0';
    (void)error_set(EINVAL, "of another thread");
    return NULL;
}

static void message_is_of_the_thread(void **state) {
    (void)state;
    pthread_t thread;
    int was_empty = 0;
    (void)error_set(EINVAL, "of this thread");
    assert_int_equal(pthread_create(&thread, NULL, look_and_set, &was_empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(was_empty);
    assert_string_equal(error_message(), "of this thread");
}

static int break_invariant(void *arg) {
    const int *pipe_end = arg;
    (void)dup2(*pipe_end, STDERR_FILENO);
    CHECK(2 + 2 == 4);
    CHECK(2 + 2 == 5);
    return 0;
}

static void broken_invariant_is_named_and_aborts(void **state) {
    (void)state;
    int ends[2];
    char text[512] = "";
    assert_int_equal(pipe(ends), 0);
    int status = child_wait(child_start(break_invariant, &ends[1]));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "2 + 2 == 5"));
    assert_non_null(strstr(text, "test_errors.c:"));
    assert_null(strstr(text, "2 + 2 == 4"));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_the_error),
        cmocka_unit_test(null_sets_errno),
        cmocka_unit_test(errno_can_be_named),
        cmocka_unit_test(long_message_is_cut_and_terminated),
        cmocka_unit_test(message_is_of_the_thread),
        cmocka_unit_test(broken_invariant_is_named_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
