/* test_debug_misuse.c -- misuse where calls are watched: seen at once, and told who freed; and a
 * million misdeeds that a hook lets pass, of which nothing stays.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "clean_heap.h"
#include "heap_fixture.h"

static char path[SCRATCH_MAX];
static char path_of_other[SCRATCH_MAX];
static sharena_t *heap;
static sharena_t *other;

static sharena_t *open_with(const char *file, unsigned index, const char *conf) {
    struct sharena_options options = clean_options();
    options.base_address = clean_base(index);
    options.conf = conf;
    return clean_open_with(file, &options);
}

/* ---- each by itself ---- */

static int free_twice(void *arg) {
    sharena_free(heap, arg);
    sharena_free(heap, arg);
    return 0;
}

static void **variable; /* in the heap */

static int free_from_twice(void *arg) {
    sharena_free(heap, arg);
    *variable = arg;
    return sharena_free_from(heap, variable);
}

static int realloc_freed(void *arg) {
    sharena_free(heap, arg);
    return sharena_realloc(heap, arg, 3000) == NULL;
}

static int resize_freed(void *arg) {
    sharena_free(heap, arg);
    return sharena_xallocx(heap, arg, 60000, 0, 0) == 0;
}

static int free_sized_freed(void *arg) {
    sharena_free(heap, arg);
    sharena_free_sized(heap, arg, 2000);
    return 0;
}

static int store_to_freed(void *arg) {
    sharena_free(heap, arg);
    ((char *)arg)[77] = 1;
    return sharena_purge(heap);
}

static int store_to_freed_and_end(void *arg) {
    sharena_free(heap, arg);
    ((char *)arg)[77] = 1;
    return sharena_close(heap);
}

static void *free_it(void *arg) {
    sharena_free(heap, arg);
    (void)pause(); /* with the block in its cache */
    return NULL;
}

/* Another thread has it, whichever way. */
static int free_twice_in_two_threads(void *arg) {
    pthread_t thread;
    const volatile unsigned char *byte = arg;
    *(unsigned char *)arg = 0;
    REQUIRE(pthread_create(&thread, NULL, free_it, arg) == 0);
    while (*byte != 0x5a) {
        (void)usleep(1000);
    }
    (void)usleep(50000); /* it was filled before it was given */
    sharena_free(heap, arg);
    return 0;
}

struct deed {
    int (*body)(void *);
    const char *text;
    int needs_quarantine;
};

static const struct deed deeds[] = {
    {free_twice, "sharena: double free, or use after free: pointer", 0},
    {free_twice, "freed by process", 0},
    {free_from_twice, "double free, or use after free", 0},
    {realloc_freed, "double free, or use after free", 0},
    {resize_freed, "double free, or use after free", 1},
    {free_sized_freed, "double free, or use after free", 0},
    {free_twice_in_two_threads, "double free, or use after free", 0},
    {store_to_freed, "sharena: write after free: pointer", 1},
    {store_to_freed, "of 2048 bytes, freed by process", 1},
    {store_to_freed_and_end, "sharena: write after free: pointer", 1},
};

static void assert_each_is_seen(const char *conf, int has_quarantine) {
    heap = open_with(scratch_path(path, "debug"), 0, conf);
    variable = sharena_malloc(heap, sizeof(*variable));
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        void *block = sharena_malloc(heap, deeds[i].body == resize_freed ? 40000 : 2000);
        assert_non_null(block);
        if (has_quarantine || !deeds[i].needs_quarantine) {
            child_stops(deeds[i].body, block, deeds[i].text);
            (void)sharena_reap(heap);
        } else {
            sharena_free(heap, block);
        }
    }
    sharena_free(heap, variable);
    clean_end(heap, path, 0); /* each was freed once, rightly, and the reaper has honoured it */
}

static void test_each_is_seen_with_junk(void **state) {
    (void)state;
    assert_each_is_seen("junk:true", 0);
}

static void test_each_is_seen_with_a_quarantine(void **state) {
    (void)state;
    assert_each_is_seen("junk:free,quarantine_bytes:100000", 1);
}

/* ---- a million ---- */

#define MUST(x) ((x) ? (void)0 : give_up(#x, __LINE__))
#define DEEDS 250000u /* of each of four processes */
#define OBJECTS 64u
#define KINDS (SHARENA_MISUSE_WRITE_AFTER_FREE + 1)

