/* test_file.c -- what is opened and what is refused; descriptors, reopening, the open lock. */
/* ctest: not under valgrind: it mounts, changes uids and kills */
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "ipc/file.h"
#include "scratch.h"

#define SOMEBODY 54321 /* a user and a group that is not us */

static char path[SCRATCH_MAX];

static int choose_path(void **state) {
    (void)state;
    (void)scratch_path(path, "file");
    return 0;
}

static int remove_path(void **state) {
    (void)state;
    if (unlink(path) != 0) {
        (void)rmdir(path);
    }
    return 0;
}

/* Opens the path read-write, making it if need be. */
static int open_here(struct heap_file *file) {
    int made;
    return file_open_path(path, 0, 1, 0, 0, file, &made);
}

static int open_error(int readonly, int create) {
    struct heap_file file;
    int made = 7;
    int error = file_open_path(path, readonly, create, 0, 0, &file, &made);
    assert_true(error != 0);
    assert_int_equal(file.fd, -1);
    assert_int_equal(made, 0);
    return error;
}

static void make_raw(mode_t mode) {
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

/* ---- judgements ---- */

static void local_file_systems_are_usable(void **state) {
    (void)state;
    static const uint32_t magics[] = {0x01021994, 0x858458f6, 0xef53,     0x58465342, 0x9123683e,
                                      0xf2f52010, 0x2fc12fc1, 0xca451a4e, 0x794c7630};
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        int is_usable = 0;
        assert_non_null(file_system_name(magics[i], &is_usable));
        assert_int_equal(is_usable, 1);
    }
}

static void other_file_systems_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t magic;
        const char *name;
    } others[] = {{0x6969, "NFS"},          {0x65735546, "FUSE"}, {0xff534d42, "CIFS"},
                  {0xfe534d42, "SMB"},      {0x01021997, "9p"},   {0x00c36400, "Ceph"},
                  {0x958458f6, "hugetlbfs"}};
    int is_usable = 1;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        is_usable = 1;
        assert_string_equal(file_system_name(others[i].magic, &is_usable), others[i].name);
        assert_int_equal(is_usable, 0);
    }
    is_usable = 1;
    assert_null(file_system_name(0x12345678, &is_usable));
    assert_int_equal(is_usable, 0);
}

static void trust_in_owners(void **state) {
    (void)state;
    assert_true(file_is_trusted(1000, 0600, 1000, 0));
    assert_true(file_is_trusted(1000, 0666, 1000, 0)); /* our own choice */
    assert_true(file_is_trusted(0, 0600, 1000, 0));
    assert_false(file_is_trusted(1001, 0600, 1000, 0));
    assert_false(file_is_trusted(1001, 0660, 1000, 0));
    assert_false(file_is_trusted(1001, 0666, 1000, 0));
    assert_true(file_is_trusted(1001, 0660, 1000, 1));
    assert_false(file_is_trusted(1001, 0640, 1000, 1));
    assert_false(file_is_trusted(1001, 0666, 1000, 1));
    assert_false(file_is_trusted(1001, 0600, 0, 0)); /* root has the most to lose */
}

/* ---- open by path ---- */

static void made_once_with_the_mode_whatever_the_umask(void **state) {
    (void)state;
    static const struct {
        unsigned wished;
        unsigned given;
    } modes[] = {{0, 0600}, {0660, 0660}, {0666, 0666}, {06777, 0777}};
    mode_t kept = umask(077);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct heap_file file;
        struct stat status;
        int made = 0;
        assert_int_equal(file_open_path(path, 0, 1, 0, modes[i].wished, &file, &made), 0);
        assert_int_equal(made, 1);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, modes[i].given);
        assert_true(status.st_dev == file.device && status.st_ino == file.inode);
        assert_string_equal(file.name, path);
        file_close(&file);
        assert_int_equal(file_open_path(path, 0, 1, 0, 0600, &file, &made), 0);
        assert_int_equal(made, 0);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, modes[i].given); /* left as it was */
        file_close(&file);
        assert_int_equal(unlink(path), 0);
    }
    (void)umask(kept);
}

