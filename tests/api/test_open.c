/* test_open.c -- sharena_open's flags and options, and every input that it refuses. */
#include <fcntl.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "clean_heap.h"

static char path[SCRATCH_MAX];
static const struct sharena_options small = {.capacity_bytes = GIB};

static int clean_up(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

/* The open is refused with that error and a message with that word, and *heap is NULL. */
#define assert_open_refused(where, options, error, word)                                           \
    do {                                                                                           \
        sharena_t *refused = (sharena_t *)1;                                                       \
        assert_refused(sharena_open((where), (options), &refused), (error), (word));               \
        assert_null(refused);                                                                      \
    } while (0)

static struct sharena_options with_flags(uint32_t flags) {
    return (struct sharena_options){.flags = flags, .capacity_bytes = GIB};
}

/* A heap with one root, closed again. */
static void make_heap(void) {
    sharena_t *heap = clean_open_with(scratch_path(path, "open"), &small);
    void *block = sharena_malloc(heap, 10);
    memcpy(block, "kept", 5);
    assert_int_equal(sharena_root_set(heap, "kept", block), 0);
    assert_int_equal(sharena_close(heap), 0);
}

static void assert_kept(void) {
    sharena_t *heap = clean_open(path);
    const char *text = sharena_root_get(heap, "kept");
    assert_non_null(text);
    assert_string_equal(text, "kept");
    clean_check(heap, 1);
    assert_int_equal(sharena_close(heap), 0);
}

/* ---- flags ---- */

static void test_defaults_make_and_open(void **state) {
    (void)state;
    struct stat status;
    sharena_t *heap = NULL;
    scratch_path(path, "open");
    assert_int_equal(sharena_open(path, NULL, &heap), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0600);
    assert_true(status.st_size >= 1ll << 40);                /* 1 TiB of address space ... */
    assert_true((uint64_t)status.st_blocks * 512 < 2 * MIB); /* ... that costs nothing */
    assert_int_equal((uintptr_t)heap % GIB, 0);
    clean_end(heap, path, 0);
}

static void test_open_only(void **state) {
    (void)state;
    struct sharena_options options = with_flags(SHARENA_OPEN_ONLY);
    sharena_t *heap;
    scratch_path(path, "open");
    assert_open_refused(path, &options, ENOENT, path);
    assert_int_equal(access(path, F_OK), -1);
    make_heap();
    assert_int_equal(sharena_open(path, &options, &heap), 0);
    assert_int_equal(sharena_close(heap), 0);
    assert_kept();
}

static void test_exclusive(void **state) {
    (void)state;
    struct sharena_options options = with_flags(SHARENA_CREATE | SHARENA_EXCL);
    sharena_t *heap = clean_open_with(scratch_path(path, "open"), &options);
    assert_open_refused(path, &options, EEXIST, "SHARENA_EXCL"); /* attached ... */
    assert_int_equal(sharena_close(heap), 0);
    assert_open_refused(path, &options, EEXIST, "SHARENA_EXCL"); /* ... or not */
    assert_int_equal(access(path, F_OK), 0);
}

static int open_with_truncate(void *arg) {
    struct sharena_options options = with_flags(SHARENA_CREATE | SHARENA_TRUNCATE);
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, &options, &heap) == EBUSY);
    REQUIRE(strstr(sharena_errormsg(), "in use") != NULL);
    return 0;
}

static void test_truncate(void **state) {
    (void)state;
    struct sharena_options options = with_flags(SHARENA_CREATE | SHARENA_TRUNCATE);
    make_heap();
    sharena_t *heap = clean_open(path);
    assert_open_refused(path, &options, EBUSY, "this very process");
    child_run(open_with_truncate, NULL);
    assert_int_equal(sharena_close(heap), 0);
    assert_kept();
    heap = clean_open_with(path, &options);
    assert_null(sharena_root_get(heap, "kept"));
    clean_end(heap, path, 0);
}

/* A read-only reader is a process that is attached, too. */
static int read_only_reader(void *arg) {
    struct sharena_options options = with_flags(SHARENA_READONLY);
    const int *pipes = arg;
    sharena_t *heap;
    char go = 1;
    REQUIRE(sharena_open(path, &options, &heap) == 0);
    const char *text = sharena_root_get(heap, "kept");
    REQUIRE(text != NULL);
    REQUIRE(write(pipes[1], &go, 1) == 1);
    REQUIRE(read(pipes[2], &go, 1) == 1);
    REQUIRE(strcmp(text, "kept") == 0); /* SIGBUS, were the file empty now */
    REQUIRE(sharena_close(heap) == 0);
    return 0;
}

