/* holders.c -- the processes that have a heap's file mapped for writing, as /proc shows them.
 *
 * Lock:   none: what is found is of the past unless the caller keeps processes from running
 * Not here: what is done with them (snapshot.c, ps.c).
 */
#include "cli/holders.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/errors.h"

#define PATH_BYTES 96

/* ---- /proc/PID/maps ---- */

struct maps_line {
    uint64_t begin;
    char access[8]; /* "rw-s" */
    char key[48];   /* device and inode */
};

static int parse_maps_line(const char *text, struct maps_line *line) {
    char device[24];
    char inode[24];
    if (sscanf(text, "%*s %7s %*s %23s %23s", line->access, device, inode) != 3) {
        return 0;
    }
    line->begin = strtoull(text, NULL, 16);
    (void)snprintf(line->key, sizeof(line->key), "%s %s", device, inode);
    return 1;
}

/* The next line of the file; a path that is longer than the buffer gives pieces that do not parse,
 * or whose address is 0. */
static int next_mapping(FILE *maps, struct maps_line *line) {
    char text[512];
    while (fgets(text, sizeof(text), maps) != NULL) {
        if (parse_maps_line(text, line)) {
            return 1;
        }
    }
    return 0;
}

static FILE *open_proc(pid_t pid, const char *name) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

/* Maps one page, and looks how that is called. */
int holders_identify(const struct heap_file *file, struct file_key *key) {
    struct maps_line line;
    long bytes = sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_SHARED, file->fd, 0);
    FILE *maps = page != MAP_FAILED ? open_proc(getpid(), "maps") : NULL;
    int is_found = 0;
    while (maps != NULL && !is_found && next_mapping(maps, &line)) {
        is_found = line.begin == (uintptr_t)page;
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    if (page != MAP_FAILED) {
        (void)munmap(page, (size_t)bytes);
    }
    if (!is_found) {
        return error_set(EIO, "%s: /proc does not say who has it mapped: is it mounted?",
                         file->title);
    }
    (void)snprintf(key->text, sizeof(key->text), "%s", line.key);
    return 0;
}

static int has_mapped(pid_t pid, const struct file_key *key) {
    struct maps_line line;
    int is_found = 0;
    FILE *maps = open_proc(pid, "maps");
    while (maps != NULL && !is_found && next_mapping(maps, &line)) {
        is_found =
            line.access[1] == 'w' && line.access[3] == 's' && strcmp(line.key, key->text) == 0;
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    return is_found;
}

/* ---- /proc/PID/status ---- */

/* The last pid of "NSpid:", which is that of the innermost namespace. */
static pid_t read_inner_pid(pid_t pid) {
    char text[256];
    pid_t inner = pid;
    FILE *status = open_proc(pid, "status");
    while (status != NULL && fgets(text, sizeof(text), status) != NULL) {
        const char *last = strrchr(text, '\t');
        if (strncmp(text, "NSpid:", 6) == 0 && last != NULL) {
            inner = (pid_t)strtol(last + 1, NULL, 10);
            break;
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return inner;
}

/* A thread that is stopped, or has ended, cannot store. */
static int is_at_rest(char state) {
    return strchr("TtZXx", state) != NULL;
}

/* One thread: its state letter, 0 if it is gone; its context switches are added up. */
static char read_thread(pid_t pid, const char *tid, uint64_t *switches) {
    char name[PATH_BYTES / 2];
    char text[256];
    char state = 0;
    (void)snprintf(name, sizeof(name), "task/%.20s/status", tid);
    FILE *status = open_proc(pid, name);
    while (status != NULL && fgets(text, sizeof(text), status) != NULL) {
        const char *value = strchr(text, '\t');
        if (value != NULL && strncmp(text, "State:", 6) == 0) {
            state = value[1];
        } else if (value != NULL && strstr(text, "voluntary_ctxt_switches:") != NULL) {
            *switches += strtoull(value + 1, NULL, 10);
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return state;
}

enum process_state holders_process_state(pid_t pid, uint64_t *switches) {
    char path[PATH_BYTES];
    const struct dirent *entry;
    uint64_t sum = 0;
    enum process_state result = PROCESS_GONE;
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        char state = entry->d_name[0] != '.' ? read_thread(pid, entry->d_name, &sum) : 0;
        if (state != 0 && !is_at_rest(state)) {
            result = PROCESS_RUNS;
        } else if (result == PROCESS_GONE && (state == 'T' || state == 't')) {
            result = PROCESS_STOPPED; /* of threads that ended only, nothing is left to stop */
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    if (switches != NULL) {
        *switches = sum;
    }
    return result;
}

/* ---- all processes ---- */

int holders_find(const struct file_key *key, struct holders *holders) {
    const struct dirent *entry;
    holders->count = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return error_set(errno, "/proc cannot be read: %s", strerror(errno));
    }
    while ((entry = readdir(proc)) != NULL && holders->count < HOLDERS_MAX) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && pid != getpid() && has_mapped(pid, key)) {
            holders->list[holders->count++] =
                (struct holder){.pid = pid, .inner_pid = read_inner_pid(pid)};
        }
    }
    (void)closedir(proc);
    return holders->count < HOLDERS_MAX
               ? 0
               : error_set(EUSERS, "more than %u processes have the heap mapped", HOLDERS_MAX);
}
