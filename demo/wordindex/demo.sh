#!/bin/bash
# demo.sh -- an index of /usr/include built by four processes, asked by new ones; then a build that
# is killed again and again, and resumed.
#
# Needs SHARENA_BIN, the directory with the executable `wordindex`. About 15 seconds.
# The heap lies in $TMPDIR if that is set, else in /dev/shm. INDEX_DIR names another directory.
set -euo pipefail

bin=${SHARENA_BIN:?is the directory with the executable wordindex}
dir=$(realpath "${INDEX_DIR:-/usr/include}")
work=$(mktemp -d "${TMPDIR:-/dev/shm}/sharena-wordindex.XXXXXX")
builder=
cleanup() {
    if [ -n "$builder" ]; then
        kill -KILL "$builder" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "demo/wordindex: $*" >&2
    exit 1
}

wordindex() {
    local command=$1
    shift
    "$bin/wordindex" "$command" --heap "$work/$heap" "$@"
}

# A child of the process $1; nothing where there is none.
child_of() {
    grep -sl "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | head -n 1 | cut -d / -f 3 || true
}

# The files that hold all of the words, found without the index: by the same rules for words (grep
# -w in the C locale) and for files (regular ones without a NUL byte).
files_by_grep() {
    local word files=$work/files
    find "$dir" -type f -print >"$files"
    for word in "$@"; do
        tr '\n' '\0' <"$files" | LC_ALL=C xargs -0 -r grep -lwaF -e "$word" >"$files.with" || true
        mv "$files.with" "$files"
    done
    tr '\n' '\0' <"$files" | LC_ALL=C xargs -0 -r grep -LaP '\x00' | LC_ALL=C sort || true
}

compare_with_grep() {
    wordindex query --limit 0 "$@" 2>"$work/times" | cut -f 2- | LC_ALL=C sort >"$work/found"
    files_by_grep "$@" >"$work/expected"
    cmp -s "$work/found" "$work/expected" || {
        diff "$work/expected" "$work/found" | head >&2
        fail "the index and grep disagree about '$*'"
    }
    echo "'$*': $(cat "$work/times"); grep finds the same"
}

heap=heap
echo "== built by 4 processes"
wordindex build --workers 4 "$dir"

echo
echo "== opened again"
wordindex info
wordindex check
wordindex query --limit 5 pthread_mutex_t
for query in pthread_mutex_t "size_t errno" "EINVAL" no_such_word_anywhere; do
    # shellcheck disable=SC2086 # several words
    compare_with_grep $query
done

echo
echo "== a build whose workers are killed, which is killed itself, and resumed"
heap=killed
killed=0
for round in 1 2 3; do
    "$bin/wordindex" build --heap "$work/$heap" --workers 4 "$dir" >"$work/log" 2>&1 &
    builder=$!
    nkilled=0
    for _ in 1 2 3 4 5 6; do
        sleep 0.05
        if kill -KILL "$(child_of "$builder")" 2>/dev/null; then
            nkilled=$((nkilled + 1))
        fi
    done
    kill -KILL "$builder" 2>/dev/null || echo "round $round: the build was over already"
    wait "$builder" 2>/dev/null || true
    builder=
    killed=$((killed + nkilled))
    echo "round $round: $nkilled workers killed, then the build with all its workers"
done
wordindex build --workers 4 "$dir" | tee "$work/log"
wordindex check
count() {
    wordindex info | grep -E '^(files|words|postings|occurrences|digest) '
}
count >"$work/killed-count"
heap=heap
count >"$work/count"
cmp "$work/count" "$work/killed-count" || fail "the resumed build made another index"
echo "$killed workers and 3 builds killed: 0 postings missing, 0 repeated, 0 blocks lost: the resumed" \
    "index has the digest of the one that was built in one go"
