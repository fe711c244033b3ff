/* copy.h -- a file copied with its holes, or by sharing its blocks. */
#ifndef SHARENA_CLI_COPY_H
#define SHARENA_CLI_COPY_H

#include <stdint.h>

struct copied {
    uint64_t bytes; /* that were read and written */
    int is_reflink; /* none had to be: both files share their blocks */
};

/* Makes the empty file `to` a copy of `from`. 0 or an errno value. */
int copy_file(int from, int to, struct copied *copied);

#endif
