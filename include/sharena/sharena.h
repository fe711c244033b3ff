/* sharena.h -- a malloc that many processes share.
 *
 * A heap is a file (tmpfs, DAX, any local file, or a memfd) that every process maps MAP_SHARED at
 * the same address, so a plain C pointer means the same object everywhere: it can be stored in the
 * heap, sent through a pipe, and found again by a process that opens the file tomorrow.
 *
 *     sharena_t *heap;
 *     int error = sharena_open("/dev/shm/app.heap", NULL, &heap);
 *     if (error != 0) { fprintf(stderr, "%s\n", sharena_errormsg()); exit(1); }
 *     char *text = sharena_malloc(heap, 64);
 *     sharena_root_set(heap, "text", text);        // another process: sharena_root_get(heap, "text")
 *     sharena_close(heap);
 *
 * Conventions, which hold for every function unless its own text says otherwise:
 *
 *   Results     An int is 0 or an errno value. A pointer is NULL on failure with errno set.
 *               sharena_errormsg() then says what failed, on what, why, and what to do.
 *   Sizes       are in bytes.
 *   Threads     Every function may be called by any number of threads at once.
 *   Processes   Every function may be called by any attached process at once; a block may be freed
 *               by any thread of any process, whoever allocated it.
 *   fork        fork() is safe at any time, from any thread; the child keeps all its heaps and gets
 *               caches of its own; children of _Fork() likewise. A child of clone() or of a raw
 *               system call, in which libc has a false thread id, may read the heap but gets EPERM
 *               where it would need a slot. Children of vfork() and of clone(CLONE_VM) may only
 *               exec or _exit.
 *   Signals     No function is async-signal-safe, except sharena_heap_of() and sharena_contains().
 *   Cancel      A thread that pthread_cancel() ends by its deferred rules ends in no function of
 *               these but sharena_sync(). Asynchronous cancellation is not for threads that call
 *               any.
 *   Kill        A process may be killed at any instruction. Survivors go on; what the dead held in
 *               its caches comes back when its slot is reaped. Per thread, at most the one block
 *               in flight is lost: handed out but not yet returned, or given back but not yet
 *               cached. sharena_malloc_to() and sharena_free_from() lose not even that.
 *   Misuse      A double free, a wild or foreign pointer is reported on stderr and aborts as soon
 *               as it is seen, before anything shared has changed: at the latest when the cache that
 *               took it is flushed. (A block of another heap that this thread used last is not
 *               reported, but freed there.) A hook may decide otherwise, and options make more of
 *               it visible, and sooner: see "Misuse" below.
 *
 * Source of the algorithms: jemalloc 4 (arenas, runs, bins, thread caches; J. Evans, "A Scalable
 * Concurrent malloc(3) Implementation for FreeBSD", 2006), for memory that is shared.
 */
#ifndef SHARENA_SHARENA_H
#define SHARENA_SHARENA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SHARENA_API __attribute__((visibility("default")))
#define SHARENA_MUST_CHECK __attribute__((warn_unused_result))
#define SHARENA_MALLOC __attribute__((malloc))
#else
#define SHARENA_API
#define SHARENA_MUST_CHECK
#define SHARENA_MALLOC
#endif

#define SHARENA_VERSION_MAJOR 0
#define SHARENA_VERSION_MINOR 1
#define SHARENA_VERSION_PATCH 0
#define SHARENA_VERSION "0.1.0"

/* A heap: its base address, which is the same in every process and may be stored in the heap. */
typedef struct sharena sharena_t;

/* ---- open and close ------------------------------------------------------------------------ */

#define SHARENA_CREATE 0x01u       /* make the heap where there is none (what NULL options do) */
#define SHARENA_EXCL 0x02u         /* with SHARENA_CREATE: EEXIST where there is one */
#define SHARENA_TRUNCATE 0x04u     /* begin anew: EBUSY while a process is attached */
#define SHARENA_OPEN_ONLY 0x08u    /* it must exist: ENOENT otherwise */
#define SHARENA_READONLY 0x10u     /* look only: no store, no slot, no mutex; it must exist */
#define SHARENA_REQUIRE_SYNC 0x20u /* MAP_SYNC on a DAX file, or EOPNOTSUPP */
#define SHARENA_RECOVER 0x40u      /* also if in use when the machine went down, or when copied */

