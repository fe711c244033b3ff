/* prof_target.c -- what the test of `sharena prof` looks at: blocks from sites that it knows by name.
 *
 *     prof_target FILE CONF COMMAND...
 *
 *     parse N    N blocks of 1000 bytes, from parse_things()
 *     load N     N blocks of 100000 bytes, from load_image(), by calloc
 *     free N     frees the N newest blocks of all processes, or all there are
 *     fork       the rest is done by a child
 *     pause      says "ready", and goes on when stdin ends
 *     kill       kills itself
 *
 * Its blocks are a list, whose head is the root "blocks", so that any process can free them. One
 * process at a time changes it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sharena/sharena.h>

#define SITE __attribute__((noinline))

struct block {
    struct block *next;
};

static void require(int holds, const char *what) {
    if (!holds) {
        (void)fprintf(stderr, "prof_target: %s: %s\n", what, sharena_errormsg());
        exit(1);
    }
}

/* Not the last thing that the function does: no site becomes a tail call. */
static struct block *keep(void *block) {
    __asm__ volatile("" ::: "memory");
    return block;
}

SITE struct block *parse_things(sharena_t *heap) {
    return keep(sharena_malloc(heap, 1000));
}

SITE struct block *load_image(sharena_t *heap) {
    return keep(sharena_calloc(heap, 1, 100000));
}

static void add(sharena_t *heap, struct block *block) {
    require(block != NULL, "no block");
    block->next = sharena_root_get(heap, "blocks");
    require(sharena_root_set(heap, "blocks", block) == 0, "root");
}

static void remove_one(sharena_t *heap) {
    struct block *block = sharena_root_get(heap, "blocks");
    if (block != NULL) {
        require(sharena_root_set(heap, "blocks", block->next) == 0, "root");
        sharena_free(heap, block);
    }
}

SITE void serve_requests(sharena_t *heap, const char *command, long count) {
    for (long i = 0; i < count; i++) {
        if (strcmp(command, "parse") == 0) {
            add(heap, parse_things(heap));
        } else if (strcmp(command, "load") == 0) {
            add(heap, load_image(heap));
        } else {
            remove_one(heap);
        }
    }
}

static void fork_rest(void) {
    pid_t pid = fork();
    require(pid >= 0, "fork");
    if (pid > 0) {
        int status;
        (void)waitpid(pid, &status, 0);
        exit(0);
    }
}

static void pause_here(void) {
    char byte;
    (void)puts("ready");
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

int main(int argc, char **argv) {
    sharena_t *heap;
    require(argc > 2, "usage: prof_target FILE CONF COMMAND...");
    struct sharena_options options = {.conf = argv[2], .flags = SHARENA_OPEN_ONLY};
    require(sharena_open(argv[1], &options, &heap) == 0, "open");
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "fork") == 0) {
            fork_rest();
        } else if (strcmp(argv[i], "pause") == 0) {
            pause_here();
        } else if (strcmp(argv[i], "kill") == 0) {
            (void)raise(SIGKILL);
        } else {
            require(i + 1 < argc, argv[i]);
            serve_requests(heap, argv[i], strtol(argv[i + 1], NULL, 10));
            i++;
        }
    }
    require(sharena_close(heap) == 0, "close");
    return 0;
}
