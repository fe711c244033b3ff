/* commands.c -- the table of commands, and what all of them have in common.
 *
 * Errors are worded as Redis 7 words them, because clients and people look for these words.
 *
 * Not here: the commands themselves (strings.c, keys.c, admin.c).
 */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "number.h"

#define R COMMAND_FAST
#define W (COMMAND_WRITE | COMMAND_FAST)

const struct command commands[] = {
    /* sorted by name */
    {"append", 3, W, 1, 1, 1, command_append},
    {"client", -2, COMMAND_KEYLESS, 0, 0, 0, command_client},
    {"command", -1, COMMAND_KEYLESS, 0, 0, 0, command_command},
    {"config", -2, COMMAND_KEYLESS, 0, 0, 0, command_config},
    {"dbsize", 1, R | COMMAND_KEYLESS, 0, 0, 0, command_dbsize},
    {"decr", 2, W, 1, 1, 1, command_decr},
    {"decrby", 3, W, 1, 1, 1, command_decrby},
    {"del", -2, COMMAND_WRITE, 1, -1, 1, command_del},
    {"echo", 2, R | COMMAND_KEYLESS, 0, 0, 0, command_echo},
    {"exists", -2, R, 1, -1, 1, command_exists},
    {"expire", -3, W, 1, 1, 1, command_expire},
    {"flushall", -1, COMMAND_WRITE | COMMAND_KEYLESS, 0, 0, 0, command_flushall},
    {"flushdb", -1, COMMAND_WRITE | COMMAND_KEYLESS, 0, 0, 0, command_flushall},
    {"get", 2, R, 1, 1, 1, command_get},
    {"hello", -1, R | COMMAND_KEYLESS, 0, 0, 0, command_hello},
    {"incr", 2, W, 1, 1, 1, command_incr},
    {"incrby", 3, W, 1, 1, 1, command_incrby},
    {"info", -1, COMMAND_KEYLESS, 0, 0, 0, command_info},
    {"keys", 2, 0, 0, 0, 0, command_keys},
    {"mget", -2, R, 1, -1, 1, command_mget},
    {"mset", -3, COMMAND_WRITE, 1, -1, 2, command_mset},
    {"persist", 2, W, 1, 1, 1, command_persist},
    {"pexpire", -3, W, 1, 1, 1, command_pexpire},
    {"ping", -1, R | COMMAND_KEYLESS, 0, 0, 0, command_ping},
    {"pttl", 2, R, 1, 1, 1, command_pttl},
    {"quit", -1, R | COMMAND_KEYLESS, 0, 0, 0, command_quit},
    {"scan", -2, 0, 0, 0, 0, command_scan},
    {"select", 2, R | COMMAND_KEYLESS, 0, 0, 0, command_select},
    {"set", -3, COMMAND_WRITE, 1, 1, 1, command_set},
    {"strlen", 2, R, 1, 1, 1, command_strlen},
    {"ttl", 2, R, 1, 1, 1, command_ttl},
    {"type", 2, R, 1, 1, 1, command_type},
    {"unlink", -2, W, 1, -1, 1, command_del},
};

#undef R
#undef W

const unsigned commands_count = sizeof commands / sizeof commands[0];

/* ---- arguments ---- */

bool arg_is(const struct arg *arg, const char *word) {
    return arg->len == strlen(word) && strncasecmp(arg->bytes, word, arg->len) == 0;
}

struct key arg_key(const struct call *call, int idx) {
    return store_key(call->store, call->args[idx].bytes, call->args[idx].len);
}

struct shard_set call_lock_keys(struct call *call, int step) {
    struct shard_set set = {{0}};
    for (int i = 1; i < call->count; i += step) {
        struct key key = arg_key(call, i);
        shard_set_add(&set, &key);
    }
    store_lock_set(call->store, &set);
    return set;
}

bool arg_number(struct call *call, int idx, int64_t *number) {
    if (number_parse(call->args[idx].bytes, call->args[idx].len, number)) {
        return true;
    }
    reply_error(call->output, "ERR value is not an integer or out of range");
    return false;
}

bool expiry_at(int64_t value, int64_t unit_ms, int64_t from_ms, int64_t *ms) {
    return !__builtin_mul_overflow(value, unit_ms, ms) && !__builtin_add_overflow(*ms, from_ms, ms);
}

/* ---- errors ---- */

/* The name as the table has it, or as it was sent. */
static const char *call_name(const struct call *call) {
    const struct command *command = command_find(&call->args[0]);
    return command != NULL ? command->name : call->args[0].bytes;
}

void reply_syntax(struct call *call) {
    reply_error(call->output, "ERR syntax error");
}

void reply_arity(struct call *call) {
    reply_error(call->output, "ERR wrong number of arguments for '%s' command", call_name(call));
}

void reply_bad_expiry(struct call *call) {
    reply_error(call->output, "ERR invalid expire time in '%s' command", call_name(call));
}

void reply_heap_error(struct call *call, int error) {
    if (error == ENOMEM) {
        reply_error(call->output, "OOM command not allowed when used memory > 'maxmemory'.");
    } else {
        reply_error(call->output, "ERR heap: %s", sharena_errormsg());
    }
}

static void reply_unknown(struct call *call) {
    char args[160] = "";
    size_t len = 0;
    for (int i = 1; i < call->count && len < 128; i++) {
        len += (size_t)snprintf(args + len, sizeof args - len, "'%.*s' ", (int)(128 - len),
                                call->args[i].bytes);
    }
    reply_error(call->output, "ERR unknown command '%.128s', with args beginning with: %s",
                call->args[0].bytes, args);
}

/* ---- dispatch ---- */

const struct command *command_find(const struct arg *name) {
    unsigned low = 0;
    unsigned high = commands_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = strcasecmp(name->bytes, commands[middle].name);
        if (order == 0) {
            return name->len == strlen(commands[middle].name) ? &commands[middle] : NULL;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

void commands_run(struct call *call) {
    const struct command *command = command_find(&call->args[0]);
    call->store->worker->commands++;
    if (command == NULL) {
        reply_unknown(call);
    } else if (command->arity > 0 ? call->count != command->arity : call->count < -command->arity) {
        reply_arity(call);
    } else {
        command->run(call);
    }
}
