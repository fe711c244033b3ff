/* mapping.c -- the file in memory: mapped at its one address, backed, punched.
 *
 * Holds:  a heap is mapped at its base in full length, or not at all; nothing of this process is
 *         ever mapped over. No page of it is loaded or stored here.
 * Lock:   none. mapping_back and mapping_punch are system calls: never call them under a lock.
 * Killed: anywhere: the kernel takes the mapping down. A range that was being backed or punched is
 *         backed in part; whoever charged it in the file punches it.
 * Not here: what the file is (file.c, superblock.c); who owns which page (the heap layer).
 */
#include "ipc/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/check.h"
#include "ipc/errors.h"
#include "ipc/faultpoint.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAPS_LINE_BYTES 160

/* ---- what is in the way ---- */

struct maps_search {
    uint64_t begin;
    uint64_t end;
    size_t length; /* of the line so far, without what did not fit */
    char line[MAPS_LINE_BYTES];
};

/* Reads "begin-end" at the head of a maps line; 1 if that range overlaps the one searched for. */
static int line_overlaps(const struct maps_search *search) {
    uint64_t bounds[2] = {0, 0};
    int which = 0;
    for (size_t i = 0; i < search->length && search->line[i] != ' '; i++) {
        char c = search->line[i];
        if (c == '-') {
            which = 1;
        } else {
            unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
            bounds[which] = bounds[which] << 4 | digit;
        }
    }
    return bounds[0] < search->end && search->begin < bounds[1];
}

/* Takes one more character; 1 if it ended a line that overlaps, which then is search->line. */
static int search_step(struct maps_search *search, char c) {
    if (c != '\n') {
        if (search->length < MAPS_LINE_BYTES - 1) {
            search->line[search->length++] = c;
        }
        return 0;
    }
    search->line[search->length] = '\0';
    if (line_overlaps(search)) {
        return 1;
    }
    search->length = 0;
    return 0;
}

/* Finds the line of /proc/thread-self/maps that overlaps the range. (/proc/self would be empty once
 * the main thread has exited.) 1 if there is one. */
static int search_maps(struct maps_search *search) {
    char buffer[1024];
    int found = 0;
    int fd = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    for (;;) {
        ssize_t count = read(fd, buffer, sizeof(buffer));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            break;
        }
        for (ssize_t i = 0; i < count && !found; i++) {
            found = search_step(search, buffer[i]);
        }
        if (found) {
            break;
        }
    }
    (void)close(fd);
    return found;
}

