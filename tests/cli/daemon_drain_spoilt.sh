#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client writes into a block while that is being written to the disk; then the daemon is killed. What was in the block is
# lost, and told by every reader, while the segment grows and afterwards; of all else each record is there.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

[ "${SANITIZERS:-no}" = no ] || { echo "not with a sanitizer"; exit 77; }
echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"
shim=$top_builddir/tests/cli/.libs/libdaemon_drain_shim.so
reader=$top_builddir/tests/cli/segment_records

# Whether the follower was told of losses: field 7.
told()
{
	grep -Eqm 1 '^([^ ]+ ){6}[1-9]' "$work/followed"
}

# spoilt FSYNC COMPRESS
spoilt()
{
	configure 'io = epoll' "log-fsync = $1" "log-compress = $2" 'log-drain-ms = 200' 'log-segment-size = 1G'
	PREFIX="env LD_PRELOAD=$shim SHIM=$work/shim" start --log-dir "$logs"
	make_arena --log-policy block --log-size 256K
	rm -f "$work/over"
	"$reader" follow "$logs/$name" "$work/over" >"$work/followed" &
	following=$!
	pids+=("$following")
	write 4 100
	touch "$work/shim.spoil"
	eventually 10 test ! -e "$work/shim.spoil" || fail "no block was written"
	eventually 10 told || fail "the follower stands before what was spoilt"
	stop KILL
	start --log-dir "$logs"
	finish
	sleep 0.5
	stop
	: >"$work/over"
	wait "$following" || fail "the follower"
	grep -q 'records that were changed while they were written: they are lost' "$work/err" || fail "not said"
	account 4
	[ "$spoilt" -gt 0 ] || fail "nothing was spoilt"
	[ "$torn" = 0 ] || fail "a torn segment was left"
	all_there "fsync $1, compress $2, $spoilt records spoilt"
	"$reader" show "$logs/$name" >"$work/shown" 2>"$work/told"
	"$reader" time "$logs/$name" >"$work/timed" 2>>"$work/told" || fail "by time"
	[ "$(sort -u "$work/told")" = "lost=$lost" ] || fail "told as lost: $(cat "$work/told"), lost $lost"
	cmp "$work/followed" "$work/shown" || fail "who followed got something else"
	[ "$(wc -l <"$work/timed")" = "$records" ] || fail "by time there are others"
	start --log-dir "$logs"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	rm -rf "$logs"
	: >"$work/err"
}

spoilt never no
spoilt batch yes
