/* info.c -- `sharena info`: what a file is, without attaching to it.
 *
 * Reads the file as bytes, so that it also says something about files that are damaged, unfinished,
 * or of another version: as much as can be read, and the field that is wrong.
 *
 * Lock:   none; nothing is mapped, so a heap in use is seen as it changes
 * Not here: whether the heap is sound (check.c), who uses it (ps.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "heap/attach.h"
#include "heap/heap.h"
#include "ipc/errors.h"
#include "ipc/superblock.h"
#include "ipc/token.h"

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {0},
};

static const struct cli_syntax syntax = {
    .name = "info",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Says what a file is, and what was fixed when the heap was made; also of a file "
               "that is\ndamaged or of another version, as far as it can be read. Changes nothing.",
    .options = options,
    .take = cli_take_json,
};

/* ---- the file ---- */

/* The option huge= of the tmpfs on that device, as /proc/self/mountinfo has it, into text. */
static void read_huge_option(dev_t device, char *text, size_t size) {
    char line[4096];
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), " %u:%u ", major(device), minor(device));
    (void)snprintf(text, size, "never");
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts != NULL && fgets(line, sizeof(line), mounts) != NULL) {
        const char *huge = strstr(line, wanted) != NULL ? strstr(line, "huge=") : NULL;
        if (huge != NULL) {
            (void)snprintf(text, size, "%.*s", (int)strcspn(huge + 5, ", \n"), huge + 5);
            break;
        }
    }
    if (mounts != NULL) {
        (void)fclose(mounts);
    }
}

/* Asks with one page: plain MAP_SHARED would accept MAP_SYNC and ignore it. */
static int has_sync(int fd) {
    long bytes = sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (page != MAP_FAILED) {
        (void)munmap(page, (size_t)bytes);
    }
    return page != MAP_FAILED;
}

static int add_file(const struct heap_file *file, json_t *facts) {
    struct stat status;
    struct statfs system;
    struct statx extended = {0};
    char huge[32];
    int is_usable;
    if (fstat(file->fd, &status) != 0 || fstatfs(file->fd, &system) != 0) {
        return error_set(errno, "%s cannot be examined: %s", file->title, strerror(errno));
    }
    (void)statx(file->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended);
    const char *name = file_system_name((uint32_t)system.f_type, &is_usable);
    read_huge_option(status.st_dev, huge, sizeof(huge));
    cli_set_count(facts, "file_bytes", (uint64_t)status.st_size);
    cli_set_count(facts, "stored_bytes", (uint64_t)status.st_blocks * 512);
    cli_set_text(facts, "file_system", name != NULL ? name : "unknown");
    cli_set_text(facts, "huge_pages", huge);
    cli_set_bool(facts, "dax", (extended.stx_attributes & STATX_ATTR_DAX) != 0);
    cli_set_bool(facts, "sync", has_sync(file->fd));
    return 0;
}

/* ---- the superblock ---- */

static void add_uuid(const uint8_t uuid[16], json_t *facts) {
    char text[40];
    size_t used = 0;
    for (size_t i = 0; i < 16; i++) {
        const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%02x", dash, uuid[i]);
    }
    cli_set_text(facts, "uuid", text);
}

/* As it stands there, right or wrong. */
static void add_superblock(const struct superblock *superblock, json_t *facts) {
    uint64_t total = superblock->total_bytes;
    uint64_t data = superblock->data_offset;
    add_uuid(superblock->uuid, facts);
    cli_set_count(facts, "format_version", superblock->format_version);
    cli_set_hex(facts, "fingerprint", superblock->fingerprint);
    cli_set_time(facts, "created", superblock->created_ns);
    cli_set_hex(facts, "base_address", superblock->base_address);
    cli_set_count(facts, "total_bytes", total);
    cli_set_count(facts, "capacity_bytes", total > data ? total - data : 0);
    if (superblock->limit_bytes != 0) {
        cli_set_count(facts, "limit_bytes", superblock->limit_bytes);
    } else {
        cli_set_text(facts, "limit", "none");
    }
}

/* ---- its use ---- */

/* Who holds a token, and what the last one left. */
static const char *describe_use(const struct heap_file *file, const struct heap_state *state,
                                uint32_t processes) {
    uint8_t boot_id[16];
    if (processes > 0) {
        return "in use";
    }
    if (!shared_get(&state->in_use)) {
        return "closed";
    }
    attach_read_boot_id(file, boot_id);
    return memcmp(boot_id, state->boot_id, sizeof(boot_id)) == 0
               ? "left by processes that died: the next open recovers it"
               : "torn: its machine went down, or it was copied, while it was in use";
}

static int add_use(const struct heap_file *file, json_t *facts) {
    struct heap_state state;
    uint32_t processes = 0;
    if (pread(file->fd, &state, sizeof(state), STATE_OFFSET) != (ssize_t)sizeof(state)) {
        return error_set(EUCLEAN, "%s is truncated: it has no state behind its superblock",
                         file->title);
    }
    for (uint32_t i = 0; i < shared_get(&state.processes_high) && i < PROCESSES_MAX; i++) {
        processes += token_is_held(file, i) != 0;
    }
    cli_set_text(facts, "use", describe_use(file, &state, processes));
    cli_set_count(facts, "processes", processes);
    cli_set_bool(facts, "readers", token_anyone_attached(file) && !token_any_held(file));
    cli_set_count(facts, "backed_bytes", shared_get(&state.backed_pages) * PAGE_BYTES);
    return 0;
}

/* ---- the whole ---- */

static const char *state_name(enum file_state state, int error) {
    if (error != 0) {
        return error == ENOEXEC ? "foreign" : "damaged";
    }
    switch (state) {
    case FILE_EMPTY:
        return "empty";
    case FILE_UNFINISHED:
        return "unfinished";
    default:
        return "heap";
    }
}

static int describe(const struct heap_file *file, int is_json) {
    struct superblock superblock;
    enum file_state state = FILE_EMPTY;
    int is_wrong = superblock_read(file, &state, &superblock);
    json_t *facts = json_object();
    cli_set_text(facts, "file", file->title);
    cli_set_text(facts, "state", state_name(state, is_wrong));
    if (is_wrong) {
        cli_set_text(facts, "problem", sharena_errormsg());
    }
    int error = add_file(file, facts);
    if (superblock.magic == MAGIC_HEAP) {
        add_superblock(&superblock, facts);
    }
    if (error == 0 && state == FILE_HEAP && !is_wrong && add_use(file, facts) != 0) {
        is_wrong = 1;
        cli_set_text(facts, "problem", sharena_errormsg());
    }
    if (error != 0) {
        json_decref(facts);
        return cli_fail(syntax.name);
    }
    cli_print(facts, is_json);
    return is_wrong || state != FILE_HEAP ? CLI_WRONG : CLI_FINE;
}

int command_info(int argc, char **argv) {
    int is_json = 0;
    int made;
    struct heap_file file;
    char **operands = cli_parse(&syntax, argc, argv, &is_json);
    superblock_expect(heap_fingerprint());
    if (file_open_path(operands[0], 1, 0, 0, 0, &file, &made) != 0) {
        return cli_fail(syntax.name);
    }
    int status = describe(&file, is_json);
    file_close(&file);
    return status;
}