static void exclusive_refuses_what_is_there(void **state) {
    (void)state;
    struct heap_file file;
    int made;
    assert_int_equal(file_open_path(path, 0, 1, 1, 0, &file, &made), 0);
    file_close(&file);
    assert_refused(file_open_path(path, 0, 1, 1, 0, &file, &made), EEXIST, "exists");
    assert_int_equal(made, 0);
}

static void missing_is_refused(void **state) {
    (void)state;
    struct heap_file file;
    int made;
    assert_refused(open_error(0, 0), ENOENT, path);
    assert_refused(open_error(1, 1), ENOENT, path); /* to look at nothing makes nothing */
    assert_int_equal(access(path, F_OK), -1);
    assert_refused(file_open_path("/nonexistent/heap", 0, 1, 0, 0, &file, &made), ENOENT,
                   "directory");
    assert_refused(file_open_path("", 0, 1, 0, 0, &file, &made), ENOENT, "empty");
    assert_refused(file_open_path(NULL, 0, 1, 0, 0, &file, &made), EINVAL, "empty");
}

static void link_is_refused(void **state) {
    (void)state;
    assert_int_equal(symlink("/dev/shm/nonexistent", path), 0);
    assert_refused(open_error(0, 0), ELOOP, "symbolic link");
    assert_refused(open_error(0, 1), ELOOP, "symbolic link");
    assert_int_equal(access("/dev/shm/nonexistent", F_OK), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/bin/sh", path), 0);
    assert_refused(open_error(0, 0), ELOOP, "symbolic link");
    assert_refused(open_error(1, 0), ELOOP, "symbolic link");
}

static void other_kinds_are_refused_and_named(void **state) {
    (void)state;
    struct heap_file file;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int made;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(open_error(0, 1), ENODEV, "a directory");
    assert_refused(open_error(1, 0), ENODEV, "a directory");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(open_error(0, 1), ENODEV, "a fifo"); /* and does not wait for its other end */
    assert_refused(open_error(1, 0), ENODEV, "a fifo");
    assert_int_equal(unlink(path), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_refused(open_error(0, 1), ENODEV, "a socket");
    (void)close(fd);
    assert_refused(file_open_path("/dev/null", 0, 0, 0, 0, &file, &made), ENODEV,
                   "a character device");
}

static void unusable_file_system_is_named(void **state) {
    (void)state;
    struct heap_file file;
    int made;
    assert_refused(file_open_path("/proc/self/comm", 0, 1, 0, 0, &file, &made), ENODEV, "procfs");
    assert_says("0x9fa0");
}

static int make_on_hugetlbfs(void *arg) {
    (void)arg;
    struct heap_file file;
    int made = 7;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/dev/shm", "hugetlbfs", 0, NULL) != 0) {
        (void)fprintf(stderr, "skipped: no permission to mount a hugetlbfs\n");
        return CHILD_SKIP;
    }
    REQUIRE(file_open_path(path, 0, 1, 0, 0, &file, &made) == ENODEV);
    REQUIRE(strstr(error_message(), "hugetlbfs") != NULL);
    REQUIRE(made == 0 && file.fd == -1);
    REQUIRE(access(path, F_OK) == -1 && errno == ENOENT); /* what was made is gone */
    return 0;
}

static void refused_creation_leaves_nothing(void **state) {
    (void)state;
    child_run(make_on_hugetlbfs, NULL);
}

static void need_root(void) {
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: only root can give files away\n");
        skip();
    }
}

static void somebody_elses_file_is_refused(void **state) {
    (void)state;
    need_root();
    make_raw(0600);
    assert_int_equal(chown(path, SOMEBODY, SOMEBODY), 0);
    assert_refused(open_error(0, 1), EACCES, "somebody else's");
    assert_says("uid 54321");
    assert_says("0600");
    assert_refused(open_error(1, 0), EACCES, "somebody else's");
    assert_int_equal(chmod(path, 0666), 0);
    assert_refused(open_error(0, 1), EACCES, "0666");
}

/* Opens as another user, of group SOMEBODY by its supplementary groups. */
static int open_as_group_member(void *arg) {
    const gid_t groups[] = {1, SOMEBODY, 2};
    struct heap_file file;
    int expected = *(int *)arg;
    REQUIRE(setgroups(3, groups) == 0);
    REQUIRE(setgid(SOMEBODY + 1) == 0 && setuid(SOMEBODY + 1) == 0);
    REQUIRE(open_here(&file) == expected);
    return 0;
}

