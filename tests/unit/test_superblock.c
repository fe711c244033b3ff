/* test_superblock.c -- a heap is told from everything else, and everything else is named. */
/* ctest: not under valgrind: its address ranges are valgrind's too */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "ipc/mapping.h"
#include "scratch.h"

#define TOTAL (1ull << 30)
#define MIB (1ull << 20)
#define HEAP_FINGERPRINT 4711u

static const struct superblock_wish good_wish = {
    .total_bytes = TOTAL,
    .limit_bytes = 64 * MIB,
    .data_offset = 512 * MIB,
    .heap_fingerprint = HEAP_FINGERPRINT,
};

static char path[SCRATCH_MAX];
static struct heap_file file;

static int make_in(const char *folder) {
    int made;
    superblock_expect(HEAP_FINGERPRINT);
    return file_open_path(scratch_path_in(path, folder, "superblock"), 0, 1, 1, 0, &file, &made);
}

static int make_file(void **state) {
    (void)state;
    return make_in("/dev/shm");
}

static int remove_file(void **state) {
    (void)state;
    file_close(&file);
    return unlink(path);
}

/* What superblock_read() returns; the state, or -1. */
static int read_state(int *error) {
    enum file_state state = (enum file_state) - 1;
    struct superblock superblock;
    *error = superblock_read(&file, &state, &superblock);
    return (int)state;
}

static void assert_state(enum file_state state) {
    int error;
    assert_int_equal(read_state(&error), (int)state);
    assert_int_equal(error, 0);
}

static int read_error(void) {
    int error;
    assert_int_equal(read_state(&error), -1);
    return error;
}

static uint64_t sum_of(struct superblock superblock) {
    superblock.magic = MAGIC_HEAP;
    return superblock_hash(SUPERBLOCK_HASH_SEED, &superblock,
                           offsetof(struct superblock, checksum));
}

/* Writes it as a finished heap of full length. */
static void write_heap(const struct superblock *superblock) {
    assert_int_equal(ftruncate(file.fd, (off_t)TOTAL), 0);
    assert_int_equal(pwrite(file.fd, superblock, sizeof(*superblock), 0), sizeof(*superblock));
}

static struct superblock good_superblock(void) {
    struct superblock superblock;
    assert_int_equal(superblock_make(&good_wish, &superblock), 0);
    return superblock;
}

/* ---- make ---- */

static void made_as_wished(void **state) {
    (void)state;
    struct superblock a = good_superblock();
    struct superblock b = good_superblock();
    assert_true(a.magic == MAGIC_HEAP && a.format_version == FORMAT_VERSION);
    assert_true(a.total_bytes == TOTAL && a.limit_bytes == 64 * MIB && a.data_offset == 512 * MIB);
    assert_true(a.checksum == sum_of(a));
    assert_true(a.created_ns > 1700000000ull * 1000000000);
    assert_memory_not_equal(a.uuid, b.uuid, sizeof(a.uuid));
    assert_int_equal(a.uuid[6] >> 4, 4);
}

static void base_is_chosen_at_random_and_free(void **state) {
    (void)state;
    uint64_t first = good_superblock().base_address;
    int differs = 0;
    for (int i = 0; i < 20; i++) {
        uint64_t base = good_superblock().base_address;
        assert_int_equal(base % (1u << 30), 0);
        assert_true(base >= 0x200000000000);
        assert_int_equal(mapping_is_free(base, TOTAL), 1);
        differs |= base != first;
    }
    assert_true(differs);
}

/* Above the window programs are loaded: a heap there would collide in some runs of some programs. */
static void chosen_heap_ends_inside_the_window(void **state) {
    (void)state;
    struct superblock_wish wish = good_wish;
    struct superblock superblock;
    wish.total_bytes = 0x34ff80000000; /* leaves three bases */
    for (int i = 0; i < 50; i++) {
        assert_int_equal(superblock_make(&wish, &superblock), 0);
        assert_true(superblock.base_address + wish.total_bytes <= 0x550000000000);
    }
}

static void base_that_is_wished_is_taken(void **state) {
    (void)state;
    struct superblock_wish wish = good_wish;
    struct superblock superblock;
    wish.base_address = 0x7e8000000000;
    assert_int_equal(superblock_make(&wish, &superblock), 0);
    assert_true(superblock.base_address == 0x7e8000000000);
}

