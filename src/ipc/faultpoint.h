/* faultpoint.h -- places to die, for tests that kill from inside.
 *
 * A build with SHARENA_FAULT_POINTS calls fault_point_hook after every store to shared memory, for
 * the primitives that store contain it (shared.h), and after every system call that changes what
 * others see: locks, tokens, the file's pages and length. Other builds contain nothing of it.
 */
#ifndef SHARENA_IPC_FAULTPOINT_H
#define SHARENA_IPC_FAULTPOINT_H

#ifdef SHARENA_FAULT_POINTS
extern __attribute__((visibility("default"))) void (*fault_point_hook)(const char *file, int line);
#define FAULT_POINT() (fault_point_hook != 0 ? fault_point_hook(__FILE__, __LINE__) : (void)0)
#else
#define FAULT_POINT() ((void)0)
#endif

#endif
