/* test_token.c -- the token lives exactly as long as the address space that took it. */
/* ctest: not under valgrind: valgrind cannot do plain clone() */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ipc/token.h"
#include "scratch.h"

static char path[SCRATCH_MAX];
static struct heap_file file;

static int make_file(void **state) {
    (void)state;
    int made;
    return file_open_path(scratch_path(path, "token"), 0, 1, 1, 0, &file, &made) != 0 ||
           ftruncate(file.fd, 1 << 20) != 0;
}

static int remove_file(void **state) {
    (void)state;
    file_close(&file);
    return unlink(path);
}

/* ---- within one process ---- */

static void taken_is_held_and_released_is_free(void **state) {
    (void)state;
    struct token token;
    assert_int_equal(token_any_held(&file), 0);
    assert_int_equal(token_take(&file, 5, &token), 0);
    assert_int_equal(token.slot, 5);
    assert_int_equal(token_is_held(&file, 4), 0);
    assert_int_equal(token_is_held(&file, 5), 1);
    assert_int_equal(token_is_held(&file, 6), 0);
    assert_int_equal(token_any_held(&file), 1);
    token_release(&token);
    assert_null(token.page);
    assert_int_equal(token_is_held(&file, 5), 0);
    assert_int_equal(token_any_held(&file), 0);
    token_release(&token);
}

static void next_free_slot_is_taken_going_round(void **state) {
    (void)state;
    struct token tokens[3];
    assert_int_equal(token_take(&file, PROCESSES_MAX - 1, &tokens[0]), 0);
    assert_int_equal(token_take(&file, PROCESSES_MAX - 1, &tokens[1]), 0);
    assert_int_equal(token_take(&file, 0, &tokens[2]), 0);
    assert_int_equal(tokens[0].slot, PROCESSES_MAX - 1);
    assert_int_equal(tokens[1].slot, 0);
    assert_int_equal(tokens[2].slot, 1);
    token_release(&tokens[1]);
    assert_int_equal(token_is_held(&file, 0), 0);
    assert_int_equal(token_is_held(&file, 1), 1);
    token_release(&tokens[0]);
    token_release(&tokens[2]);
}

static void full_table_is_refused(void **state) {
    (void)state;
    static struct token tokens[PROCESSES_MAX];
    struct token one_more = {.page = &one_more};
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        assert_int_equal(token_take(&file, i, &tokens[i]), 0);
        assert_int_equal(tokens[i].slot, i);
    }
    assert_refused(token_take(&file, 0, &one_more), EUSERS, "1024 process slots");
    assert_null(one_more.page);
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        token_release(&tokens[i]);
    }
    assert_int_equal(token_any_held(&file), 0);
}

static void no_descriptor_remains(void **state) {
    (void)state;
    struct token token;
    int before = dup(STDERR_FILENO);
    assert_int_equal(close(before), 0);
    assert_int_equal(token_take(&file, 0, &token), 0);
    int after = dup(STDERR_FILENO);
    assert_int_equal(close(after), 0);
    assert_int_equal(after, before);
    token_release(&token);
}

static void readonly_file_gives_no_token(void **state) {
    (void)state;
    struct heap_file looker;
    struct token token;
    int made;
    assert_int_equal(file_open_path(path, 1, 0, 0, 0, &looker, &made), 0);
    assert_refused(token_take(&looker, 0, &token), EBADF, "token");
    assert_null(token.page);
    assert_int_equal(token_take(&file, 3, &token), 0);
    assert_int_equal(token_is_held(&looker, 3), 1); /* but it can ask */
    token_release(&token);
    assert_int_equal(token_is_held(&looker, 3), 0);
    file_close(&looker);
}

