/* conf.h -- configuration: "name:value" pairs from five sources, later ones winning.
 *
 * compiled-in SHARENA_CONF_DEFAULT, /etc/sharena.conf, the weak symbol sharena_conf, the variable
 * SHARENA_CONF of the environment (not when setuid: secure_getenv), and the options of this open.
 */
#ifndef SHARENA_IPC_CONF_H
#define SHARENA_IPC_CONF_H

#include <stddef.h>
#include <stdint.h>

/* Where an option was set last, in the order in which the sources are read. */
enum conf_source {
    CONF_FROM_DEFAULT,     /* nowhere */
    CONF_FROM_COMPILED,    /* SHARENA_CONF_DEFAULT */
    CONF_FROM_FILE,        /* /etc/sharena.conf */
    CONF_FROM_SYMBOL,      /* sharena_conf */
    CONF_FROM_ENVIRONMENT, /* SHARENA_CONF */
    CONF_FROM_OPEN         /* options.conf */
};

#define CONF_ENTRIES_MAX 48

struct conf {                         /* per process and heap; opt.<name> in ctl */
    uint32_t narenas;                 /* 0: 4 x CPUs; at most ARENAS_MAX */
    uint32_t tcache;                  /* bool */
    uint32_t lg_tcache_max;           /* largest cached size; 22 = 4 MiB */
    uint32_t tcache_nslots_small_min; /* stack limits, blocks */
    uint32_t tcache_nslots_small_max;
    uint32_t tcache_nslots_large;
    uint32_t tcache_bytes;      /* what stacks may grow by, all together */
    uint32_t cache_oblivious;   /* bool: large blocks start at a random line of their page */
    uint32_t prof;              /* bool: some allocations are sampled */
    uint32_t lg_prof_sample;    /* one byte in 2^this is; 0: each block */
    uint32_t abort_conf;        /* bool: a bad configuration aborts */
    uint32_t reap_interval_ms;  /* between two looks for the dead; CONF_MS_NEVER */
    uint32_t zero;              /* bool: every new block is zeroed */
    uint32_t purge;             /* enum conf_purge: by what free pages are given back */
    uint32_t dirty_decay_ms;    /* PURGE_DECAY: until a free page is; 0 at once, CONF_MS_NEVER */
    uint32_t background_thread; /* bool: a thread of this process looks after the heap */
    uint32_t lg_dirty_mult;     /* PURGE_RATIO: dirty pages <= used pages >> lg_dirty_mult */
    uint32_t junk;              /* an or of JUNK_*: what is filled with a pattern */
    uint32_t quarantine_bytes;  /* freed blocks wait until a thread has that many; 0: none do */
    uint32_t abort;             /* bool: misuse aborts, if no hook decides */
    uint32_t stats_print;       /* bool: statistics go to stderr at the last close, or at exit */
    uint8_t source[CONF_ENTRIES_MAX]; /* enum conf_source, by the number of the entry */
};

/* Whether something is to be done with each block that comes or goes. */
static inline int conf_sees_blocks(const struct conf *conf) {
    return conf->zero != 0 || conf->junk != 0 || conf->quarantine_bytes != 0;
}

/* Whether something is to be done at each call. Then no thread gets a hint (thread.h), so all calls
 * take the slow paths, which look at the options: the fast paths know nothing of them. */
static inline int conf_is_watching(const struct conf *conf) {
    return conf_sees_blocks(conf) || conf->prof != 0;
}

/* Whether all that is to be done is to count what is allocated. Then frees are as fast as ever, and
 * a cached block is taken without entering the heap (api.c). */
static inline int conf_is_counting(const struct conf *conf) {
    return conf->prof != 0 && !conf_sees_blocks(conf);
}

#define CONF_MS_NEVER UINT32_MAX /* -1 in a text */

#define JUNK_ALLOC 1u /* new blocks */
#define JUNK_FREE 2u  /* freed ones */

enum conf_purge { PURGE_DECAY, PURGE_RATIO };

/* Collects all sources into *conf. 0, or EINVAL with a message that names the source, the name, the
 * value and what is valid; if any source says abort_conf:true, that message goes to stderr and the
 * process aborts. In every text a newline separates like a comma, blanks do not count, and '#'
 * begins a comment that ends with the line. `option_text` may be NULL. */
int conf_load(const char *option_text, struct conf *conf) __attribute__((warn_unused_result));

/* The same with another file in the place of /etc/sharena.conf, for tests. */
int conf_load_from(const char *system_path, const char *option_text, struct conf *conf)
    __attribute__((warn_unused_result));

/* Parses one text over *conf; `source` is named in the error. For conf_load and tests. */
int conf_parse(const char *source, const char *text, struct conf *conf)
    __attribute__((warn_unused_result));

/* The defaults, before any source. */
void conf_default(struct conf *conf);

/* The table, for ctl's opt.*: entry i or NULL behind the last. */
enum conf_type {
    CONF_BOOL,
    CONF_U32,
    CONF_MS,  /* CONF_MS_NEVER beyond its range */
    CONF_ENUM /* the number of one of its words */
};
struct conf_entry {
    const char *name;
    enum conf_type type;
    size_t offset; /* of the uint32_t in struct conf */
    uint32_t minimum;
    uint32_t maximum;
    const char *words; /* CONF_ENUM: what may stand in a text, each with a NUL; else NULL */
};
const struct conf_entry *conf_entry(size_t index);

/* The value of an entry that is in force, and where it was set. */
uint32_t conf_value(const struct conf *conf, const struct conf_entry *entry);
enum conf_source conf_source_of(const struct conf *conf, const struct conf_entry *entry);

/* What an enum conf_source is called: by the name of the source, or "default". */
const char *conf_source_name(enum conf_source source);

/* CONF_ENUM: the word for a value in the entry's range. */
const char *conf_word(const struct conf_entry *entry, uint32_t value);

#endif
