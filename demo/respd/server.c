/* server.c -- a worker process: its connections and its event loop.
 *
 * Listening: all workers accept from one socket. The queue belongs to no worker, so what waits
 *   there survives any of them. To share the load, a worker that has more clients than another lets
 *   that one go first for 2 ms, and then takes the client after all.
 * Backpressure: what is read is answered at once and sent at once. When a client does not take its
 *   replies, the rest waits for the socket; when a megabyte waits, nothing more of that client is
 *   answered or even read before all of it is sent.
 *
 * Killed: the clients lose their connections; an answered request has happened, an unanswered one
 *   happened or not. Nothing here is shared.
 * Not here: what is read (request.c), what it means (commands.c), what is sent (output.c).
 */
#include "server.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "report.h"

#define READ_BYTES 65536u
#define YIELD_SECONDS 0.002
#define ACCEPT_REST_SECONDS 0.1 /* when there are no more descriptors */
#define TEND_SECONDS 0.1

struct server {
    struct store *store;
    const struct facts *facts;
    struct ev_loop *loop;
    ev_io accepting;
    ev_timer accept_later;
    ev_timer tending;
    ev_signal term;
    struct client *clients; /* all of them */
    char input[READ_BYTES];
};

struct client {
    struct server *server;
    struct client *next;
    struct client **back; /* what points here */
    int fd;
    bool closing; /* no more requests; close when all is sent */
    ev_io reading;
    ev_io writing;
    struct request request;
    struct output output;
};

/* ---- clients ---- */

static void client_close(struct client *client) {
    struct server *server = client->server;
    ev_io_stop(server->loop, &client->reading);
    ev_io_stop(server->loop, &client->writing);
    close(client->fd);
    output_drop(&client->output);
    request_free(&client->request);
    *client->back = client->next;
    if (client->next != NULL) {
        client->next->back = client->back;
    }
    server->store->worker->clients--;
    free(client);
}

static void client_run(struct client *client) {
    struct call call = {
        .store = client->server->store,
        .output = &client->output,
        .facts = client->server->facts,
        .args = client->request.args,
        .count = client->request.count,
        .now_ms = store_now_ms(),
    };
    if (call.count != 0) {
        commands_run(&call);
        client->closing |= call.close;
    }
}

/* Answers what has been read. True: there may be more, but the output is full. */
static bool client_answer(struct client *client) {
    while (!client->closing) {
        if (output_is_full(&client->output)) {
            return true;
        }
        switch (request_next(&client->request)) {
        case REQUEST_READY:
            client_run(client);
            break;
        case REQUEST_BAD:
            reply_error(&client->output, "ERR %s", client->request.error);
            client->closing = true;
            break;
        case REQUEST_MORE:
            return false;
        }
    }
    return false;
}

/* Answers and sends as far as it goes, and sets the watchers for the rest. May close the client. */
static void client_go_on(struct client *client) {
    struct ev_loop *loop = client->server->loop;
    bool more;
    do {
        more = client_answer(client);
        int error = output_flush(&client->output, client->fd);
        if (error == EAGAIN) {
            ev_io_start(loop, &client->writing);
            if (more || client->closing || output_is_full(&client->output)) {
                ev_io_stop(loop, &client->reading);
            }
            return;
        }
        if (error != 0) {
            client_close(client);
            return;
        }
    } while (more);
    if (client->closing) {
        client_close(client);
        return;
    }
    ev_io_stop(loop, &client->writing);
    ev_io_start(loop, &client->reading);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events) {
    struct client *client = watcher->data;
    struct server *server = client->server;
    (void)loop;
    (void)events;
    ssize_t len = read(client->fd, server->input, sizeof server->input);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (len < 0) {
        client_close(client);
        return;
    }
    if (len == 0) {
        client->closing = true; /* it may still read what it asked for */
    } else if (!request_feed(&client->request, server->input, (size_t)len)) {
        client_close(client);
        return;
    }
    client_go_on(client);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events) {
    (void)loop;
    (void)events;
    client_go_on(watcher->data);
}

static void client_open(struct server *server, int fd) {
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || !request_init(&client->request)) {
        free(client);
        close(fd);
        return;
    }
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    client->server = server;
    client->fd = fd;
    client->output.store = server->store;
    client->next = server->clients;
    client->back = &server->clients;
    if (client->next != NULL) {
        client->next->back = &client->next;
    }
    server->clients = client;
    server->store->worker->clients++;
    server->store->worker->connections++;
    ev_io_init(&client->reading, on_readable, fd, EV_READ);
    ev_io_init(&client->writing, on_writable, fd, EV_WRITE);
    client->reading.data = client;
    client->writing.data = client;
    ev_io_start(server->loop, &client->reading);
}

/* ---- accepting ---- */

static void accept_after(struct server *server, double seconds) {
    ev_io_stop(server->loop, &server->accepting);
    ev_timer_set(&server->accept_later, seconds, 0.);
    ev_timer_start(server->loop, &server->accept_later);
}

static void accept_one(struct server *server) {
    int fd = accept4(server->accepting.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        client_open(server, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        accept_after(server, ACCEPT_REST_SECONDS);
    }
}

static bool has_more_clients_than_another(const struct store *store) {
    for (unsigned i = 0; i < store->root->workers; i++) {
        const struct worker *other = store->root->worker[i];
        if (other->pid != 0 &&
            __atomic_load_n(&other->clients, __ATOMIC_RELAXED) < store->worker->clients) {
            return true;
        }
    }
    return false;
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events) {
    struct server *server = watcher->data;
    (void)loop;
    (void)events;
    if (has_more_clients_than_another(server->store)) {
        accept_after(server, YIELD_SECONDS);
    } else {
        accept_one(server);
    }
}

static void on_accept_later(struct ev_loop *loop, ev_timer *watcher, int events) {
    struct server *server = watcher->data;
    (void)events;
    ev_io_start(loop, &server->accepting);
    accept_one(server);
}

/* ---- the loop ---- */

static void on_tend(struct ev_loop *loop, ev_timer *watcher, int events) {
    struct server *server = watcher->data;
    (void)loop;
    (void)events;
    store_tend(server->store, store_now_ms());
}

static void on_term(struct ev_loop *loop, ev_signal *watcher, int events) {
    (void)watcher;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

int server_run(struct store *store, const struct facts *facts, int listener) {
    struct server *server = calloc(1, sizeof *server);
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    if (server == NULL || loop == NULL) {
        report_error("worker %u: no memory or no descriptors for an event loop", store->worker_idx);
        free(server);
        return 1;
    }
    server->store = store;
    server->facts = facts;
    server->loop = loop;
    ev_io_init(&server->accepting, on_connection, listener, EV_READ);
    ev_timer_init(&server->accept_later, on_accept_later, 0., 0.);
    ev_timer_init(&server->tending, on_tend, TEND_SECONDS, TEND_SECONDS);
    ev_signal_init(&server->term, on_term, SIGTERM);
    server->accepting.data = server;
    server->accept_later.data = server;
    server->tending.data = server;
    ev_io_start(loop, &server->accepting);
    ev_timer_start(loop, &server->tending);
    ev_signal_start(loop, &server->term);

    ev_run(loop, 0);

    struct client *next;
    for (struct client *client = server->clients; client != NULL; client = next) {
        next = client->next;
        output_flush(&client->output, client->fd);
        client_close(client);
    }
    ev_signal_stop(loop, &server->term);
    ev_io_stop(loop, &server->accepting);
    ev_timer_stop(loop, &server->accept_later);
    ev_timer_stop(loop, &server->tending);
    ev_loop_destroy(loop);
    free(server);
    return 0;
}
