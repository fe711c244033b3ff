/* keys.c -- the commands about keys: DEL, EXISTS, EXPIRE, TTL, KEYS, SCAN and their like. */
#include "commands.h"
#include "glob.h"
#include "number.h"

void command_del(struct call *call) {
    int64_t removed = 0;
    struct shard_set set = call_lock_keys(call, 1);
    for (int i = 1; i < call->count; i++) {
        struct key key = arg_key(call, i);
        struct shard *shard = store_shard_of(call->store, &key);
        removed += shard_remove(call->store, shard, &key, call->now_ms) ? 1 : 0;
    }
    store_unlock_set(call->store, &set);
    reply_int(call->output, removed);
}

/* How many of the keys there are; one that is named twice counts twice. */
static int64_t keys_found(struct call *call) {
    int64_t found = 0;
    struct shard_set set = call_lock_keys(call, 1);
    for (int i = 1; i < call->count; i++) {
        struct key key = arg_key(call, i);
        struct shard *shard = store_shard_of(call->store, &key);
        found += shard_find(call->store, shard, &key, call->now_ms) != NULL ? 1 : 0;
    }
    store_unlock_set(call->store, &set);
    return found;
}

void command_exists(struct call *call) {
    reply_int(call->output, keys_found(call));
}

void command_type(struct call *call) {
    reply_status(call->output, keys_found(call) != 0 ? "string" : "none");
}

/* ---- expiry ---- */

struct expire_options {
    bool nx, xx, gt, lt;
};

static bool expire_options_parse(struct call *call, struct expire_options *options) {
    for (int i = 3; i < call->count; i++) {
        const struct arg *arg = &call->args[i];
        bool *option = arg_is(arg, "nx")   ? &options->nx
                       : arg_is(arg, "xx") ? &options->xx
                       : arg_is(arg, "gt") ? &options->gt
                       : arg_is(arg, "lt") ? &options->lt
                                           : NULL;
        if (option == NULL) {
            reply_error(call->output, "ERR Unsupported option %s", arg->bytes);
            return false;
        }
        *option = true;
    }
    if (options->nx && (options->xx || options->gt || options->lt)) {
        reply_error(call->output, "ERR NX and XX, GT or LT options at the same time are not "
                                  "compatible");
        return false;
    }
    if (options->gt && options->lt) {
        reply_error(call->output, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* No expiry counts as later than any. */
static bool expire_is_wanted(const struct expire_options *options, int64_t old_ms, int64_t new_ms) {
    if (options->nx && old_ms != 0) {
        return false;
    }
    if ((options->xx || options->gt) && old_ms == 0) {
        return false;
    }
    if (options->gt && new_ms <= old_ms) {
        return false;
    }
    return !options->lt || old_ms == 0 || new_ms < old_ms;
}

static void expire_in(struct call *call, int64_t unit_ms) {
    struct expire_options options = {0};
    int64_t value;
    int64_t when_ms;
    if (!arg_number(call, 2, &value) || !expire_options_parse(call, &options)) {
        return;
    }
    if (!expiry_at(value, unit_ms, call->now_ms, &when_ms)) {
        reply_bad_expiry(call);
        return;
    }
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    struct entry *entry = shard_find(call->store, shard, &key, call->now_ms);
    bool wanted = entry != NULL && expire_is_wanted(&options, entry->expire_ms, when_ms);
    if (wanted && when_ms <= call->now_ms) {
        shard_remove(call->store, shard, &key, call->now_ms);
    } else if (wanted) {
        shard_set_expiry(shard, entry, when_ms);
    }
    store_unlock(shard);
    reply_int(call->output, wanted ? 1 : 0);
}

void command_expire(struct call *call) {
    expire_in(call, 1000);
}

void command_pexpire(struct call *call) {
    expire_in(call, 1);
}

void command_persist(struct call *call) {
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    struct entry *entry = shard_find(call->store, shard, &key, call->now_ms);
    bool wanted = entry != NULL && entry->expire_ms != 0;
    if (wanted) {
        shard_set_expiry(shard, entry, 0);
    }
    store_unlock(shard);
    reply_int(call->output, wanted ? 1 : 0);
}

/* -2 = no such key, -1 = no expiry. */
static int64_t ttl_ms(struct call *call) {
    struct key key = arg_key(call, 1);
    struct shard *shard = store_lock(call->store, &key);
    const struct entry *entry = shard_find(call->store, shard, &key, call->now_ms);
    int64_t ms = entry == NULL ? -2 : entry->expire_ms == 0 ? -1 : entry->expire_ms - call->now_ms;
    store_unlock(shard);
    return ms;
}

void command_ttl(struct call *call) {
    int64_t ms = ttl_ms(call);
    reply_int(call->output, ms < 0 ? ms : ms / 1000 + (ms % 1000 >= 500 ? 1 : 0));
}

void command_pttl(struct call *call) {
    reply_int(call->output, ttl_ms(call));
}

/* ---- KEYS and SCAN ---- */

/* Collects matching keys as replies; how many there are is known only at the end. */
struct listing {
    struct buffer text;
    uint64_t count;
    int64_t now_ms;
    const struct arg *pattern; /* NULL = all */
    bool none;
};

static void listing_visit(const struct entry *entry, void *arg) {
    struct listing *listing = arg;
    const struct arg *pattern = listing->pattern;
    if (listing->none || entry_is_expired(entry, listing->now_ms) ||
        (pattern != NULL &&
         !glob_matches(pattern->bytes, pattern->len, entry->bytes, entry->key_bytes, false))) {
        return;
    }
    char head[NUMBER_HEAD_MAX];
    buffer_append(&listing->text, head, number_head(head, '$', entry->key_bytes));
    buffer_append(&listing->text, entry->bytes, entry->key_bytes);
    buffer_append(&listing->text, "\r\n", 2);
    listing->count++;
}

static void listing_reply(struct call *call, struct listing *listing) {
    reply_array(call->output, listing->count);
    output_text(call->output, listing->text.data, listing->text.len);
    call->output->failed |= listing->text.failed;
    buffer_free(&listing->text);
}

void command_keys(struct call *call) {
    struct listing listing = {.now_ms = call->now_ms, .pattern = &call->args[1]};
    uint64_t cursor = 0;
    do {
        cursor = store_scan(call->store, cursor, UINT64_MAX, listing_visit, &listing);
    } while (cursor != 0);
    listing_reply(call, &listing);
}

void command_scan(struct call *call) {
    struct listing listing = {.now_ms = call->now_ms};
    uint64_t cursor;
    int64_t count = 10;
    if (!number_parse_unsigned(call->args[1].bytes, call->args[1].len, &cursor)) {
        reply_error(call->output, "ERR invalid cursor");
        return;
    }
    for (int i = 2; i < call->count; i += 2) {
        const struct arg *arg = &call->args[i];
        bool has_value = i + 1 < call->count;
        if (has_value && arg_is(arg, "match")) {
            listing.pattern = &call->args[i + 1];
        } else if (has_value && arg_is(arg, "type")) {
            listing.none = !arg_is(&call->args[i + 1], "string");
        } else if (has_value && arg_is(arg, "count")) {
            if (!arg_number(call, i + 1, &count)) {
                return;
            }
            if (count < 1) {
                reply_syntax(call);
                return;
            }
        } else {
            reply_syntax(call);
            return;
        }
    }
    cursor = store_scan(call->store, cursor, (uint64_t)count, listing_visit, &listing);
    char text[NUMBER_TEXT_MAX];
    reply_array(call->output, 2);
    reply_bulk(call->output, text, number_format(text, (int64_t)cursor));
    listing_reply(call, &listing);
}
