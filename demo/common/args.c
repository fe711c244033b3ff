/* args.c -- see args.h. */
#include "args.h"

#include "report.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* The power of two that a suffix stands for, or -1. */
static int suffix_shift(const char *suffix) {
    if (suffix[0] == '\0') {
        return 0;
    }
    if (suffix[1] != '\0') {
        return -1;
    }
    switch (toupper((unsigned char)suffix[0])) {
    case 'K':
        return 10;
    case 'M':
        return 20;
    case 'G':
        return 30;
    default:
        return -1;
    }
}

int args_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max,
                   uint64_t *value) {
    char *end = NULL;
    unsigned long long number = 0;
    int shift = -1;

    errno = 0;
    if (isdigit((unsigned char)text[0])) {
        number = strtoull(text, &end, 10);
        shift = suffix_shift(end);
    }
    if (shift < 0) {
        report_error("%s: '%s' is not a whole number (suffixes K, M, G)", option, text);
        return EINVAL;
    }
    if (errno == ERANGE || number > UINT64_MAX >> shift || number << shift < min ||
        number << shift > max) {
        report_error("%s: %s is out of range, %llu to %llu are possible", option, text,
                     (unsigned long long)min, (unsigned long long)max);
        return EINVAL;
    }
    *value = number << shift;
    return 0;
}

int args_parse_seconds(const char *option, const char *text, double max_seconds, double *seconds) {
    char *end = NULL;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || !(number > 0) || number > max_seconds) {
        report_error("%s: '%s' is not a number of seconds above 0 and up to %g", option, text,
                     max_seconds);
        return EINVAL;
    }
    *seconds = number;
    return 0;
}