static void readers_are_attached_but_hold_no_slot(void **state) {
    (void)state;
    struct heap_file looker;
    struct token readers[2];
    struct token writer;
    int made;
    assert_int_equal(file_open_path(path, 1, 0, 0, 0, &looker, &made), 0);
    assert_int_equal(token_anyone_attached(&file), 0);
    assert_int_equal(token_take_reader(&looker, &readers[0]), 0);
    assert_int_equal(token_take_reader(&looker, &readers[1]), 0);
    assert_int_equal(token_any_held(&file), 0);
    assert_int_equal(token_anyone_attached(&file), 1);
    token_release(&readers[0]);
    assert_int_equal(token_anyone_attached(&looker), 1);
    token_release(&readers[1]);
    assert_int_equal(token_anyone_attached(&looker), 0);
    assert_int_equal(token_take(&file, 0, &writer), 0);
    assert_int_equal(token_anyone_attached(&file), 1);
    token_release(&writer);
    (void)close(looker.fd);
    assert_int_equal(unlink(path), 0);
    assert_refused(token_take_reader(&looker, &readers[0]), ENOENT, "closed our descriptor");
    assert_null(readers[0].page);
    int again = open(path, O_CREAT | O_EXCL, 0600); /* for the teardown */
    (void)close(again);
}

static void stolen_descriptor_is_noticed(void **state) {
    (void)state;
    struct token token;
    assert_int_equal(token_take(&file, 0, &token), 0);
    int other = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    assert_true(other >= 0);
    assert_int_equal(dup2(other, file.fd), file.fd);
    assert_int_equal(token_is_held(&file, 0), 1); /* by the name */
    assert_int_equal(token_is_held(&file, 1), 0);
    assert_int_equal(close(file.fd), 0);
    assert_int_equal(token_is_held(&file, 0), 1);
    assert_int_equal(token_is_held(&file, 1), 0);
    token_release(&token);
    assert_int_equal(token_is_held(&file, 0), 0);
    (void)close(other);
}

static void unknown_counts_as_held(void **state) {
    (void)state;
    struct heap_file unnamed;
    int fd = memfd_create("token", MFD_CLOEXEC);
    assert_int_equal(file_open_fd(fd, 0, &unnamed), 0);
    assert_int_equal(token_is_held(&unnamed, 0), 0);
    (void)close(unnamed.fd);
    errno = 0;
    assert_int_equal(token_is_held(&unnamed, 0), 1);
    assert_int_equal(token_any_held(&unnamed), 1);
    assert_int_equal(errno, 0);
    (void)close(fd);
}

/* ---- between processes ---- */

static int ends[2]; /* of a pipe: the holder tells that it holds */

static void open_pipe(void) {
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static void await_byte(void) {
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 1);
}

