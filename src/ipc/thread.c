/* thread.c -- thread records: TLS that leads to slots, and ends with the thread or the fork.
 *
 * Holds:  thread_record is &none, or a record of a block that is used by this thread alone
 *         a wiped record is as good as a new one
 * Lock:   records_mutex for the table of records; a record itself is its thread's
 * Killed: private memory; nothing shared is touched
 * Not here: what a slot owns (heap/reap.c).
 */
#include "ipc/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "ipc/errors.h"

#define BLOCK_RECORDS 56u
#define BLOCK_BYTES 65536u
#define BLOCKS_MAX 1024u

struct block { /* one mapping, MADV_WIPEONFORK */
    struct thread_record records[BLOCK_RECORDS];
    uint64_t process_is_known; /* of the first block: 0 in a new child */
};
_Static_assert(sizeof(struct block) <= BLOCK_BYTES, "a block holds its records");

static struct thread_record none = {.hint_heap = HINT_NONE};
__thread struct thread_record *thread_record __attribute__((tls_model("initial-exec"))) = &none;
void (*thread_exit_hook)(sharena_t *heap, struct thread_slot *slot);

static struct block *blocks[BLOCKS_MAX];
static uint32_t block_count;
static uint8_t used[BLOCKS_MAX][BLOCK_RECORDS];
static pthread_mutex_t records_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t exit_key;

static int add_block(void) {
    if (block_count == BLOCKS_MAX) {
        return error_set(EAGAIN, "more than %u threads of one process use heaps",
                         BLOCKS_MAX * BLOCK_RECORDS);
    }
    void *memory =
        mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return error_set(ENOMEM, "no memory for the records of %u more threads", BLOCK_RECORDS);
    }
    if (madvise(memory, BLOCK_BYTES, MADV_WIPEONFORK) != 0) {
        int error = errno;
        (void)munmap(memory, BLOCK_BYTES);
        return error_set(error, "the kernel refuses MADV_WIPEONFORK: Linux 5.14 is needed");
    }
    blocks[block_count++] = memory;
    return 0;
}

static struct thread_record *take_free_record(void) {
    for (uint32_t i = 0; i < block_count; i++) {
        for (uint32_t j = 0; j < BLOCK_RECORDS; j++) {
            if (!used[i][j]) {
                used[i][j] = 1;
                return &blocks[i]->records[j];
            }
        }
    }
    return NULL;
}

static struct thread_record *take_record(void) {
    CHECK(pthread_mutex_lock(&records_mutex) == 0);
    struct thread_record *record = take_free_record();
    if (record == NULL && add_block() == 0) {
        record = take_free_record();
    }
    CHECK(pthread_mutex_unlock(&records_mutex) == 0);
    return record;
}

static void give_back_record(struct thread_record *record) {
    CHECK(pthread_mutex_lock(&records_mutex) == 0);
    *record = (struct thread_record){0};
    for (uint32_t i = 0; i < block_count; i++) {
        if (record >= blocks[i]->records && record < blocks[i]->records + BLOCK_RECORDS) {
            used[i][record - blocks[i]->records] = 0;
        }
    }
    CHECK(pthread_mutex_unlock(&records_mutex) == 0);
}

/* The destructor of exit_key. A later destructor of the application may use the heap again: then it
 * registers again, and this runs once more. */
static void at_thread_exit(void *value) {
    struct thread_record *record = value;
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        sharena_t *heap = record->heaps[i].heap;
        struct thread_slot *slot = record->heaps[i].slot;
        if (heap != NULL) {
            thread_exit_hook(heap, slot);
        }
    }
    thread_record = &none;
    give_back_record(record);
}

int thread_init(void) {
    int error = pthread_key_create(&exit_key, at_thread_exit);
    if (error != 0) {
        return error_set(error, "pthread_key_create failed: too many keys in this process");
    }
    if ((error = add_block()) == 0) {
        blocks[0]->process_is_known = 1;
    }
    return error;
}

struct thread_slot *thread_find_slot(const sharena_t *heap) {
    const struct thread_record *record = thread_record;
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (record->heaps[i].heap == heap) {
            return record->heaps[i].slot;
        }
    }
    return NULL;
}

int thread_add_slot(sharena_t *heap, struct thread_slot *slot) {
    struct thread_record *record = thread_record;
    if (record == &none) {
        record = take_record();
        if (record == NULL) {
            return ENOMEM;
        }
    }
    int error = pthread_setspecific(exit_key, record);
    if (error != 0) {
        return error_set(error, "pthread_setspecific failed: no memory");
    }
    thread_record = record;
    if (!record->is_alive) {
        record->is_alive = 1;
        record->hint_heap = HINT_NONE;
    }
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (record->heaps[i].heap == NULL) {
            record->heaps[i].slot = slot;
            __atomic_store_n(&record->heaps[i].heap, heap, __ATOMIC_RELEASE);
            return 0;
        }
    }
    return error_set(EMFILE, "this thread already uses %u heaps", HEAPS_MAX);
}

void thread_forget_heap(const sharena_t *heap) {
    struct thread_record *record = thread_record;
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (record->heaps[i].heap == heap) {
            record->heaps[i] = (struct thread_heap){NULL, NULL};
        }
    }
    if (record->hint_heap == heap ||
        (record->counted != NULL && record->counted->mapping.base == heap)) {
        record->hint_heap = HINT_NONE;
        record->counted = NULL;
        record->data_bytes = 0;
    }
}

static void visit_record(const sharena_t *heap, const struct thread_record *record,
                         void (*visit)(struct thread_slot *slot)) {
    for (uint32_t i = 0; i < HEAPS_MAX; i++) {
        if (__atomic_load_n(&record->heaps[i].heap, __ATOMIC_ACQUIRE) == heap) {
            visit(record->heaps[i].slot);
        }
    }
}

void thread_visit_others(const sharena_t *heap, void (*visit)(struct thread_slot *slot)) {
    CHECK(pthread_mutex_lock(&records_mutex) == 0);
    for (uint32_t i = 0; i < block_count; i++) {
        for (uint32_t j = 0; j < BLOCK_RECORDS; j++) {
            const struct thread_record *record = &blocks[i]->records[j];
            if (used[i][j] && record != thread_record) {
                visit_record(heap, record, visit);
            }
        }
    }
    CHECK(pthread_mutex_unlock(&records_mutex) == 0);
}

int thread_process_is_new(void) {
    return block_count > 0 && blocks[0]->process_is_known == 0;
}

void thread_before_fork(void) {
    CHECK(pthread_mutex_lock(&records_mutex) == 0);
}

void thread_after_fork_parent(void) {
    CHECK(pthread_mutex_unlock(&records_mutex) == 0);
}

/* Only the calling thread lives on. Its record was wiped with all others but stays its own. */
void thread_after_fork(void) {
    (void)pthread_mutex_init(&records_mutex, NULL);
    for (uint32_t i = 0; i < block_count; i++) {
        for (uint32_t j = 0; j < BLOCK_RECORDS; j++) {
            used[i][j] = &blocks[i]->records[j] == thread_record;
        }
    }
    blocks[0]->process_is_known = 1;
}
