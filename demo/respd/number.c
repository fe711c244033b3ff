/* number.c -- numbers as Redis reads and writes them. */
#include "number.h"

#include <string.h>

bool number_parse_unsigned(const char *text, size_t len, uint64_t *number) {
    if (len == 0 || (len > 1 && text[0] == '0')) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) {
            return false;
        }
    }
    *number = value;
    return true;
}

bool number_parse(const char *text, size_t len, int64_t *number) {
    bool negative = len > 1 && text[0] == '-';
    size_t sign = negative ? 1 : 0;
    uint64_t value;
    if (!number_parse_unsigned(text + sign, len - sign, &value)) {
        return false;
    }
    if (negative) {
        if (value == 0 || value > (uint64_t)INT64_MAX + 1) {
            return false;
        }
        *number = (int64_t)(0 - value);
        return true;
    }
    if (value > INT64_MAX) {
        return false;
    }
    *number = (int64_t)value;
    return true;
}

size_t number_format(char text[NUMBER_TEXT_MAX], int64_t number) {
    char digits[20];
    size_t count = 0;
    size_t len = 0;
    uint64_t value = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    if (number < 0) {
        text[len++] = '-';
    }
    while (count != 0) {
        text[len++] = digits[--count];
    }
    return len;
}

size_t number_head(char head[NUMBER_HEAD_MAX], char type, int64_t number) {
    char text[NUMBER_TEXT_MAX];
    size_t len = number_format(text, number);
    head[0] = type;
    memcpy(head + 1, text, len);
    memcpy(head + 1 + len, "\r\n", 2);
    return len + 3;
}
