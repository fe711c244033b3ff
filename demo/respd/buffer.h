/* buffer.h -- private bytes that grow.
 *
 * Where memory runs out the buffer keeps what it has and says so in `failed`; its owner looks once,
 * at the end, and closes the connection.
 */
#ifndef RESPD_BUFFER_H
#define RESPD_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
};

void buffer_append(struct buffer *buffer, const void *data, size_t len);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes it empty; keeps a little memory for the next use. */
void buffer_reset(struct buffer *buffer);
void buffer_free(struct buffer *buffer);

#endif
