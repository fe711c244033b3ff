#!/bin/bash
# instructions.sh -- how many instructions a pair of malloc and free of 64 bytes takes, exactly.
#
# Needs SHARENA_BIN, the directory with bench_steady (static) and bench_steady_shared. Exit status:
# 0 within the budget, 1 beyond it, 77 where it cannot be counted (no valgrind, another processor).
set -euo pipefail
shopt -s inherit_errexit # a failure within $( ) ends the script

bin=${SHARENA_BIN:?is the directory with bench_steady}
budget=42 # of the shared library, calls and their way through the PLT included
few=100000 # as many digits as the other: reading them takes instructions too
many=200000

skip() {
    echo "instructions: skipped: $*"
    exit 77
}

fail() {
    echo "instructions: $*" >&2
    exit 1
}

# count PROGRAM MODE TURNS -- instructions of the whole run.
count() {
    local log
    log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1) \
        || fail "$* failed under valgrind: $log"
    awk '/Collected *:/ { print $NF; found = 1 } END { exit !found }' <<< "$log" \
        || fail "valgrind gives no count: $log"
}

# per_turn PROGRAM MODE -- instructions of one turn of the loop, which must be a whole number. What comes
# before the loop may differ from run to run (an address that is taken, a lock that is waited for), so a
# number that is none is not believed at once.
per_turn() {
    local more less
    for _ in 1 2 3 4; do
        less=$(count "$@" $few)
        more=$(count "$@" $many)
        if [[ $(((more - less) % (many - few))) -eq 0 ]]; then
            echo $(((more - less) / (many - few)))
            return
        fi
    done
    fail "$* left the fast path: $((more - less)) instructions for $((many - few)) turns"
}

command -v valgrind > /dev/null || skip "there is no valgrind"
[[ $(uname -m) == x86_64 ]] || skip "the budget is for x86-64"

log=$(valgrind --tool=none "$bin/bench_steady_shared" empty 1 2>&1) || true
[[ $log != *"corrupted debuginfo"* ]] || skip "this valgrind cannot read this compiler's debuginfo"

loop=$(per_turn "$bin/bench_steady" empty)
static=$(per_turn "$bin/bench_steady" pairs)
shared=$(per_turn "$bin/bench_steady_shared" pairs)
static=$((static - loop))
shared=$((shared - loop))
echo "instructions per malloc and free of 64 bytes, calls and arguments included:"
echo "    shared library  $shared    (budget $budget)"
echo "    static library  $static"
[[ $static -gt 0 && $shared -gt 0 ]] || fail "nothing was counted"
[[ $shared -le $budget ]] || fail "$shared instructions are more than the budget of $budget"
