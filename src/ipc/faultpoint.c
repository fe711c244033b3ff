/* faultpoint.c -- the hook of the fault points (faultpoint.h).
 *
 * Not here: the points themselves, and what a test does at them.
 */
#include "ipc/faultpoint.h"

#ifdef SHARENA_FAULT_POINTS
void (*fault_point_hook)(const char *file, int line);
#else
typedef int faultpoint_is_empty; /* ISO C wants a declaration in every file */
#endif
