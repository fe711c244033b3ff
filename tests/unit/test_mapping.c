/* test_mapping.c -- mapped at one address or refused with the reason; backed and punched. */
/* ctest: not under valgrind: it sets limits on the address space, which are valgrind's too */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "ipc/mapping.h"
#include "scratch.h"

#define TOTAL (4ull << 30) /* valgrind keeps books on every page of it */
#define MIB (1ull << 20)

static char path[SCRATCH_MAX];
static struct heap_file file;
static struct superblock superblock;

static int make_in(const char *folder) {
    const struct superblock_wish wish = {.total_bytes = TOTAL, .data_offset = 512 * MIB};
    int made;
    return file_open_path(scratch_path_in(path, folder, "mapping"), 0, 1, 1, 0, &file, &made) ||
           ftruncate(file.fd, (off_t)TOTAL) != 0 || superblock_make(&wish, &superblock);
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

static uint64_t backed_bytes(void) {
    struct stat status;
    assert_int_equal(fstat(file.fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

/* ---- map ---- */

static void maps_the_whole_file_at_its_base(void **state) {
    (void)state;
    struct heap_mapping mapping;
    assert_int_equal(mapping_make(&file, &superblock, 0, 0, &mapping), 0);
    assert_true((uintptr_t)mapping.base == superblock.base_address);
    assert_true(mapping.total_bytes == TOTAL);
    assert_int_equal(mapping.is_readonly, 0);
    assert_int_equal(mapping.is_sync, 0); /* plain MAP_SHARED would have taken MAP_SYNC silently */
    assert_int_equal(backed_bytes(), 0);
    uint64_t last = TOTAL - PAGE_BYTES;
    char read_back[6] = "";
    assert_int_equal(mapping_back(mapping.base, last, PAGE_BYTES, 1), 0);
    memcpy(heap_bytes(mapping.base) + last, "hello", 6);
    assert_int_equal(pread(file.fd, read_back, 6, (off_t)last), 6);
    assert_string_equal(read_back, "hello");
    mapping_unmake(&mapping);
    assert_null(mapping.base);
    assert_int_equal(mapping_is_free(superblock.base_address, TOTAL), 1);
    mapping_unmake(&mapping);
}

static void mapping_in_the_way_is_named(void **state) {
    (void)state;
    struct heap_mapping mapping;
    uint64_t end = superblock.base_address + TOTAL;
    void *last_page = (void *)(uintptr_t)(end - PAGE_BYTES);
    void *below = (void *)(uintptr_t)(superblock.base_address - PAGE_BYTES);
    int other = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    assert_true(mmap(below, PAGE_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == below);
    assert_true(mmap(last_page, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, other,
                     0) == last_page);
    assert_refused(mapping_make(&file, &superblock, 0, 0, &mapping), EADDRINUSE, "r--p");
    char address[32];
    (void)snprintf(address, sizeof(address), "%llx-", (unsigned long long)end - PAGE_BYTES);
    assert_says(address);
    assert_says("sh");
    assert_says("base_address");
    assert_null(mapping.base);
    assert_int_equal(mapping_is_free(superblock.base_address, TOTAL), 0);
    assert_int_equal(mapping_is_free(superblock.base_address, TOTAL - PAGE_BYTES), 1);
    assert_int_equal(munmap(last_page, PAGE_BYTES), 0);
    assert_int_equal(munmap(below, PAGE_BYTES), 0);
    (void)close(other);
}

static void twice_is_in_its_own_way(void **state) {
    (void)state;
    struct heap_mapping first;
    struct heap_mapping second;
    assert_int_equal(mapping_make(&file, &superblock, 0, 0, &first), 0);
    assert_refused(mapping_make(&file, &superblock, 0, 0, &second), EADDRINUSE, path);
    assert_int_equal(mapping_back(first.base, 0, PAGE_BYTES, 1), 0); /* the first is whole */
    mapping_unmake(&first);
}

static int map_with_little_address_space(void *arg) {
    (void)arg;
    struct heap_mapping mapping;
    const struct rlimit limit = {.rlim_cur = 1 << 30, .rlim_max = 1 << 30};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE(mapping_make(&file, &superblock, 0, 0, &mapping) == ENOMEM);
    REQUIRE(strstr(error_message(), "RLIMIT_AS is 1073741824") != NULL);
    REQUIRE(strstr(error_message(), "4294967296") != NULL);
    REQUIRE(mapping.base == NULL);
    return 0;
}

static void small_rlimit_as_is_named(void **state) {
    (void)state;
    child_run(map_with_little_address_space, NULL);
}

static void address_beyond_the_machine_is_refused(void **state) {
    (void)state;
    struct heap_mapping mapping;
    superblock.base_address = 1ull << 62;
    assert_refused(mapping_make(&file, &superblock, 0, 0, &mapping), ENOMEM, "address space");
}

static void failure_leaves_no_reservation(void **state) {
    (void)state;
    struct heap_mapping mapping;
    struct heap_file looker;
    int made;
    assert_int_equal(file_open_path(path, 1, 0, 0, 0, &looker, &made), 0);
    assert_refused(mapping_make(&looker, &superblock, 0, 0, &mapping), EACCES, "mapped");
    assert_null(mapping.base);
    assert_int_equal(mapping_is_free(superblock.base_address, TOTAL), 1);
    file_close(&looker);
}

static void sync_is_refused_without_dax(void **state) {
    (void)state;
    struct heap_mapping mapping;
    assert_refused(mapping_make(&file, &superblock, 0, 1, &mapping), EOPNOTSUPP, "MAP_SYNC");
    assert_int_equal(mapping_is_free(superblock.base_address, TOTAL), 1);
}

static void readonly_cannot_be_stored_to(void **state) {
    (void)state;
    struct heap_mapping mapping;
    struct heap_file looker;
    int made;
    int ends[2];
    char byte = 0;
    assert_int_equal(pwrite(file.fd, "x", 1, 0), 1);
    assert_int_equal(file_open_path(path, 1, 0, 0, 0, &looker, &made), 0);
    assert_int_equal(mapping_make(&looker, &superblock, 1, 0, &mapping), 0);
    assert_int_equal(mapping.is_readonly, 1);
    assert_int_equal(heap_bytes(mapping.base)[0], 'x');
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "y", 1), 1);
    assert_int_equal(read(ends[0], heap_bytes(mapping.base), 1), -1); /* the kernel's own store */
    assert_int_equal(errno, EFAULT);
    assert_int_equal(pread(file.fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 'x');
    mapping_unmake(&mapping);
    file_close(&looker);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Whether the VmFlags of the mapping at base hold that flag. */
static int has_vm_flag(uint64_t base, const char *flag) {
    char line[512];
    char head[32];
    int is_ours = 0;
    int is_set = 0;
    (void)snprintf(head, sizeof(head), "%llx-", (unsigned long long)base);
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strncmp(line, "VmFlags:", 8) == 0) {
            is_set |= is_ours && strstr(line, flag) != NULL;
            is_ours = 0;
        } else if (strncmp(line, head, strlen(head)) == 0) {
            is_ours = 1;
        }
    }
    (void)fclose(maps);
    return is_set;
}

static void heap_stays_out_of_core_dumps(void **state) {
    (void)state;
    struct heap_mapping mapping;
    assert_int_equal(mapping_make(&file, &superblock, 0, 0, &mapping), 0);
    assert_int_equal(has_vm_flag(superblock.base_address, " sh "), 1);
    assert_int_equal(has_vm_flag(superblock.base_address, " dd "), 1);
    mapping_unmake(&mapping);
}

static int map_after_mlockall(void *arg) {
    (void)arg;
    struct heap_mapping mapping;
    struct stat status;
    if (mlockall(MCL_FUTURE) != 0) {
        (void)fprintf(stderr, "skipped: mlockall is not permitted\n");
        return CHILD_SKIP;
    }
    (void)alarm(20);
    int error = mapping_make(&file, &superblock, 0, 0, &mapping);
    if (error == EAGAIN) { /* RLIMIT_MEMLOCK, unprivileged */
        REQUIRE(strstr(error_message(), "mlockall") != NULL);
        return 0;
    }
    REQUIRE(error == 0);
    REQUIRE(fstat(file.fd, &status) == 0 && status.st_blocks == 0);
    REQUIRE(mapping_back(mapping.base, 0, PAGE_BYTES, 1) == 0);
    REQUIRE(mapping_punch(mapping.base, 0, PAGE_BYTES) == 0); /* EINVAL for locked pages */
    return 0;
}

static void mlockall_does_not_back_the_heap(void **state) {
    (void)state;
    child_run(map_after_mlockall, NULL);
}

/* ---- back and punch ---- */

static void back_and_punch(void **state) {
    (void)state;
    struct heap_mapping mapping;
    assert_int_equal(mapping_make(&file, &superblock, 0, 0, &mapping), 0);
    char *at = heap_bytes(mapping.base) + 4 * MIB;
    assert_int_equal(mapping_back(mapping.base, 4 * MIB, 2 * MIB, 1), 0);
    assert_true(backed_bytes() == 2 * MIB);
    at[0] = 'x';
    at[MIB] = 'y';
    assert_int_equal(mapping_back(mapping.base, 4 * MIB, 4 * MIB, 0), 0); /* half of it backed */
    assert_true(backed_bytes() == 4 * MIB);
    assert_int_equal(at[0], 'x');
    assert_int_equal(mapping_punch(mapping.base, 4 * MIB, MIB), 0);
    assert_true(backed_bytes() == 3 * MIB);
    assert_int_equal(mapping_punch(mapping.base, 4 * MIB, MIB), 0); /* again */
    assert_int_equal(mapping_back(mapping.base, 4 * MIB, PAGE_BYTES, 1), 0);
    assert_int_equal(at[0], 0);
    assert_int_equal(at[MIB], 'y');
    mapping_unmake(&mapping);
}

/* A tmpfs of 1 MiB that nobody else sees, at /dev/shm, in this child alone. */
static int enter_small_tmpfs(void) {
    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, "size=1m,mode=1777") == 0;
}

static uint64_t free_blocks(void) {
    struct statfs status;
    return statfs("/dev/shm", &status) == 0 ? status.f_bfree : UINT64_MAX;
}

static int fill_file_system(void *arg) {
    (void)arg;
    struct heap_mapping mapping;
    if (!enter_small_tmpfs()) {
        (void)fprintf(stderr, "skipped: no permission to mount a small tmpfs\n");
        return CHILD_SKIP;
    }
    REQUIRE(make_in("/dev/shm") == 0);
    REQUIRE(mapping_make(&file, &superblock, 0, 0, &mapping) == 0);
    REQUIRE(mapping_back(mapping.base, 0, PAGE_BYTES, 1) == 0);
    uint64_t before = free_blocks();
    REQUIRE(before == 255);
    REQUIRE(mapping_back(mapping.base, 2 * MIB, 2 * MIB, 1) == ENOMEM);
    REQUIRE(free_blocks() == before);
    REQUIRE(mapping_back(mapping.base, 2 * MIB, 2 * MIB, 0) == ENOMEM);
    REQUIRE(free_blocks() == 0); /* what may have been backed before is not taken away */
    REQUIRE(mapping_back(mapping.base, 8 * MIB, PAGE_BYTES, 1) == ENOMEM);
    REQUIRE(mapping_punch(mapping.base, 2 * MIB, 2 * MIB) == 0); /* needs no space */
    REQUIRE(free_blocks() == before);
    heap_bytes(mapping.base)[0] = 'x'; /* the page that was there still is */
    return 0;
}

static void full_file_system_is_enomem_not_sigbus(void **state) {
    (void)state;
    child_run(fill_file_system, NULL);
}

/* ---- the kernel ---- */

static void this_kernel_will_do(void **state) {
    (void)state;
    assert_int_equal(mapping_check_kernel(), 0);
}

/* Makes madvise(..., 23) return EINVAL in this process from now on. */
static int forbid_populate_write(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 23, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static int check_old_kernel(void *arg) {
    (void)arg;
    if (!forbid_populate_write()) {
        (void)fprintf(stderr, "skipped: no seccomp filters here\n");
        return CHILD_SKIP;
    }
    REQUIRE(mapping_check_kernel() == EOPNOTSUPP);
    REQUIRE(strstr(error_message(), "5.14") != NULL);
    return 0;
}

static void old_kernel_is_refused(void **state) {
    (void)state;
    child_run(check_old_kernel, NULL);
}

#define with_file(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_file(maps_the_whole_file_at_its_base),
        with_file(mapping_in_the_way_is_named),
        with_file(twice_is_in_its_own_way),
        with_file(small_rlimit_as_is_named),
        with_file(address_beyond_the_machine_is_refused),
        with_file(failure_leaves_no_reservation),
        with_file(sync_is_refused_without_dax),
        with_file(readonly_cannot_be_stored_to),
        with_file(heap_stays_out_of_core_dumps),
        with_file(mlockall_does_not_back_the_heap),
        with_file(back_and_punch),
        cmocka_unit_test(full_file_system_is_enomem_not_sigbus),
        cmocka_unit_test(this_kernel_will_do),
        cmocka_unit_test(old_kernel_is_refused),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
