/* file.h -- the heap's file: opened, verified, opened anew, locked.
 *
 * Functions that return int return 0 or an errno value unless their text says otherwise, and have
 * called error_set() when they fail. On failure nothing is open and nothing was made.
 */
#ifndef SHARENA_IPC_FILE_H
#define SHARENA_IPC_FILE_H

#include <stdint.h>
#include <sys/types.h>

#define FILE_NAME_BYTES 4096
#define FILE_TITLE_BYTES 160

/* What one file is, by identity and by what can be done with it. Process-private. */
struct heap_file {
    int fd;          /* ours, O_CLOEXEC, moved out of the way of small numbers; -1 none */
    int is_readonly; /* fd, and whatever is opened anew, is O_RDONLY */
    dev_t device;    /* with inode: the identity */
    ino_t inode;
    char name[FILE_NAME_BYTES];   /* for opening anew: the absolute path, or "" for a descriptor */
    char title[FILE_TITLE_BYTES]; /* for messages: the path (its end, if it is long), never empty */
};

/* Opens path with O_NOFOLLOW | O_CLOEXEC and verifies what it is: a regular file (ELOOP, ENODEV),
 * trusted (file_is_trusted; EACCES), on a file system that can be shared (ENODEV).
 *
 * create     Make it if it is not there, with exactly the permission bits `mode` (0: 0600),
 *            whatever the umask. Ignored with readonly.
 * exclusive  With create: EEXIST if it is there.
 * made       Set to 1 if this call made the file, else 0. */
int file_open_path(const char *path, int readonly, int create, int exclusive, unsigned mode,
                   struct heap_file *file, int *made) __attribute__((warn_unused_result));

/* Opens the file of a caller's descriptor anew, into a description of our own, and verifies it like
 * file_open_path(). EBADF, or EACCES if the descriptor's access mode or a seal does not allow what
 * a heap does. The caller's descriptor is not kept. */
int file_open_fd(int fd, int readonly, struct heap_file *file) __attribute__((warn_unused_result));

/* Closes our descriptor, if it is still ours. */
void file_close(struct heap_file *file);

/* Opens a NEW description of the same file (never a dup): for tokens and open locks. Through
 * /proc/thread-self/fd, then through the name; device and inode are checked, because an application
 * may have closed our descriptor and reused its number. The descriptor, or -1 with errno. */
int file_reopen(const struct heap_file *file);

/* The open lock of a heap: serialises creation, attach, last close, unlink. Exclusive; shared among
 * read-only openers. Waits; interrupted waits go on. The descriptor that holds it, or -1 with
 * errno. Give it back with file_unlock_open(): a child that was forked meanwhile has a copy of the
 * descriptor, and a mere close would leave the lock to it. */
int file_lock_open(const struct heap_file *file);
void file_unlock_open(int lock_fd);

/* 1 if the name still names this very file, so that a lock waited for was worth it; else 0. A file
 * that was opened by descriptor always counts as linked. */
int file_is_linked(const struct heap_file *file);

/* ---- judgements, apart from any file so that they can be tested ---- */

/* The name of the file system with that statfs() magic, or NULL; *is_usable: 1 if a heap may lie
 * there: it is local, its files can be mapped shared and hole-punched, its locks are honest. */
const char *file_system_name(uint32_t magic, int *is_usable);

/* 1 if user may attach to a file with that owner and mode: it is the user's own or root's, or it
 * was shared with a group of the user's (is_member) by a write bit that not all the world has. */
int file_is_trusted(uid_t owner, mode_t mode, uid_t user, int is_member);

#endif
