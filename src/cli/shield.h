/* shield.h -- looking into a file that others may damage meanwhile. */
#ifndef SHARENA_CLI_SHIELD_H
#define SHARENA_CLI_SHIELD_H

/* What body(arg) returns; or EIO with error_set() where it touched a page that the file does not
 * have: somebody cut it, or its file system is full and the page is a hole. body may be left at any
 * instruction then, so it takes nothing that must be given back. One thread at a time. */
int shield_run(int (*body)(void *arg), void *arg) __attribute__((warn_unused_result));

#endif
