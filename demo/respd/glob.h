/* glob.h -- patterns as Redis has them: * ? [abc] [a-z] [^a] and \ before any of these. */
#ifndef RESPD_GLOB_H
#define RESPD_GLOB_H

#include <stdbool.h>
#include <stddef.h>

bool glob_matches(const char *pattern, size_t pattern_len, const char *text, size_t text_len,
                  bool ignore_case);

#endif
