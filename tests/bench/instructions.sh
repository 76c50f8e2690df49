#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Instructions of one call, kept in a table: they show what a clock cannot.
#   instructions.sh check BENCH TABLE       counts anew; 1 if a call has grown by more than 3 %
#   instructions.sh update BENCH TABLE      counts anew, and writes the table
#   instructions.sh compare TABLE FRESH     the comparison alone, of two tables
# A table is for one compiler with one set of flags, which its first line names. With another there is nothing
# to compare: exit status 77.
set -eu
here=$(dirname "$0")
growth=3

count() { # BENCH
	echo "# $("$1" --compiler)"
	PEERS="shmalloc shmalloc-of shmalloc-handle" WORKS="pair128 pair4k ws bare64k" bash "$here/callgrind.sh" "$1"
	PEERS=shmalloc WORKS=logcalls bash "$here/callgrind.sh" "$1" | tail -n +2
}

how_to_update="If it is meant so: make update-instructions, and commit tests/bench/instructions.csv."

same_compiler() { # TABLE FRESH
	local theirs ours
	theirs=$(head -1 "$1") ours=$(head -1 "$2")
	[ "$theirs" = "$ours" ] || {
		echo "nothing compared: the table is for ${theirs#\# }; this is ${ours#\# }"
		exit 77
	}
}

compare() { # TABLE FRESH
	same_compiler "$1" "$2"
	awk -F, -v growth="$growth" -v advice="$how_to_update" '
		/^#/ || $1 == "workload" { next }
		{ key = $1 " " $2 " " $3 }
		NR == FNR { was[key] = $4; order[++n] = key; next }
		{ now[key] = $4; if (!(key in was)) { print "NEW      " key ": " $4; changed = failed = 1 } }
		END {
			for (i = 1; i <= n; i++) {
				key = order[i]
				verdict = "same     "
				if (!(key in now)) {
					print "MISSING  " key ": was " was[key]
					changed = failed = 1
					continue
				}
				if (now[key] > was[key] * (1 + growth / 100)) {
					verdict = "GREW     "
					changed = failed = 1
				} else if (now[key] < was[key] * (1 - growth / 100)) {
					verdict = "shrank   "
					changed = 1
				}
				printf "%s%-32s %8.1f, was %8.1f (%+.1f %%)\n", verdict, key, now[key], was[key],
					was[key] ? 100 * (now[key] / was[key] - 1) : 0
			}
			if (!n) { print "the table is empty"; failed = 1 }
			if (changed) print advice
			exit failed
		}' "$1" "$2"
}

case ${1:-} in
check | update)
	fresh=$(mktemp)
	trap 'rm -f "$fresh"' EXIT
	# Before counting for a minute in vain.
	[ "$1" = update ] || { echo "# $("$2" --compiler)" >"$fresh"; same_compiler "$3" "$fresh"; }
	count "$2" >"$fresh"
	if [ "$1" = check ]; then compare "$3" "$fresh"; else cat "$fresh" >"$3"; fi
	;;
compare) compare "$2" "$3" ;;
*)
	sed -n 's/^#   //p' "$0" >&2
	exit 2
	;;
esac
