#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# crash.sh: kills a client at points spread over all operations, for about a minute.
# crash.sh all: at every point, and writes the table of what was done into the README.
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
[ "${1:-}" = all ] || exec "$crash" --changes --seconds "${CRASH_SECONDS:-60}"

rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
status=0
"$crash" --table "$rows" || status=$?
if [ -w "$readme" ]; then
	{
		sed '/^<!-- table -->$/q' "$readme"
		echo
		echo "| operation | path | instructions | points | kills | failures |"
		echo "|---|---|---:|---:|---:|---:|"
		cat "$rows"
		echo
		sed -n '/^<!-- end -->$/,$p' "$readme"
	} >"$rows.new"
	cat "$rows.new" >"$readme"
	rm -f "$rows.new"
fi
exit $status