static void test_truncate_and_unlink_spare_a_reader(void **state) {
    (void)state;
    struct sharena_options options = with_flags(SHARENA_CREATE | SHARENA_TRUNCATE);
    int pipes[4];
    char go;
    make_heap();
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(pipe(pipes + 2), 0);
    pid_t reader = child_start(read_only_reader, pipes);
    assert_int_equal(read(pipes[0], &go, 1), 1);
    assert_open_refused(path, &options, EBUSY, "in use");
    assert_refused(sharena_unlink(path), EBUSY, "in use");
    assert_int_equal(write(pipes[3], &go, 1), 1);
    assert_int_equal(child_wait(reader), 0);
    for (int i = 0; i < 4; i++) {
        (void)close(pipes[i]);
    }
    assert_int_equal(sharena_unlink(path), 0);
}

static void test_flags_that_are_none(void **state) {
    (void)state;
    static const uint32_t bad[] = {0x80,
                                   0x80000000,
                                   ~0u,
                                   SHARENA_READONLY | SHARENA_CREATE,
                                   SHARENA_READONLY | SHARENA_TRUNCATE,
                                   SHARENA_OPEN_ONLY | SHARENA_CREATE,
                                   SHARENA_OPEN_ONLY | SHARENA_EXCL,
                                   SHARENA_OPEN_ONLY | SHARENA_TRUNCATE};
    scratch_path(path, "open");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sharena_options options = with_flags(bad[i]);
        assert_open_refused(path, &options, EINVAL, i < 3 ? "options.flags" : "do not go with");
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_mode(void **state) {
    (void)state;
    struct sharena_options options = {.mode = 0660, .capacity_bytes = GIB};
    struct stat status;
    mode_t mask = umask(077);
    sharena_t *heap = clean_open_with(scratch_path(path, "open"), &options);
    (void)umask(mask);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0660);
    clean_end(heap, path, 0);
    options.mode = 04755;
    assert_open_refused(path, &options, EINVAL, "options.mode");
    options.mode = 010000;
    assert_open_refused(path, &options, EINVAL, "options.mode");
}

/* ---- options that no heap can have ---- */

static void test_capacity_and_base(void **state) {
    (void)state;
    static const struct {
        uint64_t capacity;
        uint64_t base;
        const char *word;
    } bad[] = {
        {UINT64_MAX, 0, "capacity"},       {1ull << 47, 0, "capacity"},
        {GIB, 4096, "base_address"},       {GIB, GIB + 2 * MIB, "base_address"},
        {GIB, 1ull << 63, "base_address"}, {GIB, (1ull << 47) - GIB, "base_address"},
        {GIB, UINT64_MAX, "base_address"}, {GIB, (1ull << 47), "base_address"},
    };
    scratch_path(path, "open");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sharena_options options = {.capacity_bytes = bad[i].capacity,
                                          .base_address = bad[i].base};
        assert_open_refused(path, &options, EINVAL, bad[i].word);
        assert_int_equal(access(path, F_OK), -1);
    }
    struct sharena_options least = {.capacity_bytes = 1}; /* rounded up to a chunk */
    sharena_t *heap = clean_open_with(path, &least);
    void *block = sharena_malloc(heap, 100);
    assert_non_null(block);
    sharena_free(heap, block);
    clean_end(heap, path, 0);
}

static void test_base_that_was_asked_for(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = GIB, .base_address = 0x300000000000ull};
    sharena_t *heap = clean_open_with(scratch_path(path, "open"), &options);
    assert_int_equal((uintptr_t)heap, 0x300000000000ull);
    assert_int_equal(sharena_close(heap), 0);
    heap = clean_open_with(path, NULL); /* it stays where it was made */
    assert_int_equal((uintptr_t)heap, 0x300000000000ull);
    clean_end(heap, path, 0);
}

static void test_arguments(void **state) {
    (void)state;
    assert_open_refused(NULL, &small, EINVAL, "path");
    assert_open_refused("", &small, EINVAL, "path");
    assert_refused(sharena_open(path, NULL, NULL), EINVAL, "heap argument");
    assert_refused(sharena_unlink(NULL), EINVAL, "path");
    assert_refused(sharena_unlink(scratch_path(path, "open")), ENOENT, path);
    assert_refused(sharena_close(NULL), EINVAL, "not an attached heap");
    assert_refused(sharena_close((sharena_t *)(uintptr_t)GIB), EINVAL, "not an attached heap");
}

/* ---- files that are no heap ---- */

static void write_file(const void *bytes, size_t count) {
    scratch_path(path, "open");
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, count), count);
    assert_int_equal(close(fd), 0);
}

static void assert_file_is(const void *bytes, size_t count) {
    char found[8192];
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, found, sizeof(found)), count);
    assert_memory_equal(found, bytes, count);
    assert_int_equal(close(fd), 0);
}

