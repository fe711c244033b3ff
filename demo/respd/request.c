/* request.c -- from bytes to requests.
 *
 * hiredis's reader is made for replies; a request is the one kind of reply that is an array of bulk
 * strings. So it is told by its callbacks to refuse everything else, and it is asked only where a
 * '*' begins. A line that begins otherwise is an inline command ("PING\r\n", as telnet sends it);
 * it is taken out of the reader's buffer here, through the public fields buf, pos and len.
 *
 * Bounds: a line 64 KiB, an argument 512 MiB, arguments 2^20, a request 1 GiB. A length that is
 *         too large is refused when it is announced, not when memory is full of it.
 * Not here: what a request means (commands.c).
 */
#include "request.h"

#include <hiredis/sds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

#define READER_KEEP_BYTES (1024u * 1024u)

/* ---- the reader's callbacks; NULL makes it stop ---- */

static void *refuse(struct request *request, const char *why) {
    if (request->error[0] == '\0') {
        snprintf(request->error, sizeof request->error, "Protocol error: %s", why);
    }
    return NULL;
}

static bool arg_add(struct request *request, const char *bytes, size_t len) {
    if (request->count == request->cap) {
        int cap = request->cap == 0 ? 8 : request->cap * 2;
        struct arg *args = realloc(request->args, (size_t)cap * sizeof *args);
        if (args == NULL) {
            return false;
        }
        request->args = args;
        request->cap = cap;
    }
    struct arg *arg = &request->args[request->count++];
    arg->offset = request->bytes.len;
    arg->len = len;
    buffer_append(&request->bytes, bytes, len);
    buffer_append(&request->bytes, "", 1);
    return !request->bytes.failed;
}

static void *on_string(const redisReadTask *task, char *bytes, size_t len) {
    struct request *request = task->privdata;
    if (task->type != REDIS_REPLY_STRING) {
        return refuse(request, task->type == REDIS_REPLY_ERROR ? "expected '$', got '-'"
                                                               : "expected '$', got '+'");
    }
    if (len > BULK_BYTES_MAX) {
        return refuse(request, "invalid bulk length");
    }
    if (request->bytes.len + len > REQUEST_BYTES_MAX || !arg_add(request, bytes, len)) {
        return refuse(request, "request too large");
    }
    return request;
}

/* A reader of another version may count in another type. */
static void *array_begin(struct request *request, const redisReadTask *task, long long count) {
    if (task->parent != NULL) {
        return refuse(request, "expected '$', got '*'");
    }
    if (count > ARGS_MAX) {
        return refuse(request, "invalid multibulk length");
    }
    return request;
}

static void *on_array(const redisReadTask *task, int count) {
    return array_begin(task->privdata, task, count);
}

static void *on_integer(const redisReadTask *task, long long number) {
    (void)number;
    return refuse(task->privdata, "expected '$', got ':'");
}

static void *on_nil(const redisReadTask *task) {
    if (task->parent != NULL || task->type != REDIS_REPLY_ARRAY) {
        return refuse(task->privdata, "invalid bulk length");
    }
    return task->privdata; /* "*-1": no request */
}

static void on_free(void *object) {
    (void)object;
}

static redisReplyObjectFunctions callbacks = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
};

/* ---- begin and end ---- */

static bool reader_make(struct request *request) {
    request->reader = redisReaderCreateWithFunctions(&callbacks);
    if (request->reader == NULL) {
        return false;
    }
    request->reader->privdata = request;
    return true;
}

bool request_init(struct request *request) {
    *request = (struct request){0};
    return reader_make(request);
}

void request_free(struct request *request) {
    if (request->reader != NULL) {
        redisReaderFree(request->reader);
    }
    buffer_free(&request->line);
    buffer_free(&request->bytes);
    free(request->args);
    *request = (struct request){0};
}

static void request_begin(struct request *request) {
    buffer_reset(&request->bytes);
    request->count = 0;
    if (request->cap > 4096) {
        free(request->args);
        request->args = NULL;
        request->cap = 0;
    }
}

static enum request_status request_ready(struct request *request) {
    for (int i = 0; i < request->count; i++) {
        request->args[i].bytes = request->bytes.data + request->args[i].offset;
    }
    return REQUEST_READY;
}

static enum request_status request_bad(struct request *request, const char *why) {
    refuse(request, why);
    return REQUEST_BAD;
}

/* ---- inline commands ---- */

