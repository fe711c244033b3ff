/* conf.c -- configuration: "name:value" pairs from five sources, later ones winning.
 *
 * Holds:  every value lies in the range of its table entry.
 * Lock:   none; nothing is kept between calls. getenv() races with the application's setenv(), as
 *         everywhere.
 * Killed: nothing shared is touched.
 * Not here: what the values mean (their users); what is fixed at creation (struct sharena_options).
 */
#include "ipc/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/errors.h"
#include "sharena/sharena.h"

#ifndef SHARENA_CONF_DEFAULT
#define SHARENA_CONF_DEFAULT "" /* packagers: -DSHARENA_CONF_DEFAULT='"narenas:8"' */
#endif

#define SYSTEM_PATH "/etc/sharena.conf"
#define SYSTEM_TEXT_BYTES 4096

/* An application's own definition, strong, takes the place of this one. */
SHARENA_API const char *sharena_conf __attribute__((weak)) = NULL;

static const struct conf_entry entries[] = {
    {"narenas", CONF_U32, offsetof(struct conf, narenas), 0, 1024, NULL},
    {"tcache", CONF_BOOL, offsetof(struct conf, tcache), 0, 1, NULL},
    {"lg_tcache_max", CONF_U32, offsetof(struct conf, lg_tcache_max), 12, 22, NULL},
    {"tcache_nslots_small_min", CONF_U32, offsetof(struct conf, tcache_nslots_small_min), 1, 4096,
     NULL},
    {"tcache_nslots_small_max", CONF_U32, offsetof(struct conf, tcache_nslots_small_max), 1, 4096,
     NULL},
    {"tcache_nslots_large", CONF_U32, offsetof(struct conf, tcache_nslots_large), 1, 4096, NULL},
    {"tcache_bytes", CONF_U32, offsetof(struct conf, tcache_bytes), 0, 1u << 30, NULL},
    {"cache_oblivious", CONF_BOOL, offsetof(struct conf, cache_oblivious), 0, 1, NULL},
    {"abort_conf", CONF_BOOL, offsetof(struct conf, abort_conf), 0, 1, NULL},
    {"reap_interval_ms", CONF_MS, offsetof(struct conf, reap_interval_ms), 0, 86400000, NULL},
    {"purge", CONF_ENUM, offsetof(struct conf, purge), 0, 1, "decay\0ratio"},
    {"dirty_decay_ms", CONF_MS, offsetof(struct conf, dirty_decay_ms), 0, 86400000, NULL},
    {"background_thread", CONF_BOOL, offsetof(struct conf, background_thread), 0, 1, NULL},
    {"lg_dirty_mult", CONF_U32, offsetof(struct conf, lg_dirty_mult), 0, 31, NULL},
    {"stats_print", CONF_BOOL, offsetof(struct conf, stats_print), 0, 1, NULL},
    {"prof", CONF_BOOL, offsetof(struct conf, prof), 0, 1, NULL},
    {"lg_prof_sample", CONF_U32, offsetof(struct conf, lg_prof_sample), 0, 40, NULL},
    {"zero", CONF_BOOL, offsetof(struct conf, zero), 0, 1, NULL},
    {"junk", CONF_ENUM, offsetof(struct conf, junk), 0, 3, "false\0alloc\0free\0true"},
    {"quarantine_bytes", CONF_U32, offsetof(struct conf, quarantine_bytes), 0, 1u << 30, NULL},
    {"abort", CONF_BOOL, offsetof(struct conf, abort), 0, 1, NULL},
};

#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

_Static_assert(ENTRIES <= CONF_ENTRIES_MAX, "each entry has a place in conf.source");

const char *conf_source_name(enum conf_source source) {
    static const char *const names[] = {
        [CONF_FROM_DEFAULT] = "default",          [CONF_FROM_COMPILED] = "compiled in",
        [CONF_FROM_FILE] = SYSTEM_PATH,           [CONF_FROM_SYMBOL] = "sharena_conf",
        [CONF_FROM_ENVIRONMENT] = "SHARENA_CONF", [CONF_FROM_OPEN] = "options.conf"};
    return names[source];
}

const struct conf_entry *conf_entry(size_t index) {
    return index < ENTRIES ? &entries[index] : NULL;
}

uint32_t conf_value(const struct conf *conf, const struct conf_entry *entry) {
    uint32_t value;
    memcpy(&value, (const char *)conf + entry->offset, sizeof(value));
    return value;
}

enum conf_source conf_source_of(const struct conf *conf, const struct conf_entry *entry) {
    return (enum conf_source)conf->source[entry - entries];
}

const char *conf_word(const struct conf_entry *entry, uint32_t value) {
    const char *word = entry->words;
    for (; value > 0; value--) {
        word += strlen(word) + 1;
    }
    return word;
}