static void group_shared_file_is_trusted(void **state) {
    (void)state;
    int fine = 0;
    int refused = EACCES;
    need_root();
    make_raw(0660);
    assert_int_equal(chown(path, SOMEBODY, SOMEBODY), 0);
    child_run(open_as_group_member, &fine);
    assert_int_equal(chmod(path, 0666), 0);
    child_run(open_as_group_member, &refused);
    assert_int_equal(chmod(path, 0640), 0);
    child_run(open_as_group_member, &refused);
}

static int open_without_permission(void *arg) {
    (void)arg;
    struct heap_file file;
    REQUIRE(setuid(SOMEBODY) == 0);
    REQUIRE(open_here(&file) == EACCES);
    REQUIRE(strstr(error_message(), "owner uid 0, mode 0600; we are uid 54321") != NULL);
    return 0;
}

static void missing_permission_names_owner_and_mode(void **state) {
    (void)state;
    need_root();
    make_raw(0600);
    child_run(open_without_permission, NULL);
}

static void long_paths(void **state) {
    (void)state;
    static char name[8192];
    struct heap_file file;
    int made;
    memset(name, '/', sizeof(name) - 1);
    assert_refused(file_open_path(name, 0, 1, 0, 0, &file, &made), ENAMETOOLONG, "4095");
    size_t padding = 3000;
    (void)snprintf(name + padding, sizeof(name) - padding, "%s", path);
    assert_int_equal(file_open_path(name, 0, 1, 0, 0, &file, &made), 0);
    assert_int_equal(strlen(file.title), FILE_TITLE_BYTES - 1);
    assert_memory_equal(file.title, "...", 3);
    assert_non_null(strstr(file.title, path));
    file_close(&file);
}

static int open_relative(void *arg) {
    (void)arg;
    struct heap_file file;
    int made;
    REQUIRE(chdir("/dev/shm") == 0);
    REQUIRE(file_open_path(strrchr(path, '/') + 1, 0, 1, 0, 0, &file, &made) == 0);
    REQUIRE(strcmp(file.name, path) == 0);
    REQUIRE(chdir("/") == 0);
    REQUIRE(close(file.fd) == 0);
    REQUIRE(file_reopen(&file) >= 0);
    REQUIRE(unlink(path) == 0);
    REQUIRE(file_open_path(path + 1, 0, 1, 0, 0, &file, &made) == 0);
    REQUIRE(strcmp(file.name, path) == 0); /* no double slash */
    return 0;
}

static void relative_path_is_made_absolute(void **state) {
    (void)state;
    child_run(open_relative, NULL);
}

/* ---- our descriptor ---- */

