/* strings.c -- the commands about values: GET, SET, MGET, MSET, INCR, APPEND and their like.
 *
 * Each holds the locks of all its keys' shards from its first look to its last change: so MSET and
 * MGET are one step for every other client, and two INCRs never count once.
 */
#include <errno.h>

#include "commands.h"
#include "number.h"

static void count_lookup(struct call *call, bool hit) {
    if (hit) {
        call->store->worker->hits++;
    } else {
        call->store->worker->misses++;
    }
}

/* Queues the value, or nil. Shard lock. */
static struct entry *reply_value(struct call *call, struct shard *shard, const struct key *key) {
    struct entry *entry = shard_find(call->store, shard, key, call->now_ms);
    if (entry == NULL) {
        reply_nil(call->output);
    } else {
        output_entry(call->output, entry);
    }
    return entry;
}

void command_get(struct call *call) {
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    count_lookup(call, reply_value(call, shard, &key) != NULL);
    store_unlock(shard);
}

void command_strlen(struct call *call) {
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    const struct entry *entry = shard_find(call->store, shard, &key, call->now_ms);
    int64_t len = entry == NULL ? 0 : (int64_t)entry->value_bytes;
    store_unlock(shard);
    count_lookup(call, entry != NULL);
    reply_int(call->output, len);
}

/* ---- several keys ---- */

void command_mget(struct call *call) {
    struct shard_set set = call_lock_keys(call, 1);
    reply_array(call->output, (uint64_t)call->count - 1);
    for (int i = 1; i < call->count; i++) {
        struct key key = arg_key(call, i);
        struct shard *shard = store_shard_of(call->store, &key);
        count_lookup(call, reply_value(call, shard, &key) != NULL);
    }
    store_unlock_set(call->store, &set);
}

/* Where memory runs out the keys before that are set, and the reply is the error. */
void command_mset(struct call *call) {
    if (call->count % 2 == 0) {
        reply_arity(call);
        return;
    }
    struct shard_set set = call_lock_keys(call, 2);
    int error = 0;
    for (int i = 1; i < call->count && error == 0; i += 2) {
        struct key key = arg_key(call, i);
        struct value value = {{call->args[i + 1].bytes}, {call->args[i + 1].len}};
        error = shard_put(call->store, store_shard_of(call->store, &key), &key, &value, 0);
    }
    store_unlock_set(call->store, &set);
    if (error != 0) {
        reply_heap_error(call, error);
    } else {
        reply_status(call->output, "OK");
    }
}

/* ---- SET ---- */

struct set_options {
    bool only_new; /* NX */
    bool only_old; /* XX */
    bool keep_ttl;
    bool get;
    bool expires;
    bool absolute; /* EXAT, PXAT */
    int64_t unit_ms;
    int value_idx; /* the argument that says when */
};

/* EX, PX, EXAT, PXAT: at most one of them. */
static bool set_expiry_option(struct set_options *options, const struct arg *arg, int value_idx) {
    options->absolute = arg_is(arg, "exat") || arg_is(arg, "pxat");
    if (options->absolute || arg_is(arg, "ex") || arg_is(arg, "px")) {
        options->unit_ms = arg->bytes[0] == 'e' || arg->bytes[0] == 'E' ? 1000 : 1;
        options->value_idx = value_idx;
        options->expires = true;
        return true;
    }
    return false;
}

/* False: the error is replied. */
static bool set_options_parse(struct call *call, struct set_options *options) {
    for (int i = 3; i < call->count; i++) {
        const struct arg *arg = &call->args[i];
        if (arg_is(arg, "nx") && !options->only_old) {
            options->only_new = true;
        } else if (arg_is(arg, "xx") && !options->only_new) {
            options->only_old = true;
        } else if (arg_is(arg, "get")) {
            options->get = true;
        } else if (arg_is(arg, "keepttl") && !options->expires) {
            options->keep_ttl = true;
        } else if (!options->expires && !options->keep_ttl && i + 1 < call->count &&
                   set_expiry_option(options, arg, i + 1)) {
            i++;
        } else {
            reply_syntax(call);
            return false;
        }
    }
    return true;
}

