/* message.h -- what travels: a head and words that follow from it, so a receiver can tell. */
#ifndef DEMO_MESSAGES_MESSAGE_H
#define DEMO_MESSAGES_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#define MESSAGE_MIN_BYTES 64u
#define MESSAGE_MAX_BYTES (4u << 20)

struct message {
    uint64_t size_bytes; /* head and words, a multiple of 8 */
    uint64_t lane;       /* which publisher to which subscriber */
    uint64_t number;     /* 0, 1, 2, ... on its lane */
    uint64_t seed;       /* words[i] == seed + i * MESSAGE_STEP */
    uint64_t words[];
};

#define MESSAGE_STEP 0x9e3779b97f4a7c15u

/* How much of a message a receiver looks at: the head, and a word in each page or every word. */
enum depth { DEPTH_SAMPLE, DEPTH_ALL };

/* What a receiver must find at the head of message `number` of `lane`. */
uint64_t message_seed(uint64_t lane, uint64_t number);

/* Writes every byte. */
void message_fill(struct message *message, uint64_t size_bytes, uint64_t lane, uint64_t number);

/* Is it this message, and are the words it promises there? */
bool message_is_intact(const struct message *message, uint64_t size_bytes, uint64_t lane,
                       uint64_t number, enum depth depth);

#endif
