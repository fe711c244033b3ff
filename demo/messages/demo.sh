#!/bin/bash
# demo.sh -- messages through a shared heap, beside a pipe and a socket; then under kills.
#
# Needs SHARENA_BIN, the directory with the executable `messages`. About 20 seconds.
# The heap lies in $TMPDIR if that is set, else in /dev/shm.
set -euo pipefail

bin=${SHARENA_BIN:?is the directory with the executable messages}
work=$(mktemp -d "${TMPDIR:-/dev/shm}/sharena-messages.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "demo/messages: $*" >&2
    exit 1
}

echo "== one publisher, one subscriber, pointers against copies"
"$bin/messages" --heap "$work/heap" --seconds 1 || fail "the table failed"
[ ! -e "$work/heap" ] || fail "the heap was left behind"

echo
echo "== two publishers, two subscribers, killed and replaced"
for size in 64 64K; do
    "$bin/messages" --heap "$work/heap" --publishers 2 --subscribers 2 --size "$size" \
        --seconds 2 --kills 200 || fail "a message of $size was lost or repeated"
done
