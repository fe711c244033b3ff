/* symbols.c -- names of functions, from the symbol tables of ELF files.
 *
 * The paths come from a heap's file, so whatever lies there is read with doubt: every offset is
 * compared with the length of the file before it is followed.
 *
 * Lock:   none
 * Killed: nothing is changed
 * Not here: lines of sources, and names of C++ as they were written: addr2line and pprof know more.
 */
#include "cli/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct symbol {
    uint64_t begin;
    uint64_t end;
    const char *name; /* in the file */
};

struct symbols {
    const char *bytes; /* the file, mapped */
    uint64_t length;
    struct symbol *symbols; /* by address */
    size_t count;
};

/* `count` things of `size` bytes at that offset of the file; NULL: they are not all in it. */
static const void *part(const struct symbols *file, uint64_t offset, uint64_t count, size_t size) {
    return offset % 4 == 0 && offset <= file->length && count <= (file->length - offset) / size
               ? file->bytes + offset
               : NULL;
}

static const Elf64_Ehdr *header_of(const struct symbols *file) {
    const Elf64_Ehdr *header = part(file, 0, 1, sizeof(*header));
    return header != NULL && memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
                   header->e_ident[EI_CLASS] == ELFCLASS64
               ? header
               : NULL;
}

/* ---- build id ---- */

static int is_in_notes(const struct symbols *file, const Elf64_Phdr *segment,
                       const uint8_t *build_id, uint32_t bytes) {
    uint64_t at = segment->p_offset;
    uint64_t end = at + segment->p_filesz;
    while (at < end) {
        const Elf64_Nhdr *note = part(file, at, 1, sizeof(*note));
        if (note == NULL) {
            return 0;
        }
        uint64_t name_bytes = ((uint64_t)note->n_namesz + 3) / 4 * 4;
        const uint8_t *id = part(file, at + sizeof(*note) + name_bytes, note->n_descsz, 1);
        if (id != NULL && note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4) {
            return note->n_descsz == bytes && memcmp(id, build_id, bytes) == 0;
        }
        at += sizeof(*note) + name_bytes + ((uint64_t)note->n_descsz + 3) / 4 * 4;
    }
    return 0;
}

static int has_build_id(const struct symbols *file, const uint8_t *build_id, uint32_t bytes) {
    const Elf64_Ehdr *header = header_of(file);
    const Elf64_Phdr *segments = part(file, header->e_phoff, header->e_phnum, sizeof(*segments));
    for (uint32_t i = 0; segments != NULL && i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_NOTE && is_in_notes(file, &segments[i], build_id, bytes)) {
            return 1;
        }
    }
    return bytes == 0;
}

/* ---- functions ---- */

/* The symbols of one table; NULL, 0 if it is none, or damaged. */
static const Elf64_Sym *table_of(const struct symbols *file, const Elf64_Shdr *sections,
                                 uint32_t index, uint32_t type, uint64_t *count) {
    const Elf64_Shdr *section = &sections[index];
    *count = section->sh_size / sizeof(Elf64_Sym);
    return section->sh_type == type ? part(file, section->sh_offset, *count, sizeof(Elf64_Sym))
                                    : NULL;
}

/* A name that ends within its table of names; NULL: it does not. */
static const char *name_at(const struct symbols *file, const Elf64_Shdr *names, uint32_t at) {
    uint64_t begin = names->sh_offset + at;
    if (names->sh_offset > file->length || names->sh_size > file->length - names->sh_offset ||
        at >= names->sh_size) {
        return NULL;
    }
    return memchr(file->bytes + begin, '\0', names->sh_size - at) != NULL ? file->bytes + begin
                                                                          : NULL;
}

