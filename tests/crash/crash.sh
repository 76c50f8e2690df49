#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# crash.sh: kills a client at points spread over all operations, for less than a minute.
# crash.sh all: at every point, and writes the table of what was done into the README.
# CRASH_JOBS, CRASH_SECONDS, CRASH_ONLY and CRASH_CHANGES (see README.md) from the environment.
set -eu
crash=$top_builddir/tests/crash/crash
readme=$top_srcdir/tests/crash/README.md

if [ "$(uname -m)" != x86_64 ]; then
	echo "steps by the trap flag of x86-64"
	exit 77
fi
if [ "${SANITIZERS:-no}" != no ]; then
	echo "a sanitizer's own instructions are not what this is about"
	exit 77
fi

[ "${1:-}" = all ] || "$top_srcdir/tests/crash/seeded.sh" --apply
options=(--changes --seconds "${CRASH_SECONDS:-40}")
[ "${1:-}" != all ] || options=()
[ -z "${CRASH_CHANGES:-}" ] || options+=(--changes)
[ -z "${CRASH_ONLY:-}" ] || options+=(--only "$CRASH_ONLY")
jobs=${CRASH_JOBS:-$(($(nproc) * 2))} # most of the time each waits for a process to come or go
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pids=()
for ((i = 0; i < jobs; i++)); do
	"$crash" "${options[@]}" --part "$i/$jobs" --table "$work/$i" &
	pids+=($!)
done
trap 'kill "${pids[@]}"; rm -rf "$work"' INT TERM
status=0
for pid in "${pids[@]}"; do
	wait "$pid" || status=1
done

[ "${1:-}" = all ] || exit $status
# One row an operation: of short ones each harness has done a part.
sort -n "$work"/[0-9]* | awk -F ' [|] ?' '
	function row() { if (text != "") printf "%s | %d%s | %d |\n", text, kills, star, failures }
	$1 != number { row(); kills = failures = 0 }
	{ number = $1; text = "| " $2 " | " $3 " | " $4 " | " $5 " | " $6; star = $7 ~ /[*]/ ? " *" : ""; kills += $7; failures += $8 }
	END { row() }' >"$work/rows"
{
	sed '/^<!-- table -->$/q' "$readme"
	echo
	echo "| operation | path | instructions | stores | calls | kills | failures |"
	echo "|---|---|---:|---:|---:|---:|---:|"
	cat "$work/rows"
	awk -F '|' '{ i += $4; s += $5; c += $6; kills += $7; failures += $8 }
		END { print "| all |", NR, "paths |", i, "|", s, "|", c, "|", kills, "|", failures, "|" }' "$work/rows"
	echo
	echo "A star: after each store and each call, else after each instruction."
	echo "$((SECONDS / 60)) min $((SECONDS % 60)) s by $jobs harnesses on $(nproc) processors, $(date +%Y-%m-%d)."
	echo
	sed -n '/^<!-- end -->$/,$p' "$readme"
} >"$work/README"
[ -w "$readme" ] && cat "$work/README" >"$readme"
exit $status
