/* server_kill.c -- respd itself under kills, seen by its clients.
 *
 *     server_kill [SECONDS]      exit status 0 = all well
 *
 * Clients SET, DEL, EXPIRE, INCR and GET, eight requests at once, while workers are killed: one,
 * all of them, or the whole server, which is then started again on its heap. A client knows what
 * each of its keys must be: what was acknowledged is there; what was not happened or not, and
 * nothing after it in the same connection happened if it did not. In the end the heap holds exactly
 * the blocks that the dataset knows.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"
#include "clock.h"

#define CLIENTS 4u
#define WORKERS 4u
#define KEYS 128u /* of a client */
#define BATCH 8u
#define VALUE_MAX 6000u
#define PATIENCE_SECONDS 30.0 /* for a server that is being replaced */

enum op { OP_GET, OP_SET, OP_DEL, OP_EXPIRE, OP_INCR, OPS };

/* What a key is: version 0 is none. */
struct key_state {
    uint64_t version;
    bool expires;
};

struct request {
    enum op op;
    unsigned key;
    struct key_state after;
};

/* In memory that all share. */
struct tally {
    uint64_t acknowledged[CLIENTS][OPS];
    uint64_t unknown_incrs[CLIENTS]; /* that happened or not */
    uint64_t broken[CLIENTS];        /* connections */
    volatile uint32_t is_over;
};

struct client {
    unsigned number;
    int fd;
    FILE *in;
    struct key_state keys[KEYS];
    uint64_t counter; /* of INCRs that are known to have happened */
    uint64_t version;
};

static char heap_path[PATH_MAX];
static char server_path[PATH_MAX];
static char port_text[8];
static in_port_t port;
static struct tally *tally;

/* ---- the protocol ---- */

static void client_connect(struct client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    uint64_t start_ns = clock_now_ns();
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (;;) {
        client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(client->fd >= 0);
        if (connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0) {
            break;
        }
        close(client->fd);
        REQUIRE(clock_seconds_since(start_ns) < PATIENCE_SECONDS);
        clock_sleep_ms(2);
    }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    client->in = fdopen(client->fd, "re");
    REQUIRE(client->in != NULL);
}

static void client_disconnect(struct client *client) {
    fclose(client->in);
    client->in = NULL;
}

/* Reads one reply: its first line, and a bulk string into `bulk`. False: the connection broke. */
static bool reply_read(struct client *client, char line[64], char *bulk) {
    if (fgets(line, 64, client->in) == NULL || strchr(line, '\n') == NULL) {
        return false;
    }
    REQUIRE(line[0] != '-'); /* nothing here is an error */
    bulk[0] = '\0';
    if (line[0] == '$' && line[1] != '-') {
        size_t len = strtoul(line + 1, NULL, 10);
        REQUIRE(len <= VALUE_MAX);
        if (fread(bulk, 1, len + 2, client->in) != len + 2) {
            return false;
        }
        bulk[len] = '\0';
    }
    return true;
}

static size_t value_text(const struct client *client, unsigned key, uint64_t version,
                         char text[VALUE_MAX + 1]) {
    int len =
        snprintf(text, VALUE_MAX, "%u:%u:%llu:", client->number, key, (unsigned long long)version);
    size_t total = (size_t)len + (version % 16 == 0 ? version % 5000 : version % 200);
    memset(text + len, 'x', total - (size_t)len);
    text[total] = '\0';
    return total;
}

static int request_text(const struct client *client, const struct request *request, char *text) {
    static char value[VALUE_MAX + 1];
    unsigned c = client->number;
    switch (request->op) {
    case OP_SET:
        (void)value_text(client, request->key, request->after.version, value);
        return sprintf(text, "SET k:%u:%u %s\r\n", c, request->key, value);
    case OP_DEL:
        return sprintf(text, "DEL k:%u:%u\r\n", c, request->key);
    case OP_EXPIRE:
        return sprintf(text, "EXPIRE k:%u:%u 1000\r\n", c, request->key);
    case OP_INCR:
        return sprintf(text, "INCR n:%u\r\n", c);
    default:
        return sprintf(text, "GET k:%u:%u\r\n", c, request->key);
    }
}

/* ---- what must be ---- */

static void value_verify(const struct client *client, unsigned key, const char *bulk,
                         uint64_t version) {
    char text[VALUE_MAX + 1] = "";
    if (version != 0) {
        (void)value_text(client, key, version, text);
    }
    REQUIRE(strcmp(text, bulk) == 0);
}

/* An acknowledged request: the reply is right, and from now on it has happened. */
static void request_done(struct client *client, const struct request *request, const char *line,
                         const char *bulk) {
    struct key_state *state = &client->keys[request->key];
    long long number = strtoll(line + 1, NULL, 10);
    switch (request->op) {
    case OP_GET:
        value_verify(client, request->key, bulk, state->version);
        break;
    case OP_SET:
        REQUIRE(strcmp(line, "+OK\r\n") == 0);
        break;
    case OP_INCR:
        REQUIRE((uint64_t)number == client->counter + 1);
        client->counter++;
        break;
    default:
        REQUIRE(number == (state->version != 0 ? 1 : 0));
        break;
    }
    if (request->op != OP_INCR) {
        *state = request->after;
    }
    tally->acknowledged[client->number][request->op]++;
}

