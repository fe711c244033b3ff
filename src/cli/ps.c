/* ps.c -- `sharena ps`: the processes and threads that have slots in a heap.
 *
 * Lock:   none: the heap is attached for reading. What changes meanwhile is seen before or after
 * Not here: readers, who have no slot
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/holders.h"
#include "heap/census.h"
#include "heap/geometry.h"
#include "heap/heap.h"
#include "ipc/token.h"

struct wish {
    int is_json;
    int with_threads;
};

static const struct cli_option options[] = {
    CLI_OPTION_JSON,
    {'t', "threads", NULL, "list the threads"},
    {0},
};

static int take(int letter, const char *argument, void *into) {
    struct wish *wish = into;
    (void)argument;
    wish->is_json |= letter == 'j';
    wish->with_threads |= letter == 't';
    return 0;
}

static const struct cli_syntax syntax = {
    .name = "ps",
    .operands = "FILE",
    .operands_count = 1,
    .purpose = "Lists the processes that are attached to a heap: since when, how many threads, "
               "what their\ncaches hold, and whether they are alive, stopped or dead (to be "
               "reaped).",
    .options = options,
    .take = take,
};

/* ---- threads ---- */

static int is_thread_of(const sharena_t *heap, const struct thread_slot *thread, uint32_t process) {
    return shared_get(&thread->state) == SLOT_USED && shared_get(&thread->process) == process &&
           shared_get(&thread->process_generation) ==
               shared_get(&heap_process(heap, process)->generation);
}

/* The threads of a process; what all of them cache goes to *cached_bytes. */
static json_t *list_threads(const sharena_t *heap, uint32_t process, uint64_t *cached_bytes) {
    json_t *threads = json_array();
    uint32_t high = shared_get(&heap_state(heap)->threads_high);
    *cached_bytes = 0;
    for (uint32_t i = 0; i < high; i++) {
        struct thread_slot *thread = heap_thread(heap, i);
        if (!is_thread_of(heap, thread, process)) {
            continue;
        }
        uint64_t bytes = census_cached_by(thread);
        uint32_t arena = shared_get(&thread->arena);
        json_t *row = json_object();
        cli_set_count(row, "pid", shared_get(&heap_process(heap, process)->pid));
        cli_set_count(row, "tid", shared_get(&thread->tid));
        cli_set_count(row, "slot", i);
        cli_set(row, "arena", json_integer((json_int_t)arena - 1)); /* -1: none yet */
        cli_set_count(row, "cached_bytes", bytes);
        (void)json_array_append_new(threads, row);
        *cached_bytes += bytes;
    }
    return threads;
}

/* ---- processes ---- */

/* The process as we see it, or NULL: it is hidden from us. Of several with one pid in different
 * namespaces, the first: both are alive. */
static const struct holder *find_holder(const struct holders *holders, uint32_t inner_pid) {
    for (uint32_t i = 0; i < holders->count; i++) {
        if (holders->list[i].inner_pid == (pid_t)inner_pid) {
            return &holders->list[i];
        }
    }
    return NULL;
}

static const char *state_of(const struct heap_file *file, uint32_t slot,
                            const struct holder *holder) {
    if (!token_is_held(file, slot)) {
        return "dead";
    }
    int is_stopped = holder != NULL && holders_process_state(holder->pid, NULL) == PROCESS_STOPPED;
    return is_stopped ? "stopped" : "alive";
}

static json_t *describe_process(const struct attachment *attachment, uint32_t index,
                                const struct holders *holders) {
    const sharena_t *heap = attachment->mapping.base;
    const struct process_slot *slot = heap_process(heap, index);
    uint32_t pid = shared_get(&slot->pid);
    const struct holder *holder = find_holder(holders, pid);
    char name[sizeof(slot->name) + 1];
    uint64_t cached_bytes;
    (void)snprintf(name, sizeof(name), "%.16s", slot->name);
    json_t *threads = list_threads(heap, index, &cached_bytes);
    json_t *row = json_object();
    cli_set_count(row, "slot", index);
    cli_set_count(row, "pid", holder != NULL ? (uint64_t)holder->pid : pid);
    cli_set_count(row, "inner_pid", pid);
    cli_set_text(row, "name", name);
    cli_set_text(row, "state", state_of(&attachment->file, index, holder));
    cli_set_time(row, "attached", shared_get(&slot->attached_ns));
    cli_set_count(row, "nthreads", json_array_size(threads));
    cli_set_count(row, "cached_bytes", cached_bytes);
    cli_set(row, "threads", threads);
    return row;
}

/* The slot of a process that died stays as it is until it is taken anew. When its death is known,
 * and its threads have been reaped, nothing of it remains. */
static int is_of_interest(const struct process_slot *slot, const json_t *row) {
    int is_buried = shared_get(&slot->died) >= shared_get(&slot->generation) &&
                    json_integer_value(json_object_get(row, "nthreads")) == 0;
    return shared_get(&slot->state) == SLOT_USED && !is_buried;
}

static json_t *list_processes(const struct attachment *attachment, const struct holders *holders) {
    const sharena_t *heap = attachment->mapping.base;
    json_t *rows = json_array();
    for (uint32_t i = 0; i < heap_processes_used(heap); i++) {
        json_t *row = describe_process(attachment, i, holders);
        if (is_of_interest(heap_process(heap, i), row)) {
            (void)json_array_append_new(rows, row);
        } else {
            json_decref(row);
        }
    }
    return rows;
}

/* For people: the threads of all processes in one table of their own. */
static json_t *all_threads(const json_t *processes) {
    json_t *all = json_array();
    size_t index;
    json_t *process;
    json_array_foreach(processes, index, process) {
        (void)json_array_extend(all, json_object_get(process, "threads"));
    }
    return all;
}

int command_ps(int argc, char **argv) {
    static struct holders holders;
    struct file_key key;
    struct wish wish = {0};
    char **operands = cli_parse(&syntax, argc, argv, &wish);
    sharena_t *heap = cli_open(syntax.name, operands[0], SHARENA_READONLY);
    if (heap == NULL) {
        return CLI_FAILED;
    }
    const struct attachment *attachment = heap_attachment(heap);
    int status = CLI_FINE;
    if (holders_identify(&attachment->file, &key) != 0 || holders_find(&key, &holders) != 0) {
        status = cli_fail(syntax.name);
    } else {
        json_t *facts = json_object();
        json_t *processes = list_processes(attachment, &holders);
        if (wish.with_threads && !wish.is_json) {
            cli_set(facts, "threads", all_threads(processes));
            json_decref(processes);
        } else {
            cli_set(facts, "processes", processes);
        }
        cli_print(facts, wish.is_json);
    }
    (void)sharena_close(heap);
    return status;
}
