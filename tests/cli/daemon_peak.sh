#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# After a peak the arena's file shrinks to what is live, and to the pages that hold it: by io_uring and by epoll, beside a
# daemon that is killed again and again while it punches, and not before memory was unused for as long as configured.
# What threads keep ready stays, unless memory is short.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

file=/dev/shm/shmalloc.$name
export SHMALLOC_SOCKET=$socket

# peak order|random MIX MIB
peak()
{
	timeout 600 "$top_builddir/tests/cli/daemon_peak" "$name" "$file" "$@"
}

config=$work/config
printf '[daemon]\ndecay = 2\n' >"$config"
# shrinks IO order|random MIX WHAT
shrinks()
{
	start --io "$1" 2>/dev/null
	ask create "$name" 0 600 1024 >/dev/null
	peak "$2" "$3" 128 || fail "$1, $2: $4"
	echo "ok: $1, $2: $4"
	ask destroy "$name" >/dev/null
	stop
	expect "$1: an orderly end" "$status" 0
}
# io_uring may be forbidden here.
uring=uring
"$SHMALLOCD" --io uring --socket "$work/none/socket" --state-dir "$work/none" --config "$config" >"$work/try" 2>&1 &
pids+=($!)
eventually 5 grep -q -e ready -e uring -e failed "$work/try" || true
grep -q '^ready' "$work/try" || uring=auto
kill $! 2>/dev/null || true
shrinks $uring order log "a log server's sizes"
shrinks $uring random small "small ones"
shrinks epoll random log "a log server's sizes"

printf '[daemon]\ndecay = 1\n' >"$config"
start
ask create "$name" 0 600 64 >/dev/null
peak short log 0 || fail "caches when memory is short"
ask destroy "$name" >/dev/null
stop
echo "ok: what threads keep ready goes back when memory is short"

start
ask create "$name" 0 600 1024 >/dev/null
peak churn 2000 96 >"$work/peak" 2>&1 &
pids+=($!)
peak=$!
blocks()
{
	stat -c %b "$file"
}
# Kills the daemon while it punches.
deaths=0
before=$(blocks)
while kill -0 $peak 2>/dev/null; do
	now=$(blocks)
	if [ "$now" -lt "$before" ]; then
		kill -9 "$daemon"
		wait "$daemon" 2>/dev/null || true
		deaths=$((deaths + 1))
		start
		now=$(blocks)
	fi
	before=$now
done
wait $peak || fail "beside a daemon that is killed: $(cat "$work/peak")"
[ $deaths -gt 2 ] || fail "was killed $deaths times only"
"$SHMCTL" --socket "$socket" arena check "$name" >"$work/check" || fail "damage: $(cat "$work/check")"
echo "ok: beside a daemon that is killed $deaths times as it punches"
ask destroy "$name" >/dev/null

stop
printf '[daemon]\ndecay = never\n' >"$config"
start
ask create "$name" 0 600 1024 >/dev/null
hold keeper "$name"
tell keeper take
eventually 5 grep -q taken=8 "$work/keeper" || fail "no memory"
tell keeper free
eventually 5 grep -q freed=8 "$work/keeper" || fail "not freed"
sleep 3
[ "$(du -k "$file" | cut -f1)" -gt 8192 ] || fail "given back, though it is to stay"
printf '[daemon]\ndecay = 1\n' >"$config"
kill -HUP "$daemon"
shrunk()
{
	[ "$(du -k "$file" | cut -f1)" -lt 4096 ]
}
eventually 10 shrunk || fail "not given back after a reload"
echo "ok: memory stays as long as configured"
stop
