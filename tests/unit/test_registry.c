/* test_registry.c -- what is published is found, without a lock, also while it goes. */
#include <pthread.h>
#include <time.h>

#include "ipc/registry.h"
#include "scratch.h"

#define READERS 3u
#define CHURN_NS 300000000ll
#define HEAP_BYTES (1ull << 30)

/* Heaps that nobody looks into: number n is at n GiB and has file n. */
static sharena_t *heap_number(uint64_t number) {
    return (sharena_t *)(uintptr_t)(number * HEAP_BYTES); // NOLINT(performance-no-int-to-ptr)
}

static const void *byte_of(uint64_t number, uint64_t offset) {
    return (const char *)heap_number(number) + offset;
}

static struct heap_file file_number(uint64_t number) {
    return (struct heap_file){.fd = -1, .device = 7, .inode = number};
}

static struct attachment *reserve(uint64_t number) {
    struct attachment *attachment = registry_reserve();
    if (attachment != NULL) {
        attachment->mapping.base = heap_number(number);
        attachment->mapping.total_bytes = HEAP_BYTES;
        attachment->file = file_number(number);
    }
    return attachment;
}

static struct attachment *publish(uint64_t number) {
    registry_lock();
    struct attachment *attachment = reserve(number);
    if (attachment != NULL) {
        registry_publish(attachment);
    }
    registry_unlock();
    return attachment;
}

static void withdraw(struct attachment *attachment) {
    registry_lock();
    registry_remove(attachment);
    registry_unlock();
}

static struct attachment *find_file(uint64_t number) {
    const struct heap_file file = file_number(number);
    return registry_find_file(&file);
}

static int is_hidden(uint64_t number) {
    return registry_find(heap_number(number)) == NULL && find_file(number) == NULL &&
           registry_find_address(byte_of(number, 0)) == NULL;
}

static uint32_t entries(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        count += registry_entry(i) != NULL;
    }
    return count;
}

/* ---- one thread ---- */

static void entry_is_seen_from_publish_to_remove(void **state) {
    (void)state;
    registry_lock();
    struct attachment *attachment = reserve(5);
    registry_unlock();
    assert_non_null(attachment);
    assert_true(is_hidden(5));
    assert_int_equal(entries(), 0);
    registry_lock();
    registry_publish(attachment);
    registry_unlock();
    assert_ptr_equal(registry_find(heap_number(5)), attachment);
    assert_ptr_equal(find_file(5), attachment);
    assert_int_equal(entries(), 1);
    withdraw(attachment);
    assert_true(is_hidden(5));
    assert_int_equal(entries(), 0);
}

static void reserved_entry_is_blank(void **state) {
    (void)state;
    struct attachment *attachment = publish(5);
    attachment->opens = 3;
    attachment->reap_wanted = 1;
    attachment->token.page = attachment;
    withdraw(attachment);
    registry_lock();
    struct attachment *again = registry_reserve();
    struct attachment found = *again;
    registry_cancel(again);
    registry_unlock();
    struct attachment blank;
    memset(&blank, 0, sizeof(blank));
    blank.file.fd = -1;
    assert_ptr_equal(again, attachment);
    assert_memory_equal(&found, &blank, sizeof(blank));
}

static void address_belongs_to_one_heap(void **state) {
    (void)state;
    struct attachment *fifth = publish(5);
    struct attachment *sixth = publish(6);
    struct attachment *eighth = publish(8);
    assert_ptr_equal(registry_find_address(byte_of(5, 0)), fifth);
    assert_ptr_equal(registry_find_address(byte_of(5, HEAP_BYTES - 1)), fifth);
    assert_ptr_equal(registry_find_address(byte_of(6, 0)), sixth);
    assert_ptr_equal(registry_find_address(byte_of(6, HEAP_BYTES - 1)), sixth);
    assert_null(registry_find_address(byte_of(7, 0)));
    assert_ptr_equal(registry_find_address(byte_of(8, 1)), eighth);
    assert_null(registry_find_address(byte_of(9, 0)));
    assert_null(registry_find_address(byte_of(4, HEAP_BYTES - 1)));
    assert_null(registry_find_address(NULL));
    assert_null(registry_find(byte_of(5, 16))); /* a handle is a base, nothing else */
    withdraw(sixth);
    assert_null(registry_find_address(byte_of(6, 0)));
    assert_ptr_equal(registry_find_address(byte_of(5, 0)), fifth);
    withdraw(fifth);
    withdraw(eighth);
}

static void file_is_found_by_device_and_inode(void **state) {
    (void)state;
    struct attachment *attachment = publish(5);
    struct heap_file file = file_number(5);
    file.fd = 99;
    (void)strcpy(file.name, "/another/name"); // NOLINT
    assert_ptr_equal(registry_find_file(&file), attachment);
    file.device++;
    assert_null(registry_find_file(&file));
    file = file_number(6);
    assert_null(registry_find_file(&file));
    withdraw(attachment);
}

