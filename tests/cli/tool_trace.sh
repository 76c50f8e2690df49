#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Traces: sound ones are replayed and measured, plain or compressed; others are refused with their reason.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

# shellcheck disable=SC2059
byte() { printf "\\$(printf %03o $(($1 & 255)))"; }
le32() { byte "$1"; byte $(($1 >> 8)); byte $(($1 >> 16)); byte $(($1 >> 24)); }
header() { printf SMTRACE1; le32 "$1"; le32 "$2"; }
# event OP THREAD OBJECT SIZE
event() { byte "$1"; byte "$2"; byte 0; byte 0; le32 "$3"; le32 "$4"; }

# Objects of all kinds: small, large, resized both ways, freed, allocated again, left live, empty.
{
	header 300 2
	i=0
	while [ $i -lt 300 ]; do
		event 1 $((i & 1)) $i $((i * i % 70000))
		[ $((i % 3)) != 0 ] || event 3 0 $i $((i * 37 % 5000))
		[ $((i % 2)) != 0 ] || event 2 1 $i 0
		i=$((i + 1))
	done
	event 1 0 0 1000000
	event 3 0 0 4000000
	event 2 0 0 0
} >"$dir/good.trace"

expect 0 trace replay "$dir/good.trace" --alone
out_has '^events: *553$'
out_has '^check: *sound'
out_lacks glibc
expect 0 trace replay "$dir/good.trace" --verify --json
json_valid
json_has "d['events'] == 553 and d['objects'] == 300 and d['threads'] == 2 and d['verified'] is True"
json_has "d['peak_live_bytes'] > 4000000 and d['peak_usable_bytes'] >= d['peak_live_bytes']"
json_has "d['peak_committed_bytes'] >= d['peak_live_bytes'] and d['damage'] == 0 and d['ns_per_event'] > 0"
"$SHMCTL" trace replay "$dir/good.trace" --alone >"$dir/out" &
wait $! || fail "in the background"
[ "$(find /dev/shm -name "shmalloc.shmctl-replay-$!-*")" = "" ] || fail "a replay's arena is left"

# Beside each malloc there is; the C library's always is. A process that a sanitizer watches has no other.
if [ "${SANITIZERS:-no}" = no ]; then
	expect 0 trace replay "$dir/good.trace" --json
	json_valid
	json_has "[m['malloc'] for m in d['beside']] == ['shmalloc', 'glibc', 'jemalloc', 'mimalloc', 'tcmalloc']"
	json_has "all(m['installed'] and m['ns_per_event'] > 0 for m in d['beside'][:2])"
	json_has "all((m['ns_per_event'] is None) != m['installed'] for m in d['beside'])"
	json_has "all(m['failed'] == 0 for m in d['beside'])"
	# A malloc that is there and fails is not called missing.
	mkdir "$dir/bad"
	if ${CC:-cc} -shared -fPIC -o "$dir/bad/libjemalloc.so.2" -x c - 2>/dev/null <<-'EOF'
		#include <stdlib.h>
		void *malloc(size_t n) { (void)n; abort(); }
		void free(void *p) { (void)p; }
	EOF
	then
		before=${LD_LIBRARY_PATH-}
		LD_LIBRARY_PATH=$dir/bad${before:+:$before}
		export LD_LIBRARY_PATH
		expect 0 trace replay "$dir/good.trace" --json
		LD_LIBRARY_PATH=$before
		[ -n "$before" ] || unset LD_LIBRARY_PATH
		err_has 'FAILED: trace on jemalloc'
		json_valid
		json_has "[m for m in d['beside'] if m['malloc'] == 'jemalloc'][0]['installed'] is True"
		json_has "[m for m in d['beside'] if m['malloc'] == 'jemalloc'][0]['failed'] > 0"
		json_has "[m for m in d['beside'] if m['malloc'] == 'jemalloc'][0]['ns_per_event'] is None"
	fi
fi

