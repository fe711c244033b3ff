/* stop.h -- all processes that can store into a heap, stopped. */
#ifndef SHARENA_CLI_STOP_H
#define SHARENA_CLI_STOP_H

#include "cli/guardian.h"
#include "cli/holders.h"

struct standstill {
    struct file_key key;
    struct holders stopped;
    uint64_t switches[HOLDERS_MAX]; /* of each, when it was seen stopped */
};

/* Stops every process that has the file mapped for writing, and waits until none of their threads
 * runs. The guardian continues those that ran before. The caller holds the heap's open lock, so
 * that nobody attaches meanwhile. 0, or an errno value with error_set(): EPERM (one of them is of
 * another user, or of a pid namespace that cannot be seen from here), ETIMEDOUT (one does not
 * stop). */
int stop_all(const struct heap_file *file, const struct guardian *guardian,
             struct standstill *standstill);

/* 0 if none of them has run since; else EAGAIN with error_set(). */
int stop_verify(const struct standstill *standstill);

#endif
