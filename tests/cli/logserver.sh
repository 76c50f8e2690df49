#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example log server closes its account with one worker killed, without a daemon and with one, and again in an arena that
# has seen it before.
set -eu
server=$top_builddir/libclient/examples/logserver
work=$(mktemp -d "${TMPDIR:-/tmp}/shmalloc-test.XXXXXX")
arena=logserver-$$x # whose end tells it from that of another process
daemon=
clean()
{
	status=$?
	trap - EXIT
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } || status=1
	rm -rf "$work" /dev/shm/shmalloc."$arena"*
	exit $status
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

for i in $(seq 20000); do
	echo "Nov 22 10:00:00 host program$((i % 50))[$i]: line $i, an error or a warning of $((i * 7919 % 1000))"
done >"$work/syslog"
head -c 200000 /dev/zero | tr '\0' x >"$work/one-long-line"

for lines in 1 2000 30000; do
	echo "embedded, $lines lines"
	timeout 1200 "$server" --embedded --arena "$arena" --lines $lines "$work/syslog" "$work/one-long-line"
done

"$SHMALLOCD" --socket "$work/socket" --state-dir "$work/state" >"$work/out" &
daemon=$!
for _ in $(seq 2000); do
	grep -q '^ready ' "$work/out" && break
	sleep 0.05
done
for lines in 2000 30000; do
	echo "with a daemon, $lines lines"
	timeout 1200 "$server" --socket "$work/socket" --arena "$arena.d" --lines $lines "$work/syslog"
done