void conf_default(struct conf *conf) {
    *conf = (struct conf){
        .narenas = 0,
        .tcache = 1,
        .lg_tcache_max = 22,
        .tcache_nslots_small_min = 20,
        .tcache_nslots_small_max = 200,
        .tcache_nslots_large = 20,
        .tcache_bytes = 8u << 20,
        .reap_interval_ms = 1000,
        .purge = PURGE_DECAY,
        .dirty_decay_ms = 10000,
        .lg_dirty_mult = 3,
        .abort = 1,
        .lg_prof_sample = 19,
    };
}

/* ---- one text ---- */

/* A part of the text. */
struct span {
    const char *begin;
    const char *end;
};

static int span_is(struct span span, const char *word) {
    size_t length = (size_t)(span.end - span.begin);
    return strlen(word) == length && memcmp(span.begin, word, length) == 0;
}

static int is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span span) {
    while (span.begin < span.end && is_blank(*span.begin)) {
        span.begin++;
    }
    while (span.begin < span.end && is_blank(span.end[-1])) {
        span.end--;
    }
    return span;
}

/* Cuts the next pair off the text: up to a comma, the end of the line, or a comment. 0: no more. */
static int next_pair(const char **text, struct span *pair) {
    const char *at = *text;
    if (*at == '\0') {
        return 0;
    }
    pair->begin = at;
    at += strcspn(at, ",\n#");
    pair->end = at;
    if (*at == '#') {
        at += strcspn(at, "\n");
    }
    *text = *at == '\0' ? at : at + 1;
    *pair = trim(*pair);
    return 1;
}

static void list_names(char *list, size_t size) {
    size_t used = 0;
    list[0] = '\0';
    for (size_t i = 0; i < ENTRIES && used < size; i++) {
        int length =
            snprintf(list + used, size - used, "%s%s", i == 0 ? "" : ", ", entries[i].name);
        used += length > 0 ? (size_t)length : 0;
    }
}

/* Decimal digits and nothing else; 0 if it is something else or does not fit. */
static int parse_u32(struct span span, uint32_t *value) {
    uint64_t sum = 0;
    if (span.begin == span.end) {
        return 0;
    }
    for (const char *at = span.begin; at < span.end; at++) {
        if (*at < '0' || *at > '9' || sum > UINT32_MAX / 10) {
            return 0;
        }
        sum = sum * 10 + (uint64_t)(*at - '0');
    }
    *value = (uint32_t)sum;
    return sum <= UINT32_MAX;
}

static int parse_bool(struct span span, uint32_t *value) {
    *value = (uint32_t)span_is(span, "true");
    return *value == 1 || span_is(span, "false");
}

static int parse_word(const struct conf_entry *entry, struct span span, uint32_t *value) {
    for (*value = entry->minimum; *value <= entry->maximum; ++*value) {
        if (span_is(span, conf_word(entry, *value))) {
            return 1;
        }
    }
    return 0;
}

/* Where errors go: the first one counts, but reading goes on, for an abort_conf may follow it. */
struct parse {
    enum conf_source from;
    const char *source; /* its name in errors */
    struct conf *conf;
    int error;
};

/* What a value of the entry may be, for people. */
static void describe_values(const struct conf_entry *entry, char *text, size_t size) {
    size_t used = 0;
    switch (entry->type) {
    case CONF_BOOL:
        (void)snprintf(text, size, "true or false");
        break;
    case CONF_ENUM:
        for (uint32_t i = entry->minimum; i <= entry->maximum && used < size; i++) {
            int length = snprintf(text + used, size - used, "%s%s",
                                  i == entry->minimum ? "" : " or ", conf_word(entry, i));
            used += length > 0 ? (size_t)length : 0;
        }
        break;
    default:
        (void)snprintf(text, size, "a number from %u to %u%s", entry->minimum, entry->maximum,
                       entry->type == CONF_MS ? ", or -1 for never" : "");
    }
}

static void fail_value(struct parse *parse, const struct conf_entry *entry, struct span value) {
    char valid[128];
    if (parse->error == 0) {
        describe_values(entry, valid, sizeof(valid));
        parse->error =
            error_set(EINVAL, "configuration (%s): %s cannot be '%.*s': %s", parse->source,
                      entry->name, (int)(value.end - value.begin), value.begin, valid);
    }
}

static void fail_name(struct parse *parse, struct span pair) {
    char names[512];
    if (parse->error != 0) {
        return;
    }
    list_names(names, sizeof(names));
    parse->error = error_set(EINVAL,
                             "configuration (%s): '%.*s' is not a NAME:VALUE with one of the names "
                             "%s",
                             parse->source, (int)(pair.end - pair.begin), pair.begin, names);
}

