/* superblock.c -- the first page of the file: what it is, and whether this build may touch it.
 *
 * Holds:  a file with MAGIC_HEAP has a complete superblock, its full length, and initial metadata:
 *         the store of that magic is the last step of creation.
 *         A file that this build cannot read is refused before any write.
 * Lock:   the open lock for begin, finish and abandon; none to read: what is read never changes.
 * Killed: before the magic is written the file is empty; then, up to superblock_finish(), it holds
 *         MAGIC_CREATING. The next opener takes neither for a heap, and begins anew.
 * Not here: what follows the superblock (layout.h, and the heap layer).
 */
#include "ipc/superblock.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/errors.h"
#include "ipc/faultpoint.h"
#include "ipc/mapping.h"

#define ENDIAN_MARK 0x01020304u
#define BASE_UNIT (1ull << 30)
#define SIZE_UNIT (2ull << 20)
#define ADDRESS_END (1ull << 47) /* of what a process can map on every 64-bit machine */
/* mmap hands out nothing here, nor do ASan and valgrind; programs are loaded at 0x555555554000 and
 * up to 1 TiB above it. */
#define WINDOW_BEGIN 0x200000000000ull
#define WINDOW_END 0x550000000000ull
#define BASE_TRIES 64

/* ---- hash, fingerprint, checksum ---- */

/* FNV-1a; G. Fowler, L. C. Noll, K.-P. Vo. */
uint64_t superblock_hash(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ byte[i]) * 0x100000001b3ull;
    }
    return hash;
}

static uint64_t expected_heap_fingerprint;

void superblock_expect(uint64_t heap_fingerprint) {
    expected_heap_fingerprint = heap_fingerprint;
}

/* Of all that two builds must agree on to share a file. */
static uint64_t fingerprint_of(uint64_t heap_fingerprint) {
    const uint64_t layout[] = {
        sizeof(struct superblock),
        sizeof(struct heap_state),
        sizeof(struct process_slot),
        sizeof(struct thread_slot),
        sizeof(struct shared_lock),
        sizeof(struct journal),
        sizeof(struct journal_entry),
        sizeof(struct hand),
        sizeof(struct pending),
        sizeof(pthread_mutex_t),
        sizeof(void *),
        __BYTE_ORDER__,
        PAGE_BYTES,
        PROCESSES_MAX,
        THREADS_MAX,
        THREAD_SLOT_BYTES,
        THREAD_SLOT_HEAP_OFFSET,
        JOURNAL_ENTRIES,
        STATE_OFFSET,
        PROCESSES_OFFSET,
        THREADS_OFFSET,
        (uint64_t)TOKEN_BYTE_FIRST,
        offsetof(struct superblock, checksum),
        offsetof(struct heap_state, data_begin),
        offsetof(struct heap_state, data_bytes),
        offsetof(struct heap_state, data_page_map),
        offsetof(struct heap_state, in_use),
        offsetof(struct heap_state, reaped_bytes),
        offsetof(struct process_slot, name),
        offsetof(struct shared_lock, owner),
        offsetof(struct thread_slot, state),
        offsetof(struct thread_slot, lock_wanted),
        offsetof(struct thread_slot, hand),
        offsetof(struct thread_slot, pending),
        offsetof(struct thread_slot, journal),
        offsetof(struct journal, entries),
        heap_fingerprint,
    };
    return superblock_hash(SUPERBLOCK_HASH_SEED, layout, sizeof(layout));
}

/* Over all fields before it; `magic` is that of a finished heap. */
static uint64_t checksum_of(const struct superblock *superblock) {
    return superblock_hash(SUPERBLOCK_HASH_SEED, superblock, offsetof(struct superblock, checksum));
}

/* ---- plausibility: for what we make and for what we read ---- */

/* The first field whose value no heap can have, with the rule it breaks; NULL if there is none. */
static const char *implausible_field(const struct superblock *superblock, uint64_t *value,
                                     const char **rule) {
    uint64_t base = superblock->base_address;
    uint64_t total = superblock->total_bytes;
    uint64_t data = superblock->data_offset;
    if (total == 0 || total % SIZE_UNIT != 0 || total > ADDRESS_END) {
        *value = total;
        *rule = "a multiple of 2 MiB, at most 128 TiB";
        return "total_bytes";
    }
    if (base == 0 || base % BASE_UNIT != 0 || base > ADDRESS_END - total) {
        *value = base;
        *rule = "a multiple of 1 GiB, such that the heap ends below 0x800000000000";
        return "base_address";
    }
    if (data < IPC_END || data % SIZE_UNIT != 0 || data >= total) {
        *value = data;
        *rule = "a multiple of 2 MiB, behind the slots and before total_bytes";
        return "data_offset";
    }
    return NULL;
}

/* ---- read ---- */

