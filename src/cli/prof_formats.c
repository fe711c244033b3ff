/* prof_formats.c -- a profile in the formats of other tools, on stdout.
 *
 * Not here: what is said in our own words (prof.c).
 */
#include "cli/prof_formats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- collapsed stacks ---- */

/* A name must not have what divides names, stacks, or lines. */
static void put_name(const char *name) {
    for (; *name != '\0'; name++) {
        unsigned char byte = (unsigned char)*name;
        (void)putchar(byte == ';' || byte <= ' ' || byte == 0x7f ? '_' : byte);
    }
}

void prof_write_collapsed(const struct profile *profile) {
    for (size_t i = 0; i < profile->count; i++) {
        const struct holding *holding = &profile->holdings[i];
        char text[PROF_FRAME_BYTES];
        put_name(holding->sample.name);
        (void)printf("-%" PRIu32, holding->sample.pid);
        for (uint32_t frame = holding->sample.frames; frame-- > holding->first;) {
            (void)putchar(';');
            put_name(prof_frame_text(profile, holding->sample.frame[frame], text));
        }
        (void)printf(" %.0f\n", holding->bytes);
    }
}

/* ---- heap profile ---- */

/* The format wants addresses of one process. So each module gets a place, as if one had loaded all
 * of them; what cannot be moved stays where its file says. */
#define PLACES_BEGIN ((uint64_t)1 << 44)
#define PLACE_BYTES ((uint64_t)1 << 36)
#define PAGE_MASK ((uint64_t)0xfff)

static uint64_t place_of(const struct profile *profile, const struct known_module *module) {
    uint64_t index = (uint64_t)(module - profile->modules);
    return module->file.is_fixed ? 0 : PLACES_BEGIN + index * PLACE_BYTES;
}

static uint64_t address_of(const struct profile *profile, uint64_t frame) {
    const struct known_module *module = prof_module(profile, frame);
    return (frame & FRAME_ADDRESS) + (module != NULL ? place_of(profile, module) : 0);
}

static void write_libraries(const struct profile *profile) {
    (void)printf("\nMAPPED_LIBRARIES:\n");
    for (uint32_t i = 0; i < profile->modules_count; i++) {
        const struct module *module = &profile->modules[i].file;
        uint64_t place = place_of(profile, &profile->modules[i]);
        uint64_t begin = place + (module->code_vaddr & ~PAGE_MASK);
        uint64_t end = place + ((module->code_vaddr + module->code_bytes + PAGE_MASK) & ~PAGE_MASK);
        (void)printf("%" PRIx64 "-%" PRIx64 " r-xp %08" PRIx64 " 00:00 0 ", begin, end,
                     module->code_offset & ~PAGE_MASK);
        put_name(module->path);
        (void)putchar('\n');
    }
}

/* Sampled one byte in one: what is written is no longer to be scaled, it was done sample by sample,
 * which may have had different rates. */
void prof_write_pprof(const struct profile *profile) {
    (void)printf("heap profile: %.0f: %.0f [%.0f: %.0f] @ heap_v2/1\n", profile->blocks,
                 profile->bytes, profile->blocks, profile->bytes);
    for (size_t i = 0; i < profile->count; i++) {
        const struct holding *holding = &profile->holdings[i];
        double blocks = fmax(1, round(holding->blocks));
        (void)printf("%.0f: %.0f [%.0f: %.0f] @", blocks, holding->bytes, blocks, holding->bytes);
        for (uint32_t frame = holding->first; frame < holding->sample.frames; frame++) {
            (void)printf(" 0x%" PRIx64, address_of(profile, holding->sample.frame[frame]));
        }
        (void)putchar('\n');
    }
    write_libraries(profile);
}
