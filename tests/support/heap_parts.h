/* heap_parts.h -- for tests that take a heap apart: its books, its storage, and how to refuse more.
 *
 * All of it is about the fixture's heap (heap_fixture.h). What a test has held in its hand it gives
 * back before it ends, so that the heap checks clean.
 */
#ifndef TESTS_SUPPORT_HEAP_PARTS_H
#define TESTS_SUPPORT_HEAP_PARTS_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "clean_heap.h"
#include "heap_fixture.h"
#include "ipc/journal.h"

#define with_heap(f) cmocka_unit_test_setup_teardown(f, heap_fixture_open, heap_fixture_close)

/* ---- the books ---- */

struct books {
    uint64_t charged; /* pages that count against the limit */
    uint64_t stored;  /* pages of user data that the file system has */
    struct sharena_report report;
};

static inline uint64_t charged_pages(void) {
    return shared_get(&heap_state(fixture_heap())->backed_pages);
}

/* Pages of the whole file, by st_blocks. */
static inline uint64_t file_pages(void) {
    struct stat status;
    assert_int_equal(stat(fixture_path(), &status), 0);
    return (uint64_t)status.st_blocks * 512 / PAGE_BYTES;
}

/* How many of the pages [first, first + count) of the file are no holes. */
static inline uint64_t stored_pages(uint64_t first, uint64_t count) {
    int fd = open(fixture_path(), O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)(first * PAGE_BYTES);
    off_t end = (off_t)((first + count) * PAGE_BYTES);
    uint64_t pages = 0;
    assert_true(fd >= 0);
    while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
        off_t hole = lseek(fd, at, SEEK_HOLE);
        hole = hole < end ? hole : end;
        pages += (uint64_t)(hole - at) / PAGE_BYTES;
        at = hole;
    }
    (void)close(fd);
    return pages;
}

/* The heap is clean, and this is what is in it. */
static inline struct books books_now(void) {
    sharena_t *heap = fixture_heap();
    struct books books;
    if (sharena_check(heap, &books.report) != 0) {
        fail_msg("not clean: %s", sharena_errormsg());
    }
    books.charged = charged_pages();
    books.stored =
        stored_pages(first_page_of_chunk(first_chunk(heap)), FIXTURE_CAPACITY / PAGE_BYTES);
    return books;
}

/* What the application and the caches have, what is backed and what of it is free, is as it was. */
static inline void assert_books_are(const struct books *before) {
    struct books now = books_now();
    assert_int_equal(now.charged, before->charged);
    assert_int_equal(now.stored, before->stored);
    assert_int_equal(now.report.blocks_live, before->report.blocks_live);
    assert_int_equal(now.report.bytes_live, before->report.bytes_live);
    assert_int_equal(now.report.blocks_cached, before->report.blocks_cached);
    assert_int_equal(now.report.pages_backed, before->report.pages_backed);
    assert_int_equal(now.report.pages_dirty, before->report.pages_dirty);
    assert_int_equal(now.report.chunks, before->report.chunks);
    assert_int_equal(now.report.chunks_free, before->report.chunks_free);
}

/* ---- no more memory ---- */

/* limit_bytes is fixed in a heap's life, but for a test that needs an edge. 0: no limit. */
static inline void set_limit_pages(uint64_t pages) {
    struct superblock *superblock = (struct superblock *)(void *)heap_bytes(fixture_heap());
    superblock->limit_bytes = pages * PAGE_BYTES;
}

/* The heap may have that many pages more than it has now. */
static inline void allow_pages(uint64_t more) {
    assert_int_not_equal(charged_pages() + more, 0);
    set_limit_pages(charged_pages() + more);
}

static inline void allow_all(void) {
    set_limit_pages(0);
}

/* From now on the file system is full, as far as these pages are concerned: a write-protected page
 * cannot be populated. It can be read. */
static inline void refuse_storage(const void *from, uint64_t pages) {
    uintptr_t begin = (uintptr_t)from / PAGE_BYTES * PAGE_BYTES;
    assert_int_equal(mprotect((void *)begin, pages * PAGE_BYTES, PROT_READ), 0);
}

static inline void grant_storage(const void *from, uint64_t pages) {
    uintptr_t begin = (uintptr_t)from / PAGE_BYTES * PAGE_BYTES;
    assert_int_equal(mprotect((void *)begin, pages * PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
}

/* ---- the hand ---- */

/* Puts away what the hand has, without a trace: the caller gives it back by hand_fill(). */
static inline void hand_empty(struct thread_slot *self) {
    journal_set(self, &self->hand.kind, HAND_EMPTY);
    journal_commit(self);
}

static inline void hand_fill(struct thread_slot *self, const struct hand *held) {
    assert_int_equal(shared_get(&self->hand.kind), HAND_EMPTY);
    journal_set(self, &self->hand.arena, shared_get(&held->arena));
    journal_set(self, &self->hand.first, shared_get(&held->first));
    journal_set(self, &self->hand.count, shared_get(&held->count));
    journal_set(self, &self->hand.flags, shared_get(&held->flags));
    journal_set(self, &self->hand.kind, shared_get(&held->kind));
    journal_commit(self);
}

#endif