struct object {
    char *block;
    size_t size;
};

static struct object objects[OBJECTS]; /* of this process */
static uint64_t seen[KINDS];
static uint64_t expected[KINDS];
static uint64_t seed;

static _Noreturn void give_up(const char *what, int line) {
    (void)fprintf(stderr, "process %d: line %d: not so: %s: %s\n", (int)getpid(), line, what,
                  sharena_errormsg());
    _exit(1);
}

static int count_one(const struct sharena_misuse *misuse, void *arg) {
    (void)arg;
    seen[misuse->kind]++;
    return 0;
}

static size_t draw_size(void) {
    static const size_t tops[] = {16, 16, 64,  64,  300,  300,  1000,  1000,
                                  64, 64, 300, 300, 1000, 5000, 14000, 100000};
    size_t top = tops[clean_random(&seed) % 16];
    return 16 + clean_random(&seed) % top;
}

static void make_object(struct object *object) {
    object->size = draw_size();
    object->block = sharena_malloc(heap, object->size);
    MUST(object->block != NULL);
    clean_fill(object->block, object->size, (uint64_t)(uintptr_t)object->block);
}

static void end_object(struct object *object) {
    MUST(clean_compare(object->block, object->size, (uint64_t)(uintptr_t)object->block) ==
         object->size);
    sharena_free(heap, object->block);
}

/* What is no block: in one, in the tables, in private memory, nowhere, in another heap. */
static char *draw_bad(const struct object *object, void *in_other, int *kind) {
    *kind = SHARENA_MISUSE_FOREIGN;
    switch (clean_random(&seed) % 6) {
    case 0:
        return in_other;
    case 1:
        return (char *)&seed;
    case 2:
        return (char *)heap + clean_random(&seed) % (1u << 20);
    case 3:
        return (char *)heap + 1000 * GIB;
    case 4:
        *kind = SHARENA_MISUSE_NOT_A_BLOCK;
        return object->block + sharena_usable_size(heap, object->block) / 4096 * 4096 / 2 + 8;
    default:
        *kind = SHARENA_MISUSE_NOT_A_BLOCK;
        return object->block + 1 + clean_random(&seed) % (object->size - 1);
    }
}

static void hand_in(char *bad, void **cell) {
    void *batch[2] = {NULL, bad};
    switch (clean_random(&seed) % 9) {
    case 0:
        sharena_free(heap, bad);
        break;
    case 1:
        sharena_free_sized(heap, bad, 8);
        break;
    case 2:
        MUST(sharena_usable_size(heap, bad) == 0);
        break;
    case 3:
        MUST(sharena_realloc(heap, bad, 100) == NULL && errno == EINVAL);
        break;
    case 4:
        MUST(sharena_xallocx(heap, bad, 100, 100, 0) == 0);
        break;
    case 5:
        sharena_dallocx(heap, bad, SHARENA_TCACHE_NONE);
        break;
    case 6:
        sharena_free_batch(heap, 2, batch);
        break;
    case 7:
        MUST(sharena_sallocx(heap, bad, 0) == 0);
        break;
    default:
        *cell = bad;
        MUST(sharena_free_from(heap, cell) == EINVAL && *cell == bad);
    }
}

/* With a quarantine: what was freed stays there for a while. */
static void abuse_freed(struct object *object) {
    while (object->size > 20000) { /* too big to wait */
        end_object(object);
        make_object(object);
    }
    char *block = object->block;
    end_object(object);
    if (clean_random(&seed) % 2 == 0) {
        sharena_free(heap, block);
        expected[SHARENA_MISUSE_DOUBLE_FREE]++;
    } else {
        block[8 + clean_random(&seed) % (object->size - 8)] ^= 0x40;
        expected[SHARENA_MISUSE_WRITE_AFTER_FREE]++;
    }
    make_object(object);
}

static void commit_misdeed(int has_quarantine, void *in_other, void **cell) {
    struct object *object = &objects[clean_random(&seed) % OBJECTS];
    int kind;
    switch (clean_random(&seed) % (has_quarantine ? 4 : 2)) {
    case 0:
        sharena_free_sized(heap, object->block,
                           sharena_usable_size(heap, object->block) + 1 + draw_size());
        expected[SHARENA_MISUSE_SIZE]++;
        break;
    case 1: {
        char *bad = draw_bad(object, in_other, &kind);
        hand_in(bad, cell);
        expected[kind]++;
        break;
    }
    default:
        abuse_freed(object);
    }
}

