/* child.h -- processes that do one piece of work and die with their parent.
 *
 * Killed: a child gets SIGKILL when its parent dies, so a supervisor that is killed leaves nobody.
 */
#ifndef DEMO_COMMON_CHILD_H
#define DEMO_COMMON_CHILD_H

#include <sys/types.h>

/* Forks. The child runs work(arg, idx), flushes stdio, and exits with what work returned.
 * Returns its process id, or -1 with errno. */
pid_t child_start(int (*work)(void *arg, unsigned idx), void *arg, unsigned idx);

enum child_end { CHILD_FINE, CHILD_KILLED, CHILD_FAILED };

/* What a status from waitpid() means: exit status 0; SIGKILL; anything else, which is described on
 * stderr as "`role` idx ...". */
enum child_end child_end_of(int status, const char *role, unsigned idx);

#endif
