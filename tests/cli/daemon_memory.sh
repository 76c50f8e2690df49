#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Memory that nobody uses goes back to the system, whether it was freed or its owner was killed; what is used stays.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

kib()
{
	du -k /dev/shm/shmalloc."$name" | cut -f1
}
below()
{
	[ "$(kib)" -lt "$1" ]
}
above()
{
	[ "$(kib)" -gt "$1" ]
}

start
ask create "$name" 0 600 64 >/dev/null
before=$(kib)
hold freer "$name"
hold keeper "$name"
keeper=$holder
for who in freer keeper; do
	tell $who take
	eventually 5 grep -q taken=8 "$work/$who" || fail "$who gets no memory"
done
above $((before + 16000)) || fail "16 MiB are not there: $before, then $(kib)"
tell freer free
eventually 5 grep -q freed=8 "$work/freer" || fail "not freed"
eventually 10 below $((before + 9500)) || fail "freed memory is not given back: $before, now $(kib) KiB"
sleep 1.5
above $((before + 8000)) || fail "used memory is gone: $before, now $(kib) KiB"
echo "ok: freed memory goes back, used memory stays"
kill -9 "$keeper"
eventually 10 below $((before + 1500)) || fail "a dead client's memory is not given back: $before, now $(kib) KiB"
echo "ok: so does a dead client's"

tell freer take
eventually 5 grep -q -z 'taken=8.*taken=8' "$work/freer" || fail "given back, and not to be had again"
kill -9 "$daemon"
kill -9 "$holder" 2>/dev/null || true
tell freer free
start
eventually 10 below $((before + 1500)) || fail "freed while the daemon was away: $before, now $(kib) KiB"
echo "ok: also what was freed while the daemon was away"
stop