/* request->line is a whole line without its end. */
static enum request_status line_parse(struct request *request) {
    struct buffer *line = &request->line;
    if (line->len > 0 && line->data[line->len - 1] == '\r') {
        line->len--;
    }
    buffer_append(line, "", 1);
    if (line->failed) {
        return request_bad(request, "request too large");
    }
    int count = 0;
    sds *words = sdssplitargs(line->data, &count);
    buffer_reset(line);
    if (words == NULL) {
        return request_bad(request, "unbalanced quotes in request");
    }
    request_begin(request);
    bool added = true;
    for (int i = 0; i < count && added; i++) {
        added = arg_add(request, words[i], sdslen(words[i]));
    }
    sdsfreesplitres(words, count);
    return added ? request_ready(request) : request_bad(request, "request too large");
}

/* Takes up to a line's end from the bytes into request->line; returns how many it took. */
static size_t line_take(struct request *request, const char *bytes, size_t len, bool *complete) {
    const char *end = memchr(bytes, '\n', len);
    *complete = end != NULL;
    size_t text = end != NULL ? (size_t)(end - bytes) : len;
    buffer_append(&request->line, bytes, text);
    return text + (end != NULL ? 1 : 0);
}

static enum request_status line_next(struct request *request) {
    redisReader *reader = request->reader;
    bool complete;
    reader->pos +=
        line_take(request, reader->buf + reader->pos, reader->len - reader->pos, &complete);
    if (request->line.len > LINE_BYTES_MAX) {
        return request_bad(request, "too big inline request");
    }
    return complete ? line_parse(request) : REQUEST_MORE;
}

/* ---- arrays ---- */

/* In the reader's words, or in the callback's if that was what stopped it. */
static enum request_status array_bad(struct request *request) {
    const char *why = request->reader->errstr;
    char got;
    char text[64];
    if (sscanf(why, "Protocol error, got \"%c", &got) == 1 && strchr(why, '\\') == NULL) {
        snprintf(text, sizeof text, "expected '$', got '%c'", got);
    } else if (strstr(why, "got \"") != NULL) {
        snprintf(text, sizeof text, "expected '$', got something else");
    } else if (strstr(why, "ulti-bulk") != NULL) {
        snprintf(text, sizeof text, "invalid multibulk length");
    } else if (strstr(why, "ulk string") != NULL) {
        snprintf(text, sizeof text, "invalid bulk length");
    } else {
        snprintf(text, sizeof text, "%.40s", why);
    }
    return request_bad(request, text);
}

/* The reader waits for more. For what? If it is an argument, its length is the next text. */
static enum request_status array_wait(struct request *request) {
    const redisReader *reader = request->reader;
    const char *at = reader->buf + reader->pos;
    size_t left = reader->len - reader->pos;
    const char *end = memchr(at, '\r', left < LINE_BYTES_MAX ? left : LINE_BYTES_MAX);
    if (end == NULL) {
        return left < LINE_BYTES_MAX ? REQUEST_MORE
                                     : request_bad(request, "too big bulk count string");
    }
    uint64_t len;
    if (number_parse_unsigned(at, (size_t)(end - at), &len) && len > BULK_BYTES_MAX) {
        return request_bad(request, "invalid bulk length");
    }
    return REQUEST_MORE;
}

static enum request_status array_next(struct request *request) {
    void *reply = NULL;
    if (!request->in_array) {
        request_begin(request);
        request->in_array = true;
    }
    if (redisReaderGetReply(request->reader, &reply) != REDIS_OK) {
        return array_bad(request);
    }
    if (reply == NULL) {
        return array_wait(request);
    }
    request->in_array = false;
    return request_ready(request);
}

/* ---- */

bool request_feed(struct request *request, const char *data, size_t len) {
    return redisReaderFeed(request->reader, data, len) == REDIS_OK;
}

/* The reader has nothing to read. It forgets what it has read; after a large request it would keep
 * as much memory, so then there is a new one. */
static enum request_status reader_rest(struct request *request) {
    redisReader *reader = request->reader;
    void *none = NULL;
    redisReaderGetReply(reader, &none);
    if (!request->in_array && sdsavail(reader->buf) > READER_KEEP_BYTES) {
        redisReaderFree(reader);
        if (!reader_make(request)) {
            return REQUEST_BAD;
        }
    }
    return REQUEST_MORE;
}

enum request_status request_next(struct request *request) {
    redisReader *reader = request->reader;
    if (reader == NULL || reader->err != 0) {
        return REQUEST_BAD;
    }
    if (reader->pos == reader->len) {
        return reader_rest(request);
    }
    if (request->in_array || (request->line.len == 0 && reader->buf[reader->pos] == '*')) {
        return array_next(request);
    }
    return line_next(request);
}