/* When the new value expires; 0 = never. False: the error is replied. */
static bool set_expiry(struct call *call, const struct set_options *options, int64_t *expire_ms) {
    int64_t value;
    *expire_ms = 0;
    if (!options->expires) {
        return true;
    }
    if (!arg_number(call, options->value_idx, &value)) {
        return false;
    }
    int64_t from_ms = options->absolute ? 0 : call->now_ms;
    if (value <= 0 || !expiry_at(value, options->unit_ms, from_ms, expire_ms)) {
        reply_bad_expiry(call);
        return false;
    }
    return true;
}

void command_set(struct call *call) {
    struct set_options options = {0};
    int64_t expire_ms;
    if (!set_options_parse(call, &options) || !set_expiry(call, &options, &expire_ms)) {
        return;
    }

    struct key key = arg_key(call, 1);
    struct value value = {{call->args[2].bytes}, {call->args[2].len}};
    struct shard *shard = store_lock(call->store, &key);
    const struct entry *old = shard_find(call->store, shard, &key, call->now_ms);
    bool wanted = old != NULL ? !options.only_new : !options.only_old;
    int error = 0;
    if (wanted) {
        expire_ms = options.keep_ttl && old != NULL ? old->expire_ms : expire_ms;
        error = shard_prepare(call->store, shard, &key, &value, expire_ms);
    }
    if (error == 0 && options.get) {
        reply_value(call, shard, &key);
    }
    if (error == 0 && wanted) {
        shard_publish(call->store, shard, &key);
    }
    store_unlock(shard);

    if (error != 0) {
        reply_heap_error(call, error);
    } else if (!options.get && wanted) {
        reply_status(call->output, "OK");
    } else if (!options.get) {
        reply_nil(call->output);
    }
}

/* ---- values that follow from the old one ---- */

static void incr_by(struct call *call, int64_t by) {
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    const struct entry *old = shard_find(call->store, shard, &key, call->now_ms);
    int64_t number = 0;
    int error = 0;
    const char *mistake = NULL;
    if (old != NULL && !number_parse(entry_value(old), (size_t)old->value_bytes, &number)) {
        mistake = "ERR value is not an integer or out of range";
    } else if (__builtin_add_overflow(number, by, &number)) {
        mistake = "ERR increment or decrement would overflow";
    } else {
        char text[NUMBER_TEXT_MAX];
        struct value value = {{text}, {number_format(text, number)}};
        error = shard_put(call->store, shard, &key, &value, old == NULL ? 0 : old->expire_ms);
    }
    store_unlock(shard);

    if (mistake != NULL) {
        reply_error(call->output, "%s", mistake);
    } else if (error != 0) {
        reply_heap_error(call, error);
    } else {
        reply_int(call->output, number);
    }
}

void command_incr(struct call *call) {
    incr_by(call, 1);
}

void command_decr(struct call *call) {
    incr_by(call, -1);
}

void command_incrby(struct call *call) {
    int64_t by;
    if (arg_number(call, 2, &by)) {
        incr_by(call, by);
    }
}

void command_decrby(struct call *call) {
    int64_t by;
    if (!arg_number(call, 2, &by)) {
        return;
    }
    if (by == INT64_MIN) {
        reply_error(call->output, "ERR decrement would overflow");
        return;
    }
    incr_by(call, -by);
}

/* The old value may be being sent, so the new one is a copy of both parts. */
void command_append(struct call *call) {
    const struct arg *more = &call->args[2];
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    const struct entry *old = shard_find(call->store, shard, &key, call->now_ms);
    struct value value = {{NULL, more->bytes}, {0, more->len}};
    int64_t expire_ms = 0;
    if (old != NULL) {
        value.bytes[0] = entry_value(old);
        value.len[0] = (size_t)old->value_bytes;
        expire_ms = old->expire_ms;
    }
    size_t len = value.len[0] + value.len[1];
    bool fits = len <= BULK_BYTES_MAX;
    int error = 0;
    if (fits && (old == NULL || more->len != 0)) {
        error = shard_put(call->store, shard, &key, &value, expire_ms);
    }
    store_unlock(shard);

    if (!fits) {
        reply_error(call->output, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    } else if (error != 0) {
        reply_heap_error(call, error);
    } else {
        reply_int(call->output, (int64_t)len);
    }
}
