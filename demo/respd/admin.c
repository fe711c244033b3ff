/* admin.c -- the commands about the connection and the server: PING, INFO and their like. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "glob.h"
#include "number.h"

void command_ping(struct call *call) {
    if (call->count > 2) {
        reply_arity(call);
    } else if (call->count == 2) {
        reply_bulk(call->output, call->args[1].bytes, call->args[1].len);
    } else {
        reply_status(call->output, "PONG");
    }
}

void command_echo(struct call *call) {
    reply_bulk(call->output, call->args[1].bytes, call->args[1].len);
}

void command_quit(struct call *call) {
    call->close = true;
    reply_status(call->output, "OK");
}

void command_select(struct call *call) {
    int64_t idx;
    if (!arg_number(call, 1, &idx)) {
        return;
    }
    if (idx != 0) {
        reply_error(call->output, "ERR DB index is out of range");
        return;
    }
    reply_status(call->output, "OK");
}

void command_dbsize(struct call *call) {
    uint64_t expires;
    reply_int(call->output, (int64_t)store_count(call->store, &expires));
}

void command_flushall(struct call *call) {
    bool known =
        call->count == 1 ||
        (call->count == 2 && (arg_is(&call->args[1], "sync") || arg_is(&call->args[1], "async")));
    if (!known) {
        reply_syntax(call);
        return;
    }
    store_flush(call->store);
    reply_status(call->output, "OK");
}

/* ---- INFO ---- */

static bool section_is_wanted(const struct call *call, const char *name) {
    for (int i = 1; i < call->count; i++) {
        const struct arg *arg = &call->args[i];
        if (arg_is(arg, name) || arg_is(arg, "all") || arg_is(arg, "default") ||
            arg_is(arg, "everything")) {
            return true;
        }
    }
    return call->count == 1;
}

/* Begins a section if it is wanted. */
static bool section_begin(const struct call *call, struct buffer *text, const char *name) {
    if (!section_is_wanted(call, name)) {
        return false;
    }
    buffer_printf(text, "%s# %s\r\n", text->len == 0 ? "" : "\r\n", name);
    return true;
}

static void info_server(const struct call *call, struct buffer *text) {
    const struct facts *facts = call->facts;
    buffer_printf(text, "redis_version:7.0.0\r\nredis_mode:standalone\r\nserver:respd\r\n");
    buffer_printf(text, "sharena_version:%s\r\nheap_path:%s\r\n", SHARENA_VERSION,
                  facts->options->heap);
    buffer_printf(text, "process_id:%llu\r\nworker_pid:%llu\r\nworker_index:%u\r\n",
                  (unsigned long long)facts->server_pid,
                  (unsigned long long)call->store->worker->pid, call->store->worker_idx);
    buffer_printf(text, "tcp_port:%u\r\nworkers:%llu\r\nworkers_replaced:%llu\r\n",
                  (unsigned)facts->options->port, (unsigned long long)call->store->root->workers,
                  (unsigned long long)call->store->root->restarted);
    buffer_printf(text, "worker_pids:");
    const char *comma = "";
    for (unsigned i = 0; i < call->store->root->workers; i++) {
        uint64_t pid = call->store->root->worker[i]->pid;
        if (pid != 0) { /* 0: it died, and its successor is on its way */
            buffer_printf(text, "%s%llu", comma, (unsigned long long)pid);
            comma = ",";
        }
    }
    buffer_printf(text, "\r\nuptime_in_seconds:%lld\r\n",
                  (long long)(call->now_ms - facts->started_ms) / 1000);
}

/* What this heap's version does not count is left out. */
static void info_heap_line(const struct call *call, struct buffer *text, const char *name,
                           const char *statistic) {
    uint64_t value = 0;
    size_t len = sizeof value;
    if (sharena_ctl(call->store->heap, statistic, &value, &len, NULL, 0) == 0 &&
        len == sizeof value) {
        buffer_printf(text, "%s:%llu\r\n", name, (unsigned long long)value);
    }
}

static void info_heap(const struct call *call, struct buffer *text) {
    info_heap_line(call, text, "used_memory", "stats.allocated");
    info_heap_line(call, text, "heap_allocated", "stats.allocated");
    info_heap_line(call, text, "heap_active", "stats.active");
    info_heap_line(call, text, "heap_mapped", "stats.mapped");
    info_heap_line(call, text, "heap_resident", "stats.resident");
    buffer_printf(text, "maxmemory:%llu\r\nmaxmemory_policy:noeviction\r\n",
                  (unsigned long long)call->facts->options->limit_bytes);
}

/* The workers' counters added up. */
static struct worker workers_sum(const struct root *root) {
    struct worker sum;
    memset(&sum, 0, offsetof(struct worker, pin));
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        const struct worker *worker = root->worker[i];
        if (worker != NULL) {
            sum.clients += worker->clients;
            sum.connections += worker->connections;
            sum.commands += worker->commands;
            sum.hits += worker->hits;
            sum.misses += worker->misses;
            sum.expired += worker->expired;
            sum.repaired += worker->repaired;
        }
    }
    return sum;
}

static void info_stats(const struct worker *sum, struct buffer *text) {
    buffer_printf(text,
                  "total_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
                  "keyspace_hits:%llu\r\nkeyspace_misses:%llu\r\nexpired_keys:%llu\r\n"
                  "repaired_shards:%llu\r\n",
                  (unsigned long long)sum->connections, (unsigned long long)sum->commands,
                  (unsigned long long)sum->hits, (unsigned long long)sum->misses,
                  (unsigned long long)sum->expired, (unsigned long long)sum->repaired);
}

