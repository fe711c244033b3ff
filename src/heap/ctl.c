/* ctl.c -- sharena_ctl: finds what has a name, checks the call against it, and moves the value.
 *
 * The conventions are mallctl()'s: oldp receives *oldlenp bytes, newp holds newlen bytes; either
 * may be missing.
 *
 * Holds:  a call that returns EPERM, ENOENT or EINVAL for newlen has changed and read nothing
 * Lock:   none
 * Killed: nothing shared is changed here
 * Not here: the names themselves (ctl_names.c).
 */
#include "heap/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "heap/heap.h"
#include "ipc/errors.h"
#include "ipc/forking.h"

#define OPT_PREFIX "opt."

/* ---- finding a name ---- */

/* Reads a decimal number of at most nine digits at *text; 0 if there is none. */
static int parse_index(const char **text, uint32_t *index) {
    const char *begin = *text;
    *index = 0;
    while (**text >= '0' && **text <= '9' && *text - begin < 9) {
        *index = *index * 10 + (uint32_t)(**text - '0');
        ++*text;
    }
    return *text != begin;
}

static int matches(const char *pattern, struct ctl_query *query) {
    const char *name = query->name;
    uint32_t *number = &query->index;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '#') {
            if (!parse_index(&name, number)) {
                return 0;
            }
            number = &query->inner;
        } else if (*pattern != *name++) {
            return 0;
        }
    }
    return *name == '\0';
}

/* How much of `pattern`, up to behind a dot, `name` begins with. */
static size_t common_levels(const char *pattern, const char *name) {
    size_t common = 0;
    uint32_t index;
    for (size_t i = 0; pattern[i] != '\0'; i++) {
        if (pattern[i] == '#' ? !parse_index(&name, &index) : pattern[i] != *name++) {
            break;
        }
        common = pattern[i] == '.' ? i + 1 : common;
    }
    return common;
}

struct list { /* of words, in a message */
    char text[320];
    size_t used;
};

static void append(struct list *list, const char *word, size_t length, const char *suffix) {
    int got = snprintf(list->text + list->used, sizeof(list->text) - list->used, "%s%.*s%s",
                       list->used == 0 ? "" : ", ", (int)length, word, suffix);
    size_t room = sizeof(list->text) - 1 - list->used;
    list->used += got < 0 ? 0 : (size_t)got < room ? (size_t)got : room;
}

/* Whether an earlier row than the i-th has the same word there. */
static int is_listed(size_t i, size_t level) {
    const char *pattern = ctl_name(i)->pattern;
    size_t end = level + strcspn(pattern + level, ".");
    for (size_t j = 0; j < i; j++) {
        const char *other = ctl_name(j)->pattern;
        if (strncmp(other, pattern, end) == 0 && (other[end] == '.' || other[end] == '\0')) {
            return 1;
        }
    }
    return 0;
}

/* The words that may stand behind the first `level` characters of `pattern`. */
static void list_level(struct list *list, const char *pattern, size_t level) {
    const struct ctl_name *row;
    for (size_t i = 0; (row = ctl_name(i)) != NULL; i++) {
        const char *word = row->pattern + level;
        if (strncmp(row->pattern, pattern, level) == 0 && !is_listed(i, level)) {
            size_t length = strcspn(word, ".");
            append(list, word, length, word[length] == '.' ? ".*" : "");
        }
    }
}

static void list_opts(struct list *list) {
    for (size_t i = 0; conf_entry(i) != NULL; i++) {
        append(list, conf_entry(i)->name, strlen(conf_entry(i)->name), "");
    }
}

/* Says what there is on the level where `name` went wrong. */
static int fail_unknown(const char *name) {
    struct list list = {.used = 0};
    const char *best = OPT_PREFIX;
    size_t level = common_levels(OPT_PREFIX, name);
    const struct ctl_name *row;
    for (size_t i = 0; (row = ctl_name(i)) != NULL; i++) {
        size_t common = common_levels(row->pattern, name);
        if (common > level) {
            best = row->pattern;
            level = common;
        }
    }
    list_level(&list, best, level);
    if (level == 0) {
        append(&list, OPT_PREFIX "*", strlen(OPT_PREFIX "*"), "");
    } else if (list.used == 0) {
        list_opts(&list);
    }
    return error_set(ENOENT, "there is no ctl name '%.80s'; behind '%.*s' there are: %s", name,
                     (int)level, best, list.text);
}

/* Each number of the name is below what there is, and the outer one is looked at first. */
static int check_numbers(struct ctl_query *query) {
    uint32_t numbers[] = {query->index, query->inner};
    const char *second = strchr(query->row->pattern, '#');
    int count = second == NULL ? 0 : strchr(second + 1, '#') == NULL ? 1 : 2;
    for (query->is_inner = 0; query->is_inner < count; query->is_inner++) {
        uint32_t limit = query->row->count(query);
        if (numbers[query->is_inner] >= limit) {
            return error_set(ENOENT, "ctl name '%.60s': the %snumber must be below %u", query->name,
                             count == 1        ? ""
                             : query->is_inner ? "second "
                                               : "first ",
                             limit);
        }
    }
    return 0;
}

