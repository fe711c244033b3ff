/* hash.h -- SipHash-1-3 (Aumasson, Bernstein, 2012): a client cannot choose keys that collide. */
#ifndef RESPD_HASH_H
#define RESPD_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const uint64_t key[2], const void *bytes, size_t len);

#endif
