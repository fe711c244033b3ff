/* fields.h -- every field of the file by a number, and what an input consists of: patches to them.
 *
 * An input is a byte of EXERCISE_* bits, then patches of 16 bytes each. Any bytes are an input: numbers
 * that are too high wrap around.
 */
#ifndef TESTS_FUZZ_FIELDS_H
#define TESTS_FUZZ_FIELDS_H

#include <stddef.h>
#include <stdint.h>

struct patch {
    uint8_t field;
    uint8_t op;     /* enum patch_op */
    uint16_t index; /* which slot, arena, run, ... */
    uint32_t part;  /* which entry or bin in it */
    uint64_t value;
};

#define PATCHES_MAX 64u

enum patch_op {
    OP_SET,
    OP_ADD,
    OP_XOR,
    OP_COPY, /* from the same field at index `value`, part `value >> 32` */
    OP_COUNT
};

/* Where a field is; offsets in the file. */
struct place {
    uint64_t offset;
    uint32_t bytes; /* 1, 2, 4 or 8 */
};

uint32_t fields_count(void);
/* How many of it there are that are worth a visit. */
uint32_t field_indices(uint32_t field);
uint32_t field_parts(uint32_t field);
struct place field_place(uint32_t field, uint32_t index, uint32_t part);
uint64_t place_get(const char *file, struct place place);

/* Applies `size` bytes of patches to the template. */
void patches_apply(const uint8_t *data, size_t size);

#endif
