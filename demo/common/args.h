/* args.h -- option values: read strictly, refused in a sentence. */
#ifndef DEMO_COMMON_ARGS_H
#define DEMO_COMMON_ARGS_H

#include <stdint.h>

/* *value = the whole number in `text`, min..max, with an optional suffix K, M or G (times 1024).
 * `option` is its name for the message. Returns 0, or EINVAL after a message. */
int args_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max,
                   uint64_t *value);

/* The same for a number of seconds, a decimal fraction, above 0 and at most max_seconds. */
int args_parse_seconds(const char *option, const char *text, double max_seconds, double *seconds);

#endif
