/* trace.c -- a debugger that stops a process at the n-th instruction of an operation.
 *
 * Holds:  the task stands still between two calls; all stops are its own
 * Not here: what is run, and what survivors do (stage.c, steps.c).
 */
#include "trace.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the stepper knows the breakpoints of x86-64 only"
#endif

#define BREAKPOINT 0xccu /* int3 */

/* How far a breakpoint may be from the instruction that is meant: the rest is single steps. */
#define STEPS_MOST 64u

static int complain(const char *what) {
    (void)fprintf(stderr, "trace: %s: %s\n", what, strerror(errno));
    return -1;
}

/* A breakpoint of the program's own. */
__attribute__((noinline)) void trace_mark(void) {
    __asm__ volatile("int3" ::: "memory");
}

/* ---- single words ---- */

static long request(struct trace *trace, enum __ptrace_request what, void *data) {
    return ptrace(what, trace->task, NULL, data);
}

static int wait_for(pid_t task, int *status) {
    pid_t got;
    do {
        got = waitpid(task, status, __WALL);
    } while (got < 0 && errno == EINTR);
    return got == task ? 0 : -1;
}

/* Resumes the task and waits for its next stop by SIGTRAP; sets is_over where there is none. */
static int resume(struct trace *trace, enum __ptrace_request how) {
    int status;
    long signal_number = 0;
    do {
        if (request(trace, how, (void *)signal_number) != 0 && errno != ESRCH) {
            return complain("resume");
        }
        if (wait_for(trace->task, &status) != 0) {
            return complain("wait");
        }
        if (!WIFSTOPPED(status)) {
            trace->is_over = 1;
            return 0;
        }
        signal_number = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
    } while (WSTOPSIG(status) != SIGTRAP);
    return 0;
}

static int get_registers(struct trace *trace, struct user_regs_struct *registers) {
    return request(trace, PTRACE_GETREGS, registers) == 0 ? 0 : complain("registers");
}

static int next_address(struct trace *trace, uint64_t *address) {
    struct user_regs_struct registers;
    if (get_registers(trace, &registers) != 0) {
        return -1;
    }
    *address = registers.rip;
    return 0;
}

/* Whether the task has just executed an int3. */
static int is_at_breakpoint(struct trace *trace) {
    siginfo_t info;
    return ptrace(PTRACE_GETSIGINFO, trace->task, NULL, &info) == 0 && info.si_code == SI_KERNEL;
}

static uint64_t peek(struct trace *trace, uint64_t address) {
    return (uint64_t)ptrace(PTRACE_PEEKTEXT, trace->task, (void *)address, NULL);
}

static int poke(struct trace *trace, uint64_t address, uint64_t word) {
    return ptrace(PTRACE_POKETEXT, trace->task, (void *)address, (void *)word) == 0
               ? 0
               : complain("breakpoint");
}

/* Runs until the instruction at that address is next, or the operation ends. */
static int run_to_address(struct trace *trace, uint64_t address) {
    uint64_t word = peek(trace, address);
    struct user_regs_struct registers;
    if (poke(trace, address, (word & ~(uint64_t)0xff) | BREAKPOINT) != 0 ||
        resume(trace, PTRACE_CONT) != 0) {
        return -1;
    }
    if (trace->is_over) {
        return 0;
    }
    if (poke(trace, address, word) != 0 || get_registers(trace, &registers) != 0) {
        return -1;
    }
    if (registers.rip != address + 1) { /* another breakpoint: the mark at the end */
        trace->is_over = 1;
        return 0;
    }
    registers.rip = address;
    return request(trace, PTRACE_SETREGS, &registers) == 0 ? 0 : complain("registers");
}

static int step(struct trace *trace) {
    if (resume(trace, PTRACE_SINGLESTEP) != 0) {
        return -1;
    }
    if (!trace->is_over && is_at_breakpoint(trace)) {
        trace->is_over = 1;
    }
    return 0;
}

/* ---- the beginning ---- */

int trace_is_allowed(void) {
    int status = 1;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1);
    }
    return pid > 0 && wait_for(pid, &status) == 0 && status == 0;
}

int trace_start(struct trace *trace, void (*body)(void *arg), void *arg) {
    int status;
    (void)fflush(NULL);
    *trace = (struct trace){.process = fork()};
    if (trace->process == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        body(arg);
        _exit(0);
    }
    trace->task = trace->process;
    if (trace->process < 0 || wait_for(trace->process, &status) != 0) {
        return complain("start");
    }
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
        (void)fprintf(stderr, "trace: the victim ended before its operation: status %#x\n",
                      (unsigned)status);
        trace->is_over = 1;
        return -1;
    }
    (void)ptrace(PTRACE_SETOPTIONS, trace->process, NULL, PTRACE_O_EXITKILL);
    return 0;
}

