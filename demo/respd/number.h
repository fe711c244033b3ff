/* number.h -- numbers as Redis reads and writes them. */
#ifndef RESPD_NUMBER_H
#define RESPD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_TEXT_MAX 20
#define NUMBER_HEAD_MAX (NUMBER_TEXT_MAX + 3)

/* True if the text is a whole number as Redis would print it: no "+1", " 1", "01", "-0". */
bool number_parse(const char *text, size_t len, int64_t *number);

/* The same without a sign. */
bool number_parse_unsigned(const char *text, size_t len, uint64_t *number);

/* Writes "<type><number>\r\n", the head of a reply; returns its length. */
size_t number_head(char head[NUMBER_HEAD_MAX], char type, int64_t number);

/* The number's text, not terminated; returns its length. */
size_t number_format(char text[NUMBER_TEXT_MAX], int64_t number);

#endif
