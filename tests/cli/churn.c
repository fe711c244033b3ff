/* churn.c -- processes that never rest, for tests that copy their heap.
 *
 *     churn run HEAP COUNT     COUNT processes change lists until they are killed
 *     churn pair HEAP          a child that has no slot in the heap counts in two places
 *     churn wait HEAP MIB      is attached, has made a block of MIB, and does nothing
 *     churn verify HEAP        looks at what they left, and prints it as JSON; 1: it is damaged
 *
 * At each instant a list is whole: a node is complete before one store makes it the first, and is
 * freed after one store has taken it out. Of the two counters the second is never ahead.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sharena/sharena.h"

#define LISTS 64
#define FAR_BYTES (8u << 20) /* between the two counters: copied some time apart */

struct node {
    struct node *next;
    uint64_t value;
    uint64_t bytes; /* of text */
    uint64_t sum;   /* of all the others */
    unsigned char text[];
};

struct lists { /* of one process */
    struct node *first[LISTS];
};

static sharena_t *heap;

static _Noreturn void die(const char *what) {
    (void)fprintf(stderr, "churn: %s: %s\n", what, sharena_errormsg());
    exit(1);
}

static uint64_t sum_of(const struct node *node) {
    uint64_t sum = 14695981039346656037u;
    const uint64_t words[] = {(uintptr_t)node->next, node->value, node->bytes};
    for (size_t i = 0; i < 3; i++) {
        sum = (sum ^ words[i]) * 1099511628211u;
    }
    for (uint64_t i = 0; i < node->bytes; i++) {
        sum = (sum ^ node->text[i]) * 1099511628211u;
    }
    return sum;
}

/* ---- run ---- */

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void push(struct node **first, uint64_t random) {
    uint64_t bytes = random % 7 == 0 ? random % 6000 : random % 200;
    struct node *node = sharena_malloc(heap, sizeof(*node) + bytes);
    if (node == NULL) {
        die("malloc");
    }
    node->next = *first;
    node->value = random;
    node->bytes = bytes;
    memset(node->text, (int)(random >> 32 & 0xff), bytes);
    node->sum = sum_of(node);
    __atomic_store_n(first, node, __ATOMIC_RELEASE);
}

static void pop(struct node **first) {
    struct node *node = *first;
    if (node != NULL) {
        __atomic_store_n(first, node->next, __ATOMIC_RELEASE);
        sharena_free(heap, node);
    }
}

static const char *name_of(unsigned number, char name[32]) {
    (void)snprintf(name, 32, "lists-%u", number);
    return name;
}

static void churn(unsigned number) {
    char text[32];
    const char *name = name_of(number, text);
    uint64_t state = 88172645463325252u + number;
    struct lists *lists = sharena_root_create(heap, name, sizeof(*lists), NULL, NULL);
    if (lists == NULL) {
        die("root");
    }
    for (;;) {
        uint64_t random = next_random(&state);
        struct node **first = &lists->first[random % LISTS];
        if (random >> 20 & 1) {
            push(first, random);
        } else {
            pop(first);
        }
    }
}

static int run(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (fork() == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            churn(i);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        while (sharena_root_get(heap, name_of(i, name)) == NULL) {
            (void)usleep(1000);
        }
    }
    (void)puts("running");
    (void)fflush(stdout);
    while (wait(NULL) > 0) {
    }
    return 0;
}

/* ---- pair ---- */

static int pair(void) {
    char *place = sharena_root_create(heap, "pair", FAR_BYTES + 64, NULL, NULL);
    if (place == NULL) {
        die("root");
    }
    volatile uint64_t *front = (volatile uint64_t *)(void *)place;
    volatile uint64_t *back = (volatile uint64_t *)(void *)(place + FAR_BYTES);
    if (_Fork() == 0) { /* no handlers: it has the mapping, and no slot */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            *front = *front + 1;
            *back = *back + 1;
        }
    }
    (void)puts("running");
    (void)fflush(stdout);
    while (wait(NULL) > 0) {
    }
    return 0;
}

/* ---- verify ---- */

struct found {
    uint64_t lists;
    uint64_t nodes;
    uint64_t bytes;
    uint64_t bad;
    uint64_t front;
    uint64_t back;
};

static void verify_list(const struct node *node, struct found *found) {
    for (uint64_t steps = 0; node != NULL && steps < 10000000; steps++) {
        if (!sharena_contains(heap, node) ||
            sharena_usable_size(heap, node) < sizeof(*node) + node->bytes ||
            node->sum != sum_of(node)) {
            found->bad++;
            return;
        }
        found->nodes++;
        found->bytes += node->bytes;
        node = node->next;
    }
}

static int verify_root(const char *name, void *ptr, void *arg) {
    struct found *found = arg;
    if (strncmp(name, "lists-", 6) == 0) {
        const struct lists *lists = ptr;
        found->lists++;
        for (size_t i = 0; i < LISTS; i++) {
            verify_list(lists->first[i], found);
        }
    } else if (strcmp(name, "pair") == 0) {
        found->front = *(uint64_t *)ptr;
        found->back = *(uint64_t *)(void *)((char *)ptr + FAR_BYTES);
        found->bad += found->front != found->back && found->front != found->back + 1;
    }
    return 0;
}

/* What the copy hands out must not be what its lists hold. */
static void fill(void) {
    for (unsigned i = 0; i < 30000; i++) {
        size_t bytes = i % 16 == 0 ? 6000 : 32 + i % 200;
        void *block = sharena_malloc(heap, bytes);
        if (block != NULL) {
            memset(block, 0xa5, bytes);
        }
    }
}

static int verify(void) {
    struct found before = {0};
    struct found after = {0};
    (void)sharena_root_foreach(heap, verify_root, &before);
    fill();
    (void)sharena_root_foreach(heap, verify_root, &after);
    (void)printf("{\"lists\": %" PRIu64 ", \"nodes\": %" PRIu64 ", \"bytes\": %" PRIu64
                 ", \"front\": %" PRIu64 ", \"back\": %" PRIu64 ", \"bad\": %" PRIu64 "}\n",
                 before.lists, before.nodes, before.bytes, before.front, before.back,
                 before.bad + after.bad);
    return before.bad + after.bad != 0 || after.nodes != before.nodes;
}

static int wait_for_end(size_t mib) {
    void *block = sharena_malloc(heap, mib << 20);
    if (block == NULL) {
        die("malloc");
    }
    memset(block, 1, mib << 20);
    (void)puts("running");
    (void)fflush(stdout);
    return pause();
}

int main(int argc, char **argv) {
    const struct sharena_options options = {.flags = SHARENA_OPEN_ONLY};
    const char *command = argc > 2 ? argv[1] : "";
    if (argc < 3 || sharena_open(argv[2], &options, &heap) != 0) {
        die("open");
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int niceness = nice(10); /* who looks at them shall get a turn */
    (void)niceness;
    if (strcmp(command, "run") == 0 && argc == 4) {
        return run((unsigned)strtoul(argv[3], NULL, 10));
    }
    if (strcmp(command, "pair") == 0) {
        return pair();
    }
    if (strcmp(command, "wait") == 0 && argc == 4) {
        return wait_for_end(strtoul(argv[3], NULL, 10));
    }
    if (strcmp(command, "verify") == 0) {
        int status = verify();
        return sharena_close(heap) == 0 ? status : 1;
    }
    die("unknown command");
}