struct sharena_options {     /* all zero = the defaults */
    uint32_t flags;          /* SHARENA_*; 0 = SHARENA_CREATE */
    uint32_t mode;           /* permission bits of a file that is made; 0 = 0600 */
    uint64_t capacity_bytes; /* address space, fixed at creation; 0 = 1 TiB */
    uint64_t limit_bytes;    /* most that may be backed, fixed at creation; 0 = no limit */
    uint64_t base_address;   /* fixed at creation, a multiple of 1 GiB; 0 = chosen */
    const char *conf;        /* "narenas:8,lg_tcache_max:16", see "Configuration" below; or NULL */
};

/* Attaches this process to the heap in the file `path`, and makes that file first if need be.
 *
 * The file is as long as the capacity but sparse: address space costs nothing, memory is taken
 * from the file system when it is used. Opening what is open already gives the same handle and
 * counts; each open needs its close. Two processes that create one path at once get one heap.
 *
 * options  NULL: open, or create with the defaults.
 * heap     receives the handle; NULL on failure.
 * Returns  0, or: ENOENT (no such heap), EEXIST (SHARENA_EXCL), EBUSY (SHARENA_TRUNCATE while
 *          attached), EINVAL (bad option or configuration), EUCLEAN (not a heap, unfinished or
 *          damaged: the message names the field), ENOEXEC (another version, layout or byte order),
 *          ELOOP (a symbolic link), ENODEV (not a regular file, or a network or unknown file
 *          system), EACCES (permissions, or somebody else's file), EADDRINUSE (the base address is
 *          taken: the message names the mapping in the way), EFBIG and ENOMEM (RLIMIT_FSIZE,
 *          RLIMIT_AS or the file system too small), EOPNOTSUPP (SHARENA_REQUIRE_SYNC, or a kernel
 *          older than 5.14), EUSERS (all process slots in use), or what the kernel said.
 * Kill     A creator that dies leaves nothing that a later open takes for a heap; the next one
 *          begins anew.
 * Copies   A copy of the file is a heap of its own, at the same address: one process cannot attach
 *          both (EADDRINUSE). A copy of a heap that was in use is refused (EUCLEAN) without
 *          SHARENA_RECOVER. If no attached process ran while it was made (all stopped, or dead),
 *          it is then as if all had been killed at that moment. If one ran, it is torn: the open
 *          may refuse it, and what it opens is to be trusted as far as sharena_check() finds it
 *          clean. */
SHARENA_API SHARENA_MUST_CHECK int sharena_open(const char *path,
                                                const struct sharena_options *options,
                                                sharena_t **heap);

/* The same for an open descriptor: a memfd, or one passed by another process. An empty file is made
 * a heap if the flags allow it. The descriptor stays the caller's and may be closed afterwards; it
 * must be open for reading and writing (reading, with SHARENA_READONLY). */
SHARENA_API SHARENA_MUST_CHECK int sharena_open_fd(int fd, const struct sharena_options *options,
                                                   sharena_t **heap);

/* Takes back one open. The last one flushes this process's caches, gives its slots back and unmaps.
 * No other thread may be using the heap then (threads that merely used it earlier may live on), and
 * every pointer into it is dead in this process. What was allocated stays in the file. Where other
 * threads of the process used the heap and live on, its address range and process slot are given
 * back when the last of them ends (it holds a robust mutex in the heap), so until then
 * sharena_unlink() says EBUSY.
 * Returns 0, or EINVAL (not an attached heap). */
SHARENA_API int sharena_close(sharena_t *heap);

/* Removes the heap file. Returns 0, EBUSY while any process is attached, or what sharena_open()
 * would return for a path that is not a heap. */
SHARENA_API SHARENA_MUST_CHECK int sharena_unlink(const char *path);

/* ---- allocate and free --------------------------------------------------------------------- */

/* Returns `size` bytes, 16-aligned (8-aligned up to 8 bytes), contents undefined; size 0 gives a
 * unique pointer. NULL: ENOMEM (file system full, limit or capacity reached: the message says
 * which), EPERM (see fork above), EUSERS (no thread slot left), EINVAL (not an attached heap),
 * EROFS (attached read-only). Lock-free and without system calls while the thread's cache has one.
 */