/* Replaces the runs of blanks that pad a maps line by one blank. */
static void squeeze_blanks(char *line) {
    char *to = line;
    for (const char *from = line; *from != '\0'; from++) {
        if (*from != ' ' || from[1] != ' ') {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static int explain_taken(const char *title, uint64_t base, uint64_t bytes) {
    struct maps_search search = {.begin = base, .end = base + bytes};
    int found = search_maps(&search);
    if (found) {
        squeeze_blanks(search.line);
    }
    return error_set(EADDRINUSE,
                     "%s: its address range 0x%" PRIx64 "-0x%" PRIx64
                     " is taken in this process by: %s; open the heap earlier, or create it with "
                     "another base_address",
                     title, base, base + bytes, found ? search.line : "(not in /proc)");
}

static int explain_no_space(const char *title, uint64_t base, uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        return error_set(ENOMEM,
                         "%s: needs %" PRIu64 " bytes of address space, but RLIMIT_AS is %" PRIu64
                         " bytes; raise it (ulimit -v), or create the heap with a smaller "
                         "capacity_bytes",
                         title, bytes, (uint64_t)limit.rlim_cur);
    }
    return error_set(ENOMEM,
                     "%s: the kernel gives no address space at 0x%" PRIx64 "-0x%" PRIx64
                     " (beyond what it can map, or vm.max_map_count reached)",
                     title, base, base + bytes);
}

/* ---- map ---- */

/* Takes the range for this process with nothing in it. 0 or what the kernel said: EEXIST if any of
 * it is taken. */
static int reserve_range(uint64_t base, uint64_t bytes) {
    void *wanted = (void *)(uintptr_t)base;
    void *got = mmap(wanted, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED) {
        return errno;
    }
    if (got != wanted) { /* a kernel or a tool that takes the address for a hint */
        (void)munmap(got, bytes);
        return EEXIST;
    }
    return 0;
}

int mapping_is_free(uint64_t address, uint64_t bytes) {
    if (reserve_range(address, bytes) != 0) {
        return 0;
    }
    (void)munmap((void *)(uintptr_t)address, bytes);
    return 1;
}

/* Asks with one page elsewhere: where a file system refuses MAP_SYNC late, the kernel has already
 * unmapped what MAP_FIXED was to replace. Plain MAP_SHARED would accept MAP_SYNC and ignore it. */
static int sync_is_supported(int fd) {
    void *page = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (page == MAP_FAILED) {
        return 0;
    }
    (void)munmap(page, PAGE_BYTES);
    return 1;
}

/* Whether mlockall(MCL_FUTURE) is in force: then a page that nobody touched is there at once. */
static int is_locked_from_birth(void) {
    unsigned char resident = 0;
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return 1;
    }
    int is_known = mincore(page, PAGE_BYTES, &resident) == 0;
    (void)munmap(page, PAGE_BYTES);
    return !is_known || (resident & 1) != 0;
}

/* Maps the file over the reservation. After mlockall(MCL_FUTURE) a mapping with access would at
 * once be backed in its full length, and could not be punched: then it is made without access and
 * unlocked, and opened up afterwards. Not always, because memcheck walks over each byte that an
 * mprotect() opens up. */
static int map_over(const struct heap_file *file, struct heap_mapping *mapping) {
    int flags = mapping->is_sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    int access = mapping->is_readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    void *base = mapping->base;
    uint64_t bytes = mapping->total_bytes;
    int is_locked = is_locked_from_birth();
    int first_access = is_locked ? PROT_NONE : access;
    if (mmap(base, bytes, first_access, flags | MAP_FIXED, file->fd, 0) == MAP_FAILED) {
        return errno;
    }
    if (is_locked && (munlock(base, bytes) != 0 || mprotect(base, bytes, access) != 0)) {
        return errno;
    }
    /* A crash that dumped the heap would hold its locks for as long as the dump takes. */
    return madvise(base, bytes, MADV_DONTDUMP) == 0 ? 0 : errno;
}

int mapping_make(const struct heap_file *file, const struct superblock *superblock, int readonly,
                 int require_sync, struct heap_mapping *mapping) {
    uint64_t base = superblock->base_address;
    uint64_t bytes = superblock->total_bytes;
    *mapping = (struct heap_mapping){0};
    int is_sync = sync_is_supported(file->fd);
    if (require_sync && !is_sync) {
        return error_set(
            EOPNOTSUPP,
            "%s: MAP_SYNC is refused here; SHARENA_REQUIRE_SYNC needs a file on a file "
            "system mounted with dax",
            file->title);
    }
    int error = reserve_range(base, bytes);
    if (error == EEXIST) {
        return explain_taken(file->title, base, bytes);
    }
    if (error == ENOMEM) {
        return explain_no_space(file->title, base, bytes);
    }
    if (error == 0) {
        struct heap_mapping wanted = {.base = (sharena_t *)(uintptr_t)base,
                                      .total_bytes = bytes,
                                      .is_sync = is_sync,
                                      .is_readonly = readonly};
        error = map_over(file, &wanted);
        if (error == 0) {
            *mapping = wanted;
            return 0;
        }
        (void)munmap(wanted.base, bytes);
    }
    errno = error;
    return error_set(error, "%s: cannot be mapped at 0x%" PRIx64 "-0x%" PRIx64 ": %m%s",
                     file->title, base, base + bytes,
                     error == EAGAIN ? "; mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK forbid it" : "");
}

void mapping_unmake(struct heap_mapping *mapping) {
    if (mapping->base != NULL) {
        (void)munmap(mapping->base, mapping->total_bytes);
        mapping->base = NULL;
    }
}

/* ---- back and punch ---- */

static int advise(sharena_t *heap, uint64_t offset, uint64_t bytes, int advice) {
    ASSERT(offset % PAGE_BYTES == 0 && bytes % PAGE_BYTES == 0);
    while (madvise(heap_bytes(heap) + offset, bytes, advice) != 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return errno;
        }
    }
    FAULT_POINT();
    return 0;
}

int mapping_back(sharena_t *heap, uint64_t offset, uint64_t bytes, int was_hole) {
    int error = advise(heap, offset, bytes, MADV_POPULATE_WRITE);
    if (error == 0) {
        return 0;
    }
    if (was_hole) {
        (void)advise(heap, offset, bytes, MADV_REMOVE);
    }
    /* EFAULT is how the kernel reports the SIGBUS that a store would have met. */
    return error == EFAULT || error == ENOSPC ? ENOMEM : error;
}

int mapping_punch(sharena_t *heap, uint64_t offset, uint64_t bytes) {
    return advise(heap, offset, bytes, MADV_REMOVE);
}

int mapping_check_kernel(void) {
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return error_set(ENOMEM, "not even one page of memory could be mapped: %m");
    }
    int error = madvise(page, PAGE_BYTES, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    (void)munmap(page, PAGE_BYTES);
    if (error == EINVAL) {
        return error_set(EOPNOTSUPP, "this kernel lacks MADV_POPULATE_WRITE: sharena needs Linux "
                                     "5.14 or later");
    }
    return 0;
}
