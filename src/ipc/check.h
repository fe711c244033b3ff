/* check.h -- the three prices of an assertion, and the attributes that the code uses.
 *
 * CHECK   always on: an invariant whose violation means that the heap is damaged; stops.
 * ASSERT  debug builds (SHARENA_DEBUG), O(1).
 * AUDIT   debug builds, may walk a whole structure.
 */
#ifndef SHARENA_IPC_CHECK_H
#define SHARENA_IPC_CHECK_H

#define HOT static inline __attribute__((always_inline))
#define COLD __attribute__((noinline, cold))
#define MUST_CHECK __attribute__((warn_unused_result))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Writes what failed to stderr (no malloc, no stdio) and aborts. */
COLD __attribute__((noreturn)) void check_failed(const char *file, int line, const char *what);

#define CHECK(x) (LIKELY(x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))

#ifdef SHARENA_DEBUG
#define ASSERT(x) CHECK(x)
#define AUDIT(x) CHECK(x)
#else
#define ASSERT(x) ((void)sizeof(x))
#define AUDIT(x) ((void)sizeof(x))
#endif

#endif