static void test_not_a_heap(void **state) {
    (void)state;
    static char text[5000] = "#!/bin/sh\necho this is not a heap\n";
    struct sharena_options truncate = with_flags(SHARENA_CREATE | SHARENA_TRUNCATE);
    write_file(text, sizeof(text));
    assert_open_refused(path, NULL, EUCLEAN, "not a heap");
    assert_open_refused(path, &truncate, EUCLEAN, "not a heap");
    assert_refused(sharena_unlink(path), EUCLEAN, "not a heap");
    assert_file_is(text, sizeof(text)); /* nothing was written */
    write_file("hi", 2);
    assert_open_refused(path, NULL, EUCLEAN, "not a heap");
    assert_file_is("hi", 2);
}

/* An empty file becomes a heap, but not for those who only look. */
static void test_empty_file(void **state) {
    (void)state;
    struct sharena_options open_only = with_flags(SHARENA_OPEN_ONLY);
    struct sharena_options readonly = with_flags(SHARENA_READONLY);
    write_file("", 0);
    assert_open_refused(path, &open_only, EUCLEAN, "empty");
    assert_open_refused(path, &readonly, EUCLEAN, "empty");
    sharena_t *heap = clean_open(path);
    clean_end(heap, path, 0);
}

/* Each byte of the superblock that a heap checks, and the length of its file. */
static void test_damaged(void **state) {
    (void)state;
    static const struct {
        off_t at;
        int error;
        const char *word;
    } damages[] = {{0, EUCLEAN, "not a heap"}, {8, EUCLEAN, "endian"},    {12, ENOEXEC, "version"},
                   {16, ENOEXEC, "layout"},    {40, EUCLEAN, "checksum"}, {48, EUCLEAN, "checksum"},
                   {64, EUCLEAN, "checksum"},  {72, EUCLEAN, "checksum"}, {80, EUCLEAN, "checksum"},
                   {24, EUCLEAN, "checksum"}};
    make_heap();
    int fd = open(path, O_RDWR);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        unsigned char right;
        assert_int_equal(pread(fd, &right, 1, damages[i].at), 1);
        unsigned char wrong = right ^ 0x15;
        assert_int_equal(pwrite(fd, &wrong, 1, damages[i].at), 1);
        assert_open_refused(path, NULL, damages[i].error, damages[i].word);
        assert_int_equal(pwrite(fd, &right, 1, damages[i].at), 1);
    }
    assert_int_equal(close(fd), 0);
    assert_kept();
    assert_int_equal(truncate(path, 100000), 0);
    assert_open_refused(path, NULL, EUCLEAN, "truncated");
    assert_int_equal(truncate(path, 40), 0);
    assert_open_refused(path, NULL, EUCLEAN, "truncated");
}

static void test_other_kinds_of_files(void **state) {
    (void)state;
    char target[SCRATCH_MAX];
    make_heap();
    (void)snprintf(target, sizeof(target), "%s", path);
    scratch_path(path, "other");
    assert_int_equal(symlink(target, path), 0);
    assert_open_refused(path, NULL, ELOOP, "symbolic link");
    assert_refused(sharena_unlink(path), ELOOP, "symbolic link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_open_refused(path, NULL, ENODEV, "fifo");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_open_refused(path, NULL, ENODEV, "directory");
    assert_int_equal(rmdir(path), 0);
    assert_open_refused("/dev/null", NULL, ENODEV, "character device");
    assert_open_refused("/proc/self/status", NULL, ENODEV, "procfs");
    assert_open_refused("/no/such/directory/heap", NULL, ENOENT, "directory");
    assert_int_equal(sharena_unlink(target), 0);
}

/* ---- limits, users, collisions: in children, which may lose what they lower ---- */

static int open_with_little_file_size(void *arg) {
    const struct rlimit limit = {MIB, MIB};
    sharena_t *heap;
    (void)arg;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(sharena_open(path, &small, &heap) == EFBIG); /* and not SIGXFSZ */
    REQUIRE(strstr(sharena_errormsg(), "RLIMIT_FSIZE") != NULL);
    REQUIRE(access(path, F_OK) != 0);
    return 0;
}

static int open_with_little_address_space(void *arg) {
#ifdef __SANITIZE_ADDRESS__
    (void)arg;
    return CHILD_SKIP; /* it needs address space of its own */
#else
    const struct rlimit limit = {256 * MIB, 256 * MIB};
    sharena_t *heap;
    (void)arg;
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    const struct sharena_options options = {.capacity_bytes = GIB,
                                            .base_address = 0x300000000000ull};
    REQUIRE(sharena_open(path, &options, &heap) == ENOMEM);
    REQUIRE(strstr(sharena_errormsg(), "RLIMIT_AS") != NULL);
    REQUIRE(access(path, F_OK) != 0);
    return 0;
#endif
}

static void test_resource_limits(void **state) {
    (void)state;
    scratch_path(path, "open");
    child_run(open_with_little_file_size, NULL);
    child_run(open_with_little_address_space, NULL);
}

static int open_as_nobody(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(chmod(path, 0666) == 0);
    REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
    REQUIRE(sharena_open(path, NULL, &heap) == 0 || strlen(sharena_errormsg()) > 0);
    return 0;
}

static int open_what_nobody_made(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(sharena_open(path, NULL, &heap) == EACCES);
    REQUIRE(strstr(sharena_errormsg(), "somebody else's") != NULL);
    return 0;
}

static int open_without_permission(void *arg) {
    sharena_t *heap;
    (void)arg;
    REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
    REQUIRE(sharena_open(path, NULL, &heap) == EACCES);
    REQUIRE(strstr(sharena_errormsg(), "mode 0600") != NULL);
    return 0;
}

static void test_permissions(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can be two users\n");
        skip();
    }
    make_heap();
    child_run(open_without_permission, NULL);
    child_run(open_as_nobody, NULL); /* root's file, 0666: root may do worse to us anyway */
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chown(path, 65534, 65534), 0);
    child_run(open_what_nobody_made, NULL);
}