SHARENA_API SHARENA_MUST_CHECK SHARENA_MALLOC void *sharena_malloc(sharena_t *heap, size_t size);

/* count * size zeroed bytes; ENOMEM also where the product overflows. Memory that is known to be
 * zero is not cleared again. */
SHARENA_API SHARENA_MUST_CHECK SHARENA_MALLOC void *sharena_calloc(sharena_t *heap, size_t count,
                                                                   size_t size);

/* Makes the block `size` bytes long, in place where it can, else by a copy: the result replaces
 * `ptr`. NULL `ptr`: malloc. Size 0: frees and returns a unique pointer of the smallest class. On
 * failure `ptr` is untouched. Kill: the old or the new block is lost at most, never both used. */
SHARENA_API SHARENA_MUST_CHECK void *sharena_realloc(sharena_t *heap, void *ptr, size_t size);

/* `alignment`: any power of two up to half of the capacity, EINVAL otherwise; `size` need not be a
 * multiple of it. */
SHARENA_API SHARENA_MUST_CHECK SHARENA_MALLOC void *sharena_aligned_alloc(sharena_t *heap,
                                                                          size_t alignment,
                                                                          size_t size);

/* Gives the block back; NULL is fine. Any thread of any process may do it. Keeps errno, needs no
 * space, cannot fail. */
SHARENA_API void sharena_free(sharena_t *heap, void *ptr);

/* The same when the size that was asked for is known; a size that cannot be right is misuse. */
SHARENA_API void sharena_free_sized(sharena_t *heap, void *ptr, size_t size);

/* What the block really holds, at least what was asked for; 0 for NULL. */
SHARENA_API size_t sharena_usable_size(sharena_t *heap, const void *ptr);

/* What a block of `size` would really hold; 0 if it cannot be had in this heap. */
SHARENA_API size_t sharena_good_size(sharena_t *heap, size_t size);

/* Fills ptrs[0..count) with blocks of one size, as malloc would. Returns how many it made: fewer
 * than `count` only when memory ran out (errno ENOMEM). */
SHARENA_API size_t sharena_malloc_batch(sharena_t *heap, size_t size, size_t count, void **ptrs);

/* Frees ptrs[0..count); NULLs are skipped. */
SHARENA_API void sharena_free_batch(sharena_t *heap, size_t count, void **ptrs);

/* jemalloc's extended calls, with its meanings. `flags` is an or of: */
#define SHARENA_LG_ALIGN(la) ((int)(la))                       /* alignment 1 << la */
#define SHARENA_ALIGN(a) (__builtin_ffsll((long long)(a)) - 1) /* alignment a, a power of two */
#define SHARENA_ZERO 0x40                                      /* zeroed */
#define SHARENA_TCACHE_NONE 0x80                               /* past the thread's cache */
#define SHARENA_ARENA(i) (((int)(i) + 1) << 20)                /* from arena i, past the cache */

SHARENA_API SHARENA_MUST_CHECK SHARENA_MALLOC void *sharena_mallocx(sharena_t *heap, size_t size,
                                                                    int flags);
SHARENA_API SHARENA_MUST_CHECK void *sharena_rallocx(sharena_t *heap, void *ptr, size_t size,
                                                     int flags);
/* In place only: makes the block at least `size`, at most size + extra bytes if it can, and returns
 * the real size it has afterwards, changed or not. */
SHARENA_API size_t sharena_xallocx(sharena_t *heap, void *ptr, size_t size, size_t extra,
                                   int flags);
SHARENA_API size_t sharena_sallocx(sharena_t *heap, const void *ptr, int flags); /* real size */
SHARENA_API void sharena_dallocx(sharena_t *heap, void *ptr, int flags);
SHARENA_API void sharena_sdallocx(sharena_t *heap, void *ptr, size_t size, int flags);
SHARENA_API size_t sharena_nallocx(sharena_t *heap, size_t size, int flags); /* 0: cannot be had */

/* ---- allocate and publish in one step ------------------------------------------------------ */

