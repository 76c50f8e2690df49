#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Logs go to segments: each record once, in files of the size that was asked for, as long as they are to be kept.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"

# drained : whether the disk has what was logged.
drained()
{
	"$drain" check "$logs/$name" 1 | grep -q "$1"
}

for io in uring epoll; do
	for fsync in never interval batch; do
		configure "io = $io" "log-fsync = $fsync" 'log-compress = no'
		start --log-dir "$logs"
		make_arena --log-policy block
		write 4 300 3000
		wait "$writing"
		finish
		stop
		expect "stops in order" $status 0
		account 4
		all_there "$io, fsync $fsync"
		[ "$lost" = 0 ] || fail "with a consumer that is waited for nothing is lost"
		[ "$large" = 28 ] || fail "$large large records, not 28"
		[ "$torn" = 0 ] || fail "torn"
		start --log-dir "$logs"
		"$SHMCTL" arena destroy "$name" >/dev/null
		stop
		rm -rf "$logs"
	done
done

# What few records there are come after a moment, though no block is full.
configure 'log-drain-ms = 50' 'log-compress = no'
start --log-dir "$logs"
make_arena
write 1 100
eventually 5 drained 'records=[1-9]' || fail "open blocks are not drained"
finish
echo "ok: open blocks are drained"

# An arena that is unmade leaves its log, to the last record.
"$SHMCTL" arena destroy "$name" >/dev/null
account 1
all_there "the arena is destroyed"
stop
rm -rf "$logs"

# Many threads' worth of leases on a small ring: all go to shared blocks, too.
configure 'log-compress = no'
start --log-dir "$logs"
make_arena --log-policy block --log-size 64K
write 12 200 1500
wait "$writing"
finish
stop
account 12
all_there "12 writers on 16 blocks"
rm -rf "$logs"

# Segments of 256 KiB, compressed, at most 1 MiB of them.
configure 'log-segment-size = 256K' 'log-retention = 600K'
start --log-dir "$logs"
write 2 1000 8000
wait "$writing"
finish
compressed()
{
	[ "$(find "$logs/$name" -name '*.log' | wc -l)" -le 1 ] && [ "$(find "$logs/$name" -name '*.zst' | wc -l)" -gt 0 ]
}
eventually 10 compressed || fail "closed segments are not compressed: $(ls -l "$logs/$name")"
[ "$(find "$logs/$name" -name '*.log' -size +400k | wc -l)" = 0 ] || fail "a segment is too large"
stop
kept()
{
	[ "$(du -kb --apparent-size "$logs/$name" | cut -f1)" -lt 1400000 ]
}
kept || fail "more is kept than was asked for: $(ls -l "$logs/$name")"
account 2 first
[ "$missing" -le "$lost" ] || fail "$missing records are missing between others, $lost lost"
[ ! -e "$logs/$name/0000000000000001.log.zst" ] && [ ! -e "$logs/$name/0000000000000001.log" ] ||
	fail "the oldest segment is still there"
echo "ok: segments are closed by size, compressed, deleted"
rm -rf "$logs"

# By age, though nothing more comes.
configure 'log-segment-age = 1'
start --log-dir "$logs"
write 1 100 10
wait "$writing"
finish
none_open()
{
	compressed && [ "$(find "$logs/$name" -name '*.log' | wc -l)" = 0 ]
}
eventually 10 none_open || fail "an old segment is not closed though there is nothing to write: $(ls -l "$logs/$name")"
account 1
all_there "closed by age"
stop
