/* care.c -- the public calls that look after a heap, and those that say whose an address is.
 *
 * Lock:   none held on entry or return
 * Killed: see reap.c and arena.c
 * Not here: the proof (check.c), introspection (ctl.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/heap.h"
#include "heap/reap.h"
#include "ipc/errors.h"
#include "ipc/forking.h"

SHARENA_API sharena_t *sharena_heap_of(const void *ptr) {
    return registry_heap_of(ptr);
}

SHARENA_API int sharena_contains(const sharena_t *heap, const void *ptr) {
    return registry_find(heap) != NULL && is_user_data(heap, ptr);
}

SHARENA_API const char *sharena_errormsg(void) {
    return error_message();
}

SHARENA_API int sharena_reap(sharena_t *heap) {
    struct attachment *attachment = heap_attachment(heap);
    forking_notice_child();
    if (attachment == NULL || attachment->mapping.is_readonly ||
        forking_register(attachment) != 0) {
        return 0;
    }
    return (int)reap_settled(attachment);
}

SHARENA_API int sharena_purge(sharena_t *heap) {
    struct thread_slot *self = heap_enter(heap);
    if (self == NULL) {
        return errno;
    }
    heap_purge(heap, self);
    return 0;
}

SHARENA_API int sharena_sync(sharena_t *heap) {
    const struct attachment *attachment = heap_attachment(heap);
    if (attachment == NULL) {
        return errno;
    }
    if (msync(heap, attachment->mapping.total_bytes, MS_SYNC) != 0) {
        return error_set(errno, "%s cannot be made durable: %s", attachment->file.title,
                         strerror(errno));
    }
    return 0;
}
