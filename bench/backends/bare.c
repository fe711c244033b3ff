/* bare.c -- no allocator: what the driver itself costs, and memory that is merely handed around.
 *
 * Each thread has a stack of equal slots, from which it hands out whatever the size is, and takes
 * unused ones in turn when the stack is empty (as for the sender of messages, whose blocks others
 * give back: they forget them, and the slots come round again). Only the beginning of a block
 * may be touched, for a slot is not as long as the block may be.
 */
#include "../driver/backend.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

const char backend_name[] = "bare";
const enum sharing backend_sharing = SHARING_BARE;

#define BASE ((void *)0x310000000000)
#define SLOT_BYTES ((size_t)576) /* an odd number of lines, so that all cache sets are used alike */
#define PARTS 128u               /* threads at one time */

static struct header { unsigned threads; } * header;

static size_t slots;
static size_t part_bytes;

static __thread struct part {
    char *blocks;
    void **stack;
    size_t stacked;
    size_t next;
} part;

int backend_open(const char *path, const struct needs *needs) {
    slots = needs->blocks;
    part_bytes = slots * (SLOT_BYTES + sizeof(void *));
    size_t bytes = SLOT_BYTES + PARTS * part_bytes;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        perror(path);
        return -1;
    }
    void *base = mmap(BASE, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    (void)close(fd);
    if (base != BASE) {
        perror(path);
        return -1;
    }
    header = base;
    part = (struct part){0};
    return 0;
}

void backend_close(void) {
    (void)munmap(header, SLOT_BYTES + PARTS * part_bytes);
}

static void __attribute__((cold, noinline)) part_take(void) {
    unsigned index = __atomic_fetch_add(&header->threads, 1, __ATOMIC_RELAXED) % PARTS;
    part.blocks = (char *)header + SLOT_BYTES + index * part_bytes;
    part.stack = (void **)(void *)(part.blocks + slots * SLOT_BYTES);
}

void *backend_alloc(size_t size) {
    (void)size;
    if (part.stacked > 0) {
        return part.stack[--part.stacked];
    }
    if (part.blocks == NULL) {
        part_take();
    }
    void *block = part.blocks + part.next * SLOT_BYTES;
    part.next = part.next + 1 < slots ? part.next + 1 : 0;
    return block;
}

void backend_free(void *block) {
    if (part.blocks == NULL) {
        part_take();
    }
    if (part.stacked < slots) {
        part.stack[part.stacked++] = block;
    }
}

bool backend_flush(void) {
    return false;
}

void backend_purge(void) {
}

bool backend_reap(void) {
    return false;
}

enum check backend_check(void) {
    return CHECK_NONE;
}

const char *backend_version(void) {
    return "";
}