/* *where = a new block of `size` bytes: one step that no kill can tear. Afterwards either `*where`
 * holds the block and it is the application's, or it does not and the block is free.
 *
 * where    A pointer variable in the heap. The caller guards it: nobody else changes it during the
 *          call. Whoever inherits that guard from a dead process calls sharena_reap() before it
 *          looks. The old value is overwritten, not freed.
 * Returns  0, or what sharena_malloc() would put into errno; EINVAL if `where` is not in the heap.
 */
SHARENA_API SHARENA_MUST_CHECK int sharena_malloc_to(sharena_t *heap, size_t size, void **where);

/* Frees *where and sets it NULL, likewise in one step. A NULL in *where is fine. */
SHARENA_API int sharena_free_from(sharena_t *heap, void **where);

/* ---- roots: names for objects -------------------------------------------------------------- */

#define SHARENA_ROOT_NAME_MAX 63 /* bytes, without the NUL */
#define SHARENA_ROOTS_MAX 1024

/* Gives `ptr` (in the heap) a name that every process finds; replaces what had the name; NULL
 * removes the name (no error where there is none). One step: a kill leaves the old or the new.
 * Returns 0, EINVAL (empty name, or `ptr` outside of the heap), ENAMETOOLONG, ENOSPC (1024 in use),
 * EBUSY (a sharena_root_create() of that name is under way), or EROFS. */
SHARENA_API int sharena_root_set(sharena_t *heap, const char *name, void *ptr);

/* The object of that name; NULL with errno ENOENT where there is none. */
SHARENA_API SHARENA_MUST_CHECK void *sharena_root_get(sharena_t *heap, const char *name);

/* Finds the object of that name, or makes it exactly once among racing processes: a zeroed block of
 * `size` bytes, completed by init(block, arg). The others wait until init returned. init may be
 * NULL; it may allocate and set or create other roots, not its own (EDEADLK). If it returns non-zero
 * the block is freed, nothing is named, and errno is what it returned. If its process dies, the
 * next caller frees the block and begins anew.
 * Returns the object, or NULL with errno as sharena_malloc() and sharena_root_set(). */
SHARENA_API SHARENA_MUST_CHECK void *sharena_root_create(sharena_t *heap, const char *name,
                                                         size_t size,
                                                         int (*init)(void *ptr, void *arg),
                                                         void *arg);

/* Calls visit for every name (a copy) as long as it returns 0; returns its last result. The set is
 * that of one moment per name, not of one moment for all. */
SHARENA_API int sharena_root_foreach(sharena_t *heap,
                                     int (*visit)(const char *name, void *ptr, void *arg),
                                     void *arg);

/* ---- whose is it --------------------------------------------------------------------------- */

/* The attached heap whose address range holds `ptr`, or NULL. Lock-free, safe against a concurrent
 * close in another thread (but the answer is of the past then). */
SHARENA_API sharena_t *sharena_heap_of(const void *ptr);

/* 1 if `ptr` lies in the user data of the heap, else 0. Says nothing about whether it is live. */
SHARENA_API int sharena_contains(const sharena_t *heap, const void *ptr);

/* ---- care ---------------------------------------------------------------------------------- */

#define SHARENA_REPORT_MESSAGES 8

struct sharena_report {     /* what sharena_check() found */
    uint64_t findings;      /* broken rules; 0 = clean */
    uint64_t blocks_live;   /* blocks the application owns ... */
    uint64_t bytes_live;    /* ... and their usable bytes */
    uint64_t blocks_cached; /* blocks in thread caches ... */
    uint64_t bytes_cached;  /* ... and their usable bytes */
    uint64_t pages_backed;  /* pages of the file that are backed by what the books say, data only */
    uint64_t pages_dirty;   /* of these, free */
    uint64_t chunks;        /* chunks below the high-water mark ... */
    uint64_t chunks_free;   /* ... and of these, in the chunk pool */
    char messages[SHARENA_REPORT_MESSAGES][160]; /* the first findings */
};

/* Proves the ownership rule for the whole heap: every page and every region has exactly one owner,
 * and every count agrees with what it counts. Takes all locks of the heap meanwhile: allocations
 * that miss their cache wait. `report` may be NULL.
 * A damaged file is no danger to it, nor to sharena_open(): both follow nothing that they have not
 * looked at. It is to every other call, so whoever doubts a file opens it, checks it, and uses it
 * only if it is clean: then what the dead held has been taken back (sharena_reap()) as well.
 * Returns 0, EUCLEAN with findings, EROFS on a read-only attach, ENOMEM (private memory for the walk:
 * 1/32 of the heap), or where it needs a thread slot, what sharena_malloc() would put into errno. */