static const struct conf_entry *find_entry(struct span name) {
    for (size_t i = 0; i < ENTRIES; i++) {
        if (span_is(name, entries[i].name)) {
            return &entries[i];
        }
    }
    return NULL;
}

/* A value in the range of its entry; 0 if the text is none. */
static int parse_value(const struct conf_entry *entry, struct span text, uint32_t *value) {
    if (entry->type == CONF_BOOL) {
        return parse_bool(text, value);
    }
    if (entry->type == CONF_ENUM) {
        return parse_word(entry, text, value);
    }
    if (entry->type == CONF_MS && span_is(text, "-1")) {
        *value = CONF_MS_NEVER;
        return 1;
    }
    return parse_u32(text, value) && *value >= entry->minimum && *value <= entry->maximum;
}

static void parse_pair(struct parse *parse, struct span pair) {
    const char *colon = memchr(pair.begin, ':', (size_t)(pair.end - pair.begin));
    const struct conf_entry *entry =
        colon == NULL ? NULL : find_entry(trim((struct span){pair.begin, colon}));
    uint32_t value;
    if (entry == NULL) {
        fail_name(parse, pair);
        return;
    }
    struct span text = trim((struct span){colon + 1, pair.end});
    if (!parse_value(entry, text, &value)) {
        fail_value(parse, entry, text);
        return;
    }
    memcpy((char *)parse->conf + entry->offset, &value, sizeof(value));
    parse->conf->source[entry - entries] = (uint8_t)parse->from;
}

static void parse_text(struct parse *parse, enum conf_source from, const char *source,
                       const char *text) {
    struct span pair;
    parse->from = from;
    parse->source = source;
    while (text != NULL && next_pair(&text, &pair)) {
        if (pair.begin < pair.end) {
            parse_pair(parse, pair);
        }
    }
}

int conf_parse(const char *source, const char *text, struct conf *conf) {
    struct parse parse = {.conf = conf};
    parse_text(&parse, CONF_FROM_OPEN, source, text);
    return parse.error;
}

/* ---- all sources ---- */

/* Reads the file into text[0..size), terminated. Its length; 0 if there is none; -1 with errno. */
static ssize_t read_text(const char *path, char *text, size_t size) {
    size_t used = 0;
    ssize_t got = 0;
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    do {
        got = read(fd, text + used, size - used);
        used += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && used < size) || (got < 0 && errno == EINTR));
    int error = got < 0 ? errno : used == size ? E2BIG : 0;
    (void)close(fd);
    if (error != 0) {
        errno = error;
        return -1;
    }
    text[used] = '\0';
    return (ssize_t)used;
}

static void parse_file(struct parse *parse, const char *path) {
    char text[SYSTEM_TEXT_BYTES];
    if (read_text(path, text, sizeof(text)) >= 0) {
        parse_text(parse, CONF_FROM_FILE, path, text);
    } else if (parse->error == 0) {
        parse->error = error_set(EINVAL, "configuration (%s): the file cannot be read: %m", path);
    }
}

static void verify_whole(struct parse *parse) {
    const struct conf *conf = parse->conf;
    if (parse->error == 0 && conf->tcache_nslots_small_min > conf->tcache_nslots_small_max) {
        parse->error = error_set(EINVAL,
                                 "configuration: tcache_nslots_small_min is %u, more than "
                                 "tcache_nslots_small_max, which is %u",
                                 conf->tcache_nslots_small_min, conf->tcache_nslots_small_max);
    }
}

static void write_error(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written; /* there is nobody else to tell */
}

static void abort_on_error(void) {
    write_error("sharena: ");
    write_error(error_message());
    write_error("\n");
    abort();
}

int conf_load_from(const char *system_path, const char *option_text, struct conf *conf) {
    struct parse parse = {.conf = conf};
    conf_default(conf);
    parse_text(&parse, CONF_FROM_COMPILED, "compiled in", SHARENA_CONF_DEFAULT);
    parse_file(&parse, system_path);
    parse_text(&parse, CONF_FROM_SYMBOL, "sharena_conf", sharena_conf);
    parse_text(&parse, CONF_FROM_ENVIRONMENT, "SHARENA_CONF", secure_getenv("SHARENA_CONF"));
    parse_text(&parse, CONF_FROM_OPEN, "options.conf", option_text);
    verify_whole(&parse);
    if (parse.error != 0 && conf->abort_conf) {
        abort_on_error();
    }
    return parse.error;
}

int conf_load(const char *option_text, struct conf *conf) {
    return conf_load_from(SYSTEM_PATH, option_text, conf);
}
