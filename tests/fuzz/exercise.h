/* exercise.h -- what is done with each damaged heap, and what must come of it. */
#ifndef TESTS_FUZZ_EXERCISE_H
#define TESTS_FUZZ_EXERCISE_H

#include <stddef.h>
#include <stdint.h>

/* The first byte of each input. */
#define EXERCISE_READONLY 0x01u  /* look only */
#define EXERCISE_RECOVER 0x02u   /* SHARENA_RECOVER */
#define EXERCISE_NEIGHBOUR 0x04u /* another process has opened the damaged heap before */
#define EXERCISE_HUGE 0x08u      /* huge blocks as well: takes longer */
#define EXERCISE_WRONG_SUM 0x10u /* the superblock's checksum is left as it is */
#define EXERCISE_RAW_HEAD 0x20u  /* the raw target: so are magic, version and fingerprint */

/* Opens the file as it is now, checks it, and works on what is clean. Aborts unless each step gave
 * an error that says what is wrong, or a heap that works, within a second. */
void exercise(uint32_t mode);

/* The two halves of a fuzz target. */
int fuzz_initialize(void);
void fuzz_run(const uint8_t *data, size_t size, void (*damage)(const uint8_t *data, size_t size));

#endif
