#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Readers of a log that a daemon writes, which is killed again and again: who follows it, who comes back to its position
# every few records, who reads it afterwards, as stored, by time or in Python, get the same records, each once.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"
reader=$top_builddir/tests/cli/segment_records

# clients COUNT : whether so many have the arena open, the daemon among them.
clients()
{
	[ "$("$SHMCTL" client list | grep -c "$name")" -ge "$1" ]
}

# follow IO FSYNC POLICY RING COMPRESS KILLS
follow()
{
	configure "io = $1" "log-fsync = $2" "log-compress = $5" 'log-segment-size = 256K' 'log-drain-ms = 20' \
		'log-retention = all'
	start --log-dir "$logs"
	make_arena --log-policy "$3" --log-size "$4"
	rm -f "$work/written.all"
	"$reader" follow "$logs/$name" "$work/written.all" >"$work/followed" &
	following=$!
	"$reader" hop "$logs/$name" "$work/written.all" >"$work/hopped" &
	hopping=$!
	pids+=("$following" "$hopping")
	write 4 400
	eventually 20 clients 5 || fail "writers do not come"
	for ((k = 0; k < $6; k++)); do
		sleep "0.$(printf '%03d' $((RANDOM % 250)))"
		stop KILL
		start --log-dir "$logs"
	done
	sleep 0.1
	finish
	sleep 0.5
	stop
	: >"$work/written.all"
	wait "$following" || fail "the follower"
	wait "$hopping" || fail "the one who comes back"
	"$reader" show "$logs/$name" >"$work/shown" 2>"$work/told"
	"$reader" time "$logs/$name" >"$work/timed" 2>>"$work/told" || fail "by time"
	account 4
	[ "$records" -gt 0 ] || fail "no records"
	[ "$(sort -u "$work/told")" = "lost=$lost" ] || fail "told as lost: $(cat "$work/told"), lost $lost"
	[ "$(wc -l <"$work/shown")" = "$records" ] || fail "$(wc -l <"$work/shown") shown, $records there"
	for other in followed hopped; do
		cmp "$work/$other" "$work/shown" || fail "$other: not what is stored"
	done
	# By time losses are told with other records: field 7.
	for list in shown timed; do
		sed 's/^\(\([^ ]* \)\{6\}\)[^ ]* /\1/' "$work/$list" | sort >"$work/$list.sorted"
	done
	cmp "$work/shown.sorted" "$work/timed.sorted" || fail "by time there are others"
	# The one in Python is slow: some segments.
	if command -v python3 >/dev/null && command -v zstd >/dev/null; then
		for segment in $(find "$logs/$name" -name '*.log*' | shuf -n 3 --random-source=<(yes "$SHMA_TEST_SEED")); do
			python3 "$top_srcdir/tools/shmalog.py" --raw "$segment" >"$work/python"
			"$reader" show "$segment" 2>/dev/null | cmp "$work/python" || fail "in Python $segment is another"
		done
	fi
	echo "ok: $1, fsync $2, $3, $4, compress $5: $records records, $lost lost, $segments segments"
	start --log-dir "$logs"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	rm -rf "$logs"
}

follow uring never overwrite 256K no 3
follow epoll batch block 64K yes 3
follow uring interval block 1M yes 3
