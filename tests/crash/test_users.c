/* test_users.c -- two users share a heap by its group: one recovers what the death of the other left, and a
 * third, who is not of the group, is refused.
 */
#include <grp.h>
#include <sys/stat.h>

#include "section.h"

enum { USERS = 2, GROUP = 40100, PLACES = 200 };

struct facts { /* shared, not in a heap */
    atomic_int is_ready;
    atomic_int may_go_on;
    enum section section;
};

static char path[SCRATCH_MAX];
static struct facts *facts;

static int become(uid_t user, gid_t group) {
    const gid_t groups[] = {group};
    REQUIRE(setgroups(1, groups) == 0);
    REQUIRE(setresgid(group, group, group) == 0 && setresuid(user, user, user) == 0);
    return 0;
}

static sharena_t *open_as(uid_t user, gid_t group) {
    static const struct sharena_options options = {
        .mode = 0660, .capacity_bytes = GIB, .conf = SECTION_CONF};
    sharena_t *heap = NULL;
    if (become(user, group) != 0 || sharena_open(path, &options, &heap) != 0) {
        (void)fprintf(stderr, "child: user %u: %s\n", (unsigned)user, sharena_errormsg());
        return NULL;
    }
    return heap;
}

/* Publishes blocks, and stays in a section. */
static int be_first_user(void *arg) {
    (void)arg;
    sharena_t *heap = open_as(40001, GROUP);
    REQUIRE(heap != NULL);
    void **places = sharena_root_get(heap, "places");
    REQUIRE(places != NULL);
    for (uint64_t i = 0; i < PLACES; i++) {
        REQUIRE(sharena_malloc_to(heap, 100 + i * 50, &places[i]) == 0);
        clean_fill(places[i], 100 + i * 50, i);
    }
    REQUIRE(section_prepare(heap) == 0);
    section_enter(heap, facts->section);
    atomic_store(&facts->is_ready, 1);
    return pause();
}

/* Made the heap; sees the first one come and die. */
static int be_second_user(void *arg) {
    (void)arg;
    sharena_t *heap = open_as(40002, GROUP);
    REQUIRE(heap != NULL);
    void **places = sharena_root_create(heap, "places", PLACES * sizeof(void *), NULL, NULL);
    REQUIRE(places != NULL && section_use_all(heap) == NULL);
    uint64_t before = section_recovered(heap);
    atomic_store(&facts->is_ready, 1);
    REQUIRE(section_await(&facts->may_go_on, 1));
    REQUIRE(section_use_all(heap) == NULL); /* waits until the first one dies */
    (void)sharena_reap(heap);
    REQUIRE(sharena_reap(heap) == 0);
    REQUIRE(section_recovered(heap) == before + (facts->section != SECTION_NONE));
    for (uint64_t i = 0; i < PLACES; i++) {
        REQUIRE(clean_compare(places[i], 100 + i * 50, i) == 100 + i * 50);
        REQUIRE(sharena_free_from(heap, &places[i]) == 0);
    }
    REQUIRE(sharena_root_set(heap, "places", NULL) == 0);
    sharena_free(heap, places);
    struct sharena_report report;
    REQUIRE(sharena_purge(heap) == 0 && sharena_check(heap, &report) == 0);
    REQUIRE(report.blocks_live == 0 && report.blocks_cached == 0);
    REQUIRE(sharena_close(heap) == 0);
    return sharena_unlink(path);
}

static int be_refused(void *arg) {
    const gid_t *group = arg;
    sharena_t *heap = NULL;
    static const struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    REQUIRE(become(40003, *group) == 0);
    REQUIRE(sharena_open(path, &options, &heap) == EACCES && heap == NULL);
    REQUIRE(strstr(sharena_errormsg(), path) != NULL);
    REQUIRE(sharena_unlink(path) == EACCES);
    return 0;
}

static void start(int (*body)(void *), pid_t *pid) {
    atomic_store(&facts->is_ready, 0);
    *pid = child_start(body, NULL);
    assert_true(section_await(&facts->is_ready, 1));
}

static void test_one_user_recovers_what_another_left(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become two users\n");
        skip();
    }
    for (enum section section = SECTION_NONE; section < SECTIONS; section++) {
        pid_t first;
        pid_t second;
        gid_t other_group = GROUP + 1;
        struct stat status;
        memset(facts, 0, sizeof(*facts));
        facts->section = section;
        scratch_path(path, "users");
        start(be_second_user, &second);
        assert_int_equal(chown(path, 40002, GROUP), 0); /* the folder may hand down another one */
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0660);
        start(be_first_user, &first);
        child_run(be_refused, &other_group);
        if (section != SECTION_NONE) { /* the second one waits for the lock already */
            atomic_store(&facts->may_go_on, 1);
            crowd_sleep_us(300000);
        }
        crowd_kill(first);
        atomic_store(&facts->may_go_on, 1);
        assert_int_equal(child_wait(second), 0);
    }
}

int main(void) {
    facts = crowd_memory(sizeof(*facts));
    (void)alarm(120); /* a hang is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_user_recovers_what_another_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
