/* test_processes.c -- slots as processes and threads: the living, the stopped, the dead, the gone. */
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>

#include "heap/processes.h"
#include "heap/tcache.h"
#include "heap_parts.h"

static struct process_info described(uint32_t slot) {
    struct process_info info;
    memset(&info, 0xee, sizeof(info));
    int is_there = process_describe(fixture_attachment(), slot, &info);
    assert_int_equal(is_there, info.state != PROCESS_NONE);
    assert_int_equal(info.slot, slot);
    return info;
}

static struct thread_info thread_of(uint32_t slot) {
    struct thread_info info;
    assert_true(process_describe_thread(fixture_attachment(), slot, &info));
    return info;
}

static void this_process_is_alive(void **state) {
    (void)state;
    struct timespec now;
    struct process_info info = described(0);
    assert_int_equal(info.state, PROCESS_ALIVE);
    assert_int_equal(info.pid, getpid());
    assert_int_equal(info.threads, 0); /* none has used the heap */
    assert_string_equal(info.name, fixture_process_name());
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    assert_true(info.attached_ns <= ns && ns - info.attached_ns < 60000000000u);
    assert_true(process_is_attached(fixture_attachment(), 0));
    assert_int_equal(described(1).state, PROCESS_NONE);
    assert_int_equal(described(PROCESSES_MAX - 1).state, PROCESS_NONE);
    struct thread_info thread;
    assert_false(process_describe_thread(fixture_attachment(), 0, &thread));
}

static void a_thread_counts_what_it_took_and_gave(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    void *block = sharena_malloc(heap, 64);
    struct thread_info info = thread_of(0);
    assert_int_equal(info.process, 0);
    assert_int_equal(info.generation, described(0).generation);
    assert_int_equal(info.tid, getpid());
    assert_int_equal(info.arena, 0);
    assert_int_equal(info.cached_bytes, info.cached_blocks * 64);
    assert_int_equal(info.taken_bytes, info.cached_bytes + 64);
    assert_int_equal(info.given_bytes, 0);
    assert_int_equal(described(0).threads, 1);
    assert_int_equal(described(0).cached_bytes, info.cached_bytes);
    uint64_t taken = info.taken_bytes;
    sharena_free(heap, block);
    void *large = sharena_malloc(heap, 100000); /* 112 KiB, past the cache */
    assert_int_equal(thread_of(0).taken_bytes, taken + 114688);
    assert_int_equal(sharena_xallocx(heap, large, 200000, 0, 0), 229376);
    assert_int_equal(thread_of(0).taken_bytes, taken + 114688 + 229376);
    assert_int_equal(thread_of(0).given_bytes, 114688);
    sharena_free(heap, large);
    assert_int_equal(thread_of(0).given_bytes, 114688 + 229376);
    tcache_flush(heap, fixture_self());
    info = thread_of(0);
    assert_int_equal(info.given_bytes, info.taken_bytes);
    assert_int_equal(info.cached_bytes, 0);
    bool enabled = false; /* goes on counting */
    assert_int_equal(
        sharena_ctl(heap, "thread.tcache.enabled", NULL, NULL, &enabled, sizeof(enabled)), 0);
    sharena_free(heap, sharena_malloc(heap, 8));
    assert_int_equal(thread_of(0).taken_bytes, info.taken_bytes + 8);
    assert_int_equal(thread_of(0).given_bytes, info.given_bytes + 8);
}

static int attach_and_wait(void *arg) {
    const int *pipes = arg;
    char byte = 0;
    sharena_free(fixture_heap(), sharena_malloc(fixture_heap(), 64));
    REQUIRE(write(pipes[1], &byte, 1) == 1);
    (void)pause();
    return 0;
}

static pid_t start_attached(void) {
    int pipes[2];
    char byte;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = child_start(attach_and_wait, pipes);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    return child;
}

static void a_process_lives_stops_and_dies(void **state) {
    (void)state;
    int status;
    pid_t child = start_attached();
    struct process_info info = described(1);
    assert_int_equal(info.state, PROCESS_ALIVE);
    assert_int_equal(info.pid, child);
    assert_int_equal(info.threads, 1);
    assert_true(info.cached_bytes >= 64);
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_int_equal(described(1).state, PROCESS_STOPPED);
    assert_true(process_is_attached(fixture_attachment(), 1));
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, WCONTINUED), child);
    assert_int_equal(described(1).state, PROCESS_ALIVE);
    assert_int_equal(kill(child, SIGKILL), 0);
    (void)child_wait(child);
    assert_int_equal(described(1).state, PROCESS_DEAD);
    assert_int_equal(described(1).cached_bytes, info.cached_bytes);
    assert_false(process_is_attached(fixture_attachment(), 1));
    assert_int_equal(sharena_reap(fixture_heap()), 1);
    assert_int_equal(described(1).state, PROCESS_NONE);
}

/* The next process in the slot has none of the threads of the one before. */
static void a_slot_that_is_used_again_is_another_process(void **state) {
    (void)state;
    pid_t first = start_attached();
    struct process_info before = described(1);
    assert_int_equal(kill(first, SIGKILL), 0);
    (void)child_wait(first);
    pid_t second = start_attached();
    struct process_info after = described(1);
    assert_int_equal(after.pid, second);
    assert_int_equal(after.threads, 1);
    assert_true(after.generation > before.generation);
    assert_int_equal(kill(second, SIGKILL), 0);
    (void)child_wait(second);
}

/* A slot that the process of an earlier generation left is not of this one. */
static void threads_of_an_earlier_process_are_not_its_own(void **state) {
    (void)state;
    struct thread_slot *self = fixture_self();
    uint64_t generation = shared_get(&self->process_generation);
    assert_int_equal(described(0).threads, 1);
    shared_store(&self->process_generation, generation - 1);
    assert_int_equal(described(0).threads, 0);
    assert_int_equal(thread_of(0).generation, generation - 1);
    shared_store(&self->process_generation, generation);
}

static void a_name_is_printable_and_ends(void **state) {
    (void)state;
    struct process_slot *process = heap_process(fixture_heap(), 0);
    char name[16];
    memcpy(name, process->name, 16);
    memset(process->name, '\033', 16);
    assert_string_equal(described(0).name, "???????????????");
    memcpy(process->name, name, 16);
    assert_string_equal(process_state_name(PROCESS_STOPPED), "stopped");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(this_process_is_alive),
        with_heap(a_thread_counts_what_it_took_and_gave),
        with_heap(a_process_lives_stops_and_dies),
        with_heap(a_slot_that_is_used_again_is_another_process),
        with_heap(threads_of_an_earlier_process_are_not_its_own),
        with_heap(a_name_is_printable_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
