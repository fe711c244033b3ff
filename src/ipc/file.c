/* file.c -- the heap's file: opened, verified, opened anew, locked.
 *
 * Holds:  file->fd is -1 or refers to the file of device and inode, unless the application has
 *         closed it behind our back: whoever uses it later checks, or can live with an error.
 *         What is opened is a regular file, trusted, on a file system of the list below.
 * Lock:   none held; file_lock_open() is where the open lock is taken.
 * Killed: a file that was made but not yet filled stays, empty: no later open takes it for a heap.
 *         The kernel drops the open lock with its description.
 * Not here: what is in the file (superblock.c), its pages (mapping.c), proofs of life (token.c).
 */
#include "ipc/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "ipc/errors.h"
#include "ipc/layout.h"

#define DEFAULT_MODE 0600u
#define HIGH_DESCRIPTOR 512 /* ours live from here on, where the limit allows it */
#define GROUPS_MAX 1024     /* a user in more groups than this has to own the file */
#define OPEN_TRIES 100      /* against somebody who makes and removes the file in a loop */

/* ---- judgements ---- */

struct file_system {
    uint32_t magic;
    int is_usable;
    const char *name;
};

static const struct file_system file_systems[] = {
    {0x01021994, 1, "tmpfs"},  {0x858458f6, 1, "ramfs"},     {0x0000ef53, 1, "ext4"},
    {0x58465342, 1, "xfs"},    {0x9123683e, 1, "btrfs"},     {0xf2f52010, 1, "f2fs"},
    {0x2fc12fc1, 1, "zfs"},    {0xca451a4e, 1, "bcachefs"},  {0x794c7630, 1, "overlayfs"},
    {0x00006969, 0, "NFS"},    {0x65735546, 0, "FUSE"},      {0xff534d42, 0, "CIFS"},
    {0xfe534d42, 0, "SMB"},    {0x0000517b, 0, "SMB"},       {0x01021997, 0, "9p"},
    {0x00c36400, 0, "Ceph"},   {0x5346414f, 0, "AFS"},       {0x6b414653, 0, "AFS"},
    {0x01161970, 0, "GFS2"},   {0x7461636f, 0, "OCFS2"},     {0x0bd00bd0, 0, "Lustre"},
    {0x786f4256, 0, "vboxsf"}, {0x958458f6, 0, "hugetlbfs"}, {0x0000f15f, 0, "eCryptfs"},
    {0x00004d44, 0, "FAT"},    {0x2011bab0, 0, "exFAT"},     {0x7366746e, 0, "NTFS"},
    {0x00009fa0, 0, "procfs"}, {0x62656572, 0, "sysfs"},     {0x73717368, 0, "squashfs"},
};

const char *file_system_name(uint32_t magic, int *is_usable) {
    *is_usable = 0;
    for (size_t i = 0; i < sizeof(file_systems) / sizeof(file_systems[0]); i++) {
        if (file_systems[i].magic == magic) {
            *is_usable = file_systems[i].is_usable;
            return file_systems[i].name;
        }
    }
    return NULL;
}

int file_is_trusted(uid_t owner, mode_t mode, uid_t user, int is_member) {
    if (owner == user || owner == 0) {
        return 1;
    }
    return is_member && (mode & S_IWGRP) != 0 && (mode & S_IWOTH) == 0;
}

static int is_member_of(gid_t group) {
    gid_t groups[GROUPS_MAX];
    if (group == getegid()) {
        return 1;
    }
    int count = getgroups(GROUPS_MAX, groups);
    for (int i = 0; i < count; i++) {
        if (groups[i] == group) {
            return 1;
        }
    }
    return 0;
}

static const char *kind_name(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a fifo";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
        return "a character device";
    case S_IFBLK:
        return "a block device";
    default:
        return "something unknown";
    }
}

/* ---- verify ---- */