/* Asks one thing. False: the connection broke. */
static bool ask(struct client *client, const char *question, char line[64], char *bulk) {
    size_t len = strlen(question);
    return send(client->fd, question, len, MSG_NOSIGNAL) == (ssize_t)len &&
           reply_read(client, line, bulk);
}

/* What the server says now about a key; `bulk` receives the value. */
static bool key_ask(struct client *client, unsigned key, char *bulk, bool *expires) {
    static char none[VALUE_MAX + 3];
    char question[64];
    char line[64];
    snprintf(question, sizeof question, "GET k:%u:%u\r\n", client->number, key);
    if (!ask(client, question, line, bulk)) {
        return false;
    }
    snprintf(question, sizeof question, "PTTL k:%u:%u\r\n", client->number, key);
    if (!ask(client, question, line, none)) {
        return false;
    }
    *expires = strtoll(line + 1, NULL, 10) > 0;
    return true;
}

/* Did a request happen that was not acknowledged? Takes over what is so. -1: the connection broke;
 * 0, 1, or 2 where before and after look alike. */
static int request_inquire(struct client *client, const struct request *request) {
    static char bulk[VALUE_MAX + 3];
    static char text[VALUE_MAX + 1];
    struct key_state *state = &client->keys[request->key];
    bool expires;
    if (request->op == OP_INCR) {
        char question[64];
        char line[64];
        snprintf(question, sizeof question, "GET n:%u\r\n", client->number);
        if (!ask(client, question, line, bulk)) {
            return -1;
        }
        uint64_t now = strtoull(bulk, NULL, 10);
        REQUIRE(now == client->counter || now == client->counter + 1);
        int happened = now != client->counter;
        tally->unknown_incrs[client->number] += (uint64_t)happened;
        client->counter = now;
        return happened;
    }
    if (!key_ask(client, request->key, bulk, &expires)) {
        return -1;
    }
    const struct key_state *both[2] = {state, &request->after};
    bool fits[2];
    for (int i = 0; i < 2; i++) {
        text[0] = '\0';
        if (both[i]->version != 0) {
            (void)value_text(client, request->key, both[i]->version, text);
        }
        fits[i] = strcmp(text, bulk) == 0 && both[i]->expires == expires;
    }
    REQUIRE(fits[0] || fits[1]);
    if (fits[0] && fits[1]) {
        return 2;
    }
    if (fits[1]) {
        *state = request->after;
    }
    return fits[1];
}

/* After a break: what was not acknowledged happened in order, up to some point. */
static void batch_inquire(struct client *client, const struct request *requests, unsigned count) {
    int last = 1;
    tally->broken[client->number]++;
    client_disconnect(client);
    client_connect(client);
    for (unsigned i = 0; i < count; i++) {
        int happened;
        while ((happened = request_inquire(client, &requests[i])) < 0) {
            client_disconnect(client);
            client_connect(client);
        }
        REQUIRE(happened != 1 || last == 1);
        last = happened == 2 ? last : happened;
    }
}

/* ---- a client ---- */

static struct request request_make(struct client *client, unsigned key) {
    struct request request = {.key = key, .after = client->keys[key]};
    uint64_t what = trial_below(100);
    request.op = what < 45 ? OP_SET : what < 60 ? OP_DEL : what < 70 ? OP_EXPIRE : OP_GET;
    if (request.op == OP_SET) {
        request.after = (struct key_state){.version = ++client->version};
    } else if (request.op == OP_DEL) {
        request.after = (struct key_state){0};
    } else if (request.op == OP_EXPIRE) {
        request.after.expires = request.after.version != 0;
    }
    return request;
}

/* Keys differ within a batch, and there is one INCR: so each request can be told by its effect. */
static void client_batch(struct client *client) {
    static char text[BATCH * (VALUE_MAX + 100)];
    static char bulk[VALUE_MAX + 3];
    struct request requests[BATCH];
    char line[64];
    size_t len = 0;
    unsigned first = (unsigned)trial_below(KEYS);
    unsigned incr = (unsigned)trial_below(BATCH);
    for (unsigned i = 0; i < BATCH; i++) {
        requests[i] = request_make(client, (first + i) % KEYS);
        if (i == incr) {
            requests[i] = (struct request){.op = OP_INCR};
        }
        len += (size_t)request_text(client, &requests[i], text + len);
    }
    unsigned done = 0;
    if (send(client->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len) {
        while (done < BATCH && reply_read(client, line, bulk)) {
            request_done(client, &requests[done], line, bulk);
            done++;
        }
    }
    if (done < BATCH) {
        batch_inquire(client, requests + done, BATCH - done);
    }
}

static void client_run(unsigned number) {
    static struct client client;
    client.number = number;
    client_connect(&client);
    while (tally->is_over == 0) {
        client_batch(&client);
    }
    for (unsigned key = 0; key < KEYS; key++) { /* nobody is killed any more */
        static char bulk[VALUE_MAX + 3];
        bool expires;
        if (!key_ask(&client, key, bulk, &expires)) {
            client_disconnect(&client);
            client_connect(&client);
            REQUIRE(key_ask(&client, key, bulk, &expires));
        }
        value_verify(&client, key, bulk, client.keys[key].version);
        REQUIRE(expires == client.keys[key].expires);
    }
    REQUIRE(client.counter == tally->acknowledged[number][OP_INCR] + tally->unknown_incrs[number]);
    _exit(0);
}

/* ---- the server, and who kills it ---- */

static pid_t child_run(void (*work)(unsigned number), unsigned number) {
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(number);
    }
    return pid;
}

