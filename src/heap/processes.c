/* processes.c -- who is attached, and what each of them caches.
 *
 * Slots are read while their owners go on: what is read is of one moment per number. Nothing read
 * is used as a place, so a damaged slot does no harm.
 *
 * Lock:   none
 * Killed: nothing shared is changed
 * Not here: taking slots and taking them back (slot.c, reap.c).
 */
#include "heap/processes.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heap/census.h"
#include "heap/geometry.h"

const char *process_state_name(enum process_state state) {
    static const char *const names[] = {[PROCESS_NONE] = "none",
                                        [PROCESS_ALIVE] = "alive",
                                        [PROCESS_STOPPED] = "stopped",
                                        [PROCESS_DEAD] = "dead"};
    return names[state];
}

/* What /proc says of a process that is known to live: the letter behind "PID (NAME) ". Where it
 * cannot be read, or the pid is another namespace's and nobody has it here, it is not stopped. */
static int is_stopped(uint32_t pid) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/proc/%u/stat", pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' && (end[2] == 'T' || end[2] == 't');
}

/* What a process calls itself is nothing to send to a terminal as it is. */
static void copy_name(const struct process_slot *process, char name[16]) {
    memcpy(name, process->name, 16);
    name[15] = '\0';
    for (char *at = name; *at != '\0'; at++) {
        *at = isprint((unsigned char)*at) ? *at : '?';
    }
}

static int is_of(const struct thread_slot *slot, uint32_t process, uint64_t generation) {
    return shared_get(&slot->state) == SLOT_USED && shared_get(&slot->process) == process &&
           shared_get(&slot->process_generation) == generation;
}

static uint32_t threads_used(const sharena_t *heap) {
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    return high < THREADS_MAX ? high : THREADS_MAX;
}

static void add_threads(const sharena_t *heap, struct process_info *info) {
    for (uint32_t i = 0; i < threads_used(heap); i++) {
        struct thread_slot *slot = heap_thread(heap, i);
        if (is_of(slot, info->slot, info->generation)) {
            info->threads++;
            info->cached_bytes += census_cached_by(slot);
        }
    }
}

int process_is_attached(const struct attachment *attachment, uint32_t index) {
    return shared_get(&heap_process(attachment->mapping.base, index)->state) == SLOT_USED &&
           token_is_held(&attachment->file, index);
}

/* A dead one that was counted, and whose threads were reaped, is gone: its slot is anybody's. */
int process_describe(const struct attachment *attachment, uint32_t index,
                     struct process_info *info) {
    const sharena_t *heap = attachment->mapping.base;
    const struct process_slot *process = heap_process(heap, index);
    uint64_t generation = shared_get(&process->generation);
    *info = (struct process_info){
        .slot = index, .generation = generation, .pid = shared_get(&process->pid)};
    if (index >= heap_processes_used(heap) || shared_get(&process->state) != SLOT_USED) {
        return 0;
    }
    info->attached_ns = shared_get(&process->attached_ns);
    copy_name(process, info->name);
    add_threads(heap, info);
    if (process_is_attached(attachment, index)) {
        info->state = is_stopped(info->pid) ? PROCESS_STOPPED : PROCESS_ALIVE;
    } else if (info->threads != 0 || shared_get(&process->died) < generation) {
        info->state = PROCESS_DEAD;
    }
    return info->state != PROCESS_NONE;
}

int process_describe_thread(const struct attachment *attachment, uint32_t index,
                            struct thread_info *info) {
    struct thread_slot *slot = heap_thread(attachment->mapping.base, index);
    *info = (struct thread_info){.slot = index};
    if (index >= threads_used(attachment->mapping.base) || shared_get(&slot->state) != SLOT_USED) {
        return 0;
    }
    info->process = shared_get(&slot->process);
    info->generation = shared_get(&slot->process_generation);
    info->tid = shared_get(&slot->tid);
    info->arena = shared_get(&slot->arena) - 1;
    info->taken_bytes = shared_get(&slot_tcache(slot)->taken_bytes);
    info->given_bytes = shared_get(&slot_tcache(slot)->given_bytes);
    for (uint32_t i = 0; i < SIZE_CLASSES_CACHED; i++) {
        struct census_blocks cached = census_cache(slot, i);
        info->cached_blocks += cached.out;
        info->cached_bytes += cached.bytes;
    }
    return 1;
}
