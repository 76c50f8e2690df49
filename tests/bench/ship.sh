#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/bench/ship.sh [RECORDS [RUNS]] : records of 128 bytes a second, from the first log call until a stream of NATS
# JetStream has the last one: written, drained to segments, shipped. Beside it, by turns, a bare loop of the engine's own
# library that publishes messages as long asynchronously to the same server. BATCH: ship-batch, 64.
# From a build directory: make tests/cli/daemon_ship,
# then BUILD=DIRECTORY tests/bench/ship.sh. Ends with 1 if the lower of 200,000 and the bare loop's median is not reached.
# shellcheck disable=SC1091,SC2154
set -eu
records=${1:-1000000}
runs=${2:-5}
top_srcdir=$(cd "$(dirname "$0")/../.." && pwd)
top_builddir=$(cd "${BUILD:-$top_srcdir/build}" && pwd)
SHMALLOCD=$top_builddir/shmallocd
SHMCTL=$top_builddir/shmctl-tool
export top_srcdir top_builddir SHMALLOCD SHMCTL
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_ship_lib.sh"

median()
{
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# ship_all : in $rate how many records a second arrived.
ship_all()
{
	local began now
	began=$(date +%s%N)
	"$ship" load "$name" "$records" 128
	until [ "$("$ship" last "$urls" "$stream" 128)" = $((records - 1)) ]; do
		now=$(date +%s%N)
		[ $((now - began)) -lt 120000000000 ] || fail "$("$ship" last "$urls" "$stream" 128) records have come, not $records"
		sleep 0.02
	done
	now=$(date +%s%N)
	rate=$((records * 1000000000 / (now - began)))
}

servers 1
sed -i 's/max_file_store: 2G/max_file_store: 64G/' "$work/nats0.conf"
server 0
batch=${BATCH:-64}
configure 'log-fsync = interval'
start --log-dir "$logs"
"$SHMCTL" arena create "$name" --size 256M --log-size 64M --log-policy block >/dev/null
"$ship" load "$name" 1 128 # with the first record comes the stream
eventually 10 grep -q 'its log is shipped' "$work/err" || fail "the shipper does not begin"

for ((run = 0; run < runs; run++)); do
	"$ship" bare "$urls" BARE$run "$records" 128 >>"$work/bare"
	ship_all
	echo "$rate" >>"$work/ship"
	echo "bare $(tail -n 1 "$work/bare") shipped $rate"
	# Neither has the other's messages beside it on the disk.
	"$ship" purge "$urls" "$stream"
done
bare=$(median <"$work/bare")
shipped=$(median <"$work/ship")
bar=$((bare < 200000 ? bare : 200000))
echo "medians of $runs runs of $records: bare $bare, shipped $shipped in messages of $batch, bar $bar records/s"
[ "$shipped" -ge "$bar" ] || fail "below the bar"
