/* stepper.c -- see stepper.h. */
#include "stepper.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../clock.h"
#include "trial.h"

/* How many instructions are left to the child; in memory that the tester sees, to count them. */
static volatile uint64_t *steps_left;

static void on_step(int number) {
    (void)number;
    if (--*steps_left == 0) {
        kill(getpid(), SIGKILL);
    }
}

#ifdef __x86_64__
static void trap_set(void) {
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
}
static void trap_clear(void) {
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}
#else
static void trap_set(void) {
}
static void trap_clear(void) {
}
#endif

/* False: the child came to the operation's end. */
static bool step_and_kill(const struct stepper_case *test, uint64_t steps) {
    int status;
    bool is_killed;
    pid_t pid;

    if (steps_left == NULL) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        REQUIRE(page != MAP_FAILED);
        steps_left = page;
    }
    *steps_left = steps;
    fflush(NULL);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        if (test->enter != NULL) {
            test->enter();
        }
        signal(SIGTRAP, on_step);
        trap_set();
        test->operate();
        trap_clear();
        _exit(0);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    REQUIRE(is_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return is_killed;
}

void stepper_kill_once(const struct stepper_case *test, uint64_t instructions) {
    test->prepare();
    (void)step_and_kill(test, 1 + trial_below(instructions));
}

uint64_t stepper_run(const struct stepper_case *test, double seconds) {
    uint64_t total;
    uint64_t kills = 0;
    uint64_t start_ns = clock_now_ns();
    bool is_time_for_all;

    test->prepare();
    REQUIRE(!step_and_kill(test, UINT64_MAX));
    total = UINT64_MAX - *steps_left;
    test->verify();
    /* On average a child gets half of the way. */
    is_time_for_all = clock_seconds_since(start_ns) / 2 * (double)total < seconds;
    start_ns = clock_now_ns();
    for (uint64_t i = 1; i <= total && (is_time_for_all || clock_seconds_since(start_ns) < seconds);
         i++) {
        test->prepare();
        kills += step_and_kill(test, is_time_for_all ? i : 1 + trial_below(total));
        test->verify();
    }
    printf("steps: %-14s %6llu instructions, killed in %llu of them\n", test->name,
           (unsigned long long)total, (unsigned long long)kills);
    return kills;
}