static int open_where_something_is(void *arg) {
    sharena_t *heap;
    (void)arg;
    void *in_the_way = mmap((void *)0x310000000000ull, 4096, PROT_READ,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE(in_the_way != MAP_FAILED);
    REQUIRE(sharena_open(path, NULL, &heap) == EADDRINUSE);
    REQUIRE(strstr(sharena_errormsg(), "310000000000-310000001000 r--p") != NULL);
    REQUIRE(munmap(in_the_way, 4096) == 0);
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    return sharena_close(heap);
}

static void test_base_is_taken(void **state) {
    (void)state;
    struct sharena_options options = {.capacity_bytes = GIB, .base_address = 0x310000000000ull};
    sharena_t *heap = clean_open_with(scratch_path(path, "open"), &options);
    assert_int_equal(sharena_close(heap), 0);
    child_run(open_where_something_is, NULL);
}

static void test_sync_cannot_be_had_on_tmpfs(void **state) {
    (void)state;
    struct sharena_options options = with_flags(SHARENA_CREATE | SHARENA_REQUIRE_SYNC);
    scratch_path(path, "open");
    assert_open_refused(path, &options, EOPNOTSUPP, "MAP_SYNC");
    assert_int_equal(access(path, F_OK), -1);
    sharena_t *heap = clean_open(path);
    assert_open_refused(path, &options, EOPNOTSUPP, "MAP_SYNC");
    clean_end(heap, path, 0);
}

/* A refused open leaves neither descriptors nor mappings behind, nor does a close. */
static int count_lines(const char *name) {
    char buffer[4096];
    int lines = 0;
    int fd = open(name, O_RDONLY);
    for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) {
        for (ssize_t i = 0; i < got; i++) {
            lines += buffer[i] == '\n';
        }
    }
    (void)close(fd);
    return lines;
}

static void test_nothing_is_left_behind(void **state) {
    (void)state;
    struct sharena_options exclusive = with_flags(SHARENA_CREATE | SHARENA_EXCL);
    make_heap();
    int descriptor = dup(0);
    (void)close(descriptor);
    int lines = count_lines("/proc/self/maps");
    for (int i = 0; i < 600; i++) { /* more than descriptors, were one lost each time */
        sharena_t *heap;
        assert_int_equal(sharena_open(path, &exclusive, &heap), EEXIST);
        assert_int_equal(sharena_open(path, NULL, &heap), 0);
        assert_int_equal(sharena_close(heap), 0);
    }
    assert_true(count_lines("/proc/self/maps") <= lines + 2);
    assert_int_equal(dup(0), descriptor);
    (void)close(descriptor);
    assert_kept();
}

#define clean(f) cmocka_unit_test_teardown(f, clean_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        clean(test_defaults_make_and_open),
        clean(test_open_only),
        clean(test_exclusive),
        clean(test_truncate),
        clean(test_truncate_and_unlink_spare_a_reader),
        clean(test_flags_that_are_none),
        clean(test_mode),
        clean(test_capacity_and_base),
        clean(test_base_that_was_asked_for),
        clean(test_arguments),
        clean(test_not_a_heap),
        clean(test_empty_file),
        clean(test_damaged),
        clean(test_other_kinds_of_files),
        clean(test_resource_limits),
        clean(test_permissions),
        clean(test_base_is_taken),
        clean(test_sync_cannot_be_had_on_tmpfs),
        clean(test_nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
