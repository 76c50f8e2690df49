#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client that dies leaves a report: how it ended, what it held by size, its last records; once, also if the daemon died meanwhile.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

deaths()
{
	"$SHMCTL" --socket "$socket" --json client deaths "$@"
}
# field DOCUMENT KEY : the value of a field of a report
field()
{
	printf '%s\n' "$1" | sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | head -1
}
# Reports of clients; a daemon that was killed is one more dead client to the next.
count()
{
	deaths | grep -c '"command": *"daemon_mour' || true
}
# mourned HOW RECORDS : a client; its process in $pid
mourned()
{
	: >"$work/said"
	(ulimit -c 0; exec "$top_builddir/tests/cli/daemon_mourned" "$socket" "$name" "$@") >"$work/said" 2>>"$work/err.client" &
	pid=$!
	pids+=("$pid")
	eventually 20 grep -q ready "$work/said" || fail "no client: $(cat "$work/err.client")"
}
reported()
{
	deaths "$name" --pid "$1" >"$work/report"
}
report()
{
	eventually 5 reported "$1" || fail "no report of process $1"
	cat "$work/report"
}

start
mourned wait 120
expect "nobody died" "$(deaths "$name" | tr -d ' \n')" '{"deaths":\[\]}'
kill -9 "$pid"
r=$(report "$pid")
expect "a killed one's signal" "$(field "$r" ended)" "signal 9"
expect "whose client it was" "$(field "$r" arena) $(field "$r" command)" "$name *mourned*"
expect "what it held: 200 of 112 bytes, 20 of 1008 or more, 1 MiB" "$(field "$r" objects)" 221
expect "and one by two holds" "$(field "$r" held_objects) $(field "$r" holds)" "1 2"
sizes=$(printf '%s\n' "$r" | tr -d ' \n' | grep -o '{"object_bytes":[0-9]*,"private_objects":[0-9]*,"shared_objects":[0-9]*')
expect "objects by size, shared ones apart" "$sizes" '*"object_bytes":1[0-9]*,"private_objects":[0-9]*,"shared_objects":20*'
expect "its last 50 records" "$(printf '%s\n' "$r" | grep -c '"text"')" 50
expect "of which the oldest is first" "$(printf '%s\n' "$r" | grep -o '"text": *"[^"]*"' | head -1)" '*"step 71*x09of 120"'
printf '%s\n' "$r" | grep -q 'step 120\\\\*x09of 120' || fail "the last record is not there"

mourned abort 3
wait "$pid" || true
r=$(report "$pid")
expect "an aborted one's signal" "$(field "$r" ended)" "signal 6"
expect "its three records, none of another's" "$(printf '%s\n' "$r" | grep -c '"text"')" 3

mourned exit 0
wait "$pid" || true
expect "one that ends without giving back" "$(field "$(report "$pid")" ended)" "exit 3"

mourned wait 5
kill -9 "$daemon"
kill -9 "$pid"
start
r=$(report "$pid")
expect "one that died while there was no daemon" "$(field "$r" objects)" 221
expect "four reports" "$(count)" 4

kill -9 "$daemon"
start
expect "which outlive the daemon, and come once" "$(count)" 4
expect "a process that nobody knows" "$("$SHMCTL" --socket "$socket" client deaths --pid 999999999 2>&1 || echo $?)" "*no report*1"

# A report that was cut short by the daemon's own death is passed over.
printf 'death 1 1\narena=x\npid=77\n' >>"$work/state/deaths/$name"
expect "half a report is none" "$(count)" 4
ask destroy "$name"
expect "an arena's reports go with it" "$(find "$work/state/deaths" -type f | wc -l)" 0
stop
