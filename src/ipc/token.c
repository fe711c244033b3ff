/* token.c -- the process token: a proof of life that no process can fake or leave behind.
 *
 * Holds:  a token's file description has one reference, the mapped page; its lock is on the byte of
 *         token->slot and on no other.
 * Lock:   the caller keeps fork() out while token_take() runs: a child forked between its open and
 *         its madvise would share the description, and keep the token alive beyond its owner.
 * Killed: anywhere: the kernel drops descriptor, page and lock together.
 * Not here: what the slot of a token holds (slot.c), and what is done about the dead (src/heap/).
 */
#include "ipc/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/cancel.h"
#include "ipc/check.h"
#include "ipc/errors.h"
#include "ipc/faultpoint.h"

static struct flock lock_of(short type, uint32_t first, uint32_t count) {
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = TOKEN_BYTE_FIRST + first, .l_len = count};
}

static int set_lock(int fd, struct flock lock) {
    int result;
    do {
        result = fcntl(fd, F_OFD_SETLK, &lock);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* Locks the byte of the first free slot, beginning at `from` and going round once. */
static int lock_free_slot(int fd, uint32_t from, uint32_t *slot) {
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        *slot = (from + i) % PROCESSES_MAX;
        int error = set_lock(fd, lock_of(F_WRLCK, *slot, 1));
        if (error != EAGAIN && error != EACCES) {
            return error;
        }
    }
    return EUSERS;
}

/* Gives the description its one lasting reference. */
static int pin_description(int fd, void **page) {
    void *mapped = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        return errno;
    }
    if (madvise(mapped, PAGE_BYTES, MADV_DONTFORK) != 0) {
        int error = errno;
        (void)munmap(mapped, PAGE_BYTES);
        return error;
    }
    *page = mapped;
    return 0;
}

int token_take(const struct heap_file *file, uint32_t from, struct token *token) {
    void *page = NULL;
    uint32_t slot = 0;
    token->page = NULL;
    int fd = file_reopen(file);
    if (fd < 0) {
        return errno;
    }
    int error = lock_free_slot(fd, from, &slot);
    if (error == 0) {
        error = pin_description(fd, &page);
    }
    (void)close(fd); /* with the lock, unless the page holds it by now */
    FAULT_POINT();
    if (error == EUSERS) {
        return error_set(error, "%s: all %u process slots are in use", file->title, PROCESSES_MAX);
    }
    if (error != 0) {
        errno = error;
        return error_set(error, "%s: no process token could be taken: %m", file->title);
    }
    token->page = page;
    token->slot = slot;
    return 0;
}

int token_take_reader(const struct heap_file *file, struct token *token) {
    token->page = NULL;
    token->slot = READERS_SLOT;
    int fd = file_reopen(file);
    if (fd < 0) {
        return errno;
    }
    int error = set_lock(fd, lock_of(F_RDLCK, READERS_SLOT, 1));
    if (error == 0) {
        error = pin_description(fd, &token->page);
    }
    (void)close(fd);
    if (error != 0) {
        errno = error;
        return error_set(error, "%s: no reader's token could be taken: %m", file->title);
    }
    return 0;
}

void token_release(struct token *token) {
    if (token->page != NULL) {
        (void)munmap(token->page, PAGE_BYTES);
        FAULT_POINT();
        token->page = NULL;
    }
}

/* Whether somebody holds a lock among those bytes, our own tokens included: file->fd and what is
 * opened here hold none, so every lock is another description's. */
static int range_is_held(const struct heap_file *file, uint32_t first, uint32_t count) {
    struct flock lock = lock_of(F_WRLCK, first, count);
    struct stat status;
    int kept_errno = errno;
    int cancel_state = cancel_forbid(); /* the caller may hold a lock */
    int fd = file->fd;
    int is_ours =
        fstat(fd, &status) == 0 && status.st_dev == file->device && status.st_ino == file->inode;
    if (!is_ours) {
        fd = file_reopen(file);
    }
    int is_held = fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
    if (!is_ours && fd >= 0) {
        (void)close(fd);
    }
    cancel_restore(cancel_state);
    errno = kept_errno;
    return is_held;
}

int token_is_held(const struct heap_file *file, uint32_t slot) {
    CHECK(slot < PROCESSES_MAX);
    return range_is_held(file, slot, 1);
}

int token_anyone_attached(const struct heap_file *file) {
    return range_is_held(file, 0, PROCESSES_MAX + 1);
}

int token_any_held(const struct heap_file *file) {
    return range_is_held(file, 0, PROCESSES_MAX);
}
