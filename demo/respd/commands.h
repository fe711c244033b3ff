/* commands.h -- what a request means. */
#ifndef RESPD_COMMANDS_H
#define RESPD_COMMANDS_H

#include "options.h"
#include "output.h"
#include "request.h"
#include "store.h"

/* What a server knows of itself, for INFO. */
struct facts {
    const struct options *options;
    int64_t started_ms;
    uint64_t server_pid;
};

/* One request on its way through a command. */
struct call {
    struct store *store;
    struct output *output;
    const struct facts *facts;
    const struct arg *args; /* args[0] is the command's name */
    int count;
    int64_t now_ms;
    bool close; /* set by a command: the client is to be closed after the reply */
};

/* Answers the request; always with exactly one reply. */
void commands_run(struct call *call);

/* ---- for the commands among themselves ---- */

/* COMMAND lists these. */
#define COMMAND_WRITE 1u
#define COMMAND_FAST 2u
#define COMMAND_KEYLESS 4u

struct command {
    const char *name;
    int arity; /* with the name; -n: at least n */
    unsigned flags;
    int first_key; /* 0 = no keys; last_key -1 = the last argument */
    int last_key;
    int key_step;
    void (*run)(struct call *call);
};

extern const struct command commands[];
extern const unsigned commands_count;

/* NULL where there is none. The name in any case. */
const struct command *command_find(const struct arg *name);

bool arg_is(const struct arg *arg, const char *word); /* in any case */
struct key arg_key(const struct call *call, int idx);

/* Locks the shards of the keys args[1], args[1 + step], ... */
struct shard_set call_lock_keys(struct call *call, int step);

/* False: not an integer; the error is replied. */
bool arg_number(struct call *call, int idx, int64_t *number);

/* ms = when `value` (seconds or milliseconds as unit_ms says) after from_ms is. False: out of
 * range. */
bool expiry_at(int64_t value, int64_t unit_ms, int64_t from_ms, int64_t *ms);

void reply_syntax(struct call *call);
void reply_arity(struct call *call);
void reply_bad_expiry(struct call *call);

/* The reply for an errno value of the heap. */
void reply_heap_error(struct call *call, int error);

/* strings.c */
void command_append(struct call *call);
void command_decr(struct call *call);
void command_decrby(struct call *call);
void command_get(struct call *call);
void command_incr(struct call *call);
void command_incrby(struct call *call);
void command_mget(struct call *call);
void command_mset(struct call *call);
void command_set(struct call *call);
void command_strlen(struct call *call);

/* keys.c */
void command_del(struct call *call);
void command_exists(struct call *call);
void command_expire(struct call *call);
void command_keys(struct call *call);
void command_persist(struct call *call);
void command_pexpire(struct call *call);
void command_pttl(struct call *call);
void command_scan(struct call *call);
void command_ttl(struct call *call);
void command_type(struct call *call);

/* admin.c */
void command_client(struct call *call);
void command_command(struct call *call);
void command_config(struct call *call);
void command_dbsize(struct call *call);
void command_echo(struct call *call);
void command_flushall(struct call *call);
void command_hello(struct call *call);
void command_info(struct call *call);
void command_ping(struct call *call);
void command_quit(struct call *call);
void command_select(struct call *call);

#endif
