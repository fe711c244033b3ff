/* fuzz_patches.c -- the structure-aware target: an input is a list of patches to fields.
 *
 * The mutator invents values that a field could almost have: off by one, a neighbour's, wild, the
 * number or address of something else, the address of a field for a journal.
 */
#include <stdlib.h>
#include <string.h>

#include "exercise.h"
#include "fields.h"
#include "template.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
                                 size_t two_size, uint8_t *out, size_t max_size, unsigned seed);

/* NOLINTNEXTLINE(readability-non-const-parameter): libFuzzer's signature */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return fuzz_initialize();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_run(data, size, patches_apply);
    return 0;
}

/* ---- the mutator ---- */

static uint64_t random_state;

static uint64_t random_word(void) {
    random_state += 0x9e3779b97f4a7c15ull; /* splitmix64; S. Vigna */
    uint64_t mixed = random_state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    return mixed ^ mixed >> 31;
}

static uint32_t random_below(uint32_t end) {
    return (uint32_t)(random_word() % end);
}

static struct place random_place(void) {
    uint32_t field = random_below(fields_count());
    return field_place(field, random_below(field_indices(field)), random_below(field_parts(field)));
}

static uint64_t small_number(void) {
    return random_word() >> (random_below(64));
}

/* A value for the field at `place`, of which `other` is another one. */
static uint64_t random_value(struct place place, struct place other) {
    static const uint64_t wild[] = {0,          1,          2,          3,          0xff,
                                    0x100,      0xffff,     0x7fffffff, 0x80000000, UINT32_MAX,
                                    UINT64_MAX, 1ull << 63, 1ull << 47, 4096,       2u << 20};
    const struct template *template = template_get();
    uint64_t old = place_get(template->intact, place);
    uint64_t data_page = geometry_of(template->total_bytes).data_offset >> LG_PAGE;
    switch (random_below(12)) {
    case 0:
        return old + 1;
    case 1:
        return old - 1;
    case 2:
        return place_get(template->intact, other);
    case 3:
        return place_get(template->intact, random_place());
    case 4:
        return wild[random_below(sizeof(wild) / sizeof(wild[0]))];
    case 5:
        return small_number();
    case 6:
        return data_page + random_below(12 * CHUNK_PAGES);
    case 7:
        return (data_page >> (LG_CHUNK - LG_PAGE)) + random_below(12);
    case 8:
        return (uint64_t)(uintptr_t) template->blocks[random_below(template->count)];
    case 9:
        return TEMPLATE_BASE + random_place().offset;
    case 10: { /* a journal entry's address and size */
        struct place target = random_place();
        return (TEMPLATE_BASE + target.offset) << 4 | target.bytes;
    }
    default:
        return old ^ 1ull << random_below(place.bytes * 8);
    }
}

static struct patch random_patch(void) {
    struct patch patch = {0};
    patch.field = (uint8_t)random_below(fields_count());
    patch.index = (uint16_t)random_below(field_indices(patch.field));
    patch.part = random_below(field_parts(patch.field));
    patch.op = random_below(8) == 0 ? OP_COPY : OP_SET;
    uint32_t other_index = random_below(field_indices(patch.field));
    uint32_t other_part = random_below(field_parts(patch.field));
    patch.value = patch.op == OP_COPY
                      ? (uint64_t)other_part << 32 | other_index
                      : random_value(field_place(patch.field, patch.index, patch.part),
                                     field_place(patch.field, other_index, other_part));
    return patch;
}

/* Mostly all bits clear: the others cost time, or end an execution early. */
static uint8_t random_mode(void) {
    uint8_t mode = (uint8_t)(1u << random_below(8));
    return random_below(4) == 0 ? mode & (EXERCISE_READONLY | EXERCISE_RECOVER | EXERCISE_HUGE |
                                          EXERCISE_WRONG_SUM | EXERCISE_NEIGHBOUR)
                                : 0;
}

static void mutate_one(struct patch *patch) {
    struct patch fresh = random_patch();
    switch (random_below(4)) {
    case 0:
        *patch = fresh;
        break;
    case 1: /* the same field of another */
        patch->index = (uint16_t)random_below(field_indices(patch->field % fields_count()));
        patch->part = random_below(field_parts(patch->field % fields_count()));
        break;
    case 2:
        patch->value =
            random_value(field_place(patch->field, patch->index, patch->part), random_place());
        break;
    default:
        patch->value += random_below(2) ? 1 : UINT64_MAX;
        break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    struct patch patches[PATCHES_MAX];
    size_t count = size > 1 ? (size - 1) / sizeof(patches[0]) : 0;
    size_t max = (max_size - 1) / sizeof(patches[0]);
    max = max < PATCHES_MAX ? max : PATCHES_MAX;
    random_state = seed;
    if (random_below(50) == 0) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    count = count < max ? count : max;
    memcpy(patches, data + 1, count * sizeof(patches[0]));
    uint32_t what = random_below(8);
    if (what == 0 && count > 1) {
        count--;
        patches[random_below((uint32_t)count)] = patches[count];
    } else if (what < 4 && count < max) {
        patches[count++] = random_patch();
    } else if (count != 0) {
        mutate_one(&patches[random_below((uint32_t)count)]);
    }
    if (size == 0 || random_below(8) == 0) {
        data[0] = random_mode();
    }
    memcpy(data + 1, patches, count * sizeof(patches[0]));
    return 1 + count * sizeof(patches[0]);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
                                 size_t two_size, uint8_t *out, size_t max_size, unsigned seed) {
    size_t patch_bytes = sizeof(struct patch);
    size_t first = one_size > 1 ? (one_size - 1) / patch_bytes : 0;
    size_t second = two_size > 1 ? (two_size - 1) / patch_bytes : 0;
    random_state = seed;
    first = first != 0 ? random_below((uint32_t)first + 1) : 0;
    second = second != 0 ? random_below((uint32_t)second + 1) : 0;
    if (one_size == 0 || 1 + (first + second) * patch_bytes > max_size) {
        return 0;
    }
    out[0] = one[0];
    memcpy(out + 1, one + 1, first * patch_bytes);
    if (second != 0) {
        memcpy(out + 1 + first * patch_bytes, two + 1, second * patch_bytes);
    }
    return 1 + (first + second) * patch_bytes;
}
