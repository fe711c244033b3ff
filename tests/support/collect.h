/* collect.h -- for tests: what sharena_stats_print() writes, in one text, and its JSON. */
#ifndef TESTS_SUPPORT_COLLECT_H
#define TESTS_SUPPORT_COLLECT_H

#include <jansson.h>

#include "heap_fixture.h"

struct collected {
    char *text;
    size_t length;
    unsigned pieces;
};

static inline void collect(void *arg, const char *piece) {
    struct collected *all = arg;
    size_t length = strlen(piece);
    all->text = realloc(all->text, all->length + length + 1);
    assert_non_null(all->text);
    memcpy(all->text + all->length, piece, length + 1);
    all->length += length;
    all->pieces++;
}

/* The text; free() it. */
static inline char *collect_text(sharena_t *heap, const char *opts) {
    struct collected all = {0};
    if (sharena_stats_print(heap, collect, &all, opts) != 0) {
        fail_msg("sharena_stats_print: %s", sharena_errormsg());
    }
    assert_non_null(all.text);
    return all.text;
}

/* What "sharena" is; json_decref() it. Duplicate keys are an error. */
static inline json_t *collect_json(sharena_t *heap, const char *opts) {
    char *text = collect_text(heap, opts);
    json_error_t error;
    json_t *whole = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (whole == NULL) {
        fail_msg("line %d: %s: %s", error.line, error.text, text);
    }
    json_t *inner = json_incref(json_object_get(whole, "sharena"));
    assert_non_null(inner);
    json_decref(whole);
    free(text);
    return inner;
}

/* The value at a path like "summary.small.allocated" or "arenas.0.bins.3.size"; NULL: none. */
static inline json_t *json_find(json_t *value, const char *path) {
    while (value != NULL && *path != '\0') {
        char word[64];
        size_t length = strcspn(path, ".");
        (void)snprintf(word, sizeof(word), "%.*s", (int)length, path);
        value = json_is_array(value) ? json_array_get(value, strtoul(word, NULL, 10))
                                     : json_object_get(value, word);
        path += path[length] == '.' ? length + 1 : length;
    }
    return value;
}

static inline uint64_t json_number(json_t *value, const char *path) {
    json_t *found = json_find(value, path);
    if (!json_is_integer(found)) {
        fail_msg("no number at %s", path);
    }
    return (uint64_t)json_integer_value(found);
}

static inline const char *json_text(json_t *value, const char *path) {
    json_t *found = json_find(value, path);
    if (!json_is_string(found)) {
        fail_msg("no string at %s", path);
    }
    return json_string_value(found);
}

/* The item of the list at `path` whose `key` is `number`; NULL: none. */
static inline json_t *json_item(json_t *value, const char *path, const char *key, uint64_t number) {
    json_t *list = json_find(value, path);
    size_t index;
    json_t *item;
    assert_true(json_is_array(list));
    json_array_foreach(list, index, item) {
        if (json_number(item, key) == number) {
            return item;
        }
    }
    return NULL;
}

#endif
