/* prof_formats.h -- a profile in the formats of other tools, on stdout. */
#ifndef SHARENA_CLI_PROF_FORMATS_H
#define SHARENA_CLI_PROF_FORMATS_H

#include "cli/prof_read.h"

/* A line for each stack: frames from the outermost to the innermost, divided by ';', and its bytes.
 * flamegraph.pl, inferno and speedscope read it. */
void prof_write_collapsed(const struct profile *profile);

/* The text format of heap profiles, with MAPPED_LIBRARIES: jeprof and pprof read it. */
void prof_write_pprof(const struct profile *profile);

#endif
