/* lockfile.c -- see lockfile.h. */
#include "lockfile.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_PATIENCE_SECONDS 2.0

static int lockfile_name(const char *heap_path, char name[PATH_MAX]) {
    int length = snprintf(name, PATH_MAX, "%s.lock", heap_path);

    return length < 0 || length >= PATH_MAX ? ENAMETOOLONG : 0;
}

/* The lock counts only if the file still has its name: its last holder may have removed it. */
static bool lockfile_is_current(int fd, const char *name) {
    struct stat mine;
    struct stat named;

    return fstat(fd, &mine) == 0 && stat(name, &named) == 0 && mine.st_dev == named.st_dev &&
           mine.st_ino == named.st_ino;
}

/* Whoever was killed a moment ago, and its children, may still be on their way out. */
static int lockfile_wait(int fd, int operation) {
    uint64_t start_ns = clock_now_ns();

    while (flock(fd, operation | LOCK_NB) != 0) {
        if (errno != EINTR &&
            (errno != EWOULDBLOCK || clock_seconds_since(start_ns) > LOCK_PATIENCE_SECONDS)) {
            return errno;
        }
        clock_sleep_ms(5);
    }
    return 0;
}

static int lockfile_take(const char *heap_path, int open_flags, int operation, int *fd) {
    char name[PATH_MAX];
    int error = lockfile_name(heap_path, name);

    *fd = -1;
    while (error == 0) {
        int lock = open(name, open_flags | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (lock < 0) {
            return errno;
        }
        error = lockfile_wait(lock, operation);
        if (error == 0 && lockfile_is_current(lock, name)) {
            *fd = lock;
            return 0;
        }
        close(lock);
    }
    return error;
}

int lockfile_take_alone(const char *heap_path, int *fd) {
    return lockfile_take(heap_path, O_RDWR | O_CREAT, LOCK_EX, fd);
}

int lockfile_take_shared(const char *heap_path, int *fd) {
    int error = lockfile_take(heap_path, O_RDONLY, LOCK_SH, fd);

    return error == ENOENT ? 0 : error;
}

void lockfile_release(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

void lockfile_remove(const char *heap_path) {
    char name[PATH_MAX];

    if (lockfile_name(heap_path, name) == 0) {
        unlink(name);
    }
}