static void biggest_heap_has_a_base(void **state) {
    (void)state;
    struct superblock_wish wish = good_wish;
    struct superblock superblock;
    wish.total_bytes = 0x350000000000; /* the whole window */
    assert_int_equal(superblock_make(&wish, &superblock), 0);
    assert_true(superblock.base_address == 0x200000000000);
    void *middle = (void *)0x300000000000;
    assert_true(mmap(middle, PAGE_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == middle);
    assert_refused(superblock_make(&wish, &superblock), EADDRINUSE, "capacity_bytes");
    assert_int_equal(munmap(middle, PAGE_BYTES), 0);
}

static void bad_wishes_are_named(void **state) {
    (void)state;
    struct superblock superblock;
    struct superblock_wish wish = good_wish;
    wish.total_bytes = 0;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "total_bytes 0x0");
    wish.total_bytes = TOTAL + PAGE_BYTES;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "total_bytes 0x40001000");
    wish.total_bytes = 1ull << 60;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "total_bytes 0x1000000000000000");
    wish = good_wish;
    wish.base_address = 0x200000200000;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "base_address 0x200000200000");
    wish.base_address = 0x7fffc0000000 + (1ull << 30);
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "1 GiB");
    wish = good_wish;
    wish.data_offset = MIB;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "data_offset 0x100000");
    wish.data_offset = 512 * MIB + PAGE_BYTES;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "data_offset");
    wish.data_offset = TOTAL;
    assert_refused(superblock_make(&wish, &superblock), EINVAL, "data_offset");
}

static int make_with_little_address_space(void *arg) {
    (void)arg;
    struct superblock superblock;
    const struct rlimit limit = {.rlim_cur = 64 * MIB, .rlim_max = 64 * MIB};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE(superblock_make(&good_wish, &superblock) == EADDRINUSE);
    REQUIRE(strstr(error_message(), "RLIMIT_AS") != NULL);
    return 0;
}

static void no_free_base_is_an_error(void **state) {
    (void)state;
    child_run(make_with_little_address_space, NULL);
}

/* ---- creation ---- */

static void creation_goes_from_empty_to_heap(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    struct superblock read_back;
    struct heap_mapping mapping;
    enum file_state file_state;
    struct stat status;
    assert_state(FILE_EMPTY);
    assert_int_equal(superblock_begin(&file, &superblock), 0);
    assert_state(FILE_UNFINISHED);
    assert_int_equal(fstat(file.fd, &status), 0);
    assert_true((uint64_t)status.st_size == TOTAL);
    assert_int_equal(status.st_blocks, PAGE_BYTES / 512);
    assert_int_equal(mapping_make(&file, &superblock, 0, 0, &mapping), 0);
    superblock_finish(mapping.base);
    mapping_unmake(&mapping);
    assert_int_equal(superblock_read(&file, &file_state, &read_back), 0);
    assert_int_equal(file_state, FILE_HEAP);
    assert_memory_equal(&read_back, &superblock, sizeof(superblock));
}

static void abandoned_creation_is_empty(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    assert_int_equal(superblock_begin(&file, &superblock), 0);
    superblock_abandon(&file);
    assert_state(FILE_EMPTY);
}

static void creation_removes_what_was_there(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    char byte = 'x';
    write_heap(&superblock);
    assert_int_equal(pwrite(file.fd, "x", 1, 8 * MIB), 1);
    assert_int_equal(superblock_begin(&file, &superblock), 0);
    assert_state(FILE_UNFINISHED);
    assert_int_equal(pread(file.fd, &byte, 1, 8 * MIB), 1);
    assert_int_equal(byte, 0);
}

/* What a creator leaves that is killed between two steps of superblock_begin(). */
static void half_made_is_unfinished(void **state) {
    (void)state;
    const uint64_t magic = MAGIC_CREATING;
    assert_int_equal(pwrite(file.fd, &magic, sizeof(magic), 0), sizeof(magic));
    assert_state(FILE_UNFINISHED);
    assert_int_equal(ftruncate(file.fd, (off_t)TOTAL), 0);
    assert_state(FILE_UNFINISHED);
}

static int begin_with_small_files(void *arg) {
    (void)arg;
    struct superblock superblock;
    struct stat status;
    const struct rlimit limit = {.rlim_cur = MIB, .rlim_max = MIB};
    (void)signal(SIGXFSZ, SIG_DFL);
    REQUIRE(superblock_make(&good_wish, &superblock) == 0);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(superblock_begin(&file, &superblock) == EFBIG);
    REQUIRE(strstr(error_message(), "RLIMIT_FSIZE is 1048576") != NULL);
    REQUIRE(strstr(error_message(), "1073741824") != NULL);
    REQUIRE(fstat(file.fd, &status) == 0 && status.st_size == 0);
    return 0;
}

