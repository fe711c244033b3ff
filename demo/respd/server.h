/* server.h -- a worker process: its connections and its event loop. */
#ifndef RESPD_SERVER_H
#define RESPD_SERVER_H

#include "commands.h"

/* Serves clients of the listening socket until SIGTERM. Returns the exit status. */
int server_run(struct store *store, const struct facts *facts, int listener);

#endif