static void table_has_an_end(void **state) {
    (void)state;
    static struct attachment *all[HEAPS_MAX];
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        all[i] = publish(i + 1);
        assert_non_null(all[i]);
    }
    assert_null(publish(HEAPS_MAX + 1));
    assert_int_equal(entries(), HEAPS_MAX);
    assert_null(registry_entry(HEAPS_MAX));
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        assert_ptr_equal(registry_find(heap_number(i + 1)), all[i]);
    }
    withdraw(all[17]);
    assert_null(registry_entry(17));
    struct attachment *again = publish(HEAPS_MAX + 1);
    assert_ptr_equal(again, all[17]);
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        withdraw(all[i]);
    }
    assert_int_equal(entries(), 0);
}

static void cancelled_entry_is_free(void **state) {
    (void)state;
    registry_lock();
    struct attachment *attachment = reserve(5);
    struct attachment *other = reserve(6);
    registry_cancel(attachment);
    struct attachment *again = reserve(7);
    registry_cancel(again);
    registry_cancel(other);
    registry_unlock();
    assert_ptr_not_equal(attachment, other);
    assert_ptr_equal(again, attachment);
    assert_true(is_hidden(5) && is_hidden(6) && is_hidden(7));
}

/* ---- finding while others close ---- */

static uint32_t is_over;               /* atomic */
static struct attachment *lasting;     /* heap 1: attached all the time */
static struct attachment *short_lived; /* where heaps 2 and 3 take turns; fixed while it lasts */

struct reader {
    pthread_t thread;
    uint64_t wrong;
    uint64_t hits; /* of the heap that comes and goes; atomic */
};

static int is_over_now(void) {
    return (int)__atomic_load_n(&is_over, __ATOMIC_ACQUIRE);
}

static uint64_t is_wrong(const struct attachment *found) {
    return found != NULL && found != short_lived;
}

static void *find_all_the_time(void *arg) {
    struct reader *reader = arg;
    while (!is_over_now()) {
        const struct attachment *second = registry_find(heap_number(2));
        reader->wrong += registry_find(heap_number(1)) != lasting;
        reader->wrong += registry_find_address(byte_of(1, 12345)) != lasting;
        reader->wrong += find_file(1) != lasting;
        reader->wrong += is_wrong(second);
        reader->wrong += is_wrong(registry_find_address(byte_of(3, 0)));
        reader->wrong += is_wrong(find_file(3));
        reader->wrong += registry_find(heap_number(4)) != NULL;
        __atomic_fetch_add(&reader->hits, second != NULL, __ATOMIC_RELAXED);
    }
    return NULL;
}

static long long now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* On a busy machine that may take longer than the churn is meant to. */
static int all_have_hit(const struct reader *readers) {
    int all = 1;
    for (uint32_t i = 0; i < READERS; i++) {
        all = all && __atomic_load_n(&readers[i].hits, __ATOMIC_RELAXED) > 0;
    }
    return all;
}

static void finding_is_safe_against_closing(void **state) {
    (void)state;
    static struct reader readers[READERS];
    is_over = 0;
    short_lived = publish(2); /* in front of the lasting one, then behind it */
    lasting = publish(1);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i].thread, NULL, find_all_the_time, &readers[i]),
                         0);
    }
    uint64_t rounds = 0;
    for (long long end = now_ns() + CHURN_NS; now_ns() < end || !all_have_hit(readers); rounds++) {
        withdraw(short_lived);
        assert_ptr_equal(publish(2 + rounds % 2), short_lived);
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(readers[i].wrong, 0);
    }
    withdraw(short_lived);
    withdraw(lasting);
}

/* An entry is not used again before everybody who might stand on it has gone on: the lasting heap
 * is behind ever new ones, and is found past those that are being blanked. */
static void *open_and_close_all_the_time(void *arg) {
    uint64_t first = *(const uint64_t *)arg;
    while (!is_over_now()) {
        struct attachment *several[4];
        for (uint64_t i = 0; i < 4; i++) {
            several[i] = publish(first + i);
        }
        for (uint64_t i = 0; i < 4; i++) {
            withdraw(several[i]);
        }
    }
    return NULL;
}

static void entries_are_not_reused_under_a_reader(void **state) {
    (void)state;
    uint64_t firsts[2] = {10, 20};
    pthread_t churners[2];
    is_over = 0;
    lasting = publish(1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            pthread_create(&churners[i], NULL, open_and_close_all_the_time, &firsts[i]), 0);
    }
    uint64_t wrong = 0;
    for (long long end = now_ns() + CHURN_NS; now_ns() < end;) {
        wrong += registry_find(heap_number(1)) != lasting;
        wrong += registry_find_address(byte_of(1, 1)) != lasting;
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(churners[i], NULL), 0);
    }
    assert_int_equal(wrong, 0);
    withdraw(lasting);
    assert_int_equal(entries(), 0);
}

/* A test that failed leaves nothing to the next. */
static int withdraw_all(void **state) {
    (void)state;
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (registry_entry(i) != NULL) {
            withdraw(registry_entry(i));
        }
    }
    return 0;
}

#define with_end(f) cmocka_unit_test_teardown(f, withdraw_all)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_end(entry_is_seen_from_publish_to_remove),
        with_end(reserved_entry_is_blank),
        with_end(address_belongs_to_one_heap),
        with_end(file_is_found_by_device_and_inode),
        with_end(table_has_an_end),
        with_end(cancelled_entry_is_free),
        with_end(finding_is_safe_against_closing),
        with_end(entries_are_not_reused_under_a_reader),
    };
    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
