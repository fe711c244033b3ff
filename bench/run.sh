#!/bin/bash
# run.sh [quick] -- all measurements, in about a minute; `./dev bench` calls it.
#
# Needs SHARENA_BIN, the directory with the bench_* programs. Other allocators are measured if they
# are installed (Debian: libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4).
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
bin=${SHARENA_BIN:?is the directory with the bench_* programs}
export SHARENA_BIN

# Runs a part; all are run even if one fails. One that cannot be done here (77) has not failed.
failed=0
part() {
    local status=0
    echo
    "$@" || status=$?
    [[ $status -eq 0 || $status -eq 77 ]] || failed=1
}

part "$here/instructions.sh"
part "$here/syscalls.sh"
# Peers that are loaded later than at start need room for their thread-local variables.
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536
part "$bin/bench_pair" "$@"
exit $failed
