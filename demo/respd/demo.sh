#!/bin/bash
# demo.sh -- respd under redis-benchmark and redis-cli; then under kill -9; then restarted.
#
# Needs SHARENA_BIN, the directory with the executable `respd`, and Debian's redis-tools. About 20
# seconds. The heap lies in /dev/shm, or in $TMPDIR where there is no such directory. All traffic
# stays on 127.0.0.1.
set -euo pipefail

bin=${SHARENA_BIN:?is the directory with the executable respd}
base=/dev/shm
[ -d "$base" ] && [ -w "$base" ] || base=${TMPDIR:-/tmp}
work=$(mktemp -d "$base/sharena-respd.XXXXXX")
heap=$work/heap
server=
jobs=()

fail() {
    echo "demo/respd: $*" >&2
    [ ! -s "$work/log" ] || sed 's/^/    /' "$work/log" >&2
    exit 1
}

end() {
    for pid in "${jobs[@]}" $server; do
        kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT

for tool in redis-cli redis-benchmark; do
    command -v $tool >/dev/null || fail "needs $tool (Debian: redis-tools)"
done

cli() {
    redis-cli -h 127.0.0.1 -p "$port" "$@"
}

# Starts the server and waits until it answers. A port that somebody else has is no matter.
start() {
    for _ in 1 2 3 4 5; do
        port=${port:-$((20000 + RANDOM % 12000))}
        "$bin/respd" --heap "$heap" --port "$port" --workers 4 >>"$work/log" 2>&1 &
        server=$!
        for _ in $(seq 200); do
            if [ "$(cli PING 2>/dev/null)" = PONG ]; then
                [ "$(info process_id)" = "$server" ] || break
                return
            fi
            kill -0 "$server" 2>/dev/null || break
            sleep 0.05
        done
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        port=
    done
    fail "the server does not start"
}

stop() {
    kill "$server"
    wait "$server" || fail "the server ended with status $?"
    server=
}

info() {
    cli INFO | tr -d '\r' | sed -n "s/^$1://p"
}

# expect ANSWER COMMAND...
expect() {
    local wanted=$1 answer
    shift
    answer=$(cli "$@" 2>&1 | sed '/^$/d') || true
    [ "$answer" = "$wanted" ] || fail "$*: '$answer' instead of '$wanted'"
}

bench() {
    timeout 30 redis-benchmark -h 127.0.0.1 -p "$port" -q "$@" 2>&1 | tr '\r' '\n' |
        grep 'requests per second' | sed 's/^ */    /' || fail "redis-benchmark $*"
}

keys=20000

# The known data: key:N -> N and then 0 to 96 times an x. As requests, and as what they give.
data() {
    awk -v keys=$keys -v as="$1" 'BEGIN {
        for (x = ""; length(x) < 96; x = x "x") {}
        for (n = 1; n <= keys; n++) {
            key = "key:" n
            value = n substr(x, 1, n % 97)
            if (as == "set")
                printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key,
                    length(value), value
            else if (as == "get")
                print "GET " key
            else
                print value
        }
    }'
}

check_data() {
    data get | cli >"$work/got"
    data values | cmp - "$work/got" || fail "the data differs $1"
    cli GET big >"$work/got" # redis-cli adds the end of a line
    { cat "$work/big" && echo; } | cmp - "$work/got" || fail "the large value differs $1"
    echo "    $keys values and one of 8 MiB compared $1"
}

echo "== 4 workers, one dataset: redis-benchmark, 50 clients, 16 requests at once, random keys"
start
bench -t set,get,incr -n 200000 -r 100000 -P 16
bench -t mset -n 20000 -r 100000 -P 16
echo "   values of 16 KiB, one request at a time"
bench -t set,get -n 20000 -r 1000 -d 16384

echo "== the data, through redis-cli"
expect OK FLUSHALL
expect 0 DBSIZE
head -c 8388608 /dev/urandom >"$work/big"
loaded=$(data set | cli --pipe) || fail "redis-cli --pipe: $loaded"
[[ $loaded == *"errors: 0, replies: $keys"* ]] || fail "redis-cli --pipe: $loaded"
cli -x SET big <"$work/big" >/dev/null
check_data "after loading"
[ "$(cli --scan --pattern 'key:1234?' | wc -l)" = 10 ] || fail "SCAN does not find all"
[ "$(cli KEYS 'key:*' | wc -l)" = "$keys" ] || fail "KEYS does not find all"

