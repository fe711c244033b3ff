/* stream.c -- see stream.h. */
#include "stream.h"

#include "../common/report.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 20)     /* what we ask the kernel for */
#define READ_BYTES_MIN (64u << 10) /* so that many small messages come with one read() */

/* Shared by all, anonymous. */
struct stream_shared {
    struct fleet_control control;
    uint64_t received[FLEET_LANES_MAX]; /* by lane; stored by its subscriber when it ends */
};

struct stream {
    const struct fleet_job *job;
    struct stream_shared *shared;
    int read_fds[FLEET_SIDE_MAX][FLEET_SIDE_MAX]; /* [publisher][subscriber], -1: closed */
    int write_fds[FLEET_SIDE_MAX][FLEET_SIDE_MAX];
};

/* A subscriber's end of a lane. */
struct inlet {
    int fd; /* -1: ended */
    uint64_t lane;
    uint64_t received;
    char *buffer;
    size_t fill;
};

static void fd_close(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Closes every end but those of one member; which may be nobody's (FLEET_SIDE_MAX). */
static void stream_keep_only(struct stream *stream, unsigned publisher, unsigned subscriber) {
    for (unsigned p = 0; p < FLEET_SIDE_MAX; p++) {
        for (unsigned s = 0; s < FLEET_SIDE_MAX; s++) {
            if (p != publisher) {
                fd_close(&stream->write_fds[p][s]);
            }
            if (s != subscriber) {
                fd_close(&stream->read_fds[p][s]);
            }
        }
    }
}

/* ---- publisher ----------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t size_bytes) {
    const char *from = data;

    while (size_bytes > 0) {
        ssize_t written = write(fd, from, size_bytes);

        if (written < 0 && errno != EINTR) {
            report_error("write: %s", strerror(errno));
            return errno;
        }
        if (written > 0) {
            from += written;
            size_bytes -= (size_t)written;
        }
    }
    return 0;
}

static int outlet_loop(struct stream *stream, unsigned publisher, struct message *message) {
    const struct fleet_job *job = stream->job;
    _Atomic uint32_t *stop = &stream->shared->control.stop;

    for (uint64_t sent = 0; job->count == 0 || sent < job->count; sent++) {
        unsigned subscriber = (unsigned)(sent % job->subscribers);

        if (atomic_load_explicit(stop, memory_order_relaxed) != 0) {
            break;
        }
        message_fill(message, job->size_bytes, publisher * FLEET_SIDE_MAX + subscriber,
                     sent / job->subscribers);
        if (write_all(stream->write_fds[publisher][subscriber], message, job->size_bytes) != 0) {
            return EXIT_FAILED;
        }
    }
    return EXIT_FINE;
}

static int outlet_work(void *arg, unsigned publisher) {
    struct stream *stream = arg;
    struct message *message = malloc(stream->job->size_bytes);
    int status = EXIT_FAILED;

    stream_keep_only(stream, publisher, FLEET_SIDE_MAX);
    if (message != NULL) {
        status = outlet_loop(stream, publisher, message);
    }
    free(message);
    return status;
}

/* ---- subscriber ---------------------------------------------------------------------------- */

static size_t inlet_capacity(const struct fleet_job *job) {
    return job->size_bytes > READ_BYTES_MIN ? job->size_bytes : READ_BYTES_MIN;
}

/* Checks the whole messages in the buffer and moves the rest to its beginning. */
static int inlet_process(struct inlet *inlet, const struct fleet_job *job) {
    enum depth depth = job->is_every_word_checked ? DEPTH_ALL : DEPTH_SAMPLE;
    size_t used = 0;

    for (; inlet->fill - used >= job->size_bytes; used += job->size_bytes) {
        const struct message *message = (const void *)(inlet->buffer + used);

        if (!message_is_intact(message, job->size_bytes, inlet->lane, inlet->received, depth)) {
            report_error("lane %llu: message %llu is damaged", (unsigned long long)inlet->lane,
                         (unsigned long long)inlet->received);
            return EBADMSG;
        }
        inlet->received++;
    }
    inlet->fill -= used;
    if (used > 0 && inlet->fill > 0) {
        memmove(inlet->buffer, inlet->buffer + used, inlet->fill);
    }
    return 0;
}

/* One read. At the end of the stream the inlet is closed. */
static int inlet_read(struct inlet *inlet, const struct fleet_job *job) {
    ssize_t got = read(inlet->fd, inlet->buffer + inlet->fill, inlet_capacity(job) - inlet->fill);

    if (got < 0) {
        return errno == EINTR ? 0 : errno;
    }
    if (got == 0) {
        fd_close(&inlet->fd);
        return inlet->fill == 0 ? 0 : EBADMSG; /* a piece of a message is left */
    }
    inlet->fill += (size_t)got;
    return inlet_process(inlet, job);
}

/* Which inlets have something: with one there is no need to ask. */
static void inlets_wait(const struct inlet *inlets, unsigned count, struct pollfd *polls) {
    for (unsigned i = 0; i < count; i++) {
        polls[i] = (struct pollfd){.fd = inlets[i].fd, .events = POLLIN, .revents = POLLIN};
    }
    if (count > 1) {
        poll(polls, count, -1);
    }
}

static int inlets_loop(struct inlet *inlets, unsigned count, const struct fleet_job *job) {
    struct pollfd polls[FLEET_SIDE_MAX];
    unsigned nopen = count;

    while (nopen > 0) {
        inlets_wait(inlets, count, polls);
        nopen = 0;
        for (unsigned i = 0; i < count; i++) {
            int error = 0;

            if (inlets[i].fd >= 0 && polls[i].revents != 0) {
                error = inlet_read(&inlets[i], job);
            }
            if (error != 0) {
                report_error("lane %llu: %s", (unsigned long long)inlets[i].lane, strerror(error));
                return EXIT_FAILED;
            }
            nopen += inlets[i].fd >= 0;
        }
    }
    return EXIT_FINE;
}

static int inlets_work(void *arg, unsigned subscriber) {
    struct stream *stream = arg;
    struct inlet inlets[FLEET_SIDE_MAX];
    unsigned count = stream->job->publishers;
    size_t capacity_bytes = inlet_capacity(stream->job);
    char *buffers = malloc(count * capacity_bytes);
    int status;

    if (buffers == NULL) {
        return EXIT_FAILED;
    }
    stream_keep_only(stream, FLEET_SIDE_MAX, subscriber);
    for (unsigned i = 0; i < count; i++) {
        inlets[i] = (struct inlet){.fd = stream->read_fds[i][subscriber],
                                   .lane = i * FLEET_SIDE_MAX + subscriber,
                                   .buffer = buffers + i * capacity_bytes};
    }
    status = inlets_loop(inlets, count, stream->job);
    for (unsigned i = 0; i < count; i++) {
        stream->shared->received[inlets[i].lane] = inlets[i].received;
    }
    free(buffers);
    return status;
}

/* ---- the run ------------------------------------------------------------------------------- */

static int lane_open(enum stream_kind kind, int *read_fd, int *write_fd) {
    int size = BUFFER_BYTES;
    int fds[2];

    if ((kind == STREAM_PIPE ? pipe2(fds, O_CLOEXEC)
                             : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) != 0) {
        report_error("%s: %s", kind == STREAM_PIPE ? "pipe" : "socketpair", strerror(errno));
        return errno;
    }
    /* As large as may be: a refusal leaves the default. */
    if (kind == STREAM_PIPE) {
        fcntl(fds[1], F_SETPIPE_SZ, BUFFER_BYTES);
    } else {
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    *read_fd = fds[0];
    *write_fd = fds[1];
    return 0;
}

static int stream_open(struct stream *stream, enum stream_kind kind) {
    int error = 0;

    memset(stream->read_fds, -1, sizeof stream->read_fds);
    memset(stream->write_fds, -1, sizeof stream->write_fds);
    for (unsigned p = 0; p < stream->job->publishers; p++) {
        for (unsigned s = 0; s < stream->job->subscribers && error == 0; s++) {
            error = lane_open(kind, &stream->read_fds[p][s], &stream->write_fds[p][s]);
        }
    }
    stream->shared = mmap(NULL, sizeof *stream->shared, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (error == 0 && stream->shared == MAP_FAILED) {
        error = errno;
        report_error("mmap: %s", strerror(error));
    }
    return error;
}

/* The supervisor's own ends would keep the streams from ending. */
static void stream_started(void *arg) {
    stream_keep_only(arg, FLEET_SIDE_MAX, FLEET_SIDE_MAX);
}

int stream_run(enum stream_kind kind, const struct fleet_job *job, struct fleet_result *result) {
    struct stream stream = {.job = job};
    const struct fleet_roles roles = {.publish = outlet_work,
                                      .subscribe = inlets_work,
                                      .started = stream_started,
                                      .arg = &stream};
    int error = stream_open(&stream, kind);

    *result = (struct fleet_result){0};
    if (error == 0) {
        error = fleet_run(job, &stream.shared->control, &roles, result);
        for (unsigned lane = 0; lane < FLEET_LANES_MAX; lane++) {
            result->messages += stream.shared->received[lane];
        }
        result->bytes = result->messages * job->size_bytes;
    }
    stream_keep_only(&stream, FLEET_SIDE_MAX, FLEET_SIDE_MAX);
    if (stream.shared != MAP_FAILED) {
        munmap(stream.shared, sizeof *stream.shared);
    }
    return error;
}
