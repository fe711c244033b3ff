#!/bin/bash
# syscalls.sh -- proves that malloc and free of what is cached make no system call.
#
# Needs SHARENA_BIN, the directory with bench_steady_shared. Exit status: 0 none, 1 some, 77 where
# they cannot be counted (no strace, or none allowed).
set -euo pipefail

bin=${SHARENA_BIN:?is the directory with bench_steady_shared}
few=1000
many=1000000

skip() {
    echo "syscalls: skipped: $*"
    exit 77
}

# count TURNS -- system calls of the whole run, all threads.
count() {
    strace -f -qq -o "$trace" "$bin/bench_steady_shared" pairs "$1" >&2
    wc -l < "$trace"
}

command -v strace > /dev/null || skip "there is no strace"
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
strace -qq -o "$trace" true 2> /dev/null || skip "strace may not trace here"

less=$(count $few)
more=$(count $many)
echo "system calls of a run with $few pairs of malloc and free: $less; with $many: $more"
[[ $less -gt 0 && $less -eq $more ]] || {
    echo "syscalls: the steady loop makes system calls; the last ones:" >&2
    tail -n 5 "$trace" >&2
    exit 1
}
