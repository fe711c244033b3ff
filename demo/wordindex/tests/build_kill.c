/* build_kill.c -- the index under kills.
 *
 *     build_kill [SECONDS]      exit status 0 = all well
 *
 * steps   a child adds a word or a posting and dies in the n-th instruction of it, for many n.
 *         Whoever locks the shard next finds it repaired and does the same again: the shard is then
 *         as if nobody had died, and the heap holds exactly the blocks that the index reaches.
 * builds  whole builds whose workers are killed, and which are killed as a whole and resumed, until
 *         one gets through: the index says what one says that was built in one go.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common/clock.h"
#include "../../common/tests/stepper.h"
#include "../../common/tests/trial.h"
#include "../build.h"
#include "../index.h"
#include "../query.h"
#include "../shard.h"

#define FULL_TABLE_WORDS 48u /* one more and the first table is replaced */
#define FULL_CHUNK_POSTINGS 2u
#define NEW_FILE 77u /* of the posting that the operation adds */
#define CORPUS_FILES 150u
#define CORPUS_WORDS 300u /* in a file */
#define WORKERS 3u

static sharena_t *heap;
static struct index *index_;
static struct shard *shard;
static char path[PATH_MAX];
static char corpus[PATH_MAX];

/* ---- one shard ---- */

/* All words of the steps go to shard 0, whatever their hash says: only query.c minds. */
static uint64_t word_name(unsigned number, char text[32]) {
    uint64_t hash = WORD_HASH_START;

    snprintf(text, 32, "word_%u", number);
    for (const char *letter = text; *letter != '\0'; letter++) {
        hash = word_hash_add(hash, (unsigned char)*letter);
    }
    return word_hash_finish(hash);
}

/* What a worker does with a word that it may have been done with before (worker.c). */
static void word_add(unsigned number, uint32_t file, bool is_redone) {
    char text[32];
    uint64_t hash = word_name(number, text);
    struct word *word = shard_find_or_add(heap, shard, hash, text, (uint32_t)strlen(text));

    REQUIRE(word != NULL);
    if (!is_redone || !word_has_posting(word, file)) {
        REQUIRE(shard_add_posting(heap, shard, word, (struct posting){file, number + 1}) == 0);
    }
}

static void lock(void) {
    REQUIRE(shard_lock(heap, shard) == 0);
}

static void word_free(struct word *word) {
    struct chunk *chunk = word->chunks;

    while (chunk != NULL) {
        struct chunk *older = chunk->older;

        sharena_free(heap, chunk);
        chunk = older;
    }
    sharena_free(heap, word);
}

static void shard_clear(void) {
    struct table *table = shard->table;

    for (uint64_t i = 0; table != NULL && i < table->nslots; i++) {
        if (table->slots[i] != NULL) {
            word_free(table->slots[i]);
        }
    }
    sharena_free(heap, table);
    shard->table = NULL;
    shard->nwords = 0;
}

static void shard_fill(unsigned nwords, uint32_t npostings) {
    lock();
    shard_clear();
    for (unsigned number = 0; number < nwords; number++) {
        for (uint32_t file = 0; file < npostings; file++) {
            word_add(number, file, false);
        }
    }
    shard_unlock(shard);
}

/* Every word has the postings of files 0..npostings-1, and word `added` that of NEW_FILE, once. */
static void shard_verify(unsigned nwords, uint32_t npostings, unsigned added) {
    for (unsigned number = 0; number < nwords || number == added; number++) {
        char text[32];
        uint64_t hash = word_name(number, text);
        const struct word *word = shard_find(shard, hash, text, (uint32_t)strlen(text));
        uint32_t expected = (number < nwords ? npostings : 0) + (number == added);
        uint32_t found = 0;

        REQUIRE(word != NULL);
        for (const struct chunk *chunk = word->chunks; chunk != NULL; chunk = chunk->older) {
            for (uint32_t i = 0; i < chunk->used; i++) {
                REQUIRE(chunk->postings[i].count == number + 1);
            }
            found += chunk->used;
        }
        REQUIRE(found == expected && (number != added || word_has_posting(word, NEW_FILE)));
        for (uint32_t file = 0; file < npostings && number < nwords; file++) {
            REQUIRE(word_has_posting(word, file));
        }
    }
    REQUIRE(shard->nwords == (added < nwords ? nwords : nwords + 1));
    REQUIRE(shard->pending == NULL && shard->retired == NULL);
}

