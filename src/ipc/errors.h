/* errors.h -- this thread's last error, as a sentence.
 *
 * No malloc: the buffer is thread-local. Formatting uses vsnprintf, so these calls stand on the
 * paths that open or fail, never inside a critical section.
 */
#ifndef SHARENA_IPC_ERRORS_H
#define SHARENA_IPC_ERRORS_H

/* Remembers the sentence and returns `error`, so that `return error_set(EINVAL,
 * "...")` reads well. */
int error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The same, and sets errno; returns NULL. */
void *error_null(int error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

const char *error_message(void);

#ifdef __clang_analyzer__
/* The analyzer cannot see into variadic functions: it is told what they return. */
#define error_set(error, ...) (error_set(error, __VA_ARGS__), (error) != 0 ? (error) : 1)
#define error_null(error, ...) (error_null(error, __VA_ARGS__), NULL)
#endif

#endif