expect OK SET session alice EX 100
expect 100 TTL session
expect "" SET session bob NX
expect 10 APPEND session -more
expect alice-more GET session
expect OK SET brief x PX 60
sleep 0.1
expect 0 EXISTS brief
expect -2 TTL brief
for client in 1 2 3 4; do
    cli -r 1500 INCR counter >/dev/null &
    jobs+=($!)
done
wait "${jobs[@]}"
jobs=()
expect 6000 GET counter
expect "ERR value is not an integer or out of range" INCR session
expect "ERR wrong number of arguments for 'get' command" GET
expect "ERR syntax error" SET a b BOGUS
expect "ERR invalid expire time in 'set' command" SET a b EX 0
expect "ERR unknown command 'NOSUCH', with args beginning with: 'x' " NOSUCH x
echo "    expiry, APPEND, 6000 INCRs of 4 clients, SCAN, KEYS, and the errors: as Redis has them"

echo "== kill -9 of one worker after the other, now and then of all, while 5 clients write"
sets=20000
for client in 1 2 3 4; do
    seq $sets | sed "s/.*/SET load:$client:& &-$client/" | cli >"$work/ack.$client" 2>&1 &
    jobs+=($!)
done
yes INCR killed | head -n $sets | cli >"$work/ack.incr" 2>&1 &
jobs+=($!)

killed=0
rounds=0
while kill -0 "${jobs[@]}" 2>/dev/null; do # one of the clients is at work
    rounds=$((rounds + 1))
    which=worker_pid
    [ $((rounds % 5)) != 0 ] || which=worker_pids
    for pid in $(info $which | tr , ' '); do
        if kill -9 "$pid" 2>/dev/null; then
            killed=$((killed + 1))
        fi
    done
    sleep 0.02
done
# A client whose connection broke has got an error; redis-cli then connects anew and goes on.
wait "${jobs[@]}" || true
jobs=()
missing=0
for client in 1 2 3 4; do
    [ "$(wc -l <"$work/ack.$client")" = $sets ] || fail "client $client has not got $sets answers"
    awk -v c=$client '$0 == "OK" { print NR "-" c }' "$work/ack.$client" >"$work/acked"
    awk -v c=$client '$0 == "OK" { print "GET load:" c ":" NR }' "$work/ack.$client" |
        cli >"$work/got"
    missing=$((missing + $(diff "$work/acked" "$work/got" | grep -c '^<' || true)))
    cat "$work/acked"
done >"$work/all"
counted=$(grep -cE '^[0-9]+$' "$work/ack.incr" || true)
value=$(cli GET killed)
repeated=$((value > sets ? value - sets : 0))
lost=$((value < counted ? counted - value : 0))
sleep 0.2 # for the last one to be replaced
echo "    $killed workers killed, $(info workers_replaced) replaced," \
    "$(info repaired_shards) shards repaired"
echo "    $(wc -l <"$work/all") of $((4 * sets)) SETs acknowledged: $missing missing"
echo "    $counted of $sets INCRs acknowledged, the counter says $value:" \
    "$lost missing, $repeated repeated"
[ "$missing" = 0 ] || fail "an acknowledged SET is gone"
[ "$lost$repeated" = 00 ] || fail "an INCR was lost or done twice"
[ "$killed" -ge 3 ] || fail "the clients were done before workers could be killed"
check_data "after the kills"

echo "== restarted: by SIGTERM, then by kill -9 of all its processes"
size=$(cli DBSIZE)
stop
start
[ "$(cli DBSIZE)" = "$size" ] || fail "the number of keys differs after a restart"
expect alice-more GET session
check_data "after the restart"
{
    # shellcheck disable=SC2046 # several pids
    kill -9 "$server" $(info worker_pids | tr , ' ')
    wait "$server"
} 2>/dev/null || true
start
[ "$(cli DBSIZE)" = "$size" ] || fail "the number of keys differs after kill -9"
check_data "after kill -9"

echo "== INFO"
cli INFO memory | tr -d '\r' | sed -n 's/^\(heap_.*\)/    \1/p'
cli INFO keyspace | tr -d '\r' | sed -n 's/^\(db0.*\)/    \1/p'
stop
echo "respd: all as it should be"
