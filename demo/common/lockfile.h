/* lockfile.h -- PATH.lock: who may work on the heap PATH.
 *
 * Holds:  an flock on PATH.lock. Children inherit it with the descriptor, so it is free only when
 *         the holder and all its children are gone: whoever gets it alone knows that nobody else is
 *         left who could store into the heap.
 * Killed: the kernel gives the lock back with the last descriptor.
 */
#ifndef DEMO_COMMON_LOCKFILE_H
#define DEMO_COMMON_LOCKFILE_H

/* Alone. Makes the lock file where there is none. Waits for two seconds at most: for the dying.
 * *fd receives the descriptor that holds the lock. Returns 0, EWOULDBLOCK where somebody else has
 * it, or what the kernel said. */
int lockfile_take_alone(const char *heap_path, int *fd);

/* With others who only look; *fd is -1 and the result 0 where there is no lock file. */
int lockfile_take_shared(const char *heap_path, int *fd);

void lockfile_release(int fd);

/* Removes the lock file, whose lock the caller holds alone. */
void lockfile_remove(const char *heap_path);

#endif