static void blocks_verify(void) {
    struct index_totals totals;
    struct sharena_report report;

    sharena_reap(heap);
    REQUIRE(sharena_check(heap, &report) == 0);
    index_count(index_, &totals);
    REQUIRE(report.blocks_live == totals.blocks);
}

/* ---- steps ---- */

/* As the successor of whoever was killed, which finishes the work. */
static void verify_with(unsigned nwords, uint32_t npostings, unsigned added) {
    lock();
    REQUIRE(shard->pending == NULL && shard->retired == NULL);
    blocks_verify();
    word_add(added, NEW_FILE, true);
    shard_verify(nwords, npostings, added);
    shard_unlock(shard);
    blocks_verify();
}

static void enter(void) {
    void *blocks[2] = {sharena_malloc(heap, 40), sharena_malloc(heap, 100)};

    sharena_free_batch(heap, 2, blocks);
}

static void add_to(unsigned number) {
    lock();
    word_add(number, NEW_FILE, true);
    shard_unlock(shard);
}

static void prepare_few(void) {
    shard_fill(10, 1);
}
static void add_word(void) {
    add_to(10);
}
static void add_posting(void) {
    add_to(3);
}
static void verify_word(void) {
    verify_with(10, 1, 10);
}
static void verify_posting(void) {
    verify_with(10, 1, 3);
}

static void prepare_full_chunk(void) {
    shard_fill(10, FULL_CHUNK_POSTINGS);
}
static void verify_full_chunk(void) {
    verify_with(10, FULL_CHUNK_POSTINGS, 3);
}

static void prepare_full_table(void) {
    shard_fill(FULL_TABLE_WORDS, 1);
}
static void grow(void) {
    add_to(FULL_TABLE_WORDS);
}
static void verify_grow(void) {
    verify_with(FULL_TABLE_WORDS, 1, FULL_TABLE_WORDS);
}

/* A death while the table grows; the one who is killed now has to repair that first. */
static void prepare_dead(void) {
    static const struct stepper_case growing = {"", prepare_full_table, enter, grow, NULL};

    stepper_kill_once(&growing, 12000);
}

static uint64_t steps_run(double seconds) {
    static const struct stepper_case cases[] = {
        {"add word", prepare_few, enter, add_word, verify_word},
        {"add posting", prepare_few, enter, add_posting, verify_posting},
        {"add chunk", prepare_full_chunk, enter, add_posting, verify_full_chunk},
        {"grow table", prepare_full_table, enter, grow, verify_grow},
        {"first of all", prepare_few, NULL, add_word, verify_word},
        {"repair", prepare_dead, enter, grow, verify_grow},
    };
    unsigned count = sizeof cases / sizeof cases[0];
    uint64_t kills = 0;

    for (unsigned i = 0; i < count; i++) {
        kills += stepper_run(&cases[i], seconds / count);
    }
    return kills;
}

static void steps(double seconds) {
    uint64_t kills;

    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    index_ = index_create(heap, corpus);
    REQUIRE(index_ != NULL && index_repair(heap, index_) == 0);
    shard = &index_->shards[0];
    kills = steps_run(seconds);
    REQUIRE(sharena_close(heap) == 0);
    printf("steps: %llu kills at single instructions, no posting lost or repeated\n",
           (unsigned long long)kills);
}

/* ---- builds ---- */

