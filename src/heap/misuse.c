/* misuse.c -- reports a bad pointer, and stops unless somebody decided otherwise.
 *
 * Lock:   none may be held: a hook is the application's code
 * Killed: nothing shared is touched
 * Not here: how misuse is noticed (bin.c, large.c, huge.c, alloc.c, watch.c).
 */
#include "heap/misuse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap/locate.h"
#include "ipc/errors.h"
#include "ipc/thread.h"

#define REPORT_BYTES 640u

int misuse_is_inherited(const sharena_t *heap, const struct thread_slot *self) {
    return thread_find_slot(heap) != self;
}

/* ---- the report ---- */

struct report {
    char text[REPORT_BYTES];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void say(struct report *report, const char *format,
                                                      ...) {
    va_list args;
    size_t room = sizeof(report->text) - report->used;
    va_start(args, format);
    int length = vsnprintf(report->text + report->used, room, format, args);
    va_end(args);
    report->used += length < 0 ? 0 : (size_t)length < room ? (size_t)length : room - 1;
}

static void print(const struct sharena_misuse *what, int stops) {
    struct report report = {.used = 0};
    say(&report, "sharena: %.160s: pointer %p, heap %p (%.160s)", what->text, what->ptr,
        (void *)what->heap, what->path);
    if (what->block != NULL) {
        say(&report, ", block %p of %zu bytes", what->block, what->bytes);
    }
    if (what->freed_pid != 0) {
        say(&report, ", freed by process %d, thread %d", what->freed_pid, what->freed_tid);
    }
    say(&report, "; process %d, thread %d. Nothing shared was changed; %s.\n", what->pid, what->tid,
        stops ? "this process stops" : "the call is ignored");
    ssize_t written = write(STDERR_FILENO, report.text, report.used);
    (void)written;
}

/* ---- who decides ---- */

static sharena_misuse_hook_t hook_of(const struct attachment *attachment, void **arg) {
    if (attachment == NULL) {
        return NULL;
    }
    sharena_misuse_hook_t hook = __atomic_load_n(&attachment->misuse_hook, __ATOMIC_ACQUIRE);
    *arg = __atomic_load_n(&attachment->misuse_arg, __ATOMIC_RELAXED);
    return hook;
}

void misuse_report(const struct sharena_misuse *what) {
    const struct attachment *attachment = registry_find(what->heap);
    struct sharena_misuse full = *what;
    void *arg = NULL;
    int kept_errno = errno;
    full.pid = (int)getpid();
    full.tid = (int)syscall(SYS_gettid);
    full.path = attachment != NULL ? attachment->file.title : "not attached";
    if (attachment != NULL) {
        struct located located = locate_block(what->heap, what->ptr);
        full.block = located.block;
        full.bytes = located.bytes;
    }
    sharena_misuse_hook_t hook = hook_of(attachment, &arg);
    int stops =
        hook != NULL ? hook(&full, arg) != 0 : attachment == NULL || attachment->conf.abort != 0;
    if (stops || hook == NULL) {
        print(&full, stops);
    }
    if (stops) {
        abort();
    }
    errno = kept_errno;
}

void misuse(const sharena_t *heap, enum sharena_misuse_kind kind, const void *ptr,
            const char *text) {
    misuse_report(&(struct sharena_misuse){
        .kind = (int)kind, .heap = (sharena_t *)(uintptr_t)heap, .ptr = ptr, .text = text});
}

void misuse_in_slot(const sharena_t *heap, const struct thread_slot *self,
                    enum sharena_misuse_kind kind, const void *ptr, const char *text) {
    if (!misuse_is_inherited(heap, self)) {
        misuse(heap, kind, ptr, text);
    }
}

SHARENA_API int sharena_set_misuse_hook(sharena_t *heap, sharena_misuse_hook_t hook, void *arg) {
    struct attachment *attachment = registry_find(heap);
    if (attachment == NULL || !registry_is_open(attachment)) {
        return error_set(EINVAL, "%p is not an attached heap", (void *)heap);
    }
    __atomic_store_n(&attachment->misuse_arg, arg, __ATOMIC_RELAXED);
    __atomic_store_n(&attachment->misuse_hook, hook, __ATOMIC_RELEASE);
    return 0;
}
