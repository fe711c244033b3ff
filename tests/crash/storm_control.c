/* storm_control.c -- shared memory, clock and failure of the crash tests; see storm_control.h. */
#include "storm_control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <sharena/sharena.h>

static const char *heap_path = "none yet"; /* where the shared memory has it */

struct storm_control *storm_control_map(int fd) {
    void *memory =
        mmap(NULL, sizeof(struct storm_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    heap_path = ((struct storm_control *)memory)->path;
    return memory;
}

struct storm_control *storm_control_make(int *fd) {
    *fd = memfd_create("storm-control", 0);
    if (*fd < 0 || ftruncate(*fd, sizeof(struct storm_control)) != 0) {
        storm_fail("no memory to share with the workers");
    }
    struct storm_control *control = storm_control_map(*fd);
    if (control == NULL) {
        storm_fail("no memory to share with the workers");
    }
    return control;
}

const char *storm_kind_name(enum storm_kind kind) {
    static const char *const names[KINDS] = {
        "none",    "open", "close",    "malloc_to", "free_from",   "malloc", "calloc", "aligned",
        "realloc", "free", "root_set", "root_get",  "root_create", "reap",   "purge",  "check"};
    return kind < KINDS ? names[kind] : "?";
}

uint64_t storm_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void storm_sleep_us(uint64_t us) {
    const struct timespec pause = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    (void)nanosleep(&pause, NULL);
}

uint64_t storm_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15ull; /* splitmix64; S. Vigna */
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    return mixed ^ mixed >> 31;
}

void storm_fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "FAILED, process %d: %s (last message: %s; heap: %s)\n", (int)getpid(),
                  text, sharena_errormsg(), heap_path);
    (void)fflush(NULL);
    _exit(1);
}

void storm_begin(struct storm_thread *thread, enum storm_kind kind) {
    atomic_store_explicit(&thread->kind, kind, memory_order_relaxed);
    atomic_store_explicit(&thread->began_ns, storm_now_ns(), memory_order_relaxed);
}

void storm_end(struct storm_control *control, uint32_t index, struct storm_thread *thread) {
    struct storm_worker *worker = &control->workers[index];
    uint32_t kind = atomic_load_explicit(&thread->kind, memory_order_relaxed);
    uint32_t phase = atomic_load_explicit(&control->phase, memory_order_relaxed);
    uint64_t took = storm_now_ns() - atomic_load_explicit(&thread->began_ns, memory_order_relaxed);
    _Atomic uint64_t *longest = &worker->longest_ns[phase][kind];
    uint64_t known = atomic_load_explicit(longest, memory_order_relaxed);
    while (took > known && !atomic_compare_exchange_weak(longest, &known, took)) {
    }
    (void)atomic_fetch_add_explicit(&worker->calls[kind], 1, memory_order_relaxed);
    atomic_store_explicit(&thread->began_ns, 0, memory_order_relaxed);
}