static void small_rlimit_fsize_is_named(void **state) {
    (void)state;
    child_run(begin_with_small_files, NULL);
}

static void length_beyond_the_file_system_is_named(void **state) {
    (void)state;
    struct superblock_wish wish = good_wish;
    struct superblock superblock;
    wish.total_bytes = 32ull << 40; /* ext4 ends at 16 TiB */
    assert_int_equal(superblock_make(&wish, &superblock), 0);
    int error = make_in(".");
    if (error == ENODEV) {
        (void)fprintf(stderr, "skipped: no heap can lie in the current folder\n");
        skip();
    }
    assert_int_equal(error, 0);
    int begun = superblock_begin(&file, &superblock);
    if (begun == 0) {
        assert_int_equal(remove_file(NULL), 0);
        (void)fprintf(stderr, "skipped: this file system allows files of 32 TiB\n");
        skip();
    }
    assert_int_equal(begun, EFBIG);
    assert_says("35184372088832");
    assert_says("file system");
    assert_state(FILE_EMPTY);
    assert_int_equal(remove_file(NULL), 0);
}

/* A tmpfs of 1 MiB that nobody else sees, at /dev/shm, in this child alone. */
static int enter_small_tmpfs(void) {
    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, "size=1m,mode=1777") == 0;
}

static int begin_on_full_file_system(void *arg) {
    (void)arg;
    static const char zeros[2 << 20];
    struct superblock superblock;
    struct stat status;
    if (!enter_small_tmpfs()) {
        (void)fprintf(stderr, "skipped: no permission to mount a small tmpfs\n");
        return CHILD_SKIP;
    }
    int filler = open("/dev/shm/filler", O_CREAT | O_WRONLY, 0600);
    REQUIRE(write(filler, zeros, sizeof(zeros)) == 1 << 20);
    REQUIRE(make_in("/dev/shm") == 0);
    REQUIRE(superblock_make(&good_wish, &superblock) == 0);
    REQUIRE(superblock_begin(&file, &superblock) == ENOMEM);
    REQUIRE(strstr(error_message(), "full") != NULL);
    REQUIRE(fstat(file.fd, &status) == 0 && status.st_size == 0);
    return 0;
}

static void full_file_system_is_named(void **state) {
    (void)state;
    child_run(begin_on_full_file_system, NULL);
}

static void sealed_memfd_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    struct heap_file sealed;
    int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    assert_int_equal(file_open_fd(fd, 0, &sealed), 0);
    assert_refused(superblock_begin(&sealed, &superblock), EACCES, "sealed");
    file_close(&sealed);
    (void)close(fd);
}

/* ---- what is no heap ---- */

static void other_content_is_no_heap(void **state) {
    (void)state;
    char zeros[8192] = {0};
    assert_int_equal(pwrite(file.fd, "abc", 3, 0), 3);
    assert_refused(read_error(), EUCLEAN, "not a heap");
    assert_says("3 bytes");
    assert_int_equal(pwrite(file.fd, zeros, sizeof(zeros), 0), sizeof(zeros));
    assert_refused(read_error(), EUCLEAN, "magic is 0x0000000000000000");
    assert_says("0x31616e6572616873");
    memset(zeros, 'A', sizeof(zeros));
    assert_int_equal(pwrite(file.fd, zeros, sizeof(zeros), 0), sizeof(zeros));
    assert_refused(read_error(), EUCLEAN, "magic is 0x4141414141414141");
}

static void every_flipped_byte_is_noticed(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    for (size_t i = 0; i < sizeof(superblock); i++) {
        ((unsigned char *)&superblock)[i] ^= 0x10;
        write_heap(&superblock);
        ((unsigned char *)&superblock)[i] ^= 0x10;
        int error = read_error();
        assert_true(error == EUCLEAN || error == ENOEXEC);
    }
    write_heap(&superblock);
    assert_state(FILE_HEAP);
}

static void checksum_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    superblock.limit_bytes++;
    write_heap(&superblock);
    assert_refused(read_error(), EUCLEAN, "checksum");
}

static void other_byte_order_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    superblock.endian = __builtin_bswap32(superblock.endian);
    superblock.magic = __builtin_bswap64(MAGIC_HEAP);
    write_heap(&superblock);
    assert_refused(read_error(), ENOEXEC, "byte order");
    superblock.magic = __builtin_bswap64(MAGIC_CREATING);
    write_heap(&superblock);
    assert_refused(read_error(), ENOEXEC, "byte order");
    superblock.magic = MAGIC_HEAP;
    write_heap(&superblock);
    assert_refused(read_error(), ENOEXEC, "0x04030201");
    superblock.endian = 7;
    write_heap(&superblock);
    assert_refused(read_error(), EUCLEAN, "endian is 0x00000007");
}

