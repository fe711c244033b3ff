/* glob.c -- matches without recursion: after a mismatch only the last * can help, by taking one
 * byte more. So the time is at most the product of the two lengths, for every pattern.
 */
#include "glob.h"

#include <ctype.h>

struct pattern {
    const char *at;
    const char *end;
    bool ignore_case;
};

static unsigned char fold(const struct pattern *pattern, char c) {
    return pattern->ignore_case ? (unsigned char)tolower((unsigned char)c) : (unsigned char)c;
}

/* A byte of a class, with its \ if it has one. */
static char class_byte(struct pattern *pattern) {
    if (*pattern->at == '\\' && pattern->at + 1 < pattern->end) {
        pattern->at++;
    }
    return *pattern->at++;
}

/* At the byte after [; ends after ], or at the pattern's end where there is none. */
static bool class_matches(struct pattern *pattern, char c) {
    bool negated = pattern->at < pattern->end && *pattern->at == '^';
    bool found = false;
    pattern->at += negated ? 1 : 0;
    while (pattern->at < pattern->end && *pattern->at != ']') {
        unsigned char low = fold(pattern, class_byte(pattern));
        unsigned char high = low;
        if (pattern->end - pattern->at >= 2 && pattern->at[0] == '-' && pattern->at[1] != ']') {
            pattern->at++;
            high = fold(pattern, class_byte(pattern));
        }
        unsigned char byte = fold(pattern, c);
        found |= low <= high ? low <= byte && byte <= high : high <= byte && byte <= low;
    }
    pattern->at += pattern->at < pattern->end ? 1 : 0;
    return found != negated;
}

/* One element that is not a *, against one byte; moves past the element. */
static bool element_matches(struct pattern *pattern, char c) {
    char element = *pattern->at++;
    if (element == '?') {
        return true;
    }
    if (element == '[') {
        return class_matches(pattern, c);
    }
    if (element == '\\' && pattern->at < pattern->end) {
        element = *pattern->at++;
    }
    return fold(pattern, element) == fold(pattern, c);
}

bool glob_matches(const char *pattern_bytes, size_t pattern_len, const char *text, size_t text_len,
                  bool ignore_case) {
    struct pattern pattern = {pattern_bytes, pattern_bytes + pattern_len, ignore_case};
    const char *end = text + text_len;
    const char *star = NULL;      /* after the last * ... */
    const char *star_text = NULL; /* ... and what it has not taken yet */
    while (text < end) {
        if (pattern.at < pattern.end && *pattern.at == '*') {
            star = ++pattern.at;
            star_text = text;
            continue;
        }
        if (pattern.at < pattern.end && element_matches(&pattern, *text)) {
            text++;
            continue;
        }
        if (star == NULL) {
            return false;
        }
        pattern.at = star;
        text = ++star_text;
    }
    while (pattern.at < pattern.end && *pattern.at == '*') {
        pattern.at++;
    }
    return pattern.at == pattern.end;
}
