/* heap_fixture.h -- for tests: a fresh heap of 1 GiB, gone again afterwards.
 *
 *     cmocka_unit_test_setup_teardown(test, heap_fixture_open, heap_fixture_close)
 *
 * One at a time per process. A forked child of the test uses the same functions but must not close
 * it: it ends with _exit(), or by a signal.
 */
#ifndef TESTS_SUPPORT_HEAP_FIXTURE_H
#define TESTS_SUPPORT_HEAP_FIXTURE_H

#include "heap/heap.h"
#include "scratch.h"

#define FIXTURE_CAPACITY (1ull << 30)

/* cmocka's setup: makes the heap and attaches this process. */
int heap_fixture_open(void **state);

/* cmocka's teardown: takes back what the dead left, demands that the heap checks clean, closes and
 * removes it. */
int heap_fixture_close(void **state);

/* The heap of the test that runs, and its file. */
sharena_t *fixture_heap(void);
const char *fixture_path(void);

/* What this process is called: its program's name, or valgrind's. */
const char *fixture_process_name(void);

/* The calling thread's slot in it, taken at the first call; never NULL (it aborts instead). */
struct thread_slot *fixture_self(void);

/* This process's attachment of it. */
struct attachment *fixture_attachment(void);

/* Runs body in a child, which must abort having said that text on stderr. */
void child_stops(int (*body)(void *), void *arg, const char *text);

/* child_wait(), but not longer than that: then it kills the child, and the test fails. */
int child_wait_ms(pid_t pid, int ms);

#endif
