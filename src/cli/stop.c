/* stop.c -- all processes that can store into a heap, stopped.
 *
 * Who stores has the file mapped for writing, and /proc says so, of forked children that have no
 * slot yet as well. They are looked for until a look finds nobody new: only one of them can make
 * another (by fork), for the caller keeps all others from attaching. Then every process slot whose
 * token is held must be the slot of one that was stopped: whom /proc does not show is found out.
 *
 * A process in a system call that cannot be interrupted stops when the call ends. One in vfork()
 * stops when its child has gone on to exec, which a stopped child does not: so where somebody does
 * not stop, all go on for a moment, and it is tried again, with more patience.
 *
 * Holds:  nothing is stopped that the guardian does not know of
 * Lock:   the heap's open lock, held by the caller
 * Not here: what is done while they stand still (snapshot.c).
 */
#include "cli/stop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/errors.h"
#include "ipc/layout.h"
#include "ipc/token.h"

#define ATTEMPTS 8
#define PATIENCE_MS 250 /* of the first attempt; the second waits twice as long, and so on */
#define LOOKS_MAX 100
#define SAME_LOOKS 5   /* a millisecond apart */
#define DYING_LOOKS 50 /* ten milliseconds apart */

static uint64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void sleep_ms(long ms) {
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* ---- one process ---- */

static int is_known(const struct standstill *standstill, pid_t pid) {
    for (uint32_t i = 0; i < standstill->stopped.count; i++) {
        if (standstill->stopped.list[i].pid == pid) {
            return 1;
        }
    }
    return 0;
}

static int explain_process(int error, pid_t pid) {
    if (error == EPERM) {
        return error_set(error,
                         "process %d uses the heap and cannot be stopped: it is another user's; "
                         "try as root",
                         (int)pid);
    }
    return error_set(error, "process %d uses the heap and cannot be stopped: %s", (int)pid,
                     strerror(error));
}

/* Tells it to stop, unless it is stopped already, by somebody who will want to continue it. */
static int begin_stop(const struct guardian *guardian, pid_t pid) {
    if (holders_process_state(pid, NULL) != PROCESS_RUNS) {
        return 0;
    }
    int error = guardian_stop_process(guardian, pid);
    return error == 0 || error == ESRCH ? 0 : explain_process(error, pid);
}

/* A thread is shown as stopped an instant before its last switch is counted, and that instant is
 * long if another thread gets its processor. So the count must have stayed the same for a while. */
static int wait_stopped(struct standstill *standstill, uint32_t index, uint64_t end_ms) {
    pid_t pid = standstill->stopped.list[index].pid;
    uint64_t *switches = &standstill->switches[index];
    uint64_t before = UINT64_MAX;
    int looks_same = 0;
    while (looks_same < SAME_LOOKS) {
        int is_running = holders_process_state(pid, switches) == PROCESS_RUNS;
        looks_same = !is_running && *switches == before ? looks_same + 1 : 0;
        before = is_running ? UINT64_MAX : *switches;
        if (is_running && now_ms() >= end_ms) {
            return error_set(ETIMEDOUT,
                             "process %d uses the heap and does not stop: a thread of it is in a "
                             "system call that does not end, or somebody continues it; try again",
                             (int)pid);
        }
        sleep_ms(1);
    }
    return 0;
}

/* ---- all ---- */

/* One look at /proc: who is new is told to stop. Their number goes to *news. */
static int stop_new(const struct guardian *guardian, struct standstill *standstill,
                    struct holders *found, uint32_t *news) {
    int error = holders_find(&standstill->key, found);
    *news = 0;
    for (uint32_t i = 0; i < found->count && error == 0; i++) {
        if (is_known(standstill, found->list[i].pid)) {
            continue;
        }
        if (standstill->stopped.count == HOLDERS_MAX) {
            return error_set(EUSERS, "too many processes use the heap");
        }
        standstill->stopped.list[standstill->stopped.count++] = found->list[i];
        ++*news;
        error = begin_stop(guardian, found->list[i].pid);
    }
    return error;
}

static int stop_everybody(const struct guardian *guardian, struct standstill *standstill,
                          uint64_t patience_ms) {
    static struct holders found;
    uint64_t end_ms = now_ms() + patience_ms;
    uint32_t news = 1;
    int error = 0;
    standstill->stopped.count = 0;
    for (int look = 0; look < LOOKS_MAX && news > 0 && error == 0; look++) {
        uint32_t before = standstill->stopped.count;
        error = stop_new(guardian, standstill, &found, &news);
        for (uint32_t i = before; i < standstill->stopped.count && error == 0; i++) {
            error = wait_stopped(standstill, i, end_ms);
        }
    }
    if (error == 0 && news > 0) {
        error = error_set(ETIMEDOUT, "processes that use the heap fork faster than they can be "
                                     "stopped");
    }
    return error;
}

/* ---- the slots ---- */

/* How many of the stopped have that pid in their own namespace. */
static uint32_t count_stopped(const struct standstill *standstill, uint32_t inner_pid) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < standstill->stopped.count; i++) {
        count += standstill->stopped.list[i].inner_pid == (pid_t)inner_pid;
    }
    return count;
}

