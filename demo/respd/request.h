/* request.h -- from bytes to requests: RESP arrays by hiredis's reader, and inline commands. */
#ifndef RESPD_REQUEST_H
#define RESPD_REQUEST_H

#include <hiredis/read.h>
#include <stdint.h>

#include "buffer.h"

#define BULK_BYTES_MAX (512u * 1024u * 1024u)
#define ARGS_MAX (1024 * 1024)
#define LINE_BYTES_MAX 65536u
#define REQUEST_BYTES_MAX (1024u * 1024u * 1024u) /* of one request, all arguments */

struct arg { /* NUL-terminated for convenience, but may hold any bytes */
    const char *bytes;
    size_t len;
    size_t offset; /* in request.bytes, while the request is being read */
};

struct request {
    redisReader *reader;
    struct buffer line;  /* the begin of an inline command */
    bool in_array;       /* the reader is inside of one */
    struct buffer bytes; /* of the arguments */
    struct arg *args;
    int count;
    int cap;
    char error[128]; /* for the client, when REQUEST_BAD */
};

enum request_status {
    REQUEST_READY, /* args[0..count) are it, until the next call; count may be 0: nothing to do */
    REQUEST_MORE,  /* nothing complete */
    REQUEST_BAD,   /* reply `error` and close: what follows cannot be understood */
};

bool request_init(struct request *request);
void request_free(struct request *request);

/* False: no memory; close the client. */
bool request_feed(struct request *request, const char *data, size_t len);
enum request_status request_next(struct request *request);

#endif