int trace_follow(struct trace *trace, enum trace_follow follow) {
    unsigned long made = 0;
    int status;
    long options =
        PTRACE_O_EXITKILL | (follow == TRACE_THREAD ? PTRACE_O_TRACECLONE : PTRACE_O_TRACEFORK);
    if (follow == TRACE_SELF) {
        return 0;
    }
    if (ptrace(PTRACE_SETOPTIONS, trace->process, NULL, options) != 0 ||
        resume(trace, PTRACE_CONT) != 0 || trace->is_over ||
        ptrace(PTRACE_GETEVENTMSG, trace->process, NULL, &made) != 0) {
        return complain("no thread or child to follow");
    }
    trace->task = (pid_t)made;
    if (wait_for(trace->task, &status) != 0 || !WIFSTOPPED(status)) {
        return complain("the new task");
    }
    (void)ptrace(PTRACE_SETOPTIONS, trace->task, NULL, PTRACE_O_EXITKILL);
    (void)ptrace(PTRACE_SETOPTIONS, trace->process, NULL, PTRACE_O_EXITKILL);
    return ptrace(PTRACE_CONT, trace->process, NULL, NULL) == 0 ? 0 : complain("continue");
}

/* ---- recording ---- */

static int note(struct recording *recording, uint64_t address) {
    if (recording->count == recording->room) {
        size_t room = recording->room != 0 ? recording->room * 2 : 1024;
        void *addresses = realloc(recording->addresses, room * sizeof(*recording->addresses));
        recording->addresses = addresses != NULL ? addresses : recording->addresses;
        if (addresses == NULL) {
            return complain("recording");
        }
        recording->room = room;
    }
    recording->addresses[recording->count++] = address;
    return 0;
}

/* The length of a repeated string instruction (rep movs, rep stos), which stops after each of its
 * rounds; 0 for any other. */
static unsigned string_instruction_bytes(uint64_t word) {
    const unsigned char *code = (const unsigned char *)&word;
    unsigned at = 1;
    if (code[0] != 0xf3) {
        return 0;
    }
    if ((code[1] & 0xf0) == 0x40) {
        at = 2;
    }
    return code[at] == 0xa4 || code[at] == 0xa5 || code[at] == 0xaa || code[at] == 0xab ? at + 1
                                                                                        : 0;
}

static int compare_positions(const void *a, const void *b, void *arg) {
    const uint64_t *addresses = arg;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    if (addresses[left] != addresses[right]) {
        return addresses[left] < addresses[right] ? -1 : 1;
    }
    return left < right ? -1 : left > right;
}

static int count_repeats(struct recording *recording) {
    size_t count = recording->count;
    uint32_t *order = malloc((count + 1) * sizeof(*order));
    recording->repeats = malloc((count + 1) * sizeof(*recording->repeats));
    if (order == NULL || recording->repeats == NULL) {
        free(order);
        return complain("recording");
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)i;
    }
    qsort_r(order, count, sizeof(*order), compare_positions, recording->addresses);
    for (size_t i = 0; i < count; i++) {
        int is_first =
            i == 0 || recording->addresses[order[i]] != recording->addresses[order[i - 1]];
        recording->repeats[order[i]] = is_first ? 0 : recording->repeats[order[i - 1]] + 1;
    }
    free(order);
    return 0;
}

int trace_record(struct trace *trace, struct recording *recording, size_t limit) {
    *recording = (struct recording){0};
    while (!trace->is_over && recording->count < limit) {
        uint64_t address;
        if (next_address(trace, &address) != 0 || note(recording, address) != 0) {
            return -1;
        }
        if (recording->count >= 2 && address == recording->addresses[recording->count - 2]) {
            unsigned bytes = string_instruction_bytes(peek(trace, address));
            if (bytes != 0) {
                if (run_to_address(trace, address + bytes) != 0) {
                    return -1;
                }
                continue;
            }
        }
        if (step(trace) != 0) {
            return -1;
        }
    }
    return count_repeats(recording);
}

void recording_free(struct recording *recording) {
    free(recording->addresses);
    free(recording->repeats);
    *recording = (struct recording){0};
}

/* ---- and again ---- */

/* The instruction at or shortly before n that was executed least often until then. */
static size_t find_anchor(const struct recording *recording, size_t n) {
    size_t anchor = n;
    size_t least = SIZE_MAX;
    for (size_t back = 0; back <= n && back < STEPS_MOST; back++) {
        size_t cost = recording->repeats[n - back] * 2 + back;
        if (cost < least) {
            least = cost;
            anchor = n - back;
        }
    }
    return anchor;
}

int trace_run_to(struct trace *trace, const struct recording *recording, size_t n) {
    size_t anchor = find_anchor(recording, n);
    uint64_t address = recording->addresses[anchor];
    uint64_t here;
    if (next_address(trace, &here) != 0) {
        return -1;
    }
    uint32_t passes = recording->repeats[anchor] + (here == address ? 0u : 1u);
    while (passes > 0 && !trace->is_over) {
        if (next_address(trace, &here) != 0 || (here == address && step(trace) != 0) ||
            (!trace->is_over && run_to_address(trace, address) != 0)) {
            return -1;
        }
        passes--;
    }
    for (size_t at = anchor; at < n && !trace->is_over; at++) {
        if (step(trace) != 0) {
            return -1;
        }
    }
    return 0;
}

void trace_kill(struct trace *trace) {
    int status;
    if (trace->task != trace->process) {
        (void)syscall(SYS_tkill, trace->task, SIGKILL);
    }
    (void)kill(trace->process, SIGKILL);
    if (trace->task != trace->process) {
        while (wait_for(trace->task, &status) == 0 && WIFSTOPPED(status)) {
        }
    }
    while (wait_for(trace->process, &status) == 0 && WIFSTOPPED(status)) {
    }
}