/* Files of words of which few are everywhere and many are rare. */
static void corpus_make(void) {
    char name[PATH_MAX + 32];

    for (unsigned i = 0; i < CORPUS_FILES; i++) {
        FILE *file;

        snprintf(name, sizeof name, "%s/%03u", corpus, i);
        file = fopen(name, "we");
        REQUIRE(file != NULL);
        for (unsigned j = 0; j < CORPUS_WORDS; j++) {
            uint64_t range = 1 + trial_below(20000);

            fprintf(file, "w%llu ", (unsigned long long)trial_below(range));
        }
        REQUIRE(fclose(file) == 0);
    }
}

static pid_t build_start(void) {
    pid_t pid;

    fflush(NULL);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        const struct build_settings settings = {
            .heap_path = path, .dir = corpus, .workers = WORKERS};
        int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(quiet, STDOUT_FILENO);
        fclose(stderr); /* the progress */
        _exit(build(&settings));
    }
    return pid;
}

/* True: it is finished. */
static bool build_is_over(pid_t pid) {
    int status;

    pid_t ended = waitpid(pid, &status, WNOHANG);

    REQUIRE(ended >= 0);
    if (ended == 0) {
        return false;
    }
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
}

struct kills {
    unsigned workers;
    unsigned builds;
};

/* Workers die at random instants and then, in most cases, the build. True: it was faster. */
static bool build_torment(struct kills *kills) {
    pid_t pid = build_start();
    unsigned nkills = (unsigned)trial_below(12);

    for (unsigned i = 0; i < nkills; i++) {
        pid_t workers[WORKERS];
        unsigned nworkers;

        usleep((useconds_t)trial_below(6000));
        nworkers = trial_children(pid, workers, WORKERS);
        if (nworkers > 0 && kill(workers[trial_below(nworkers)], SIGKILL) == 0) {
            kills->workers++;
        }
    }
    if (trial_below(8) != 0) {
        usleep((useconds_t)trial_below(6000));
        if (build_is_over(pid)) {
            return true;
        }
        trial_kill(pid);
        kills->builds++;
        return false;
    }
    while (!build_is_over(pid)) {
        usleep(500);
    }
    return true;
}

/* The finished index, all of it in one number. */
static struct index_totals finished_index(void) {
    struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    struct index_totals totals;

    REQUIRE(sharena_open(path, &options, &heap) == 0);
    index_ = index_find(heap);
    REQUIRE(index_ != NULL && atomic_load(&index_->state) == INDEX_DONE);
    blocks_verify();
    index_count(index_, &totals);
    REQUIRE(sharena_close(heap) == 0);
    REQUIRE(sharena_unlink(path) == 0);
    return totals;
}

static void builds(double seconds) {
    struct kills kills = {0, 0};
    struct index_totals expected;
    uint64_t start_ns;
    unsigned rounds = 0;
    pid_t pid;

    corpus_make();
    pid = build_start();
    while (!build_is_over(pid)) {
        usleep(500);
    }
    expected = finished_index();
    REQUIRE(expected.files[FILE_DONE] == CORPUS_FILES && expected.postings > CORPUS_FILES);
    start_ns = clock_now_ns();
    for (; clock_seconds_since(start_ns) < seconds; rounds++) {
        struct index_totals totals;

        while (!build_torment(&kills)) {
        }
        totals = finished_index();
        REQUIRE(totals.digest == expected.digest && totals.words == expected.words);
        REQUIRE(totals.postings == expected.postings);
        REQUIRE(totals.files[FILE_DONE] == CORPUS_FILES);
    }
    printf(
        "builds: %u, with %u workers killed and %u times all at once: each like the one that was "
        "left alone\n",
        rounds, kills.workers, kills.builds);
}

static void test(const char *dir, double seconds) {
    snprintf(path, sizeof path, "%s/heap", dir);
    snprintf(corpus, sizeof corpus, "%s/corpus", dir);
    REQUIRE(mkdir(corpus, 0700) == 0);
    steps(seconds * 0.5);
    REQUIRE(sharena_unlink(path) == 0);
    builds(seconds * 0.5);
}

int main(int argc, char **argv) {
    return trial_main(argc, argv, 10, test);
}
