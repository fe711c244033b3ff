/* test_reopen.c -- one process builds a structure of 100 000 objects and ends; another one opens the file
 * and compares every object, whatever way the first one ended.
 */
#include <spawn.h>

#include "crowd.h"

enum { OBJECTS = 100000 };

struct object {
    struct object *next;
    struct object *peer; /* an earlier one */
    uint64_t number;
    uint64_t peer_number;
    uint64_t bytes; /* of data */
    unsigned char data[];
};

struct directory {
    struct object *first;
    uint64_t count;
    struct object *table[OBJECTS];
};

static char path[SCRATCH_MAX];
static sharena_t *heap;

static uint64_t bytes_of(uint64_t number) {
    uint64_t random = number;
    uint64_t draw = clean_random(&random);
    uint64_t most = draw % 1000 == 0 ? 100000 : draw % 20 == 0 ? 4000 : 200;
    return clean_random(&random) % most;
}

static struct object *build_object(struct directory *directory, uint64_t number) {
    uint64_t random = number * 3;
    struct object *object = sharena_malloc(heap, sizeof(*object) + bytes_of(number));
    if (object != NULL) {
        object->number = number;
        object->bytes = bytes_of(number);
        object->peer_number = number == 0 ? 0 : clean_random(&random) % number;
        object->peer = number == 0 ? object : directory->table[object->peer_number];
        object->next = directory->first;
        clean_fill(object->data, object->bytes, number);
        directory->table[number] = object;
        directory->first = object;
        directory->count++;
    }
    return object;
}

enum ending { CLOSES, EXITS, IS_KILLED };

static int build(void *arg) {
    intptr_t ending = (intptr_t)arg;
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    struct directory *directory = sharena_calloc(heap, 1, sizeof(*directory));
    REQUIRE(directory != NULL);
    for (uint64_t i = 0; i < OBJECTS; i++) {
        void *other = sharena_malloc(heap, bytes_of(i + 17)); /* so that there are gaps */
        REQUIRE(build_object(directory, i) != NULL);
        sharena_free(heap, other);
    }
    REQUIRE(sharena_root_set(heap, "directory", directory) == 0);
    if (ending == CLOSES) {
        return sharena_close(heap);
    }
    return ending == EXITS ? 0 : kill(getpid(), SIGKILL);
}

static int compare_objects(const struct directory *directory) {
    uint64_t number = OBJECTS;
    for (const struct object *object = directory->first; object != NULL; object = object->next) {
        REQUIRE(number-- > 0);
        REQUIRE(object == directory->table[number] && object->number == number);
        REQUIRE(object->bytes == bytes_of(number));
        REQUIRE(clean_compare(object->data, object->bytes, number) == object->bytes);
        REQUIRE(object->peer == directory->table[object->peer_number]);
        REQUIRE(object->peer->number == object->peer_number);
    }
    REQUIRE(number == 0);
    return 0;
}

static int is_clean_with(uint64_t live) {
    struct sharena_report report;
    REQUIRE(sharena_check(heap, &report) == 0);
    REQUIRE(report.blocks_live == live);
    return 0;
}

static int compare(void *arg) {
    const struct sharena_options *options = arg;
    REQUIRE(sharena_open(path, options, &heap) == 0);
    struct directory *directory = sharena_root_get(heap, "directory");
    REQUIRE(directory != NULL && directory->count == OBJECTS);
    REQUIRE(compare_objects(directory) == 0);
    REQUIRE(options->flags == SHARENA_READONLY || is_clean_with(OBJECTS + 1) == 0);
    return sharena_close(heap);
}

/* Every third, then the rest: each in a process of its own. */
static int take_apart(void *arg) {
    uint64_t step = (uintptr_t)arg;
    REQUIRE(sharena_open(path, NULL, &heap) == 0);
    struct directory *directory = sharena_root_get(heap, "directory");
    for (uint64_t i = 0; i < OBJECTS; i += step) {
        sharena_free(heap, directory->table[i]);
        directory->count -= directory->table[i] != NULL;
        directory->table[i] = NULL;
    }
    REQUIRE(is_clean_with(directory->count + 1) == 0);
    return 0; /* without a close */
}

static void test_reopen(void **state) {
    (void)state;
    static const struct sharena_options writable = {.flags = SHARENA_OPEN_ONLY};
    static const struct sharena_options readonly = {.flags = SHARENA_READONLY};
    for (intptr_t ending = CLOSES; ending <= IS_KILLED; ending++) {
        scratch_path(path, "reopen");
        int status = child_wait(child_start(build, (void *)ending));
        assert_true(ending == IS_KILLED ? WIFSIGNALED(status) : status == 0);
        child_run(compare, (void *)(uintptr_t)&readonly);
        child_run(compare, (void *)(uintptr_t)&writable);
        child_run(compare, (void *)(uintptr_t)&writable);
        child_run(take_apart, (void *)3);
        child_run(take_apart, (void *)1);
        heap = clean_open_with(path, &writable);
        sharena_free(heap, sharena_root_get(heap, "directory"));
        assert_int_equal(sharena_root_set(heap, "directory", NULL), 0);
        assert_int_equal(sharena_purge(heap), 0);
        struct sharena_report report;
        assert_int_equal(sharena_check(heap, &report), 0);
        assert_int_equal(report.pages_dirty, 0);
        assert_int_equal(report.blocks_cached, 0);
        clean_end(heap, path, 0);
    }
}

/* A copy of the file, made while nobody is attached, is a heap too, at the same address. */
static void test_copy(void **state) {
    (void)state;
    char copy[SCRATCH_MAX];
    static const struct sharena_options small = {.capacity_bytes = 64 * MIB};
    heap = clean_open_with(scratch_path(path, "reopen"), &small);
    char *text = sharena_malloc(heap, 20);
    (void)strcpy(text, "to be copied");
    assert_int_equal(sharena_root_set(heap, "text", text), 0);
    assert_int_equal(sharena_close(heap), 0);
    (void)scratch_path(copy, "copy");
    char *const command[] = {"cp", "--sparse=always", path, copy, NULL};
    pid_t pid;
    assert_int_equal(posix_spawnp(&pid, command[0], NULL, NULL, command, environ), 0);
    assert_int_equal(child_wait(pid), 0);
    assert_int_equal(sharena_unlink(path), 0);
    assert_ptr_equal(clean_open(copy), heap);
    assert_string_equal(sharena_root_get(heap, "text"), "to be copied");
    sharena_free(heap, text);
    assert_int_equal(sharena_root_set(heap, "text", NULL), 0);
    clean_end(heap, copy, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