static void server_exec(unsigned number) {
    (void)number;
    if (freopen("/dev/null", "w", stdout) != NULL && freopen("/dev/null", "w", stderr) != NULL) {
        execl(server_path, "respd", "--heap", heap_path, "--port", port_text, "--workers", "4",
              (char *)NULL);
    }
    _exit(EXIT_FAILURE);
}

static pid_t server_start(void) {
    pid_t pid = child_run(server_exec, 0);
    struct client client = {.fd = -1};
    client_connect(&client);
    client_disconnect(&client);
    REQUIRE(waitpid(pid, NULL, WNOHANG) == 0);
    return pid;
}

struct kills {
    unsigned one;
    unsigned all;
    unsigned servers;
};

/* One worker, all workers, or all processes. */
static void torment(pid_t *server, struct kills *kills) {
    pid_t workers[WORKERS];
    uint64_t what = trial_below(100);
    unsigned count = trial_children(*server, workers, WORKERS);
    if (what < 88 && count > 0) {
        kills->one += kill(workers[trial_below(count)], SIGKILL) == 0;
        return;
    }
    if (what >= 97) {
        trial_kill(*server);
    }
    for (unsigned i = 0; i < count; i++) {
        kill(workers[i], SIGKILL);
    }
    if (what >= 97) {
        *server = server_start();
        kills->servers++;
    } else {
        kills->all++;
    }
}

static void heap_audit(void) {
    static struct store store;
    sharena_t *heap;
    REQUIRE(sharena_open(heap_path, NULL, &heap) == 0);
    REQUIRE(store_open(&store, heap) == 0);
    store_recover(&store);
    audit(&store);
    REQUIRE(sharena_close(heap) == 0);
}

static void report(const struct kills *kills) {
    uint64_t total[OPS] = {0};
    uint64_t broken = 0;
    for (unsigned c = 0; c < CLIENTS; c++) {
        for (unsigned op = 0; op < OPS; op++) {
            total[op] += tally->acknowledged[c][op];
        }
        broken += tally->broken[c];
    }
    printf(
        "killed: %u workers, %u times all workers, %u times the server; %llu connections broken\n"
        "acknowledged: %llu SETs, %llu DELs, %llu EXPIREs, %llu INCRs: 0 missing, 0 repeated; "
        "%llu GETs right\n",
        kills->one, kills->all, kills->servers, (unsigned long long)broken,
        (unsigned long long)total[OP_SET], (unsigned long long)total[OP_DEL],
        (unsigned long long)total[OP_EXPIRE], (unsigned long long)total[OP_INCR],
        (unsigned long long)total[OP_GET]);
}

/* The server lies beside this program. */
static void prepare(const char *dir) {
    char self[PATH_MAX - 16] = "";
    REQUIRE(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    *strrchr(self, '/') = '\0';
    snprintf(server_path, sizeof server_path, "%s/bin/respd", self);
    snprintf(heap_path, sizeof heap_path, "%s/heap", dir);
    port = (in_port_t)(20000 + trial_below(12000));
    snprintf(port_text, sizeof port_text, "%u", (unsigned)port);
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(tally != MAP_FAILED);
}

static void test(const char *dir, double seconds) {
    struct kills kills = {0, 0, 0};
    pid_t clients[CLIENTS];
    int status;
    prepare(dir);
    pid_t server = server_start();
    uint64_t start_ns = clock_now_ns();
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = child_run(client_run, i);
    }
    while (clock_seconds_since(start_ns) < seconds) {
        usleep((useconds_t)trial_below(20000));
        torment(&server, &kills);
        for (unsigned i = 0; i < CLIENTS; i++) {
            REQUIRE(waitpid(clients[i], &status, WNOHANG) == 0); /* it found nothing wrong */
        }
    }
    tally->is_over = 1;
    for (unsigned i = 0; i < CLIENTS; i++) {
        REQUIRE(waitpid(clients[i], &status, 0) == clients[i] && status == 0);
    }
    REQUIRE(kill(server, SIGTERM) == 0 && waitpid(server, &status, 0) == server && status == 0);
    heap_audit();
    report(&kills);
}

int main(int argc, char **argv) {
    return trial_main(argc, argv, 10, test);
}
