#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Structured records in a log: what is shown of them in both forms, and by what they are found.
: "${top_srcdir:?}" "${top_builddir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
e=--embedded
expect 0 $e arena create "$id" --size 16M
"$top_builddir/tests/cli/log_fields" "$id" || fail "cannot write"
echo "a line" | "$SHMCTL" $e log put "$id" --level crit

# For people: the text, then fields as they were written.
expect 0 $e log cat "$id"
out_lines 5
out_has 'warning [0-9]* request of anna user="anna lee" status=-404 bytes=18446744073709551615 took=0\.1 ok=true raw="?.*xff'
out_has 'err [0-9]* request of x tag=a user=.*tag=b took=inf odd key.*ok=false$'
out_has 'info [0-9]* $'
out_has 'debug [0-9]* plain user=anna$'
out_lacks "$(printf '\033')"

# For programs: typed values under "fields", each key once.
expect 0 $e log cat "$id" --json
out_lines 5
json_lines_valid
json_line_has "d['data'] == 'request of anna' and d['fields'] == {'user': 'anna lee', 'status': -404, 'bytes': 2**64-1, 'took': 0.1, 'ok': True, 'raw_base64': 'AP8K'}"
expect 0 $e log cat "$id" --json --level err..err
out_lines 1
json_has "d['fields'] == {'tag': ['a', 'b'], 'user': 'x\"=\\\\y\\n', 'took': None, 'odd key\"\\n': '', 'ok': False}"
expect 0 $e log cat "$id" --json --level debug..debug
json_has "d['fields'] == {} and d['data'] == 'plain user=anna' and d['dropped'] == 0"

# found COUNT OPTION…
found()
{
	wanted_lines=$1
	shift
	expect 0 $e log cat "$id" "$@"
	out_lines "$wanted_lines"
}
found 1 --kv status=-404
found 0 --kv status=404
found 2 --kv user
found 1 --kv 'user=anna lee'
found 0 --kv user=anna
found 1 --kv bytes=18446744073709551615
found 1 --kv took=0.1
found 1 --kv took=1e-1
found 1 --kv ok=true
found 1 --kv ok=0
found 1 --kv tag=a
found 1 --kv tag=b
found 1 --kv tag=b --kv tag=a
found 0 --kv tag=b --kv status
found 0 --kv use
found 0 --kv user=
found 1 --grep anna --level warning
found 2 --grep anna
found 1 --grep anna --grep plain
found 2 --level crit..err
found 3 --level 2-4
found 2 -n 2
found 1 -n 1 --kv user
out_has 'request of x'
found 5 --since '10 min ago' --until now
found 0 --until '10 min ago'
pid=$("$SHMCTL" $e log cat "$id" --level debug..debug | sed 's/.* debug \([0-9]*\) .*/\1/')
other=$("$SHMCTL" $e log cat "$id" --level crit | sed 's/.* crit \([0-9]*\) .*/\1/')
found 4 --client "$pid"
found 5 --client "$pid" --client "$other"

# What a program that is still there is called. Others of its number, if any, are long gone.
mkfifo "$dir/input"
"$SHMCTL" $e log put "$id" --level alert <"$dir/input" &
put_pid=$!
exec 3>"$dir/input"
echo "still here" >&3
wait_for grep -q 'still here' "/dev/shm/shmalloc.$id"
found 1 --name 'shmctl-*' --level alert --client $put_pid
found 1 --name 'nobody' --name shmctl-tool --level alert
found 0 --name shmctl --level alert
found 1 --json --level alert
json_has "d['name'] == 'shmctl-tool'"
exec 3>&-
wait $put_pid

# Time: local, or as it is said.
TZ=UTC-5
found 6
local_hour=$(sed -n '1s/^[-0-9]* \(..\).*/\1/p' "$dir/out")
found 6 --utc
out_has '^[-0-9]*T[0-9:.]*Z '
utc_hour=$(sed -n '1s/^[-0-9]*T\(..\).*/\1/p' "$dir/out")
[ "$(((${local_hour#0} + 24 - ${utc_hour#0}) % 24))" = 5 ] || fail "local $local_hour h, UTC $utc_hour h"
now=$(date -u -d '1 minute' '+%Y-%m-%d %H:%M')
found 6 --utc --until "$now"
found 0 --until "$now"
TZ=UTC

# Colors only where they are wanted.
found 6 --color always
out_has "$(printf '\033\\[31m')err"
found 6 --color never
out_lacks "$(printf '\033')"
found 6 --color auto
out_lacks "$(printf '\033')"

# Several logs, the last of all, and following with a filter.
expect 0 $e arena create "$id-2" --size 16M
echo "another" | "$SHMCTL" $e log put "$id-2"
expect 0 $e log tail "$id" "$id-2" -n 2
out_lines 2
out_has "^$id-2 .* another$"
"$SHMCTL" $e log tail "$id" "$id-2" -n 0 -f --kv status >"$dir/followed" &
tail_pid=$!
tries=0
until grep -q 'request of anna' "$dir/followed" || [ $tries = 20 ]; do
	"$top_builddir/tests/cli/log_fields" "$id"
	echo nothing | "$SHMCTL" $e log put "$id-2"
	tries=$((tries + 1))
	sleep 0.5
done
kill $tail_pid
wait $tail_pid 2>/dev/null
grep -q "^$id .* request of anna" "$dir/followed" || fail "tail -f --kv shows nothing"
! grep -qv 'request of anna' "$dir/followed" || { fail "tail -f --kv shows others"; cat "$dir/followed"; }

expect 2 $e log cat "$id" --kv =x
expect 2 $e log cat "$id" --kv ''
expect 2 $e log cat "$id" --color sometimes
expect 2 $e log cat "$id" --level 3..x
expect 2 $e log tail "$id" --client 0
expect 2 $e log tail "$id" --grep '('
finish
