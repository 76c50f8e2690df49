#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# callgrind.sh BENCH : instructions of one allocate, one free and, where handles are held, one look-up of a pointer, by
# peer and workload. They do not depend on what else the machine does. Each figure is the difference
# between a run of N and one of 2 N operations, counted inside that one function of the plug-in and
# whatever it calls, so that the driver, the start and the warm-up are not in it.
# PEERS and WORKS choose; N is the number of operations (the more, the better rare slow paths count).
set -eu
bench=${1:?usage: callgrind.sh BENCH}
peers=${PEERS:-null glibc jemalloc mimalloc tcmalloc shmalloc shmalloc-handle}
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
	null) echo null ;;
	boost) echo boost ;;
	shmalloc) echo pointer ;;
	shmalloc-handle) echo handle ;;
	*) echo private ;;
	esac
}

# count PEER WORK FUNCTION OPS: instructions inside the function.
count() {
	local out=$folder/out
	rm -f "$out"
	GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384 valgrind --tool=callgrind -q --callgrind-out-file="$out" \
		--toggle-collect="$3" "$bench" --child "$1" --arena "callgrind-$$-$((serial++))" --ops "$4" "$2" \
		>"$folder/stdout" 2>"$folder/stderr" || return 1
	rm -f /dev/shm/*"callgrind-$$-"*
	sed -n 's/^\(totals\|summary\): *\([0-9]*\).*/\2/p' "$out" | tail -1
}

per_operation() {
	local once twice
	once=$(count "$1" "$2" "$3" "$n") && twice=$(count "$1" "$2" "$3" $((2 * n))) || {
		echo "failed"
		return
	}
	awk -v a="$once" -v b="$twice" -v n="$n" 'BEGIN { printf "%.1f", (b - a) / n }'
}

serial=0
printf '%-10s %-16s %8s %8s %8s\n' workload peer alloc free ptr
for work in $works; do
	for peer in $peers; do
		prefix=$(prefix_of "$peer")
		alloc=$(per_operation "$peer" "$work" "${prefix}_alloc")
		[ "$alloc" != failed ] || sed 's/^/  /' "$folder/stderr" >&2
		free=$(per_operation "$peer" "$work" "${prefix}_free")
		ptr=-
		[ "$prefix" != handle ] || ptr=$(per_operation "$peer" "$work" handle_ptr)
		printf '%-10s %-16s %8s %8s %8s\n' "$work" "$peer" "$alloc" "$free" "$ptr"
	done
done