void command_info(struct call *call) {
    struct buffer text = {0};
    struct worker sum = workers_sum(call->store->root);
    if (section_begin(call, &text, "Server")) {
        info_server(call, &text);
    }
    if (section_begin(call, &text, "Clients")) {
        buffer_printf(&text, "connected_clients:%llu\r\n", (unsigned long long)sum.clients);
    }
    if (section_begin(call, &text, "Memory")) {
        info_heap(call, &text);
    }
    if (section_begin(call, &text, "Stats")) {
        info_stats(&sum, &text);
    }
    if (section_begin(call, &text, "Keyspace")) {
        uint64_t expires;
        uint64_t keys = store_count(call->store, &expires);
        if (keys != 0) {
            buffer_printf(&text, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n",
                          (unsigned long long)keys, (unsigned long long)expires);
        }
    }
    reply_bulk(call->output, text.data, text.len);
    call->output->failed |= text.failed;
    buffer_free(&text);
}

/* ---- what clients ask before they begin ---- */

static void reply_unknown_subcommand(struct call *call, const char *command) {
    reply_error(call->output, "ERR unknown subcommand '%.128s'. Try %s HELP.", call->args[1].bytes,
                command);
}

static void reply_command(struct call *call, const struct command *command) {
    struct output *output = call->output;
    reply_array(output, 6);
    reply_bulk_string(output, command->name);
    reply_int(output, command->arity);
    bool writes = (command->flags & COMMAND_WRITE) != 0;
    bool fast = (command->flags & COMMAND_FAST) != 0;
    bool keyless = (command->flags & COMMAND_KEYLESS) != 0;
    reply_array(output, (fast ? 1u : 0u) + (writes || !keyless ? 1u : 0u));
    if (writes || !keyless) {
        reply_status(output, writes ? "write" : "readonly");
    }
    if (fast) {
        reply_status(output, "fast");
    }
    reply_int(output, command->first_key);
    reply_int(output, command->last_key);
    reply_int(output, command->key_step);
}

void command_command(struct call *call) {
    if (call->count == 1 || (call->count == 2 && arg_is(&call->args[1], "info"))) {
        reply_array(call->output, commands_count);
        for (unsigned i = 0; i < commands_count; i++) {
            reply_command(call, &commands[i]);
        }
    } else if (arg_is(&call->args[1], "count")) {
        reply_int(call->output, commands_count);
    } else if (arg_is(&call->args[1], "docs")) {
        reply_array(call->output, 0);
    } else if (arg_is(&call->args[1], "info")) {
        reply_array(call->output, (uint64_t)call->count - 2);
        for (int i = 2; i < call->count; i++) {
            const struct command *command = command_find(&call->args[i]);
            if (command == NULL) {
                reply_nil(call->output);
            } else {
                reply_command(call, command);
            }
        }
    } else {
        reply_unknown_subcommand(call, "COMMAND");
    }
}

struct parameter {
    const char *name;
    char value[NUMBER_TEXT_MAX + 1];
};

static void config_get(struct call *call) {
    struct parameter parameters[] = {
        {"appendonly", "no"}, {"databases", "1"},          {"maxmemory", "0"},
        {"save", ""},         {"proto-max-bulk-len", "0"},
    };
    snprintf(parameters[2].value, sizeof parameters[2].value, "%llu",
             (unsigned long long)call->facts->options->limit_bytes);
    snprintf(parameters[4].value, sizeof parameters[4].value, "%u", BULK_BYTES_MAX);

    const struct parameter *found[sizeof parameters / sizeof parameters[0]];
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof parameters / sizeof parameters[0]; i++) {
        bool matches = false;
        for (int arg = 2; arg < call->count && !matches; arg++) {
            matches = glob_matches(call->args[arg].bytes, call->args[arg].len, parameters[i].name,
                                   strlen(parameters[i].name), true);
        }
        if (matches) {
            found[count++] = &parameters[i];
        }
    }
    reply_array(call->output, 2 * (uint64_t)count);
    for (unsigned i = 0; i < count; i++) {
        reply_bulk_string(call->output, found[i]->name);
        reply_bulk_string(call->output, found[i]->value);
    }
}

void command_config(struct call *call) {
    if (arg_is(&call->args[1], "get") && call->count >= 3) {
        config_get(call);
    } else if (arg_is(&call->args[1], "get")) {
        reply_error(call->output, "ERR wrong number of arguments for 'config|get' command");
    } else if (arg_is(&call->args[1], "set") && call->count >= 4) {
        reply_error(call->output,
                    "ERR CONFIG SET failed (possibly related to argument '%.128s') - can't set "
                    "immutable config",
                    call->args[2].bytes);
    } else {
        reply_unknown_subcommand(call, "CONFIG");
    }
}

void command_client(struct call *call) {
    if (arg_is(&call->args[1], "getname") && call->count == 2) {
        reply_nil(call->output);
    } else {
        reply_unknown_subcommand(call, "CLIENT");
    }
}

void command_hello(struct call *call) {
    int64_t version = 2;
    if (call->count > 1 && !number_parse(call->args[1].bytes, call->args[1].len, &version)) {
        reply_error(call->output, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (version != 2) {
        reply_error(call->output, "NOPROTO unsupported protocol version");
        return;
    }
    if (call->count > 2) {
        reply_error(call->output, "ERR Syntax error in HELLO option '%.128s'", call->args[2].bytes);
        return;
    }
    static const char *const facts[][2] = {
        {"server", "respd"}, {"version", SHARENA_VERSION}, {"mode", "standalone"}};
    reply_array(call->output, 2 * (3 + 1));
    for (unsigned i = 0; i < 3; i++) {
        reply_bulk_string(call->output, facts[i][0]);
        reply_bulk_string(call->output, facts[i][1]);
    }
    reply_bulk_string(call->output, "proto");
    reply_int(call->output, 2);
}
