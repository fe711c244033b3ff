/* symbols.h -- names of functions, from the symbol tables of ELF files. */
#ifndef SHARENA_CLI_SYMBOLS_H
#define SHARENA_CLI_SYMBOLS_H

#include <stdint.h>

struct symbols; /* those of one file */

/* Reads the functions of the file, or of what was split off it (/usr/lib/debug/.build-id), where
 * its build id is this one (0 bytes: whatever it is). NULL: it is gone, another one by now, or has
 * none. */
struct symbols *symbols_read(const char *path, const uint8_t *build_id, uint32_t build_id_bytes);

/* The function that has that address, as the file counts; NULL: none. *offset: behind its
 * beginning. */
const char *symbols_find(const struct symbols *symbols, uint64_t address, uint64_t *offset);

void symbols_free(struct symbols *symbols);

#endif
