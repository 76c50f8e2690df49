#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# drain.sh [DIRECTORY]: how fast shmallocd writes a log to the disk there, beside dd of the same block size and sync
# policy, by turns. A writer logs under the policy `block`, so that the disk sets the pace; the ring is much smaller than
# what is written. DRAIN_RUNS, DRAIN_MIB, DRAIN_RECORD, DRAIN_LOG (size of the ring), DRAIN_IO, DRAIN_FSYNC from the environment.
set -eu
top_builddir=${top_builddir:-.}
runs=${DRAIN_RUNS:-5}
mib=${DRAIN_MIB:-1024}
record=${DRAIN_RECORD:-4000}
log=${DRAIN_LOG:-16M}
work=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/drain.XXXXXX")
name=drain-bench-$$
daemon=
export SHMALLOC_SOCKET=$work/socket

clean()
{
	[ -z "$daemon" ] || { kill -9 "$daemon"; wait "$daemon" || true; } 2>/dev/null
	rm -rf "$work" /dev/shm/shmalloc."$name"*
}
trap clean EXIT
trap 'exit 1' INT TERM

# by_dd FSYNC : MiB/s
by_dd()
{
	local flags=() end
	[ "$1" != batch ] || flags=(oflag=dsync)
	[ "$1" != interval ] || flags=(conv=fdatasync)
	end=$(dd if=/dev/zero of="$work/dd" bs=1M count="$mib" "${flags[@]}" 2>&1 | tail -1)
	rm "$work/dd"
	echo "$end" | awk -v mib="$mib" '{ for (i = 1; i <= NF; i++) if ($i ~ /^s,?$/) printf "%.0f\n", mib / $(i - 1) }'
}

# by_daemon IO FSYNC : MiB/s
by_daemon()
{
	printf '[daemon]\nio = %s\nlog-fsync = %s\nlog-compress = no\nlog-retention = all\n' "$1" "$2" >"$work/conf"
	rm -f "$work/out"
	"$top_builddir/shmallocd" --socket "$SHMALLOC_SOCKET" --state-dir "$work/state" --log-dir "$work/logs" \
		--config "$work/conf" >"$work/out" 2>"$work/err" &
	daemon=$!
	until grep -q ready "$work/out" 2>/dev/null; do sleep 0.05; done
	"$top_builddir/shmctl-tool" arena create "$name" --size 64M --log-size "$log" --log-policy block >/dev/null
	"$top_builddir/tests/bench/drain_write" "$name" "$record" "$mib"
	"$top_builddir/shmctl-tool" arena destroy "$name" >/dev/null
	kill "$daemon"
	wait "$daemon"
	daemon=
	[ "$(du -sm --apparent-size "$work/logs" | cut -f1)" -ge "$mib" ] || { echo "not all is on the disk: $(du -sm "$work/logs")" >&2; cat "$work/err" >&2; ls -l "$work/logs/$name" >&2; exit 1; }
	rm -rf "$work/logs"
}

median()
{
	sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

echo "| fsync | loop | dd, MiB/s | drained, MiB/s | ratio |"
echo "|---|---|---:|---:|---:|"
for fsync in ${DRAIN_FSYNC:-never interval batch}; do
	for io in ${DRAIN_IO:-uring epoll}; do
		rm -f "$work"/mib.*
		for ((i = 0; i < runs; i++)); do
			by_dd "$fsync" >>"$work/mib.dd"
			by_daemon "$io" "$fsync" >>"$work/mib.daemon"
		done
		dd=$(median "$work/mib.dd")
		drained=$(median "$work/mib.daemon")
		echo "| $fsync | $io | $dd | $drained | $(awk -v a="$drained" -v b="$dd" 'BEGIN { printf "%.2f", a / b }') |"
	done
done