static int verify_owner(const struct stat *status, const char *title) {
    uid_t user = geteuid();
    if (file_is_trusted(status->st_uid, status->st_mode, user, is_member_of(status->st_gid))) {
        return 0;
    }
    return error_set(
        EACCES,
        "%s: somebody else's file (owner uid %u, gid %u, mode 0%03o; we are uid %u); a "
        "heap must be our own or root's, or be shared with a group of ours by g+w "
        "without o+w",
        title, (unsigned)status->st_uid, (unsigned)status->st_gid,
        (unsigned)status->st_mode & 07777, (unsigned)user);
}

static int verify_file_system(int fd, const char *title) {
    struct statfs status;
    while (fstatfs(fd, &status) != 0) {
        if (errno != EINTR) {
            return error_set(errno, "%s: its file system cannot be told: %m", title);
        }
    }
    int is_usable;
    uint32_t magic = (uint32_t)status.f_type;
    const char *name = file_system_name(magic, &is_usable);
    if (is_usable) {
        return 0;
    }
    return error_set(ENODEV,
                     "%s: lies on %s (magic 0x%x), where processes cannot share a heap; use tmpfs, "
                     "ext4, xfs or another local file system",
                     title, name != NULL ? name : "an unknown file system", magic);
}

/* Takes what fd refers to for the heap's file, if it can be one. */
static int verify_and_identify(int fd, struct heap_file *file) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return error_set(errno, "%s: cannot be examined: %m", file->title);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(ENODEV, "%s: is %s; a heap needs a regular file", file->title,
                         kind_name(status.st_mode));
    }
    int error = verify_owner(&status, file->title);
    if (error == 0) {
        error = verify_file_system(fd, file->title);
    }
    if (error == 0) {
        file->device = status.st_dev;
        file->inode = status.st_ino;
    }
    return error;
}

static int is_same_file(int fd, const struct heap_file *file) {
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_dev == file->device && status.st_ino == file->inode;
}

/* ---- names and numbers ---- */

static void set_title(struct heap_file *file, const char *text) {
    size_t length = strlen(text);
    if (length < FILE_TITLE_BYTES) {
        memcpy(file->title, text, length + 1);
    } else {
        size_t kept = FILE_TITLE_BYTES - sizeof("...");
        memcpy(file->title, "...", 3);
        memcpy(file->title + 3, text + length - kept, kept + 1);
    }
}

/* Makes the path absolute, so that it can be opened anew after a chdir(). */
static int set_name(struct heap_file *file, const char *path) {
    size_t length = strlen(path);
    size_t prefix = 0;
    set_title(file, path);
    if (path[0] != '/' && getcwd(file->name, sizeof(file->name)) != NULL) {
        prefix = strlen(file->name);
    }
    if (prefix + 1 + length >= sizeof(file->name)) {
        return error_set(ENAMETOOLONG, "%s: the path is longer than %d bytes", file->title,
                         FILE_NAME_BYTES - 1);
    }
    if (prefix > 0 && file->name[prefix - 1] != '/') {
        file->name[prefix++] = '/';
    }
    memcpy(file->name + prefix, path, length + 1);
    return 0;
}

/* Applications count on getting small numbers, and close ranges of them. The descriptor that
 * replaces fd: out of the way if that can be had, or fd itself. */
static int move_away(int fd) {
    static const int floors[] = {HIGH_DESCRIPTOR, STDERR_FILENO + 1};
    for (size_t i = 0; i < 2 && fd < floors[i]; i++) {
        int moved = fcntl(fd, F_DUPFD_CLOEXEC, floors[i]);
        if (moved >= 0) {
            (void)close(fd);
            return moved;
        }
    }
    return fd;
}

/* ---- open by path ---- */

/* Says why open() failed; the kernel's errno does not tell a link from a loop of links, or a socket
 * from a device without a driver. */
