/* prof_read.c -- the samples of a heap, copied out of it, with what follows from them.
 *
 * No lock is taken: a sample that is copied while its block is freed and another is sampled may be
 * mixed of both. It is read again then, because its block changed meanwhile.
 *
 * Lock:   none
 * Killed: nothing shared is changed
 * Not here: printing (prof.c, prof_formats.c).
 */
#include "cli/prof_read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap/geometry.h"
#include "heap/heap.h"
#include "ipc/errors.h"
#include "ipc/token.h"

/* ---- frames ---- */

const struct known_module *prof_module(const struct profile *profile, uint64_t frame) {
    uint64_t entry = frame >> FRAME_MODULE_SHIFT;
    return entry != 0 && entry <= profile->modules_count ? &profile->modules[entry - 1] : NULL;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The call is in front of the return address. */
static const char *function_of(const struct profile *profile, uint64_t frame) {
    uint64_t offset;
    const struct known_module *module = prof_module(profile, frame);
    return module != NULL ? symbols_find(module->symbols, (frame & FRAME_ADDRESS) - 1, &offset)
                          : NULL;
}

const char *prof_frame_text(const struct profile *profile, uint64_t frame, char *text) {
    const char *function = function_of(profile, frame);
    const struct known_module *module = prof_module(profile, frame);
    if (function != NULL) {
        (void)snprintf(text, PROF_FRAME_BYTES, "%.*s", (int)strcspn(function, "@"), function);
    } else {
        (void)snprintf(text, PROF_FRAME_BYTES, "%.200s+0x%llx",
                       module != NULL ? base_name(module->file.path) : "?",
                       (unsigned long long)(frame & FRAME_ADDRESS));
    }
    return text;
}

/* Whether the frame is the allocator's: in its library, or, linked statically, by its names. */
static int is_own(const struct profile *profile, uint64_t frame) {
    static const char *const names[] = {"sharena_",     "record_frames", "prof_begin",
                                        "plan_sampled", "try_block",     "alloc_block",
                                        "malloc_slow",  "malloc_beyond"};
    const struct known_module *module = prof_module(profile, frame);
    const char *function = function_of(profile, frame);
    if (module != NULL && strncmp(base_name(module->file.path), "libsharena.so", 13) == 0) {
        return 1;
    }
    for (size_t i = 0; function != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(function, names[i], strlen(names[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

/* ---- reading ---- */

static int is_attached(const struct attachment *attachment, const struct sample *sample) {
    if (sample->process >= PROCESSES_MAX) {
        return 0;
    }
    const struct process_slot *process = heap_process(attachment->mapping.base, sample->process);
    return shared_get(&process->state) == SLOT_USED &&
           shared_get(&process->generation) == sample->process_generation &&
           token_is_held(&attachment->file, sample->process);
}

/* How many blocks a sampled one stands for: one in so many of its size is sampled. */
static double weight_of(const struct sample *sample) {
    double mean = sample->lg_rate < 63 ? (double)(1ull << sample->lg_rate) : 1;
    double bytes = sample->bytes > 0 ? (double)sample->bytes : 1;
    return sample->lg_rate == 0 ? 1 : -1 / expm1(-bytes / mean);
}

/* 0: nobody's now, or it changes all the time. */
static int copy_sample(const struct sample *from, struct sample *to) {
    for (int i = 0; i < 10; i++) {
        void *block = shared_get_acquire(&from->block);
        memcpy(to, from, sizeof(*to));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (shared_get(&from->block) == block) {
            to->frames = to->frames < SAMPLE_FRAMES ? to->frames : SAMPLE_FRAMES;
            to->name[sizeof(to->name) - 1] = '\0';
            return block != NULL;
        }
    }
    return 0;
}

static void add_holding(struct profile *profile, const struct attachment *attachment,
                        const struct sample *sample) {
    struct holding *holding = &profile->holdings[profile->count];
    if (!copy_sample(sample, &holding->sample)) {
        return;
    }
    while (holding->first + 1 < holding->sample.frames &&
           is_own(profile, holding->sample.frame[holding->first])) {
        holding->first++;
    }
    holding->blocks = weight_of(&holding->sample);
    holding->bytes = holding->blocks * (double)holding->sample.bytes;
    holding->is_alive = is_attached(attachment, &holding->sample);
    profile->blocks += holding->blocks;
    profile->bytes += holding->bytes;
    profile->count++;
}

static void read_modules(const sharena_t *heap, struct profile *profile) {
    for (uint32_t i = 0; i < profile->modules_count; i++) {
        struct known_module *module = &profile->modules[i];
        struct module *file = &module->file;
        memcpy(file, heap_module(heap, i), sizeof(*file));
        file->path[sizeof(file->path) - 1] = '\0';
        if (file->build_id_bytes > sizeof(file->build_id)) {
            file->build_id_bytes = sizeof(file->build_id);
        }
        module->symbols = symbols_read(file->path, file->build_id, file->build_id_bytes);
    }
}

int prof_read(sharena_t *heap, struct profile *profile) {
    const struct pool *pool = heap_pool(heap);
    uint32_t high = shared_get(&pool->samples_high);
    uint32_t modules = shared_get(&pool->modules);
    *profile = (struct profile){.dropped = shared_get(&pool->samples_dropped)};
    high = high < SAMPLES_MAX ? high : SAMPLES_MAX;
    profile->modules_count = modules < MODULES_MAX ? modules : MODULES_MAX;
    profile->holdings = calloc((size_t)high + 1, sizeof(*profile->holdings));
    profile->modules = calloc((size_t)profile->modules_count + 1, sizeof(*profile->modules));
    if (profile->holdings == NULL || profile->modules == NULL) {
        prof_free(profile);
        return error_set(ENOMEM, "no memory to read %u samples", high);
    }
    read_modules(heap, profile);
    for (uint32_t i = 0; i < high; i++) {
        add_holding(profile, heap_attachment(heap), heap_sample(heap, i));
    }
    return 0;
}

void prof_free(struct profile *profile) {
    for (uint32_t i = 0; profile->modules != NULL && i < profile->modules_count; i++) {
        symbols_free(profile->modules[i].symbols);
    }
    free(profile->modules);
    free(profile->holdings);
    *profile = (struct profile){0};
}

/* ---- order ---- */

static int compare_numbers(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

int prof_compare_stacks(const struct holding *a, const struct holding *b) {
    uint32_t depth = a->sample.frames - a->first;
    int order = compare_numbers(depth, b->sample.frames - b->first);
    for (uint32_t i = 0; i < depth && order == 0; i++) {
        order = compare_numbers(a->sample.frame[a->first + i], b->sample.frame[b->first + i]);
    }
    return order;
}

int prof_compare_processes(const struct holding *a, const struct holding *b) {
    int order = compare_numbers(a->sample.process, b->sample.process);
    return order != 0 ? order
                      : compare_numbers(a->sample.process_generation, b->sample.process_generation);
}
