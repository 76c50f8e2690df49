#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two programs misuse objects of a debug arena; what is found names all places, and stays when both are killed.
: "${top_srcdir:?}" "${top_builddir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
program=$top_builddir/tests/cli/debug_arena

# begin A|B ARENA HOW : a process, told what to do through a descriptor, 3 or 4.
begin()
{
	mkfifo "$dir/$1.in"
	"$program" "$2" "$3" <"$dir/$1.in" >"$dir/$1.out" 2>&1 &
	eval "pid_$1=$!"
	if [ "$1" = A ]; then exec 3>"$dir/$1.in"; else exec 4>"$dir/$1.in"; fi
	await "$1" 1
}

# await A|B N : until it has said N lines.
await()
{
	tries=0
	until [ "$(wc -l <"$dir/$1.out")" -ge "$2" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 2400 ] || { fail "$1 says no more than $(cat "$dir/$1.out")"; exit 1; }
		sleep 0.05
	done
}

# told A|B VERB X Y : what came of it in $result, and at which line in $line.
told()
{
	lines=$(wc -l <"$dir/$1.out")
	if [ "$1" = A ]; then echo "$2 $3 $4" >&3; else echo "$2 $3 $4" >&4; fi
	await "$1" $((lines + 1))
	result=$(tail -n 1 "$dir/$1.out" | cut -d' ' -f2)
	line=$(tail -n 1 "$dir/$1.out" | sed 's/.*line=//')
}

# report WHAT CONDITION : of object $h: its part of the JSON, which must be there once; checked with $1's python over r (report) and c (its calls).
report()
{
	json_has "len([r for r in d['reports'] if r['what'] == '$1' and int(r['handle'], 0) == $h]) == 1"
	json_has "[1 for r in d['reports'] if r['what'] == '$1' and int(r['handle'], 0) == $h for c in [{c['call']: c for c in d['calls'] if c['report'] == r['report']}] if $2]"
}

shared=2
expect 0 --embedded arena create "$id" --size 16M --debug
begin A "$id" embedded
begin B "$id" embedded
# shellcheck disable=SC2154
a=$pid_A b=$pid_B

expect 0 --embedded arena check "$id"

# A byte too many, by A: the check finds it, and B's free, who is given the object.
told A alloc 100 $shared
h=$result allocated=$line
told A ptr "$h" 0
told A write 0 100
expect 4 --embedded arena check "$id"
out_has '^misuse  *overrun'
out_has "object of 100 bytes, allocated by $a at .*debug_arena.c:$allocated: 1 wrong bytes, at 100"
told B free "$h" 0
freed=$line
[ "$result" = 0 ] || fail "free gives $result"
expect 0 --embedded arena check "$id"
expect 0 --embedded debug "$id" --json
json_valid
report overrun "r['at'] == 100 and r['bytes'] == 1 and r['size'] == 100 and r['by'] == 'shma_free' and c['allocated']['where'].endswith('debug_arena.c:$allocated') and c['allocated']['pid'] == $a and c['found']['pid'] == $b"

# Freed by B, and again by A; used by A.
told A free "$h" 0
again=$line
[ "$result" = -116 ] || fail "a second free gives $result"
told A ptr "$h" 0
used=$line
[ "$result" = -116 ] || fail "a stale handle gives $result"

# Calls that say nothing: by their stacks, by both. Held by both, and freed by the one who lets go last.
told A far_alloc 200 $shared
far=$result
told B far_free "$far" 0
[ "$result" = 0 ] || fail "free gives $result"
told A far_free "$far" 0
told A far_alloc 300 0
held=$result
told A retain "$held" 0
[ "$result" = 0 ] || fail "retain gives $result"
told B retain "$held" 0
[ "$result" = 0 ] || fail "retain gives $result"
told A far_release "$held" 0
told B far_release "$held" 0
[ "$result" = 0 ] || fail "release gives $result"
told B ptr "$held" 0
[ "$result" = -116 ] || fail "what nobody holds gives $result"

# Both die; all is told by then.
kill -9 "$a" "$b"
wait "$a" "$b" 2>/dev/null
exec 3>&- 4>&-
expect 0 --embedded debug "$id" --json
json_valid
json_has "[1 for r in d['reports'] for c in [{c['call']: c['stack'] or '' for c in d['calls'] if c['report'] == r['report']}] if r['what'] == 'double-free' and int(r['handle'], 0) == $far and c['allocated'].startswith('far_alloc < ') and c['freed'].startswith('far_free < ') and c['found'].startswith('far_free < ')]"
json_has "[1 for r in d['reports'] for c in [{c['call']: c['stack'] or '' for c in d['calls'] if c['report'] == r['report']}] if r['what'] == 'use-after-free' and int(r['handle'], 0) == $held and c['allocated'].startswith('far_alloc < ') and c['freed'].startswith('far_release < ')]"
for what in "double-free:$again" "use-after-free:$used"; do
	report "${what%:*}" "c['allocated']['pid'] == $a and c['allocated']['where'].endswith('debug_arena.c:$allocated') and c['freed']['pid'] == $b and c['freed']['where'].endswith('debug_arena.c:$freed') and c['found']['pid'] == $a and c['found']['where'].endswith('debug_arena.c:${what#*:}') and c['allocated']['time'] <= c['freed']['time'] <= c['found']['time']"
done
expect 0 --embedded debug "$id"
out_has 'double-free'
expect 0 --embedded log cat "$id" --level 3
out_lines 5
out_has "an object was freed a second time: allocated at .*debug_arena.c:$allocated by $a, freed at .*debug_arena.c:$freed by $b, found at .*debug_arena.c:$again by $a"
expect 0 --embedded arena check "$id"
expect 0 --embedded arena destroy "$id"

# No debug arena has nothing to tell; both forms at once there are none.
expect 0 --embedded arena create "$id" --size 16M
expect 1 --embedded debug "$id"
err_has 'no debug arena'
expect 0 --embedded arena destroy "$id"
expect 2 --embedded arena create "$id" --size 16M --debug --debug-sample 100
expect 2 --embedded arena create "$id" --size 16M --debug-sample 0

[ "$failures" = 0 ]