static int explain_open(const struct heap_file *file, int error) {
    struct stat status;
    int is_known = lstat(file->name, &status) == 0;
    if (is_known && S_ISLNK(status.st_mode)) {
        return error_set(ELOOP,
                         "%s: is a symbolic link, which is not followed; open what it points "
                         "to",
                         file->title);
    }
    if (is_known && !S_ISREG(status.st_mode)) {
        return error_set(ENODEV, "%s: is %s; a heap needs a regular file", file->title,
                         kind_name(status.st_mode));
    }
    errno = error;
    if (is_known && error == EACCES) {
        return error_set(error, "%s: %m (owner uid %u, mode 0%03o; we are uid %u)", file->title,
                         (unsigned)status.st_uid, (unsigned)status.st_mode & 07777,
                         (unsigned)geteuid());
    }
    if (error == ENOENT) {
        return error_set(error, "%s: there is no such file, or no such directory to make it in",
                         file->title);
    }
    return error_set(error, "%s: cannot be opened: %m", file->title);
}

/* Opens what is there, whatever it is: O_NONBLOCK, or a fifo would wait for its other end. */
static int open_existing(const struct heap_file *file) {
    int access = file->is_readonly ? O_RDONLY : O_RDWR;
    int fd;
    do {
        fd = open(file->name, access | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Opens or makes the file: exactly one of several makers at once has made it. */
static int open_or_make(const struct heap_file *file, int exclusive, unsigned mode, int *made) {
    int fd = -1;
    for (int i = 0; i < OPEN_TRIES; i++) {
        fd = open(file->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd >= 0) {
            *made = 1;
            return fd;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EEXIST || exclusive) {
            return -1;
        }
        fd = open_existing(file);
        if (fd >= 0 || errno != ENOENT) {
            return fd;
        }
    }
    return -1;
}

/* Removes what this call made, unless the name has become somebody else's meanwhile. */
static void remove_made(int fd, const struct heap_file *file) {
    struct stat ours;
    struct stat named;
    if (fstat(fd, &ours) == 0 && lstat(file->name, &named) == 0 && ours.st_dev == named.st_dev &&
        ours.st_ino == named.st_ino) {
        (void)unlink(file->name);
    }
}

/* What remains to be done with a fresh descriptor before it is file->fd. */
static int settle(int fd, int made, unsigned mode, struct heap_file *file) {
    int error = verify_and_identify(fd, file);
    if (error != 0) {
        return error;
    }
    if (made && fchmod(fd, mode) != 0) { /* the umask has taken bits */
        return error_set(errno, "%s: cannot be given the mode 0%03o: %m", file->title, mode);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        return error_set(errno, "%s: its descriptor cannot be set up: %m", file->title);
    }
    return 0;
}

int file_open_path(const char *path, int readonly, int create, int exclusive, unsigned mode,
                   struct heap_file *file, int *made) {
    *made = 0;
    file->fd = -1;
    file->is_readonly = readonly;
    if (path == NULL || path[0] == '\0') {
        return error_set(path == NULL ? EINVAL : ENOENT, "the path of a heap is empty");
    }
    int error = set_name(file, path);
    if (error != 0) {
        return error;
    }
    mode = mode == 0 ? DEFAULT_MODE : mode & 0777;
    int fd = create && !readonly ? open_or_make(file, exclusive, mode, made) : open_existing(file);
    if (fd < 0 && errno == EEXIST) {
        return error_set(EEXIST, "%s: exists already, and SHARENA_EXCL was given", file->title);
    }
    if (fd < 0) {
        return explain_open(file, errno);
    }
    error = settle(fd, *made, mode, file);
    if (error != 0) {
        if (*made) {
            remove_made(fd, file);
            *made = 0;
        }
        (void)close(fd);
        return error;
    }
    file->fd = move_away(fd);
    return 0;
}

/* ---- open by descriptor, and anew ---- */

/* A new description of what fd refers to. Not /proc/self: that is empty once the main thread has
 * exited. */
static int open_anew(int fd, int readonly) {
    char link[64];
    int anew;
    (void)snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
    do {
        anew = open(link, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    } while (anew < 0 && errno == EINTR);
    return anew;
}

/* Whether a heap can be had through the caller's descriptor. */
static int verify_descriptor(int fd, int readonly, const char *title) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return error_set(EBADF, "%s: is not open", title);
    }
    if ((flags & O_PATH) != 0) {
        return error_set(
            EBADF, "%s: was opened with O_PATH, which allows neither reading nor writing", title);
    }
    int access = flags & O_ACCMODE;
    if (access != O_RDWR && !(access == O_RDONLY && readonly)) {
        return error_set(EACCES, "%s: is open for %s only; a heap needs O_RDWR%s", title,
                         access == O_RDONLY ? "reading" : "writing",
                         readonly ? " or O_RDONLY" : ", or SHARENA_READONLY");
    }
    int seals = fcntl(fd, F_GET_SEALS); /* fails where there cannot be any */
    if (!readonly && seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
        return error_set(EACCES,
                         "%s: is sealed against writing (F_SEAL_WRITE); attach it with "
                         "SHARENA_READONLY",
                         title);
    }
    return 0;
}

/* What people know the descriptor by. */
static void set_title_of_descriptor(int fd, struct heap_file *file) {
    char link[64];
    char target[FILE_TITLE_BYTES - 32];
    (void)snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof(target) - 1);
    target[length > 0 ? length : 0] = '\0';
    (void)snprintf(file->title, sizeof(file->title),
                   length > 0 ? "descriptor %d (%s)" : "descriptor %d", fd, target);
}

int file_open_fd(int fd, int readonly, struct heap_file *file) {
    file->fd = -1;
    file->is_readonly = readonly;
    file->name[0] = '\0';
    set_title_of_descriptor(fd, file);
    int error = verify_descriptor(fd, readonly, file->title);
    if (error == 0) {
        error = verify_and_identify(fd, file);
    }
    if (error != 0) {
        return error;
    }
    int anew = open_anew(fd, readonly);
    if (anew < 0) {
        return error_set(
            errno,
            "%s: cannot be opened anew through /proc, which a heap needs for its locks: "
            "%m",
            file->title);
    }
    file->fd = move_away(anew);
    return 0;
}

void file_close(struct heap_file *file) {
    if (file->fd >= 0 && is_same_file(file->fd, file)) {
        (void)close(file->fd);
    }
    file->fd = -1;
}

int file_reopen(const struct heap_file *file) {
    int fd = -1;
    errno = ENOENT;
    if (is_same_file(file->fd, file)) {
        fd = open_anew(file->fd, file->is_readonly);
    }
    if (fd < 0 && file->name[0] != '\0') {
        fd = open_existing(file);
    }
    if (fd >= 0 && is_same_file(fd, file)) {
        return fd;
    }
    int error = fd >= 0 || errno == EBADF ? ENOENT : errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = error;
    if (error == ENOENT) {
        (void)error_null(
            ENOENT,
            "%s: cannot be opened anew: the application closed our descriptor, and the "
            "file has no name that leads to it any more",
            file->title);
    } else {
        (void)error_null(error, "%s: cannot be opened anew: %m", file->title);
    }
    return -1;
}

/* ---- the open lock ---- */

static int set_open_lock(int fd, int command, short type) {
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = OPEN_LOCK_BYTE, .l_len = 1};
    int result;
    do {
        result = fcntl(fd, command, &lock);
    } while (result != 0 && errno == EINTR);
    return result;
}

int file_lock_open(const struct heap_file *file) {
    int fd = file_reopen(file);
    if (fd < 0) {
        return -1;
    }
    fd = move_away(fd);
    if (set_open_lock(fd, F_OFD_SETLKW, file->is_readonly ? F_RDLCK : F_WRLCK) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        (void)error_null(error, "%s: its open lock cannot be had: %m", file->title);
        return -1;
    }
    return fd;
}

void file_unlock_open(int lock_fd) {
    (void)set_open_lock(lock_fd, F_OFD_SETLK, F_UNLCK);
    (void)close(lock_fd);
}

int file_is_linked(const struct heap_file *file) {
    struct stat status;
    if (file->name[0] == '\0') {
        return 1;
    }
    return lstat(file->name, &status) == 0 && status.st_dev == file->device &&
           status.st_ino == file->inode;
}
