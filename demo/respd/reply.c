/* reply.c -- replies in RESP2, the protocol that every Redis client speaks. */
#include "output.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

static void reply_head(struct output *output, char type, int64_t number) {
    char head[NUMBER_HEAD_MAX];
    output_text(output, head, number_head(head, type, number));
}

void reply_status(struct output *output, const char *text) {
    output_text(output, "+", 1);
    output_text(output, text, strlen(text));
    output_text(output, "\r\n", 2);
}

/* The format begins with the error's code, "ERR ..."; what came from a client may hold line ends,
 * which would end the reply. */
void reply_error(struct output *output, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '\r' || *at == '\n') {
            *at = ' ';
        }
    }
    output_text(output, "-", 1);
    output_text(output, text, strlen(text));
    output_text(output, "\r\n", 2);
}

void reply_int(struct output *output, int64_t number) {
    reply_head(output, ':', number);
}

void reply_nil(struct output *output) {
    output_text(output, "$-1\r\n", 5);
}

void reply_array(struct output *output, uint64_t count) {
    reply_head(output, '*', (int64_t)count);
}

void reply_bulk(struct output *output, const void *bytes, size_t len) {
    reply_head(output, '$', (int64_t)len);
    output_text(output, bytes, len);
    output_text(output, "\r\n", 2);
}

void reply_bulk_string(struct output *output, const char *text) {
    reply_bulk(output, text, strlen(text));
}
