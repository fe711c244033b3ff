/* buffer.c -- private bytes that grow. */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_BYTES 65536u

static bool buffer_reserve(struct buffer *buffer, size_t extra) {
    if (buffer->failed) {
        return false;
    }
    if (extra <= buffer->cap - buffer->len) {
        return true;
    }
    size_t cap = buffer->cap * 2 < 256 ? 256 : buffer->cap * 2;
    cap = cap < buffer->len + extra ? buffer->len + extra : cap;
    char *data = realloc(buffer->data, cap);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->cap = cap;
    return true;
}

void buffer_append(struct buffer *buffer, const void *data, size_t len) {
    if (len != 0 && buffer_reserve(buffer, len)) {
        memcpy(buffer->data + buffer->len, data, len);
        buffer->len += len;
    }
}

void buffer_printf(struct buffer *buffer, const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        buffer->failed = true;
        return;
    }
    buffer_append(buffer, text, (size_t)len);
    free(text);
}

void buffer_reset(struct buffer *buffer) {
    if (buffer->cap > KEEP_BYTES || buffer->failed) {
        buffer_free(buffer);
    }
    buffer->len = 0;
}

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}
