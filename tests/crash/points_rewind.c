/* points_rewind.c -- the file of a row becomes again what it was when the row began.
 *
 * Every case starts from the same heap, so that it can be repeated alone; a new file for each would
 * take longer than the case. What a heap without a chunk consists of is little: it is copied. All
 * else becomes holes, as in a new file. The survivor may be attached meanwhile, if it is the only
 * one and holds the slots that it held when the copy was made.
 */
#include "points.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROOTS_COPIED 4096u /* the first roots: no scenario uses more */
#define SLOTS_MAX 32u      /* thread slots that a row may use */

/* Where the file is copied, and where it is emptied. */
struct range {
    uint64_t offset;
    uint64_t bytes;
};

static const struct range copied[] = {
    {STATE_OFFSET, PAGE_BYTES},       /* */
    {PROCESSES_OFFSET, PAGE_BYTES},   /* the first 32 */
    {THREADS_OFFSET, 4 * PAGE_BYTES}, /* the first one without the storage of its cache */
    {POOL_OFFSET, PAGE_BYTES},        {ROOTS_OFFSET, ROOTS_COPIED},
    {ARENAS_OFFSET, ARENA_STRIDE}, /* the first one, if there is one */
};

#define COPIED (sizeof(copied) / sizeof(copied[0]))

static char copy[COPIED][4 * PAGE_BYTES];

static int punch(int fd, uint64_t from, uint64_t to) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                     (off_t)(to - from));
}

int rewind_remember(struct stage *stage) {
    int fd = open(stage->path, O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? -1 : 0;
    for (uint32_t i = 0; i < COPIED && error == 0; i++) {
        ssize_t got = pread(fd, copy[i], copied[i].bytes, (off_t)copied[i].offset);
        error = got == (ssize_t)copied[i].bytes ? 0 : -1;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return error == 0 ? 0 : stage_fail(stage, "the heap cannot be copied: %s", strerror(errno));
}

int rewind_file(struct stage *stage) {
    int fd = open(stage->path, O_RDWR | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    int error = end < 0 ? -1 : 0;
    for (uint32_t i = 0; i < COPIED && error == 0; i++) {
        ssize_t put = pwrite(fd, copy[i], copied[i].bytes, (off_t)copied[i].offset);
        error = put == (ssize_t)copied[i].bytes ? 0 : -1;
    }
    if (error == 0) {
        error = punch(fd, THREADS_OFFSET + THREAD_SLOT_BYTES,
                      THREADS_OFFSET + (uint64_t)SLOTS_MAX * THREAD_SLOT_BYTES);
    }
    if (error == 0) {
        error = punch(fd, ARENAS_OFFSET + ARENA_STRIDE, (uint64_t)end);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return error == 0 ? 0 : stage_fail(stage, "the heap cannot be set back: %s", strerror(errno));
}
