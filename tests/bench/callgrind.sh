#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# callgrind.sh BENCH : instructions of one allocate, one free and, where handles are held, one look-up of a pointer, by
# workload and peer, as CSV. They do not depend on what else the machine does. Each figure is the difference
# between a run of N and one of 2 N operations, of what that function of the plug-in and whatever it calls
# has executed, by the calls of it: the driver, the start and the warm-up are not in it.
# PEERS and WORKS choose; N is the number of operations (the more, the better rare slow paths count).
set -eu
bench=${1:?usage: callgrind.sh BENCH}
peers=${PEERS:-null glibc jemalloc mimalloc tcmalloc shmalloc shmalloc-of shmalloc-handle}
works=${WORKS:-pair128 pair4k ws logmix bare64k}
n=${N:-20000}

command -v valgrind >/dev/null || {
	echo "callgrind.sh: valgrind is not installed" >&2
	exit 77
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"; rm -f /dev/shm/*callgrind-$$-*' EXIT

# The names that the plug-in's functions have in its source.
prefix_of() {
	case $1 in
	null | boost) echo "$1" ;;
	shmalloc) echo pointer ;;
	shmalloc-of) echo of ;;
	shmalloc-handle) echo handle ;;
	*) echo private ;;
	esac
}

# count PEER WORK OPS: of each function of the plug-in that is called, "FUNCTION CALLS INSTRUCTIONS".
serial=0
count() {
	local name=callgrind-$$-$((serial += 1)) status=0
	GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384 valgrind --tool=callgrind -q --callgrind-out-file="$folder/out" \
		--compress-strings=no --compress-pos=no \
		"$bench" --child "$1" --arena "$name" --ops "$3" "$2" >"$folder/stdout" 2>"$folder/stderr" || status=$?
	rm -f /dev/shm/*"$name"*
	[ "$status" = 0 ] || { sed 's/^/callgrind.sh: /' "$folder/stderr" >&2; return 1; }
	awk -v prefix="$(prefix_of "$1")_" '
		/^cfn=/ { name = substr($0, 5); next }
		/^calls=/ { split(substr($0, 7), part, " "); counted = part[1]; cost = 1; next }
		cost { calls[name] += counted; sum[name] += $2; cost = 0 }
		END { for (name in calls) if (index(name, prefix) == 1) print name, calls[name], sum[name] }
	' "$folder/out" | sort
}

echo "workload,peer,call,instructions"
for work in $works; do
	for peer in $peers; do
		count "$peer" "$work" "$n" >"$folder/once" && count "$peer" "$work" $((2 * n)) >"$folder/twice" || {
			echo "callgrind.sh: $peer failed on $work" >&2
			exit 1
		}
		join "$folder/once" "$folder/twice" | awk -v work="$work" -v peer="$peer" '
			$4 > $2 { sub(/^[^_]*_/, "", $1); printf "%s,%s,%s,%.1f\n", work, peer, $1, ($5 - $3) / ($4 - $2) }'
	done
done