/* Slots 0 to `index` with that pid whose process is alive. */
static uint32_t count_slots(const struct heap_file *file, const struct process_slot *slots,
                            uint32_t index) {
    uint32_t count = 0;
    for (uint32_t i = 0; i <= index; i++) {
        count +=
            shared_get(&slots[i].pid) == shared_get(&slots[index].pid) && token_is_held(file, i);
    }
    return count;
}

/* Everybody who holds a token is among the stopped. */
static int verify_slots(const struct heap_file *file, const struct standstill *standstill) {
    static struct process_slot slots[PROCESSES_MAX];
    if (pread(file->fd, slots, sizeof(slots), PROCESSES_OFFSET) != (ssize_t)sizeof(slots)) {
        return error_set(EIO, "%s: its process slots cannot be read", file->title);
    }
    for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
        uint32_t pid = shared_get(&slots[i].pid);
        if (token_is_held(file, i) &&
            count_stopped(standstill, pid) < count_slots(file, slots, i)) {
            return error_set(EPERM,
                             "process %u (%.16s) uses the heap and cannot be stopped: it is "
                             "another user's, or in a pid namespace that is not seen from here; "
                             "try as root, outside of containers",
                             pid, slots[i].name);
        }
    }
    return 0;
}

int stop_all(const struct heap_file *file, const struct guardian *guardian,
             struct standstill *standstill) {
    int error = holders_identify(file, &standstill->key);
    if (error != 0) {
        return error;
    }
    for (unsigned i = 1; i <= ATTEMPTS; i++) {
        error = stop_everybody(guardian, standstill, (uint64_t)i * PATIENCE_MS);
        if (error != ETIMEDOUT) {
            break;
        }
        guardian_continue_all(guardian);
        sleep_ms(20L * i);
    }
    if (error == 0) {
        error = verify_slots(file, standstill);
    }
    /* Of one that is just dying, /proc shows no mapping any more when its token is still held. */
    for (int i = 0; i < DYING_LOOKS && error == EPERM; i++) {
        sleep_ms(10);
        error = verify_slots(file, standstill);
    }
    return error;
}

int stop_verify(const struct standstill *standstill) {
    for (uint32_t i = 0; i < standstill->stopped.count; i++) {
        uint64_t switches;
        pid_t pid = standstill->stopped.list[i].pid;
        enum process_state state = holders_process_state(pid, &switches);
        if (state == PROCESS_RUNS ||
            (state == PROCESS_STOPPED && switches != standstill->switches[i])) {
            return error_set(EAGAIN,
                             "somebody continued process %d while its heap was copied; try again",
                             (int)pid);
        }
    }
    return 0;
}
