/* output.h -- what a client is still to be sent: private text and pinned entries, in order. */
#ifndef RESPD_OUTPUT_H
#define RESPD_OUTPUT_H

#include "buffer.h"
#include "store.h"

/* More than this and no further request of the client is looked at before all is sent. One reply
 * may be larger. */
#define OUTPUT_FULL_BYTES (1024u * 1024u)

struct segment {
    struct entry *entry; /* pinned by `pin`; NULL: text[offset..] */
    size_t offset;
    size_t len;
    uint32_t pin;
};

struct output {
    struct store *store;
    struct buffer text;
    struct segment *segments;
    size_t count;
    size_t cap;
    size_t first;  /* segments[first..count) are not sent ... */
    size_t sent;   /* ... except so many bytes of the first one */
    size_t queued; /* bytes added since the output was last empty */
    bool failed;   /* no private memory: the client must be closed */
};

void output_text(struct output *output, const void *text, size_t len);

/* The entry's reply straight from the heap, which stays valid until it is sent. Shard lock. */
void output_entry(struct output *output, struct entry *entry);

/* 0 = all sent, EAGAIN = the socket takes no more now, else why the client must be closed. */
int output_flush(struct output *output, int fd);

/* Unpins and frees everything. */
void output_drop(struct output *output);

static inline bool output_is_full(const struct output *output) {
    return output->queued >= OUTPUT_FULL_BYTES || output->failed;
}

/* ---- replies (reply.c) ---- */

void reply_status(struct output *output, const char *text);
void reply_error(struct output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void reply_int(struct output *output, int64_t number);
void reply_nil(struct output *output);
void reply_array(struct output *output, uint64_t count);
void reply_bulk(struct output *output, const void *bytes, size_t len);
void reply_bulk_string(struct output *output, const char *text);

#endif
