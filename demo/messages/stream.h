/* stream.h -- the same job through pipes and Unix stream sockets, for comparison.
 *
 * Every lane has a pipe or a socket pair of its own, with buffers as large as the kernel allows. A
 * publisher writes every byte of a message into a private buffer and sends it with one write(); a
 * subscriber reads as much as there is, up to 64 KiB or one message, and checks what ring_consume()
 * checks.
 */
#ifndef DEMO_MESSAGES_STREAM_H
#define DEMO_MESSAGES_STREAM_H

#include "fleet.h"

enum stream_kind { STREAM_PIPE, STREAM_SOCKET };

/* Returns 0, or an errno value after a message. */
int stream_run(enum stream_kind kind, const struct fleet_job *job, struct fleet_result *result);

#endif
