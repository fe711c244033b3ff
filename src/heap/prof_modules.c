/* prof_modules.c -- return addresses of this process, in words that outlive it.
 *
 * A process that is gone cannot be asked where its libraries were. So the heap has a table of all
 * programs and libraries that ever stood in a backtrace, by path and build id, and a frame names
 * its entry and the address as that file has it, in whatever address space it was. The table only
 * grows: entries are the same for all processes that run the same file.
 *
 * Holds:  entries below pool.modules are complete, differ from each other, and never change
 * Lock:   POOL to add one. Never while the loader's lock is held (within dl_iterate_phdr)
 * Killed: the entry behind the last is nobody's word until the count covers it
 * Not here: names of functions: they are looked up in the files, by who prints (src/cli/).
 */
#include "heap/prof_modules.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "heap/backing.h"
#include "ipc/journal.h"
#include "ipc/lock.h"

static char program_path[MODULE_PATH_BYTES]; /* the loader has no name for the program itself */

void prof_modules_init(void) {
    ssize_t got = readlink("/proc/self/exe", program_path, sizeof(program_path) - 1);
    program_path[got > 0 ? got : 0] = '\0';
}

/* ---- one module, as the loader describes it ---- */

static const char *address_of(const struct dl_phdr_info *info, uint64_t vaddr) {
    return (const char *)(uintptr_t)(info->dlpi_addr + vaddr);
}

/* The notes of a segment: pairs of a header and two padded texts. */
static void find_build_id(const char *note, uint64_t bytes, struct module *module) {
    while (bytes >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *header = (const ElfW(Nhdr) *)(const void *)note;
        uint64_t name_bytes = round_up(header->n_namesz, 4);
        uint64_t size = sizeof(*header) + name_bytes + round_up(header->n_descsz, 4);
        if (size > bytes) {
            return;
        }
        if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 &&
            memcmp(note + sizeof(*header), "GNU", 4) == 0 &&
            header->n_descsz <= sizeof(module->build_id)) {
            module->build_id_bytes = header->n_descsz;
            memcpy(module->build_id, note + sizeof(*header) + name_bytes, header->n_descsz);
            return;
        }
        note += size;
        bytes -= size;
    }
}

static void describe(const struct dl_phdr_info *info, struct module *module) {
    const char *path =
        info->dlpi_name != NULL && info->dlpi_name[0] != '\0' ? info->dlpi_name : program_path;
    memset(module, 0, sizeof(*module));
    for (uint32_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0 &&
            module->code_bytes == 0) {
            module->code_vaddr = segment->p_vaddr;
            module->code_offset = segment->p_offset;
            module->code_bytes = segment->p_memsz;
        } else if (segment->p_type == PT_NOTE && module->build_id_bytes == 0) {
            find_build_id(address_of(info, segment->p_vaddr), segment->p_memsz, module);
        }
    }
    module->is_fixed = info->dlpi_addr == 0;
    memcpy(module->path, path, strnlen(path, sizeof(module->path) - 1));
}

static int contains(const struct dl_phdr_info *info, const void *address) {
    for (uint32_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD &&
            (uintptr_t)address - (uintptr_t)address_of(info, segment->p_vaddr) < segment->p_memsz) {
            return 1;
        }
    }
    return 0;
}

/* ---- the table ---- */

/* Number of the entry + 1 from `begin` on; 0 if there is none. */
static uint32_t find(const sharena_t *heap, uint32_t begin, const struct module *module) {
    uint32_t count = shared_get_acquire(&heap_pool(heap)->modules);
    for (uint32_t i = begin; i < count && i < MODULES_MAX; i++) {
        if (memcmp(heap_module(heap, i), module, sizeof(*module)) == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* Section: writes the entry behind the last, unless another process was faster. `backed` entries
 * have storage. 0: one more needs it. */
static int add_section(sharena_t *heap, struct thread_slot *self, uint32_t backed,
                       const struct module *module) {
    struct pool *pool = heap_pool(heap);
    uint32_t count = shared_get(&pool->modules);
    if (find(heap, 0, module) != 0) {
        return 1;
    }
    if (count >= backed) {
        return 0;
    }
    memcpy(heap_module(heap, count), module, sizeof(*module)); /* nobody's word: see above */
    FAULT_POINT();
    journal_set(self, &pool->modules, count + 1);
    return 1;
}

/* 1 if the table has the module now. */
static int add(sharena_t *heap, struct thread_slot *self, const struct module *module) {
    struct pool *pool = heap_pool(heap);
    for (int is_added = 0; !is_added;) {
        uint32_t count = shared_get(&pool->modules);
        if (count >= MODULES_MAX || backing_add_metadata(heap, heap_module(heap, count),
                                                         heap_module(heap, count + 1)) != 0) {
            return 0;
        }
        lock_acquire(heap, self, &pool->lock);
        is_added = add_section(heap, self, count + 1, module);
        journal_commit(self);
        lock_release(heap, self, &pool->lock);
    }
    return 1;
}

/* ---- addresses ---- */

struct walk {
    const sharena_t *heap;
    void *const *addresses;
    uint32_t count;
    uint64_t *frames; /* 0: not found yet */
    struct module missing;
    int is_missing; /* the table lacks a module: `missing` is the first of them */
};

/* Under the loader's lock: looks, and takes no other. */
static int visit(struct dl_phdr_info *info, size_t size, void *arg) {
    struct walk *walk = arg;
    struct module module = {.is_fixed = 0};
    uint64_t entry = 0;
    (void)size;
    for (uint32_t i = 0; i < walk->count; i++) {
        if (walk->frames[i] != 0 || !contains(info, walk->addresses[i])) {
            continue;
        }
        if (entry == 0) {
            describe(info, &module);
            entry = find(walk->heap, 0, &module);
            if (entry == 0 && !walk->is_missing) {
                walk->missing = module;
                walk->is_missing = 1;
            }
        }
        if (entry == 0) {
            break;
        }
        uint64_t address = (uintptr_t)walk->addresses[i] - info->dlpi_addr;
        walk->frames[i] = entry << FRAME_MODULE_SHIFT | (address & FRAME_ADDRESS);
    }
    return 0;
}

void prof_modules_resolve(sharena_t *heap, struct thread_slot *self, void *const *addresses,
                          uint32_t count, uint64_t *frames) {
    struct walk walk = {.heap = heap, .addresses = addresses, .count = count, .frames = frames};
    memset(frames, 0, count * sizeof(*frames));
    do {
        walk.is_missing = 0;
        (void)dl_iterate_phdr(visit, &walk);
    } while (walk.is_missing && add(heap, self, &walk.missing));
    for (uint32_t i = 0; i < count; i++) {
        if (frames[i] == 0) {
            frames[i] = (uintptr_t)addresses[i] & FRAME_ADDRESS;
        }
    }
}
