/* copy.c -- a file copied with its holes, or by sharing its blocks.
 *
 * What has storage in the source has storage in the copy, also where it is zero: a heap counts on
 * pages that it has backed.
 */
#include "cli/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* [begin, end), which is no hole. */
static int copy_range(int from, int to, off_t begin, off_t end) {
    if (lseek(to, begin, SEEK_SET) != begin) {
        return errno;
    }
    while (begin < end) {
        ssize_t put = sendfile(to, from, &begin, (size_t)(end - begin));
        if (put < 0 && errno != EINTR) {
            return errno;
        }
        if (put == 0) {
            return EIO; /* shorter than it was */
        }
    }
    return 0;
}

static int copy_data(int from, int to, off_t length, struct copied *copied) {
    off_t end = 0;
    while (end < length) {
        off_t begin = lseek(from, end, SEEK_DATA);
        if (begin < 0) {
            return errno == ENXIO ? 0 : errno; /* a hole up to the end */
        }
        end = lseek(from, begin, SEEK_HOLE);
        int error = end < 0 ? errno : copy_range(from, to, begin, end);
        if (error != 0) {
            return error;
        }
        copied->bytes += (uint64_t)(end - begin);
    }
    return 0;
}

int copy_file(int from, int to, struct copied *copied) {
    struct stat status;
    *copied = (struct copied){0};
    if (ioctl(to, FICLONE, from) == 0) {
        copied->is_reflink = 1;
        return 0;
    }
    if (fstat(from, &status) != 0 || ftruncate(to, status.st_size) != 0) {
        return errno;
    }
    return copy_data(from, to, status.st_size, copied);
}
