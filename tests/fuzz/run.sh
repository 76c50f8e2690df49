#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/fuzz/run.sh [SECONDS [TARGET…]] : each target by clang's libFuzzer, under AddressSanitizer and
# UndefinedBehaviorSanitizer, for SECONDS in all (default 60). What is found stays in build-fuzz/found,
# and is repeated by: build-fuzz/fuzz_TARGET FILE
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift $(($# > 0 ? 1 : 0))
[ $# -gt 0 ] || set -- protocol text fields position segment snapshot repair
for tool in clang pkg-config; do
	command -v $tool >/dev/null || { echo "the fuzzer is built with $tool, which is not installed"; exit 77; }
done
build="build-fuzz"
mkdir -p "$build/found"

flags=(-std=gnu11 -g -O1 -pthread -D_GNU_SOURCE -DSHM_DEBUG=1 '-DPKGLIBDIR="/usr/lib"' '-DPKGLIBEXECDIR="/usr/libexec"' -fno-omit-frame-pointer
	-DPACKAGE_NAME='"shmalloc"' -DPACKAGE_VERSION='"0"' -DPACKAGE_STRING='"shmalloc 0"'
	-Ishm -Ilibclient -Ilibclient/ondisk -Idaemon -Itools -Itests/unit -Itests/fuzz -w
	"-fsanitize=address,undefined" -fno-sanitize-recover=undefined)
read -ra libraries < <(pkg-config --libs liburing inih numa libzstd liblz4 libdw zlib check)

# All but the programs' own main files and what needs a server's library, once; then each target with the fuzzer's main().
export build
compile()
{
	local source=$1 object
	shift
	object=$build/${source//\//_}.o
	[ "$object" -nt "$source" ] && [ -z "$(find shm libclient daemon tools tests/fuzz tests/unit -name '*.h' -newer "$object" | head -n 1)" ] ||
		clang "$@" -fsanitize=fuzzer-no-link -c -o "$object" "$source"
}
export -f compile
# shellcheck disable=SC2016
find shm libclient libclient/ondisk daemon tools -maxdepth 1 -name '*.c' ! -name main.c ! -name shmctl-tool.c ! -name ship_nats.c -print0 |
	xargs -0 -P "$(nproc)" -I{} bash -c 'compile "$@"' compile {} "${flags[@]}"
objects=("$build"/shm_*.o "$build"/libclient_*.o "$build"/daemon_*.o "$build"/tools_*.o)
for target; do
	clang "${flags[@]}" -fsanitize=fuzzer -o "$build/fuzz_$target" "tests/fuzz/fuzz_$target.c" \
		"${objects[@]}" "${libraries[@]}" -lm
	# The inputs to begin with come from the target itself, by the main() that replays.
	clang "${flags[@]}" -fsanitize=fuzzer-no-link -o "$build/replay_$target" "tests/fuzz/fuzz_$target.c" \
		tests/fuzz/replay.c "${objects[@]}" "${libraries[@]}" -lm
	mkdir -p "$build/corpus-$target"
	"$build/replay_$target" --seeds "$build/corpus-$target"
done

status=0
for target; do
	log=$build/$target.log
	echo "$target: $((seconds / $#)) s from $(find "$build/corpus-$target" -type f | wc -l) inputs"
	# A hang is an input of more than a minute, on however busy a machine; leaks of an input are finds, too.
	# Where the time is up before the first inputs are through, there is no find: 124 is timeout's, 72 the fuzzer's.
	result=0
	timeout --kill-after=10 $((seconds / $# + 120)) \
		"$build/fuzz_$target" -max_total_time=$((seconds / $#)) -timeout=60 -max_len=4096 -len_control=0 -rss_limit_mb=4096 \
		-print_final_stats=1 -artifact_prefix="$build/found/$target-" "$build/corpus-$target" >"$log" 2>&1 ||
		result=$?
	case $result in
	0 | 72 | 124) ;;
	*) status=1; echo "FAILED: $target"; tail -n 60 "$log"; continue ;;
	esac
	sed -n 's/^stat::number_of_executed_units: */  inputs tried: /p; s/^stat::new_units_added: */  kept: /p' "$log"
	grep -q '^stat::number_of_executed_units: *[1-9]' "$log" || { status=1; echo "FAILED: $target: nothing was tried"; }
done
exit $status
