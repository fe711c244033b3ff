/* fuzz_raw.c -- the target without structure: an input overwrites the beginning of the file. */
#include <string.h>

#include "exercise.h"
#include "template.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NOLINTNEXTLINE(readability-non-const-parameter): libFuzzer's signature */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return fuzz_initialize();
}

static void overwrite(const uint8_t *data, size_t size) {
    memcpy(template_get()->bytes, data, size < THREADS_OFFSET ? size : THREADS_OFFSET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_run(data, size, overwrite);
    return 0;
}