SHARENA_API SHARENA_MUST_CHECK int sharena_check(sharena_t *heap, struct sharena_report *report);

/* Takes back what dead processes and threads held: rolls their open steps back, drains their
 * caches, frees their slots. Returns the number of slots reclaimed. Runs by itself when a process
 * first uses a heap that it has opened, when a dead owner's lock is met, before the heap grows,
 * when memory or slots run out, and once per second (reap_interval_ms) by a thread that misses its
 * cache. */
SHARENA_API int sharena_reap(sharena_t *heap);

/* Gives all free pages back to the file system now, after flushing the calling thread's cache
 * and quarantine. Without it they go over time (opt.dirty_decay_ms), whenever a thread of any
 * process misses its cache. */
SHARENA_API int sharena_purge(sharena_t *heap);

/* Makes the heap durable as of now, where the file can be (msync). Returns 0 or an errno value. */
SHARENA_API int sharena_sync(sharena_t *heap);

/* ---- misuse -------------------------------------------------------------------------------- */

/* With the options junk and quarantine_bytes a double free is seen at once, also of a block that is
 * in a cache, and so is, later, a store to a freed block: doc/debugging.md. */
enum sharena_misuse_kind {
    SHARENA_MISUSE_FOREIGN = 1,     /* a pointer that is not in the heap */
    SHARENA_MISUSE_NOT_A_BLOCK,     /* no block begins there: inside of one, or freed before */
    SHARENA_MISUSE_DOUBLE_FREE,     /* the block is free already */
    SHARENA_MISUSE_SIZE,            /* a sized free with a size that the block never had */
    SHARENA_MISUSE_WRITE_AFTER_FREE /* a block was stored to while it was in quarantine */
};

struct sharena_misuse {
    int kind; /* enum sharena_misuse_kind */
    int pid;  /* who did it; with a write after a free: who has found it */
    int tid;
    int freed_pid; /* in whose cache or quarantine the block is; 0: unknown */
    int freed_tid;
    sharena_t *heap;
    const char *path;  /* of the heap, as it was opened */
    const void *ptr;   /* what was handed in; with a write after a free: the first byte changed */
    const void *block; /* the block that `ptr` is in, live or free; NULL if it is in none */
    size_t bytes;      /* its usable size; 0 */
    const char *text;  /* what was wrong, in a few words */
};

/* Returns 0: the call is dropped, as if it had not been made (sharena_realloc() and its like return
 * NULL with errno EINVAL, sharena_free_from() returns EINVAL, sizes are 0); after a write after a
 * free the block goes back as if nothing had been. Anything else: a report on stderr, then abort().
 * It runs in the thread that noticed, which is the offender or, at the latest, the thread whose
 * cache is flushed, with no lock held. It must not use the heap. */
typedef int (*sharena_misuse_hook_t)(const struct sharena_misuse *misuse, void *arg);

/* From now on `hook` decides what becomes of misuse of this heap in this process; NULL: the option
 * `abort` does, as at first. Set it before threads use the heap: one that misuses it meanwhile may
 * see the new hook with the old arg. A fork's child has it too. Returns 0, or EINVAL (not an
 * attached heap). */
SHARENA_API int sharena_set_misuse_hook(sharena_t *heap, sharena_misuse_hook_t hook, void *arg);

/* ---- chunk hooks --------------------------------------------------------------------------- */

/* Called before pages of user data get storage, and before they lose it: `bytes` at `address`, whole
 * pages. A hook may do what it is asked for, in a way of its own, or only look on (what it leaves
 * undone is done after it), or refuse: `back` with an errno value, and the allocation looks elsewhere,
 * then fails with ENOMEM; `purge` likewise, and the pages stay as they are, dirty, until they are
 * asked about again. `arena`: that of the pages; of huge blocks and free chunks, which belong to no
 * arena, that of the calling thread.
 * A hook runs in the middle of an allocation, without a lock: it must not use the heap. It is of this
 * process: another one may purge the same pages, by its own hooks, and what was being backed by a
 * process that died is punched without asking. Tables that describe memory are not asked about.
 * There is none for splitting and merging, unlike in jemalloc: chunks are split and merged in the
 * books that all processes share, and nothing happens to their memory then. */
