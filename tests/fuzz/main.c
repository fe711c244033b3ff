/* main.c -- runs a fuzz target over files and folders of inputs, without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MAX (1u << 16)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* libFuzzer's; the mutator that calls it is not called here.
 * NOLINTNEXTLINE(readability-non-const-parameter) */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    (void)data;
    (void)max_size;
    return size;
}

static unsigned run_file(const char *path) {
    static uint8_t data[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, sizeof(data), file);
    (void)fclose(file);
    (void)fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
    (void)LLVMFuzzerTestOneInput(data, size);
    return 1;
}

static unsigned run_folder(const char *path) {
    unsigned count = 0;
    struct dirent **entries;
    int found = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < found; i++) {
        char name[4096];
        if (entries[i]->d_name[0] != '.') {
            (void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
            count += run_file(name);
        }
        free(entries[i]);
    }
    if (found >= 0) {
        free(entries);
    }
    return count;
}

int main(int argc, char **argv) {
    unsigned count = 0;
    (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        struct stat status;
        int is_folder = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        count += is_folder ? run_folder(argv[i]) : run_file(argv[i]);
    }
    (void)printf("%u inputs\n", count);
    return count != 0 ? 0 : 1;
}
