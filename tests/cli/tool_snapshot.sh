#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A snapshot taken while four processes work and are killed is restored to an arena that is sound, with every name's object
# whole; one taken while they are stopped is of one instant. A snapshot that was cut off, changed, or made by another
# version makes nothing, and says why.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

worker=$top_builddir/tests/cli/snapshot_work
seed=${SHMA_TEST_SEED:-$$}
echo "seed $seed"
arena=$dir/live.arena
restored=$dir/restored.arena
snapshot=$dir/snapshot
pids=

# started N SEED: a worker.
started()
{
	"$worker" work "$arena" "$1" "$2" >/dev/null 2>"$dir/worker.$1" &
	eval "worker_$1=$!"
	pids="$pids $!"
}
end_workers()
{
	for pid in $pids; do
		kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	pids=
}
trap 'end_workers; cleanup' EXIT

# restored_is_whole [exact]
restored_is_whole()
{
	expect 0 arena restore "$snapshot" "$restored"
	expect 0 arena check "$restored"
	"$worker" verify "$restored" "$@" >"$dir/names" 2>"$dir/why" ||
		fail "round $round: $(cat "$dir/why")"
	expect 0 --embedded log cat "$restored"
	[ "$(wc -l <"$dir/out")" -gt 0 ] || fail "round $round: no record of the log is left"
	expect 0 arena check "$restored"
	expect 0 --embedded arena destroy "$restored"
}

"$worker" make "$arena" x "$seed" || fail "cannot make the arena"
for n in 0 1 2 3; do
	started $n "$seed$n"
done
for round in 1 2 3 4; do
	sleep 0.1
	n=$((round % 4))
	eval "kill -9 \$worker_$n"
	started $n "$seed$round"
	expect 0 arena snapshot "$arena" "$snapshot" --level "$round"
	restored_is_whole
done

# Of one instant; and they go on.
round=stopped
for n in 0 1 2 3; do
	eval "pid=\$worker_$n"
	wait_for grep -q "$arena" "/proc/$pid/maps"
done
sleep 0.1
expect 0 arena snapshot "$arena" "$snapshot" --stop --json
json_valid
json_has "d['stopped_clients'] >= 4 and d['objects'] >= 60 and d['log_blocks_missed'] == 0"
for n in 0 1 2 3; do
	eval "pid=\$worker_$n"
	state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat")
	case $state in
	T | Z | '') fail "worker $n does not go on: state '$state'" ;;
	esac
done
restored_is_whole exact
end_workers

# A name that is taken.
expect 0 arena restore "$snapshot" "$restored"
expect 1 arena restore "$snapshot" "$restored"
err_has 'already'
expect 0 --embedded arena destroy "$restored"

# Nothing is made of what is not whole.
size=$(stat -c %s "$snapshot")
refused()
{
	expect 1 arena restore "$dir/bad" "$restored"
	err_has "$1"
	[ -z "$(find "$dir" -name 'restored*')" ] || fail "$1: something was made"
}
for cut in 0 200 $((size / 2)) $((size - 1)) $((size - 32)); do
	head -c "$cut" "$snapshot" >"$dir/bad"
	refused 'cut off|too short'
done
for at in 3 70 140 $((size / 2)) $((size - 10)); do
	cp "$snapshot" "$dir/bad"
	byte=$(od -An -tu1 -j "$at" -N 1 "$snapshot" | tr -d ' ')
	# shellcheck disable=SC2059
	printf "$(printf '\\%03o' $((byte ^ 85)))" | dd of="$dir/bad" bs=1 seek="$at" conv=notrunc status=none
	refused 'damaged|no snapshot|missing'
done
cp "$snapshot" "$dir/bad"
printf '\002' | dd of="$dir/bad" bs=1 seek=8 conv=notrunc status=none
refused 'another version'
{ cat "$snapshot"; echo; } >"$dir/bad"
refused 'follows its end'
finish
