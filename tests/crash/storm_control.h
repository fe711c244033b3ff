/* storm_control.h -- for the crash tests: what the director and its workers share outside of the
 * heap.
 *
 * Nothing here needs recovery: every word is one atomic, written by one thread or only added to. A
 * worker that was started by exec finds it through an inherited descriptor.
 */
#ifndef TESTS_CRASH_STORM_CONTROL_H
#define TESTS_CRASH_STORM_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define STORM_PROCESSES_MAX 64
#define STORM_THREADS_MAX 64
#define STORM_HANG_NS 30000000000ull /* generous: machines may be shared */

/* What is timed. */
enum storm_kind {
    KIND_NONE,
    KIND_OPEN,
    KIND_CLOSE,
    KIND_MALLOC_TO,
    KIND_FREE_FROM,
    KIND_MALLOC,
    KIND_CALLOC,
    KIND_ALIGNED,
    KIND_REALLOC,
    KIND_FREE,
    KIND_ROOT_SET,
    KIND_ROOT_GET,
    KIND_ROOT_CREATE,
    KIND_REAP,
    KIND_PURGE,
    KIND_CHECK,
    KINDS
};

enum storm_phase { PHASE_CALM, PHASE_STORM, PHASES };

struct storm_thread {
    _Atomic uint64_t began_ns; /* of the operation under way, 0 none */
    _Atomic uint32_t kind;     /* enum storm_kind, of that operation */
    _Atomic uint64_t steps;    /* guarded steps done, by all who had this place */
};

struct storm_worker {
    _Atomic uint32_t working; /* threads that began; of this incarnation, as the next three */
    _Atomic uint32_t parked;  /* threads that wait for `paused` to end */
    _Atomic uint32_t living;  /* threads that have not ended */
    _Atomic uint32_t leave;   /* asked to end by itself */
    _Atomic uint64_t calls[KINDS];
    _Atomic uint64_t longest_ns[PHASES][KINDS];
    struct storm_thread threads[STORM_THREADS_MAX];
};

struct storm_control {
    char path[256];
    uint64_t seed;
    uint32_t processes;
    uint32_t threads;
    uint32_t has_gentle;  /* 1: worker STORM_GENTLE is never killed (storm_work.h) */
    uint32_t unpublished; /* 1: who may be killed uses plain malloc, free, realloc too */
    _Atomic uint32_t phase;
    _Atomic uint32_t paused;
    struct storm_worker workers[STORM_PROCESSES_MAX];
};

/* Zeroed, and shared with children by fork and, through *fd, by exec. */
struct storm_control *storm_control_make(int *fd);
struct storm_control *storm_control_map(int fd);

const char *storm_kind_name(enum storm_kind kind);

uint64_t storm_now_ns(void);
void storm_sleep_us(uint64_t us);
uint64_t storm_random(uint64_t *state);

/* Says why on stderr, with the library's last message, and ends the process: status 1. */
_Noreturn void storm_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Brackets one call into the library. */
void storm_begin(struct storm_thread *thread, enum storm_kind kind);
void storm_end(struct storm_control *control, uint32_t index, struct storm_thread *thread);

#endif