static int find_name(struct ctl_query *query, struct ctl_name *found) {
    size_t prefix = strlen(OPT_PREFIX);
    if (strncmp(query->name, OPT_PREFIX, prefix) == 0 &&
        ctl_find_opt(query->name + prefix, found, &query->index)) {
        return 0;
    }
    const struct ctl_name *row;
    for (size_t i = 0; (row = ctl_name(i)) != NULL; i++) {
        if (matches(row->pattern, query)) {
            *found = *row;
            query->row = row;
            return check_numbers(query);
        }
    }
    return fail_unknown(query->name);
}

/* ---- values ---- */

static size_t type_bytes(enum ctl_type type) {
    switch (type) {
    case CTL_ACTION:
        return 0;
    case CTL_BOOL:
        return sizeof(_Bool);
    case CTL_UNSIGNED:
        return sizeof(unsigned);
    case CTL_HOOKS:
        return sizeof(struct sharena_chunk_hooks);
    default:
        return sizeof(uint64_t);
    }
}

static int fail_length(const struct ctl_query *query, const char *what, size_t given,
                       size_t right) {
    return error_set(EINVAL, "ctl name '%s': its value has %zu bytes, but %s is %zu", query->name,
                     right, what, given);
}

/* What the caller passed, against what the name can do. */
static int check_call(const struct ctl_query *query, const struct ctl_name *name, const void *oldp,
                      const size_t *oldlenp, const void *newp, size_t newlen) {
    size_t bytes = type_bytes(name->type);
    if (name->write == NULL && (newp != NULL || newlen != 0)) {
        return error_set(EPERM, "ctl name '%s' can only be read: newp must be NULL and newlen 0",
                         query->name);
    }
    if (name->type == CTL_ACTION) {
        return oldp == NULL && oldlenp == NULL && newp == NULL && newlen == 0
                   ? 0
                   : error_set(EPERM, "ctl name '%s' is an action: it takes and gives no value",
                               query->name);
    }
    if (oldp != NULL && oldlenp == NULL) {
        return error_set(EINVAL, "ctl name '%s': oldp is given, but oldlenp is NULL", query->name);
    }
    if (newlen != (newp != NULL ? bytes : 0)) {
        return fail_length(query, newp != NULL ? "newlen" : "newp is NULL and newlen", newlen,
                           newp != NULL ? bytes : 0);
    }
    return 0;
}

/* Of a value of the wrong length as much is read as there is room for, as jemalloc does. */
static int give_value(const struct ctl_query *query, enum ctl_type type, uint64_t value, void *oldp,
                      size_t *oldlenp) {
    const _Bool truth = value != 0;
    const unsigned number = (unsigned)value;
    const void *from = type == CTL_BOOL       ? (const void *)&truth
                       : type == CTL_UNSIGNED ? (const void *)&number
                       : type == CTL_HOOKS    ? (const void *)(uintptr_t)value
                                              : (const void *)&value;
    size_t bytes = type_bytes(type);
    size_t given = *oldlenp;
    *oldlenp = given < bytes ? given : bytes;
    CHECK(from != NULL); /* hooks are never none: those of the library, if no others */
    memcpy(oldp, from, *oldlenp);
    return given == bytes ? 0 : fail_length(query, "*oldlenp", given, bytes);
}

static uint64_t take_value(enum ctl_type type, const void *newp) {
    _Bool truth = 0;
    unsigned number = 0;
    uint64_t value = 0;
    switch (type) {
    case CTL_ACTION:
        return 0;
    case CTL_BOOL:
        memcpy(&truth, newp, sizeof(truth));
        return truth;
    case CTL_UNSIGNED:
        memcpy(&number, newp, sizeof(number));
        return number;
    case CTL_HOOKS:
        return (uint64_t)(uintptr_t)newp;
    default:
        memcpy(&value, newp, sizeof(value));
        return value;
    }
}

static int read_value(const struct ctl_query *query, const struct ctl_name *name, void *oldp,
                      size_t *oldlenp) {
    uint64_t value;
    int error = name->read(query, &value);
    return error == 0 ? give_value(query, name->type, value, oldp, oldlenp) : error;
}

/* Reads the old value first, and writes nothing if that fails. The epoch gives the new one. */
static int transfer(const struct ctl_query *query, const struct ctl_name *name, void *oldp,
                    size_t *oldlenp, const void *newp) {
    int is_written = newp != NULL || name->type == CTL_ACTION;
    int is_epoch = strcmp(query->name, "epoch") == 0;
    int error = 0;
    if (oldp != NULL) {
        error = read_value(query, name, oldp, oldlenp);
    }
    if (error == 0 && is_written) {
        error = name->write(query, take_value(name->type, newp));
    }
    if (error == 0 && oldp != NULL && is_epoch) {
        error = read_value(query, name, oldp, oldlenp);
    }
    return error;
}

SHARENA_API int sharena_ctl(sharena_t *heap, const char *name, void *oldp, size_t *oldlenp,
                            void *newp, size_t newlen) {
    struct ctl_query query = {.heap = heap, .name = name};
    struct ctl_name found = {0};
    forking_notice_child();
    query.attachment = heap_attachment(heap);
    if (query.attachment == NULL) {
        return EINVAL;
    }
    if (name == NULL) {
        return error_set(EINVAL, "the name argument of sharena_ctl() is NULL");
    }
    int error = find_name(&query, &found);
    if (error == 0) {
        error = check_call(&query, &found, oldp, oldlenp, newp, newlen);
    }
    return error == 0 ? transfer(&query, &found, oldp, oldlenp, newp) : error;
}