static void add_functions(struct symbols *file, const Elf64_Sym *table, uint64_t count,
                          const Elf64_Shdr *names) {
    file->symbols = calloc(count + 1, sizeof(*file->symbols));
    for (uint64_t i = 0; file->symbols != NULL && i < count; i++) {
        const char *name = name_at(file, names, table[i].st_name);
        uint32_t type = ELF64_ST_TYPE(table[i].st_info);
        if (name != NULL && (type == STT_FUNC || type == STT_GNU_IFUNC) &&
            table[i].st_shndx != SHN_UNDEF) {
            file->symbols[file->count++] =
                (struct symbol){table[i].st_value, table[i].st_value + table[i].st_size, name};
        }
    }
}

static int compare_symbols(const void *a, const void *b) {
    const struct symbol *left = a;
    const struct symbol *right = b;
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* The full table if there is one, else that of what is exported. */
static void read_functions(struct symbols *file) {
    static const uint32_t types[] = {SHT_SYMTAB, SHT_DYNSYM};
    const Elf64_Ehdr *header = header_of(file);
    const Elf64_Shdr *sections = part(file, header->e_shoff, header->e_shnum, sizeof(*sections));
    for (size_t t = 0; t < 2 && sections != NULL && file->count == 0; t++) {
        for (uint32_t i = 0; i < header->e_shnum && file->count == 0; i++) {
            uint64_t count;
            const Elf64_Sym *table = table_of(file, sections, i, types[t], &count);
            if (table != NULL && sections[i].sh_link < header->e_shnum) {
                free(file->symbols);
                add_functions(file, table, count, &sections[sections[i].sh_link]);
            }
        }
    }
    if (file->count != 0) {
        qsort(file->symbols, file->count, sizeof(*file->symbols), compare_symbols);
    }
}

/* ---- files ---- */

static int map_file(const char *path, struct symbols *file) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    void *bytes = MAP_FAILED;
    if (fd < 0) {
        return 0;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        file->length = (uint64_t)status.st_size;
        bytes = mmap(NULL, file->length, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    (void)close(fd);
    file->bytes = bytes != MAP_FAILED ? bytes : NULL;
    return file->bytes != NULL;
}

static struct symbols *read_one(const char *path, const uint8_t *build_id, uint32_t bytes) {
    struct symbols *file = calloc(1, sizeof(*file));
    if (file == NULL || !map_file(path, file)) {
        free(file);
        return NULL;
    }
    if (header_of(file) != NULL && has_build_id(file, build_id, bytes)) {
        read_functions(file);
    }
    if (file->count == 0) {
        symbols_free(file);
        return NULL;
    }
    return file;
}

/* /usr/lib/debug/.build-id/12/3456....debug */
static struct symbols *read_debug(const uint8_t *build_id, uint32_t bytes) {
    char path[PATH_MAX];
    int used = snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/");
    for (uint32_t i = 0; i < bytes && i < 64; i++) {
        used += snprintf(path + used, sizeof(path) - (size_t)used, i == 1 ? "/%02x" : "%02x",
                         build_id[i]);
    }
    (void)snprintf(path + used, sizeof(path) - (size_t)used, ".debug");
    return read_one(path, build_id, bytes);
}

struct symbols *symbols_read(const char *path, const uint8_t *build_id, uint32_t build_id_bytes) {
    struct symbols *symbols = build_id_bytes > 1 ? read_debug(build_id, build_id_bytes) : NULL;
    return symbols != NULL ? symbols : read_one(path, build_id, build_id_bytes);
}

const char *symbols_find(const struct symbols *symbols, uint64_t address, uint64_t *offset) {
    size_t low = 0; /* the first symbol behind the address is in [low, high] */
    size_t high = symbols != NULL ? symbols->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->symbols[middle].begin <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0 || address >= symbols->symbols[low - 1].end) {
        return NULL;
    }
    *offset = address - symbols->symbols[low - 1].begin;
    return symbols->symbols[low - 1].name;
}

void symbols_free(struct symbols *symbols) {
    if (symbols != NULL) {
        (void)munmap((void *)(uintptr_t)symbols->bytes, symbols->length);
        free(symbols->symbols);
        free(symbols);
    }
}
