/* points.h -- kills from inside: what a scenario is, and what the parts of crash_points share.
 *
 * One case: the survivor prepares a heap, forks a victim, which does one operation and dies at its
 * k-th fault point (src/ipc/faultpoint.h); perhaps one or two recoverers die while they clean up
 * after it; then the survivor goes on, and accounts for every block.
 *
 *     points.c         options, rows (scenario x size class x survivor), jobs, the report
 *     points_case.c    one case: victim, recoverers, survivor
 *     points_stage.c   the heap of a case, and what the survivor knows of its blocks
 *     points_rewind.c  back to the beginning, quickly
 *     points_alloc.c   scenarios that allocate and free     points_life.c   all others
 */
#ifndef TESTS_CRASH_POINTS_H
#define TESTS_CRASH_POINTS_H

#include <stddef.h>
#include <stdint.h>

#include "heap/geometry.h"
#include "sharena/sharena.h"

#define KNOWN_MAX 96u
#define BATCH 24u
#define CLASS_LAST 70u /* 6 MiB: neither cached nor alone in its doubling */
#define DEATHS_MAX 3u

/* A block that the application has. */
struct known {
    void *block;
    size_t bytes;  /* of content; 0: not ours to look at */
    uint64_t seed; /* of its content */
    int at_risk;   /* the victim may have freed it */
};

/* Memory of a row that outlives a victim: what the application knows of
 * its blocks, and what the victim tells the survivor. */
struct note {
    uint64_t passed;  /* fault points that the last process passed while armed */
    const char *file; /* where it died: the same program, so the same address */
    int line;
    void *results[BATCH]; /* blocks that the victim got */
    struct known known[KNOWN_MAX];
    uint32_t known_count;
    char why[512]; /* what went wrong; "" if nothing did */
};

struct stage {
    const struct scenario *scenario;
    uint32_t size_class;
    size_t bytes; /* of a block of that class */
    char path[64];
    sharena_t *heap; /* NULL: not attached */
    struct note *note;
    int is_remembered; /* the file can be set back */
    struct sharena_report report;
    uint32_t lost;    /* blocks that are live but known to nobody */
    int was_done;     /* the victim came to the end of its act */
    uint64_t wait_ns; /* longest that the survivor needed to go on */
};

/* Who goes on: attached all the time; attached after the death; the first to attach after all died. */
enum survivor { ATTACHED, ATTACHES, ALL_DEAD, SURVIVORS };

#define ON_BEFORE (1u << ATTACHED)
#define ON_AFTER (1u << ATTACHES)
#define ON_COLD (1u << ALL_DEAD)
#define ON_ALL (ON_BEFORE | ON_AFTER | ON_COLD)

/* struct scenario.flags */
#define VICTIM_OPENS 2u   /* the act itself opens the heap */
#define NO_FILE 4u        /* there is none before the act */
#define ARMED_FORK 8u     /* the points of the fork handlers count too */
#define ARMS_ITSELF 16u   /* the act calls points_arm() when its time has come */
#define WRECKED 32u       /* another process died in an allocation before */
#define TWO_ARENAS 64u    /* the victim's is not the survivor's */
#define CACHE_ALL 128u    /* the largest classes are cached too, few of each */
#define LIMITED 256u      /* limit_bytes is small */
#define EVERY_FOURTH 512u /* of its size classes: the others differ in sizes only, and it is slow */

struct scenario {
    const char *name;
    uint32_t first_class;
    uint32_t last_class;
    unsigned survivors; /* ON_* */
    unsigned flags;
    uint32_t may_lose; /* blocks in flight that a kill may lose */
    int (*prepare)(struct stage *stage);
    int (*ready)(struct stage *stage);  /* the victim, before it is armed; NULL: takes its slot */
    int (*act)(struct stage *stage);    /* the victim, armed */
    int (*resume)(struct stage *stage); /* the survivor, before it counts; or NULL */
    int (*judge)(struct stage *stage);  /* the survivor, with a clean report; or NULL */
};

extern const struct scenario alloc_scenarios[]; /* each ends with an entry without a name */
extern const struct scenario life_scenarios[];

/* ---- points_case.c ---- */

struct plan {
    enum survivor survivor;
    uint64_t deaths[DEATHS_MAX]; /* at which point: of the victim, of the recoverers; 0: none */
};

struct outcome {
    int is_failed;
    uint32_t kills;              /* how many of the deaths happened */
    uint64_t passed[DEATHS_MAX]; /* points, as far as it came */
};

/* Plays one case on stage->heap. Afterwards the heap is empty, unless it failed. */
struct outcome case_play(struct stage *stage, const struct plan *plan);

/* From now on points count (for ARMS_ITSELF). */
void points_arm(void);

/* ---- points_rewind.c; int: 0, or -1 with note->why ---- */

int rewind_remember(struct stage *stage);
int rewind_file(struct stage *stage);

/* ---- points_stage.c; int: 0, or -1 with note->why ---- */

int stage_fail(struct stage *stage, const char *format, ...) __attribute__((format(printf, 2, 3)));
int stage_open(struct stage *stage);
int stage_close(struct stage *stage);
int stage_renew(struct stage *stage); /* a new file */
int stage_flush(struct stage *stage); /* this thread's cache; also takes its slot */

/* A new block, past the cache, known and filled; NULL with note->why. */
struct known *stage_keep(struct stage *stage, size_t bytes);
void stage_know(struct stage *stage, void *block, size_t bytes, uint64_t seed);
void stage_fill(const struct known *known);
int stage_is_filled(const struct known *known);

/* Whether the application owns a block there: it is live and in no cache. */
int stage_is_live(const struct stage *stage, const void *block);

/* Forgets what the victim freed, learns what it told, finds what it lost. */
int stage_account(struct stage *stage);

/* Frees all that is known, empties the cache (with `purge`: gives all memory back), demands that
 * nothing is left. */
int stage_clear(struct stage *stage, int purge);

#endif
