/* token.h -- the process token: a proof of life that no process can fake or leave behind.
 *
 * A write lock (F_OFD_SETLK) on byte TOKEN_BYTE_FIRST + slot of the heap file, taken on a file
 * description of its own whose only reference is one PROT_NONE page mapped from it, MADV_DONTFORK.
 * So the lock lives exactly as long as the address space that could still store into the heap: it
 * is freed by SIGKILL, exit and exec, not inherited by fork, not lost by close_range() or by
 * opening and closing the file elsewhere, and it is the same in every pid namespace.
 */
#ifndef SHARENA_IPC_TOKEN_H
#define SHARENA_IPC_TOKEN_H

#include <stdint.h>

#include "ipc/mapping.h"

struct token {
    void *page; /* the PROT_NONE page that pins the description; NULL: not held */
    uint32_t slot;
};

/* Takes the token of the first process slot that is free, from slot `from` on. 0, EUSERS (all
 * PROCESSES_MAX held), or what open, fcntl or mmap said; with error_set. */
int token_take(const struct heap_file *file, uint32_t from, struct token *token)
    __attribute__((warn_unused_result));

/* The token of a read-only attach: a read lock on the one byte that all readers share. */
#define READERS_SLOT PROCESSES_MAX
int token_take_reader(const struct heap_file *file, struct token *token)
    __attribute__((warn_unused_result));

/* Unmaps the page: the lock is gone. */
void token_release(struct token *token);

/* Whether somebody (we included) holds the token of `slot`. When it cannot be found out (no
 * descriptor, no file): 1, because nothing may be taken from a process that may be alive. */
int token_is_held(const struct heap_file *file, uint32_t slot);

/* Whether any process has a slot; whether any is attached, read-only ones included. */
int token_any_held(const struct heap_file *file);
int token_anyone_attached(const struct heap_file *file);

#endif
