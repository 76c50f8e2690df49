#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon is killed again and again while clients create, open and destroy arenas; each next one starts, nothing is left
# over in the end, and what was told to be created is there.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

rounds=${ROUNDS:-12}

# One client's life: its answers are lost with the daemon, so any of them is right.
busy()
{
	local a=$name.$1 backing=$2
	while [ -e "$work/go" ]; do
		"$peer" "$socket" create "$a" "$backing" || true
		"$peer" "$socket" rights "$a" || true
		"$peer" "$socket" destroy "$a" || true
	done >/dev/null 2>&1
}

start
ask create "$name.stays" 3 >/dev/null
touch "$work/go"
workers=()
for i in 0 1 2; do
	busy $i $((i == 2 ? 3 : i)) &
	workers+=($!)
done
pids+=("${workers[@]}")
for ((i = 0; i < rounds; i++)); do
	sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
	kill -9 "$daemon"
	if ((i % 2)); then start --io epoll; else start --io uring; fi
done
rm "$work/go"
wait "${workers[@]}"
echo "ok: $((rounds + 1)) daemons, each started over the one before"
expect "what was created stays" "$(ask show "$name.stays")" "name=$name.stays status=served backing=file *"
for a in $(ask list | sed 's/name=\([^ ]*\).*/\1/'); do
	expect "destroy $a" "$(ask destroy "$a")" ""
done
# A posix arena that was made, but not yet in the book, is adopted when it is asked for.
for i in 0 1 2; do
	ask destroy "$name.$i" >/dev/null
done
expect "nothing is left in the state directory" "$(cd "$work/state" && echo * files/*)" "deaths files lock files/[*]"
expect "nor in /dev/shm, but for empty life files" "$(shared -size +0)" ""
stop