header 0 1 >"$dir/empty.trace"
expect 0 trace replay "$dir/empty.trace" --json
json_valid
json_has "d['events'] == 0 and d['ns_per_event'] is None"

if command -v zstd >/dev/null; then
	zstd -q "$dir/good.trace" -o "$dir/good.trace.zst"
	expect 0 trace replay "$dir/good.trace.zst" --alone --json
	json_has "d['events'] == 553 and 'beside' not in d"
	# What it is shows in the file, not in its name; so for those beside the arena, too.
	if [ "${SANITIZERS:-no}" = no ]; then
		cp "$dir/good.trace.zst" "$dir/packed"
		expect 0 trace replay "$dir/packed" --json
		json_has "all(m['installed'] and m['ns_per_event'] > 0 for m in d['beside'][:2])"
	fi
	# Two frames in one file are one trace.
	head -c 1000 "$dir/good.trace" | zstd -q >"$dir/two.zst"
	tail -c +1001 "$dir/good.trace" | zstd -q >>"$dir/two.zst"
	expect 0 trace replay "$dir/two.zst" --alone --json
	json_has "d['events'] == 553"
	head -c 300 "$dir/good.trace.zst" >"$dir/cut.zst"
	expect 1 trace replay "$dir/cut.zst"
	err_has 'cut'
	{ head -c 100 "$dir/good.trace.zst"; head -c 500 /dev/urandom; } >"$dir/broken.zst"
	expect 1 trace replay "$dir/broken.zst"
fi

# In a named arena, which is left as it was found.
expect 0 --embedded arena create "$id" --size 256M
expect 0 --embedded trace replay "$dir/good.trace" --alone --arena "$id"
expect 0 --embedded stats "$id" --json
json_has "d['live_objects'] == 0 and d['live_bytes'] == 0"
expect 0 --embedded arena check "$id"
expect 1 --embedded trace replay "$dir/good.trace" --arena "$id-none"
expect 3 trace replay "$dir/good.trace" --arena "$id"
# Too much for it: an error that names the event, and nothing is left.
{ header 1000 1; i=0; while [ $i -lt 1000 ]; do event 1 0 $i 1000000; i=$((i + 1)); done; } >"$dir/much.trace"
expect 1 --embedded trace replay "$dir/much.trace" --arena "$id"
err_has 'event 2[0-9]* \(allocate object'
expect 0 --embedded stats "$id" --json
json_has "d['live_objects'] == 0"
expect 0 --embedded arena check "$id"

# refused NAME REASON: what is on standard input is no trace.
refused()
{
	cat >"$dir/$1"
	expect 1 trace replay "$dir/$1"
	err_has "$2"
}
printf 'SMTRACE2\001\0\0\0\001\0\0\0' | refused magic 'not a trace'
printf 'SMTR' | refused short 'not a trace'
: | refused nothing 'not a trace'
header 1 0 | refused threads 'threads'
{ header 1 1; event 1 0 0 1; printf '\002\0\0'; } | refused cut 'event 2: it ends inside an event'
{ header 1 1; event 9 0 0 1; } | refused op 'event 1: no such operation'
{ header 1 1; event 1 1 0 1; } | refused thread 'no such thread'
{ header 1 1; event 1 0 1 1; } | refused object 'no such object'
{ header 9 1; event 1 0 5 1; } | refused order 'order'
{ header 9 1; event 1 0 0 1; event 1 0 0 1; } | refused live 'is live'
{ header 9 1; event 1 0 0 1; event 2 0 0 0; event 2 0 0 0; } | refused dead 'event 3: .*not live'
{ header 9 1; event 3 0 0 1; } | refused resize 'not live'
{ header 9 1; event 1 0 0 1; event 2 0 0 3; } | refused size 'free with a size'
expect 1 trace replay "$dir/none"
err_has 'No such file'
expect 1 trace replay "$dir"
expect 1 trace replay /dev/null
finish
