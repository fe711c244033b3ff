/* output.c -- the queue between replies and a socket.
 *
 * A value is never copied: its segment points at the entry in the heap, sendmsg() reads from there,
 * and the pin goes when its last byte is with the kernel. Only where a worker has used up its pins
 * (4096 values that slow clients have not taken) is a value copied instead.
 *
 * Holds:  segments[first..count) are what is to be sent, in order; first == count: all is empty
 *         text only grows until all is sent, so offsets into it stay good
 * Killed: the pins stay until the parent clears them (reclaim.c).
 */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define IOV_COUNT 128

static struct segment *segment_add(struct output *output) {
    if (output->count == output->cap) {
        size_t cap = output->cap == 0 ? 16 : output->cap * 2;
        struct segment *segments = realloc(output->segments, cap * sizeof *segments);
        if (segments == NULL) {
            output->failed = true;
            return NULL;
        }
        output->segments = segments;
        output->cap = cap;
    }
    return &output->segments[output->count++];
}

void output_text(struct output *output, const void *text, size_t len) {
    size_t offset = output->text.len;
    buffer_append(&output->text, text, len);
    if (output->text.failed) {
        output->failed = true;
        return;
    }
    output->queued += len;
    struct segment *last =
        output->count > output->first ? &output->segments[output->count - 1] : NULL;
    if (last != NULL && last->entry == NULL) {
        last->len += len;
        return;
    }
    last = segment_add(output);
    if (last != NULL) {
        *last = (struct segment){.entry = NULL, .offset = offset, .len = len, .pin = PIN_NONE};
    }
}

void output_entry(struct output *output, struct entry *entry) {
    size_t len = entry_reply_bytes(entry);
    uint32_t pin = store_pin(output->store, entry);
    if (pin == PIN_NONE) {
        output_text(output, entry_reply(entry), len);
        return;
    }
    struct segment *segment = segment_add(output);
    if (segment == NULL) {
        store_unpin(output->store, pin);
        return;
    }
    *segment = (struct segment){.entry = entry, .len = len, .pin = pin};
    output->queued += len;
}

static size_t output_gather(const struct output *output, struct iovec *iov) {
    size_t count = 0;
    size_t skip = output->sent;
    for (size_t i = output->first; i < output->count && count < IOV_COUNT; i++) {
        const struct segment *segment = &output->segments[i];
        const char *from = segment->entry != NULL ? entry_reply(segment->entry)
                                                  : output->text.data + segment->offset;
        iov[count].iov_base = (void *)(uintptr_t)(from + skip);
        iov[count].iov_len = segment->len - skip;
        count++;
        skip = 0;
    }
    return count;
}

static void output_advance(struct output *output, size_t sent) {
    output->sent += sent;
    while (output->first < output->count && output->sent >= output->segments[output->first].len) {
        const struct segment *segment = &output->segments[output->first];
        output->sent -= segment->len;
        if (segment->pin != PIN_NONE) {
            store_unpin(output->store, segment->pin);
        }
        output->first++;
    }
}

static void output_empty(struct output *output) {
    output->first = 0;
    output->count = 0;
    output->sent = 0;
    output->queued = 0;
    buffer_reset(&output->text);
    if (output->cap > 4096) {
        free(output->segments);
        output->segments = NULL;
        output->cap = 0;
    }
}

int output_flush(struct output *output, int fd) {
    while (output->first < output->count) {
        struct iovec iov[IOV_COUNT];
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = output_gather(output, iov)};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return errno == EWOULDBLOCK ? EAGAIN : errno;
        }
        output_advance(output, (size_t)sent);
    }
    if (output->failed) {
        return ENOMEM;
    }
    output_empty(output);
    return 0;
}

void output_drop(struct output *output) {
    for (size_t i = output->first; i < output->count; i++) {
        if (output->segments[i].pin != PIN_NONE) {
            store_unpin(output->store, output->segments[i].pin);
        }
    }
    free(output->segments);
    buffer_free(&output->text);
    *output = (struct output){.store = output->store};
}
