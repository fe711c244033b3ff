/* attach.h -- one file becomes a mapped heap of this process, and ceases to be. */
#ifndef SHARENA_HEAP_ATTACH_H
#define SHARENA_HEAP_ATTACH_H

#include "heap/geometry.h"
#include "ipc/registry.h"

/* Maps attachment->file, which is open and not attached yet in this process: makes it a heap first,
 * or recovers it, as its state and the options demand; takes a process slot or a reader's token.
 * `made`: this open made the file, which is removed again if no heap comes of it. 0, or an errno
 * value with error_set and nothing mapped. Registry lock. */
int attach_file(struct attachment *attachment, const struct sharena_options *options, int made)
    __attribute__((warn_unused_result));

/* Removes a file that this open made, and that did not become a heap. */
void attach_discard(const struct heap_file *file);

/* The last open is closed and the last thread gone: so is the attachment, which is unpublished,
 * unmapped and closed. Marks the heap as cleanly closed if nobody else is attached. Registry lock.
 * */
void attach_undo(struct attachment *attachment);

/* Of this boot of the machine, and of this file: the same file system may hold copies of it. */
void attach_read_boot_id(const struct heap_file *file, uint8_t boot_id[16]);

#endif
