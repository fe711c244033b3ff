/* message.c -- see message.h. */
#include "message.h"

#include <stddef.h>

#define SAMPLE_EVERY_WORDS 512u /* a page */

static uint64_t message_word_count(uint64_t size_bytes) {
    return (size_bytes - sizeof(struct message)) / sizeof(uint64_t);
}

uint64_t message_seed(uint64_t lane, uint64_t number) {
    /* splitmix64's finisher: every bit of both inputs reaches every bit of the seed. */
    uint64_t x = (lane << 48) + number * MESSAGE_STEP + 1;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void message_fill(struct message *message, uint64_t size_bytes, uint64_t lane, uint64_t number) {
    uint64_t nwords = message_word_count(size_bytes);
    uint64_t word = message_seed(lane, number);

    message->size_bytes = size_bytes;
    message->lane = lane;
    message->number = number;
    message->seed = word;
    for (uint64_t i = 0; i < nwords; i++) {
        message->words[i] = word;
        word += MESSAGE_STEP;
    }
}

bool message_is_intact(const struct message *message, uint64_t size_bytes, uint64_t lane,
                       uint64_t number, enum depth depth) {
    uint64_t nwords = message_word_count(size_bytes);
    uint64_t stride = depth == DEPTH_ALL ? 1 : SAMPLE_EVERY_WORDS;
    uint64_t seed = message_seed(lane, number);
    uint64_t difference = 0;

    if (message->size_bytes != size_bytes || message->lane != lane || message->number != number ||
        message->seed != seed) {
        return false;
    }
    for (uint64_t i = 0; i < nwords; i += stride) {
        difference |= message->words[i] ^ (seed + i * MESSAGE_STEP);
    }
    difference |= message->words[nwords - 1] ^ (seed + (nwords - 1) * MESSAGE_STEP);
    return difference == 0;
}