static void other_version_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    superblock.format_version = 77;
    write_heap(&superblock); /* whose checksum may be another version's */
    assert_refused(read_error(), ENOEXEC, "version 77");
    assert_says("version 1");
}

static void other_layout_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    write_heap(&superblock);
    superblock_expect(HEAP_FINGERPRINT + 1);
    assert_refused(read_error(), ENOEXEC, "fingerprint");
    superblock_expect(HEAP_FINGERPRINT);
    assert_state(FILE_HEAP);
}

static void implausible_with_good_checksum(struct superblock superblock, const char *word) {
    superblock.checksum = sum_of(superblock);
    write_heap(&superblock);
    assert_refused(read_error(), EUCLEAN, word);
}

static void implausible_fields_are_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    superblock.base_address += PAGE_BYTES;
    implausible_with_good_checksum(superblock, "base_address");
    superblock.base_address = 0;
    implausible_with_good_checksum(superblock, "base_address is 0x0");
    superblock.base_address = UINT64_MAX - (1u << 30) + 1;
    implausible_with_good_checksum(superblock, "base_address is 0xffffffffc0000000");
    superblock = good_superblock();
    superblock.total_bytes--;
    implausible_with_good_checksum(superblock, "total_bytes is 0x3fffffff");
    superblock = good_superblock();
    superblock.data_offset = 0;
    implausible_with_good_checksum(superblock, "data_offset is 0x0");
}

static void truncated_heap_is_named(void **state) {
    (void)state;
    struct superblock superblock = good_superblock();
    write_heap(&superblock);
    assert_int_equal(ftruncate(file.fd, (off_t)TOTAL - 1), 0);
    assert_refused(read_error(), EUCLEAN, "truncated");
    assert_says("1073741823");
    assert_says("1073741824");
    assert_int_equal(ftruncate(file.fd, 40), 0);
    assert_refused(read_error(), EUCLEAN, "truncated");
    assert_int_equal(ftruncate(file.fd, 8), 0);
    assert_refused(read_error(), EUCLEAN, "truncated");
}

static void read_failure_is_passed_on(void **state) {
    (void)state;
    int error;
    struct heap_file closed = file;
    enum file_state file_state;
    struct superblock superblock;
    closed.fd = -1;
    error = superblock_read(&closed, &file_state, &superblock);
    assert_int_equal(error, EBADF);
    assert_says("cannot be read");
}

static void hash_is_fnv_1a(void **state) {
    (void)state;
    assert_true(superblock_hash(SUPERBLOCK_HASH_SEED, "", 0) == 0xcbf29ce484222325);
    assert_true(superblock_hash(SUPERBLOCK_HASH_SEED, "a", 1) == 0xaf63dc4c8601ec8c);
    assert_true(superblock_hash(SUPERBLOCK_HASH_SEED, "foobar", 6) == 0x85944171f73967e8);
}

#define with_file(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_as_wished),
        cmocka_unit_test(base_is_chosen_at_random_and_free),
        cmocka_unit_test(chosen_heap_ends_inside_the_window),
        cmocka_unit_test(base_that_is_wished_is_taken),
        cmocka_unit_test(biggest_heap_has_a_base),
        cmocka_unit_test(bad_wishes_are_named),
        cmocka_unit_test(no_free_base_is_an_error),
        with_file(creation_goes_from_empty_to_heap),
        with_file(abandoned_creation_is_empty),
        with_file(creation_removes_what_was_there),
        with_file(half_made_is_unfinished),
        with_file(small_rlimit_fsize_is_named),
        cmocka_unit_test(length_beyond_the_file_system_is_named),
        cmocka_unit_test(full_file_system_is_named),
        cmocka_unit_test(sealed_memfd_is_named),
        with_file(other_content_is_no_heap),
        with_file(every_flipped_byte_is_noticed),
        with_file(checksum_is_named),
        with_file(other_byte_order_is_named),
        with_file(other_version_is_named),
        with_file(other_layout_is_named),
        with_file(implausible_fields_are_named),
        with_file(truncated_heap_is_named),
        with_file(read_failure_is_passed_on),
        cmocka_unit_test(hash_is_fnv_1a),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