/* As many bytes as there are, or -1. */
static ssize_t read_at_start(int fd, void *buffer, size_t count) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = pread(fd, (char *)buffer + done, count - done, (off_t)done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Whether it is a heap, made by a build and on a machine like ours. */
static int verify_kind(const struct superblock *superblock, const char *title) {
    uint64_t magic = superblock->magic;
    uint32_t endian = superblock->endian;
    if (magic == __builtin_bswap64(MAGIC_HEAP) || magic == __builtin_bswap64(MAGIC_CREATING) ||
        (magic == MAGIC_HEAP && endian == __builtin_bswap32(ENDIAN_MARK))) {
        return error_set(
            ENOEXEC,
            "%s: was made on a machine of the other byte order (endian is 0x%08x, here "
            "it is 0x%08x)",
            title, endian, ENDIAN_MARK);
    }
    if (magic != MAGIC_HEAP) {
        return error_set(EUCLEAN,
                         "%s: is not a heap: magic is 0x%016" PRIx64 ", a heap has 0x%016" PRIx64,
                         title, magic, (uint64_t)MAGIC_HEAP);
    }
    if (endian != ENDIAN_MARK) {
        return error_set(EUCLEAN, "%s: is damaged: endian is 0x%08x, must be 0x%08x", title, endian,
                         ENDIAN_MARK);
    }
    if (superblock->format_version != FORMAT_VERSION) {
        return error_set(
            ENOEXEC,
            "%s: has format version %u, this build reads and writes version %u; use the "
            "library that made it",
            title, superblock->format_version, FORMAT_VERSION);
    }
    uint64_t fingerprint = fingerprint_of(expected_heap_fingerprint);
    if (superblock->fingerprint != fingerprint) {
        return error_set(ENOEXEC,
                         "%s: layout fingerprint is 0x%016" PRIx64 ", this build has 0x%016" PRIx64
                         " (another build configuration, libc or processor); use the library that "
                         "made it",
                         title, superblock->fingerprint, fingerprint);
    }
    return 0;
}

/* Whether a heap of our kind is undamaged, as far as the superblock tells. */
static int verify_content(const struct superblock *superblock, uint64_t file_bytes,
                          const char *title) {
    uint64_t value;
    const char *rule;
    uint64_t checksum = checksum_of(superblock);
    if (superblock->checksum != checksum) {
        return error_set(EUCLEAN,
                         "%s: is damaged: checksum of the superblock is 0x%016" PRIx64
                         ", must be 0x%016" PRIx64,
                         title, superblock->checksum, checksum);
    }
    const char *field = implausible_field(superblock, &value, &rule);
    if (field != NULL) {
        return error_set(EUCLEAN, "%s: is damaged: %s is 0x%" PRIx64 ", must be %s", title, field,
                         value, rule);
    }
    if (file_bytes < superblock->total_bytes) {
        return error_set(
            EUCLEAN, "%s: is truncated: the file has %" PRIu64 " bytes, total_bytes is %" PRIu64,
            title, file_bytes, superblock->total_bytes);
    }
    return 0;
}

int superblock_read(const struct heap_file *file, enum file_state *state,
                    struct superblock *superblock) {
    struct stat status;
    memset(superblock, 0, sizeof(*superblock));
    ssize_t got = read_at_start(file->fd, superblock, sizeof(*superblock));
    if (got < 0 || fstat(file->fd, &status) != 0) {
        return error_set(errno, "%s: its superblock cannot be read: %m", file->title);
    }
    if (got == 0) {
        *state = FILE_EMPTY;
        return 0;
    }
    if ((size_t)got < sizeof(superblock->magic)) {
        return error_set(EUCLEAN, "%s: is not a heap: it has only %zd bytes", file->title, got);
    }
    if (superblock->magic == MAGIC_CREATING) {
        *state = FILE_UNFINISHED;
        return 0;
    }
    if (superblock->magic == MAGIC_HEAP && (size_t)got < sizeof(*superblock)) {
        return error_set(EUCLEAN, "%s: is truncated: the file has %zd bytes, a superblock %zu",
                         file->title, got, sizeof(*superblock));
    }
    int error = verify_kind(superblock, file->title);
    if (error == 0) {
        error = verify_content(superblock, (uint64_t)status.st_size, file->title);
    }
    if (error == 0) {
        *state = FILE_HEAP;
    }
    return error;
}

/* ---- make ---- */

static int fill_random(void *buffer, size_t count) {
    ssize_t got;
    do {
        got = getrandom(buffer, count, 0); /* up to 256 bytes come in one piece */
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)count ? 0 : error_set(errno, "no random numbers from the kernel: %m");
}

/* A base at random, so that many heaps fit side by side, that is free in this process. */
static int choose_base(uint64_t total, uint64_t *base) {
    uint64_t window = WINDOW_END - WINDOW_BEGIN;
    uint64_t choices = total < window ? (window - total) / BASE_UNIT + 1 : 1;
    for (int i = 0; i < BASE_TRIES; i++) {
        uint64_t random;
        int error = fill_random(&random, sizeof(random));
        if (error != 0) {
            return error;
        }
        *base = WINDOW_BEGIN + random % choices * BASE_UNIT;
        if (mapping_is_free(*base, total)) {
            return 0;
        }
    }
    return error_set(EADDRINUSE,
                     "no %" PRIu64 " bytes of address space are free between 0x%llx and 0x%llx (or "
                     "RLIMIT_AS, or a sanitizer, forbids them); give a smaller capacity_bytes or a "
                     "base_address",
                     total, WINDOW_BEGIN, WINDOW_END);
}

int superblock_make(const struct superblock_wish *wish, struct superblock *superblock) {
    struct timespec now;
    uint64_t value;
    const char *rule;
    *superblock = (struct superblock){
        .magic = MAGIC_HEAP,
        .endian = ENDIAN_MARK,
        .format_version = FORMAT_VERSION,
        .fingerprint = fingerprint_of(wish->heap_fingerprint),
        .base_address = wish->base_address != 0 ? wish->base_address : WINDOW_BEGIN,
        .total_bytes = wish->total_bytes,
        .limit_bytes = wish->limit_bytes,
        .data_offset = wish->data_offset,
    };
    const char *field = implausible_field(superblock, &value, &rule);
    if (field != NULL) {
        return error_set(EINVAL, "a heap cannot have %s 0x%" PRIx64 ": it must be %s", field, value,
                         rule);
    }
    int error = fill_random(superblock->uuid, sizeof(superblock->uuid));
    if (error == 0 && wish->base_address == 0) {
        error = choose_base(wish->total_bytes, &superblock->base_address);
    }
    if (error != 0) {
        return error;
    }
    superblock->uuid[6] = (uint8_t)((superblock->uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
    superblock->uuid[8] = (uint8_t)((superblock->uuid[8] & 0x3f) | 0x80);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    superblock->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    superblock->checksum = checksum_of(superblock);
    return 0;
}

/* ---- creation ---- */

static int set_length(int fd, uint64_t bytes) {
    while (ftruncate(fd, (off_t)bytes) != 0) {
        if (errno != EINTR) {
            return errno;
        }
    }
    FAULT_POINT();
    return 0;
}

static int write_at(int fd, const void *buffer, size_t count, off_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t put = pwrite(fd, (const char *)buffer + done, count - done, offset + (off_t)done);
        if (put < 0 && errno != EINTR) {
            return errno;
        }
        done += put > 0 ? (size_t)put : 0;
        FAULT_POINT();
    }
    return 0;
}

/* The steps in their order, each harmless if it is the last. */
static int write_new(int fd, const struct superblock *superblock) {
    static const uint64_t creating = MAGIC_CREATING;
    size_t magic_bytes = sizeof(creating);
    int error = set_length(fd, 0);
    if (error == 0) {
        error = write_at(fd, &creating, magic_bytes, 0);
    }
    if (error == 0) {
        error = set_length(fd, superblock->total_bytes);
    }
    if (error == 0) {
        error = write_at(fd, (const char *)superblock + magic_bytes,
                         sizeof(*superblock) - magic_bytes, (off_t)magic_bytes);
    }
    return error;
}

/* Why a file of that length could not be made. */
static int explain_creation(const struct heap_file *file, int error, uint64_t total) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return error_set(ENOMEM,
                         "%s: the file system is full (or the quota reached): not even the "
                         "superblock found room",
                         file->title);
    case EFBIG:
        return error_set(EFBIG,
                         "%s: its file system allows no file of %" PRIu64 " bytes; give a "
                         "smaller capacity_bytes",
                         file->title, total);
    case EPERM:
        return error_set(EACCES,
                         "%s: its length or content cannot be changed: it is sealed "
                         "(F_SEAL_GROW, F_SEAL_SHRINK) or marked immutable",
                         file->title);
    default:
        errno = error;
        return error_set(error, "%s: cannot be made a heap of %" PRIu64 " bytes: %m", file->title,
                         total);
    }
}

int superblock_begin(const struct heap_file *file, const struct superblock *superblock) {
    struct rlimit limit;
    uint64_t total = superblock->total_bytes;
    /* Beyond the limit the kernel would not just fail but send SIGXFSZ. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < total) {
        return error_set(EFBIG,
                         "%s: needs a (sparse) file of %" PRIu64
                         " bytes, but RLIMIT_FSIZE is %" PRIu64
                         " bytes; raise it (ulimit -f), or give a smaller capacity_bytes",
                         file->title, total, (uint64_t)limit.rlim_cur);
    }
    int error = write_new(file->fd, superblock);
    if (error == 0) {
        return 0;
    }
    superblock_abandon(file);
    return explain_creation(file, error, total);
}

void superblock_finish(sharena_t *base) {
    struct superblock *superblock = (struct superblock *)(void *)heap_bytes(base);
    __atomic_store_n(&superblock->magic, MAGIC_HEAP, __ATOMIC_RELEASE);
    FAULT_POINT();
}

void superblock_abandon(const struct heap_file *file) {
    (void)set_length(file->fd, 0);
}