static void close_pipe(void) {
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static int take_and_tell(void) {
    struct token token;
    REQUIRE(token_take(&file, 9, &token) == 0);
    REQUIRE(token.slot == 9);
    REQUIRE(write(ends[1], "x", 1) == 1);
    return 0;
}

static int hold_until_killed(void *arg) {
    (void)arg;
    REQUIRE(take_and_tell() == 0);
    for (;;) {
        pause();
    }
}

static int hold_and_exit(void *arg) {
    (void)arg;
    return take_and_tell();
}

static int hold_and_exec(void *arg) {
    (void)arg;
    REQUIRE(take_and_tell() == 0);
    (void)execl("/bin/sleep", "sleep", "60", (char *)NULL);
    return 1;
}

static void kill_frees(void **state) {
    (void)state;
    open_pipe();
    pid_t pid = child_start(hold_until_killed, NULL);
    await_byte();
    assert_int_equal(token_is_held(&file, 9), 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(token_is_held(&file, 9), 1); /* stopped is alive */
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)child_wait(pid);
    assert_int_equal(token_is_held(&file, 9), 0);
    close_pipe();
}

static void exit_frees(void **state) {
    (void)state;
    open_pipe();
    pid_t pid = child_start(hold_and_exit, NULL);
    await_byte();
    assert_int_equal(child_wait(pid), 0);
    assert_int_equal(token_is_held(&file, 9), 0);
    close_pipe();
}

static void exec_frees(void **state) {
    (void)state;
    char byte;
    open_pipe();
    pid_t pid = child_start(hold_and_exec, NULL);
    await_byte();
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 0); /* the exec has closed the other end ... */
    for (int i = 0; i < 1000 && token_is_held(&file, 9); i++) {
        (void)usleep(1000);
    }
    assert_int_equal(token_is_held(&file, 9), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* ... and the process lives on */
    (void)kill(pid, SIGKILL);
    (void)child_wait(pid);
    (void)close(ends[0]);
}

/* How the holder makes its child. */
static pid_t by_fork(void) {
    return fork();
}

static pid_t by_raw_clone(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static pid_t by_clone_files(void) { /* the descriptors shared, the memory not */
    return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
}

static int hold_with_child(void *arg) {
    pid_t (*const *make_child)(void) = arg;
    struct token token;
    REQUIRE(token_take(&file, 9, &token) == 0);
    pid_t pid = (*make_child)();
    if (pid == 0) {
        pid_t self = (pid_t)syscall(SYS_getpid);
        (void)alarm(20); /* it must not outlive a test that failed */
        (void)!write(ends[1], &self, sizeof(self));
        for (;;) {
            pause();
        }
    }
    for (;;) {
        pause();
    }
}

static void child_does_not_inherit(void **state) {
    pid_t (*make_child)(void) = (pid_t(*)(void)) * state;
    pid_t grandchild = 0;
    open_pipe();
    pid_t pid = child_start(hold_with_child, &make_child);
    assert_int_equal(read(ends[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    assert_int_equal(token_is_held(&file, 9), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)child_wait(pid);
    int is_held = token_is_held(&file, 9);
    assert_int_equal(kill(grandchild, SIGKILL), 0); /* it was alive all the time */
    assert_int_equal(is_held, 0);
    close_pipe();
}

static int just_exit(void *arg) {
    (void)arg;
    return 0;
}

static void death_of_a_child_leaves_it(void **state) {
    (void)state;
    struct token token;
    assert_int_equal(token_take(&file, 2, &token), 0);
    assert_int_equal(child_wait(child_start(just_exit, NULL)), 0);
    assert_int_equal(token_is_held(&file, 2), 1);
    token_release(&token);
    assert_int_equal(token_is_held(&file, 2), 0);
}

static int hold_and_close_all(void *arg) {
    (void)arg;
    struct token token;
    int out = ends[1];
    REQUIRE(token_take(&file, 9, &token) == 0);
    int other = open(path, O_RDWR); /* POSIX locks would be lost by this */
    REQUIRE(other >= 0 && close(other) == 0);
    REQUIRE(dup2(out, 0) == 0);
    REQUIRE(close_range(1, ~0u, 0) == 0);
    REQUIRE(write(0, "x", 1) == 1);
    for (;;) {
        pause();
    }
}

static void closing_all_descriptors_leaves_it(void **state) {
    (void)state;
    open_pipe();
    pid_t pid = child_start(hold_and_close_all, NULL);
    await_byte();
    assert_int_equal(token_is_held(&file, 9), 1);
    (void)kill(pid, SIGKILL);
    (void)child_wait(pid);
    assert_int_equal(token_is_held(&file, 9), 0);
    close_pipe();
}

static int ask_beyond(void *arg) {
    (void)arg;
    (void)close(STDERR_FILENO);
    return token_is_held(&file, PROCESSES_MAX);
}

static void slot_beyond_the_table_stops(void **state) {
    (void)state;
    int status = child_wait(child_start(ask_beyond, NULL));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

#define with_file(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

/* cmocka hands the initial state to setup and test alike. */
#define with_child(name, how)                                                                      \
    { name, child_does_not_inherit, make_file, remove_file, (void *)(how) }

int main(void) {
    const struct CMUnitTest tests[] = {
        with_file(taken_is_held_and_released_is_free),
        with_file(next_free_slot_is_taken_going_round),
        with_file(full_table_is_refused),
        with_file(no_descriptor_remains),
        with_file(readonly_file_gives_no_token),
        with_file(readers_are_attached_but_hold_no_slot),
        with_file(stolen_descriptor_is_noticed),
        with_file(unknown_counts_as_held),
        with_file(kill_frees),
        with_file(exit_frees),
        with_file(exec_frees),
        with_child("child_of_fork_does_not_inherit", by_fork),
        with_child("child_of_raw_clone_does_not_inherit", by_raw_clone),
        with_child("child_with_our_descriptors_does_not_inherit", by_clone_files),
        with_file(death_of_a_child_leaves_it),
        with_file(closing_all_descriptors_leaves_it),
        with_file(slot_beyond_the_table_stops),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