static void descriptor_is_out_of_the_way(void **state) {
    (void)state;
    struct heap_file file;
    int lowest = dup(STDERR_FILENO);
    assert_int_equal(close(lowest), 0);
    assert_int_equal(open_here(&file), 0);
    assert_true(file.fd >= 512);
    assert_int_equal(fcntl(file.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(file.fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_RDWR);
    int next = dup(STDERR_FILENO); /* the low number is free again */
    assert_int_equal(next, lowest);
    assert_int_equal(close(next), 0);
    file_close(&file);
    assert_int_equal(file.fd, -1);
    file_close(&file);
    assert_int_equal(open_here(&file), 0); /* what was there already is opened with O_NONBLOCK */
    assert_int_equal(fcntl(file.fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_RDWR);
    file_close(&file);
}

static int open_with_few_descriptors(void *arg) {
    (void)arg;
    struct heap_file file;
    const struct rlimit limit = {.rlim_cur = 32, .rlim_max = 32};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE(close(0) == 0 && close(1) == 0);
    REQUIRE(open_here(&file) == 0);
    REQUIRE(file.fd > 2); /* never where a program expects its standard streams */
    REQUIRE(fcntl(0, F_GETFD) == -1);
    return 0;
}

static void descriptor_stays_low_where_it_must(void **state) {
    (void)state;
    child_run(open_with_few_descriptors, NULL);
}

static void reused_number_is_not_closed(void **state) {
    (void)state;
    struct heap_file file;
    assert_int_equal(open_here(&file), 0);
    int number = file.fd;
    assert_int_equal(dup2(STDERR_FILENO, number), number);
    file_close(&file);
    assert_true(fcntl(number, F_GETFD) >= 0);
    assert_int_equal(close(number), 0);
}

/* ---- open by descriptor ---- */

/* 1 if a and b are different descriptions of one file: their locks conflict. */
static int are_descriptions_apart(int a, int b) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    assert_int_equal(fcntl(a, F_OFD_SETLK, &lock), 0);
    struct flock probe = lock;
    assert_int_equal(fcntl(b, F_OFD_GETLK, &probe), 0);
    lock.l_type = F_UNLCK;
    assert_int_equal(fcntl(a, F_OFD_SETLK, &lock), 0);
    return probe.l_type != F_UNLCK;
}

static void memfd_gets_a_description_of_our_own(void **state) {
    (void)state;
    struct heap_file file;
    int fd = memfd_create("sharena-test", MFD_CLOEXEC);
    assert_int_equal(file_open_fd(fd, 0, &file), 0);
    assert_true(file.fd >= 512);
    assert_string_equal(file.name, "");
    assert_non_null(strstr(file.title, "memfd:sharena-test"));
    assert_int_equal(are_descriptions_apart(fd, file.fd), 1);
    assert_int_equal(are_descriptions_apart(file.fd, dup(file.fd)), 0);
    assert_int_equal(file_is_linked(&file), 1);
    assert_int_equal(close(fd), 0);
    int anew = file_reopen(&file);
    assert_true(anew >= 0);
    assert_int_equal(are_descriptions_apart(anew, file.fd), 1);
    (void)close(anew);
    file_close(&file);
}

static void assert_fd_refused(int fd, int readonly, int error, const char *word) {
    struct heap_file file;
    assert_refused(file_open_fd(fd, readonly, &file), error, word);
    assert_int_equal(file.fd, -1);
    (void)close(fd);
}

static void descriptor_needs_the_right_access(void **state) {
    (void)state;
    struct heap_file file;
    make_raw(0600);
    assert_fd_refused(open(path, O_RDONLY), 0, EACCES, "reading");
    assert_fd_refused(open(path, O_WRONLY), 0, EACCES, "writing");
    assert_fd_refused(open(path, O_WRONLY), 1, EACCES, "O_RDONLY");
    assert_fd_refused(open(path, O_PATH), 0, EBADF, "O_PATH");
    assert_fd_refused(-1, 0, EBADF, "not open");
    assert_fd_refused(9999, 0, EBADF, "9999");
    int fd = open(path, O_RDONLY);
    assert_int_equal(file_open_fd(fd, 1, &file), 0);
    assert_int_equal(fcntl(file.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(file.is_readonly, 1);
    file_close(&file);
    (void)close(fd);
}

static void descriptor_of_another_kind_is_refused(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_fd_refused(ends[0], 1, ENODEV, "a fifo");
    (void)close(ends[1]);
    assert_fd_refused(open("/dev/null", O_RDWR), 0, ENODEV, "a character device");
    assert_fd_refused(open("/dev/shm", O_RDONLY), 1, ENODEV, "a directory");
}

static void sealed_memfd_is_for_readers(void **state) {
    (void)state;
    static const int seals[] = {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};
    for (size_t i = 0; i < 2; i++) {
        struct heap_file file;
        int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        assert_int_equal(file_open_fd(fd, 1, &file), 0);
        file_close(&file);
        assert_fd_refused(fd, 0, EACCES, "sealed");
    }
}

static int open_passed_descriptor(void *arg) {
    struct heap_file file;
    int fd = *(int *)arg;
    REQUIRE(setuid(SOMEBODY) == 0);
    REQUIRE(file_open_fd(fd, 0, &file) == EACCES);
    REQUIRE(strstr(error_message(), "anew") != NULL);
    return 0;
}

static void descriptor_that_cannot_be_reopened_is_refused(void **state) {
    (void)state;
    need_root();
    make_raw(0600);
    int fd = open(path, O_RDWR);
    child_run(open_passed_descriptor, &fd);
    (void)close(fd);
}

/* ---- open anew ---- */

static void reopened_is_another_description(void **state) {
    (void)state;
    struct heap_file file;
    assert_int_equal(open_here(&file), 0);
    int anew = file_reopen(&file);
    assert_true(anew >= 0);
    assert_int_equal(are_descriptions_apart(file.fd, anew), 1);
    assert_int_equal(fcntl(anew, F_GETFD), FD_CLOEXEC);
    (void)close(anew);
    assert_int_equal(unlink(path), 0); /* no name, but our descriptor */
    anew = file_reopen(&file);
    assert_true(anew >= 0);
    (void)close(anew);
    file_close(&file);
}

static void stolen_descriptor_is_replaced_by_the_name(void **state) {
    (void)state;
    struct heap_file file;
    assert_int_equal(open_here(&file), 0);
    int other = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    assert_int_equal(dup2(other, file.fd), file.fd);
    int anew = file_reopen(&file);
    assert_true(anew >= 0);
    struct stat status;
    assert_int_equal(fstat(anew, &status), 0);
    assert_true(status.st_ino == file.inode);
    (void)close(anew);
    assert_int_equal(close(file.fd), 0);
    anew = file_reopen(&file);
    assert_true(anew >= 0);
    (void)close(anew);
    assert_int_equal(unlink(path), 0);
    make_raw(0600); /* another file of that name */
    assert_refused((errno = 0, file_reopen(&file)), -1, "closed our descriptor");
    assert_int_equal(errno, ENOENT);
    (void)close(other);
}

static void closed_memfd_is_lost(void **state) {
    (void)state;
    struct heap_file file;
    int fd = memfd_create("lost", MFD_CLOEXEC);
    assert_int_equal(file_open_fd(fd, 0, &file), 0);
    (void)close(file.fd);
    errno = 0;
    assert_refused(file_reopen(&file), -1, "closed our descriptor");
    assert_int_equal(errno, ENOENT);
    assert_refused(file_lock_open(&file), -1, "memfd:lost");
    assert_int_equal(errno, ENOENT);
    (void)close(fd);
}

static int reopen_without_descriptors(void *arg) {
    const struct heap_file *file = arg;
    const struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE(file_reopen(file) == -1 && errno == EMFILE);
    REQUIRE(strstr(error_message(), strerror(EMFILE)) != NULL);
    return 0;
}

static void lack_of_descriptors_is_said(void **state) {
    (void)state;
    struct heap_file file;
    assert_int_equal(open_here(&file), 0);
    child_run(reopen_without_descriptors, &file);
    file_close(&file);
}

/* ---- the open lock ---- */

static struct heap_file shared_file;
static int ends[2];

static int is_open_locked(void) {
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (1ll << 62) - 1, .l_len = 1};
    assert_int_equal(fcntl(shared_file.fd, F_OFD_GETLK, &lock), 0);
    return lock.l_type != F_UNLCK;
}

static int hold_lock_a_while(void *arg) {
    (void)arg;
    int lock = file_lock_open(&shared_file);
    REQUIRE(lock >= 512);
    REQUIRE(write(ends[1], "x", 1) == 1);
    (void)usleep(100000);
    REQUIRE(write(ends[1], "y", 1) == 1);
    file_unlock_open(lock);
    return 0;
}

static void on_alarm(int signal_number) {
    (void)signal_number;
}

static void lock_is_waited_for_through_signals(void **state) {
    (void)state;
    char bytes[2];
    const struct itimerval often = {{0, 5000}, {0, 5000}};
    const struct itimerval never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
    assert_int_equal(open_here(&shared_file), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    pid_t pid = child_start(hold_lock_a_while, NULL);
    while (read(ends[0], &bytes[0], 1) != 1) {
        (void)usleep(1000);
    }
    assert_int_equal(is_open_locked(), 1);
    assert_int_equal(sigaction(SIGVTALRM, &action, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    int lock = file_lock_open(&shared_file);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_true(lock >= 0);
    assert_int_equal(read(ends[0], &bytes[1], 1), 1); /* not before the holder gave it back */
    assert_int_equal(bytes[1], 'y');
    assert_int_equal(child_wait(pid), 0);
    file_unlock_open(lock);
    assert_int_equal(is_open_locked(), 0);
    file_close(&shared_file);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static int wait_to_be_killed(void *arg) {
    (void)arg;
    while (pause() < 0) {
    }
    return 0;
}

static void unlocking_takes_it_from_copies_too(void **state) {
    (void)state;
    assert_int_equal(open_here(&shared_file), 0);
    int lock = file_lock_open(&shared_file);
    pid_t pid = child_start(wait_to_be_killed, NULL); /* which has the descriptor, too */
    file_unlock_open(lock);
    int is_locked = is_open_locked();
    (void)kill(pid, SIGKILL);
    (void)child_wait(pid);
    assert_int_equal(is_locked, 0);
    file_close(&shared_file);
}

static int lock_and_be_killed(void *arg) {
    (void)arg;
    REQUIRE(file_lock_open(&shared_file) >= 0);
    return kill(getpid(), SIGKILL);
}

static void lock_dies_with_its_holder(void **state) {
    (void)state;
    assert_int_equal(open_here(&shared_file), 0);
    int status = child_wait(child_start(lock_and_be_killed, NULL));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(is_open_locked(), 0);
    file_close(&shared_file);
}

static void readers_share_the_lock(void **state) {
    (void)state;
    struct heap_file reader;
    int made;
    assert_int_equal(open_here(&shared_file), 0);
    assert_int_equal(file_open_path(path, 1, 0, 0, 0, &reader, &made), 0);
    int first = file_lock_open(&reader);
    int second = file_lock_open(&reader);
    assert_true(first >= 0 && second >= 0);
    file_unlock_open(first);
    assert_int_equal(is_open_locked(), 1);
    file_unlock_open(second);
    assert_int_equal(is_open_locked(), 0);
    file_close(&reader);
    file_close(&shared_file);
}

static void linked_until_the_name_is_another_files(void **state) {
    (void)state;
    struct heap_file file;
    char moved[SCRATCH_MAX];
    assert_int_equal(open_here(&file), 0);
    assert_int_equal(file_is_linked(&file), 1);
    assert_int_equal(rename(path, scratch_path(moved, "moved")), 0);
    assert_int_equal(file_is_linked(&file), 0);
    assert_int_equal(symlink(moved, path), 0);
    assert_int_equal(file_is_linked(&file), 0);
    assert_int_equal(unlink(path), 0);
    make_raw(0600);
    assert_int_equal(file_is_linked(&file), 0);
    assert_int_equal(rename(moved, path), 0);
    assert_int_equal(file_is_linked(&file), 1);
    file_close(&file);
}

#define with_path(f) cmocka_unit_test_setup_teardown(f, choose_path, remove_path)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_file_systems_are_usable),
        cmocka_unit_test(other_file_systems_are_refused),
        cmocka_unit_test(trust_in_owners),
        with_path(made_once_with_the_mode_whatever_the_umask),
        with_path(exclusive_refuses_what_is_there),
        with_path(missing_is_refused),
        with_path(link_is_refused),
        with_path(other_kinds_are_refused_and_named),
        with_path(unusable_file_system_is_named),
        with_path(refused_creation_leaves_nothing),
        with_path(somebody_elses_file_is_refused),
        with_path(group_shared_file_is_trusted),
        with_path(missing_permission_names_owner_and_mode),
        with_path(long_paths),
        with_path(relative_path_is_made_absolute),
        with_path(descriptor_is_out_of_the_way),
        with_path(descriptor_stays_low_where_it_must),
        with_path(reused_number_is_not_closed),
        with_path(memfd_gets_a_description_of_our_own),
        with_path(descriptor_needs_the_right_access),
        with_path(descriptor_of_another_kind_is_refused),
        with_path(sealed_memfd_is_for_readers),
        with_path(descriptor_that_cannot_be_reopened_is_refused),
        with_path(reopened_is_another_description),
        with_path(stolen_descriptor_is_replaced_by_the_name),
        with_path(closed_memfd_is_lost),
        with_path(lack_of_descriptors_is_said),
        with_path(lock_is_waited_for_through_signals),
        with_path(unlocking_takes_it_from_copies_too),
        with_path(lock_dies_with_its_holder),
        with_path(readers_share_the_lock),
        with_path(linked_until_the_name_is_another_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
