/* options.h -- what the command line says. */
#ifndef RESPD_OPTIONS_H
#define RESPD_OPTIONS_H

#include <stdint.h>

struct options {
    const char *heap;
    const char *bind;
    uint16_t port;
    unsigned workers;
    uint64_t limit_bytes; /* 0 = none */
};

/* Fills in the options; ends the program after --help (0) or a mistake (2, with a message). */
void options_parse(int argc, char **argv, struct options *options);

#endif
