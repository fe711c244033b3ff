/* cancel.h -- no thread is cancelled while it holds what only it can give back.
 *
 * open(), close(), read(), nanosleep() and their like are cancellation points: a thread that ended
 * in one of them, with the registry lock, a shared lock or a descriptor, would never give it back,
 * and its process lives on.
 */
#ifndef SHARENA_IPC_CANCEL_H
#define SHARENA_IPC_CANCEL_H

#include <pthread.h>

/* What it was before, for cancel_restore(). */
static inline int cancel_forbid(void) {
    int state = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return state;
}

static inline void cancel_restore(int state) {
    (void)pthread_setcancelstate(state, NULL);
}

#endif