static int be_offender(const char *conf, int has_quarantine) {
    heap = open_with(path, 0, conf);
    other = open_with(path_of_other, 1, NULL);
    seed = (uint64_t)getpid();
    void *in_other = sharena_malloc(other, 100);
    void **cell = sharena_malloc(heap, sizeof(*cell));
    MUST(in_other != NULL && cell != NULL);
    MUST(sharena_set_misuse_hook(heap, count_one, NULL) == 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        make_object(&objects[i]);
    }
    for (unsigned i = 0; i < DEEDS; i++) {
        commit_misdeed(has_quarantine, in_other, cell);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        end_object(&objects[i]);
    }
    sharena_free(heap, cell);
    sharena_free(other, in_other);
    MUST(sharena_purge(heap) == 0); /* now all stores to freed blocks have been seen */
    for (int kind = SHARENA_MISUSE_FOREIGN; kind < KINDS; kind++) {
        int is_done = has_quarantine || (kind != SHARENA_MISUSE_DOUBLE_FREE &&
                                         kind != SHARENA_MISUSE_WRITE_AFTER_FREE);
        MUST(expected[kind] >= (is_done ? DEEDS / 20 : 0)); /* each kind has its share */
        if (seen[kind] != expected[kind]) {
            (void)fprintf(stderr, "kind %d: %llu of %llu\n", kind, (unsigned long long)seen[kind],
                          (unsigned long long)expected[kind]);
            return 1;
        }
    }
    return sharena_close(other) | sharena_close(heap);
}

static int be_watched(void *arg) {
    (void)arg;
    return be_offender("junk:free,quarantine_bytes:65536", 1);
}

static int be_unwatched(void *arg) {
    (void)arg;
    return be_offender("tcache:false", 0);
}

/* ---- those who do no wrong meanwhile ---- */

static volatile sig_atomic_t is_over;

static void end_work(int signal) {
    (void)signal;
    is_over = 1;
}

static void *work(void *arg) {
    struct object own[OBJECTS];
    uint64_t random = (uint64_t)(uintptr_t)arg;
    memset(own, 0, sizeof(own));
    while (!is_over) {
        struct object *object = &own[clean_random(&random) % OBJECTS];
        if (object->block != NULL) {
            end_object(object);
        }
        object->size = 16 + clean_random(&random) % 3000;
        object->block = sharena_malloc(heap, object->size);
        MUST(object->block != NULL);
        clean_fill(object->block, object->size, (uint64_t)(uintptr_t)object->block);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (own[i].block != NULL) {
            end_object(&own[i]);
        }
    }
    return NULL;
}

static int be_worker(void *arg) {
    pthread_t thread;
    (void)arg;
    (void)signal(SIGTERM, end_work);
    heap = open_with(path, 0, NULL);
    MUST(pthread_create(&thread, NULL, work, (void *)1) == 0);
    (void)work((void *)2);
    MUST(pthread_join(thread, NULL) == 0);
    return sharena_close(heap);
}

static void test_a_million_misdeeds(void **state) {
    (void)state;
    static int (*const bodies[])(void *) = {be_watched, be_unwatched, be_watched, be_unwatched};
    pid_t offenders[4];
    assert_int_equal(sharena_close(open_with(scratch_path(path, "million"), 0, NULL)), 0);
    assert_int_equal(sharena_close(open_with(scratch_path(path_of_other, "million-2"), 1, NULL)),
                     0);
    pid_t worker = child_start(be_worker, NULL);
    for (int i = 0; i < 4; i++) {
        offenders[i] = child_start(bodies[i], NULL);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(child_wait(offenders[i]), 0);
    }
    assert_int_equal(kill(worker, SIGTERM), 0);
    assert_int_equal(child_wait(worker), 0);
    clean_end(open_with(path, 0, NULL), path, 0);
    clean_end(open_with(path_of_other, 1, NULL), path_of_other, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_seen_with_junk),
        cmocka_unit_test(test_each_is_seen_with_a_quarantine),
        cmocka_unit_test(test_a_million_misdeeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