typedef int (*sharena_back_hook_t)(sharena_t *heap, void *address, size_t bytes, unsigned arena);
typedef int (*sharena_purge_hook_t)(sharena_t *heap, void *address, size_t bytes, unsigned arena);

/* Read and set by sharena_ctl("arena.<i>.hooks"), for one arena in this process. At first they are
 * the default ones, which another hook may call. */
struct sharena_chunk_hooks {
    sharena_back_hook_t back;
    sharena_purge_hook_t purge;
};

/* ---- introspection ------------------------------------------------------------------------- */

/* Reads and sets by name, with jemalloc's mallctl() conventions: *oldlenp bytes at oldp receive the
 * value, newlen bytes at newp are the new one; either may be NULL. doc/ctl.md lists the names.
 * Returns 0, ENOENT (no such name), EINVAL (wrong length), EPERM (read-only, or no such action). */
SHARENA_API int sharena_ctl(sharena_t *heap, const char *name, void *oldp, size_t *oldlenp,
                            void *newp, size_t newlen);

/* Writes all statistics of the heap: text for people, or JSON. write(arg, text) is called with one
 * piece after the other; NULL: stderr. doc/stats.md describes the JSON.
 *
 * opts      NULL, or letters as jemalloc has them: J for JSON, and what is to be left out: g heap
 *           and options, m all arenas together, a each arena, b bins, l large and huge classes,
 *           x locks, p processes and caches. What is not known is ignored.
 * Returns   0, EINVAL (not an attached heap), or ENOMEM (no private memory; of JSON nothing was
 *           written then).
 * Threads   go on meanwhile: each number is of its own moment. At most one lock is held at a time,
 *           and none while `write` runs, which may call sharena.
 * Full      It needs no memory of the heap, and works on a read-only attach. */
SHARENA_API int sharena_stats_print(sharena_t *heap, void (*write)(void *arg, const char *text),
                                    void *arg, const char *opts);

/* This thread's last error in a sentence: what failed, on what, why, what to do. Valid until the
 * thread's next failure; "" where there was none. */
SHARENA_API const char *sharena_errormsg(void);

/* ---- configuration ------------------------------------------------------------------------- */

/* "name:value" pairs, comma-separated, from /etc/sharena.conf, this weak symbol, the environment
 * variable SHARENA_CONF, and options.conf; later ones win. An unknown name or a bad value is EINVAL
 * from sharena_open() with a message that lists what is valid. Each process has its own, by heap.
 * "opt.NAME" and "opt.NAME.source" of sharena_ctl() tell what is in force, and where it came from.
 * doc/configuration.md has the ranges, and says more.
 *
 *     name                     default  meaning
 *     narenas                  0        most arenas; 0: 4 for each processor
 *     tcache                   true     whether threads cache blocks
 *     lg_tcache_max            22       log2 of the largest size cached
 *     tcache_nslots_small_min  20       least blocks of a small class that a cache begins with
 *     tcache_nslots_small_max  200      most of them
 *     tcache_nslots_large      20       most blocks of a class from 16 KiB that are cached
 *     tcache_bytes             8388608  bytes of blocks that a thread's cache may grow by
 *     cache_oblivious          false    large blocks begin at different lines
 *     reap_interval_ms         1000     between two looks for the dead
 *     stats_print              false    statistics at the last close, to stderr
 *     junk                     false    or alloc, free, true: blocks get a pattern
 *     quarantine_bytes         0        bytes of freed blocks that wait in each thread
 *     zero                     false    every block is zeroed
 *     purge                    decay    what free memory is given back by
 *     background_thread        false    a thread of this process gives memory back
 *     dirty_decay_ms           10000    how long it takes to go
 *     lg_dirty_mult            3        ratio of free to used memory, as a shift
 *     prof                     false    some blocks are noted, with who allocates them
 *     lg_prof_sample           19       log2 of the bytes between two of these, on average
 *     abort                    true     misuse stops the process
 *     abort_conf               false    a bad configuration aborts
 */
extern const char *sharena_conf;

#ifdef __cplusplus
}
#endif
#endif
