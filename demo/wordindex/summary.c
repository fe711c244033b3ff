/* summary.c -- see summary.h. */
#include "summary.h"

#include <stdio.h>
#include <sys/stat.h>

static double mib(uint64_t size_bytes) {
    return (double)size_bytes / (1 << 20);
}

static void print_number(const char *label, uint64_t number) {
    printf("%-12s %llu\n", label, (unsigned long long)number);
}

static void print_skipped(const struct index_totals *totals) {
    uint64_t nskipped =
        totals->files[FILE_BINARY] + totals->files[FILE_UNREADABLE] + totals->files[FILE_TOO_LARGE];

    if (nskipped > 0) {
        printf("%-12s %llu (%llu binary, %llu unreadable, %llu too large)\n", "skipped",
               (unsigned long long)nskipped, (unsigned long long)totals->files[FILE_BINARY],
               (unsigned long long)totals->files[FILE_UNREADABLE],
               (unsigned long long)totals->files[FILE_TOO_LARGE]);
    }
}

void summary_print(const char *heap_path, const struct index *index) {
    struct index_totals totals;
    struct stat status;

    index_count(index, &totals);
    printf("%-12s %s\n", "directory", index->dir);
    printf("%-12s %llu, %.1f MiB of text\n", "files", (unsigned long long)totals.files[FILE_DONE],
           mib(totals.text_bytes));
    print_skipped(&totals);
    print_number("words", totals.words);
    print_number("postings", totals.postings);
    print_number("occurrences", totals.occurrences);
    printf("%-12s %016llx\n", "digest", (unsigned long long)totals.digest);
    if (atomic_load(&index->state) == INDEX_DONE) {
        printf("%-12s %.3f s\n", "build time", (double)index->build_ns / 1e9);
    } else {
        printf("%-12s unfinished: %llu of %llu files; 'build' resumes\n", "build time",
               (unsigned long long)index_files_final(index), (unsigned long long)index->nfiles);
    }
    if (stat(heap_path, &status) == 0) {
        printf("%-12s %.1f MiB in %llu blocks\n", "heap size",
               mib((uint64_t)status.st_blocks * 512), (unsigned long long)totals.blocks);
    }
}
