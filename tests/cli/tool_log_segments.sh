#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A log is its segments and its ring: asked for by name, each record comes once, wherever it lies, while the daemon
# drains, follows on, is killed and comes back; directories and files of segments by path.
: "${top_srcdir:?}" "${top_builddir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

# put FROM TO
put() { seq "$1" "$2" | "$SHMCTL" log put "$id" --level "${3:-info}" || fail "log put"; }
# The numbers that the last call has shown are FROM to TO, each once and in order.
shown()
{
	sed 's/.* //' "$dir/out" >"$dir/numbers"
	seq "$1" "$2" | cmp -s - "$dir/numbers" || {
		fail "not $1 to $2, each once"
		seq "$1" "$2" | diff - "$dir/numbers" | head -n 20
	}
}

# Far more than the ring holds, and nothing lost.
start_daemon
expect 0 arena create "$id" --size 64M --log-size 1M --log-policy block
expect 0 log cat "$id"
out_lines 0
put 1 1000 warning
put 1001 100000
expect 0 log cat "$id"
shown 1 100000
expect 0 log tail "$id"
shown 99991 100000
expect 0 log cat "$id" --level warning
shown 1 1000
expect 0 log tail "$id" -n 5 --level warning
shown 996 1000
expect 0 log cat "$id" --grep '9999$'
out_lines 10
expect 0 log cat "$id" --json -n 1
json_has "d['data'] == '100000' and d['arena'] == '$id' and d['lost'] == 0 and d['fields'] == {}"

# Fields on the disk are what they were. Times: from the first record of a second writer on.
sleep 0.01
"$top_builddir/tests/cli/log_fields" "$id" || fail "cannot write"
put 100001 100010
expect 0 log cat "$id" --kv user --json
out_lines 2
since=$(sed -n '1s/.*"time": "\([^"]*\)".*/\1/p' "$dir/out")
expect 0 log cat "$id" --since "$since" --level info..info --grep .
shown 100001 100010
expect 0 log cat "$id" --until "$since" --grep '^[0-9]*$'
shown 1 100000

# By path: the directory has it when the daemon has written it.
wait_for sh -c "'$SHMCTL' log cat '$dir/log/$id' --grep '^100010\$' | grep -q ."
expect 0 log cat "$dir/log/$id" --grep '^[0-9]+$'
shown 1 100010
expect 0 log cat "$dir/log/$id" --kv status=-404 --json
json_has "d['fields']['user'] == 'anna lee' and d['fields']['bytes'] == 2**64-1 and d['fields']['raw_base64'] == 'AP8K'"
for file in "$dir/log/$id"/*.log; do
	expect 0 log tail "$file" -n 2
	out_lines 2
done

# How far it has come.
waits_for_nothing() { "$SHMCTL" log status "$id" --json | grep -q '"waiting": 0[,}]'; }
wait_for waits_for_nothing
expect 0 log status "$id"
out_has "^directory: *$dir/log/$id\$"
expect 0 log status "$id" --json
json_has "d['name'] == '$id' and d['written'] == d['records'] >= 100010 and d['lost'] == 0 and d['drained']"
json_has "d['segments'] >= 1 and d['bytes'] > 100010 * 24 and d['damaged'] == 0 and d['shipped_segment'] is None"

# Following while it is written, drained, and the ring goes round several times.
"$SHMCTL" log tail "$id" -n 0 -f --grep '^([0-9]+|followed)$' >"$dir/out.follow" &
tail_pid=$!
# It begins somewhere in these.
is_followed() { echo followed | "$SHMCTL" log put "$id" && grep -q ' followed$' "$dir/out.follow"; }
wait_for is_followed
put 100011 100011
wait_for grep -q ' 100011$' "$dir/out.follow"
put 100012 150000
wait_for grep -q ' 150000$' "$dir/out.follow"
sleep 0.5
kill $tail_pid
wait $tail_pid 2>/dev/null
# A time that several records have may show them in another order.
grep -v ' followed$' "$dir/out.follow" | sort -n -k 5 >"$dir/out"
shown 100011 150000

# A daemon killed while it drains, and the next: nothing twice, nothing lost.
feed()
{
	echo 150001
	until [ -e "$dir/go" ]; do sleep 0.05; done
	seq 150002 250000
}
feed | "$SHMCTL" log put "$id" &
put_pid=$!
wait_for sh -c "'$SHMCTL' log cat '$id' --grep '^150001\$' | grep -q ."
: >"$dir/go"
sleep 0.1
kill -9 "$daemon_pid"
wait "$daemon_pid" 2>/dev/null
rm -f "$dir/ready"
sleep 0.1
start_daemon
wait $put_pid || fail "log put while the daemon is killed"
expect 0 log cat "$id" --grep '^[0-9]+$' --since "$since"
grep -c . "$dir/out" >"$dir/count"
sed 's/.* //' "$dir/out" | grep -v '^--$' | sort -n | uniq -d >"$dir/twice"
[ ! -s "$dir/twice" ] || { fail "twice:"; head "$dir/twice"; }
# The killed one's segment is compressed by and by: it is the same log.
wait_for sh -c "ls '$dir/log/$id'/*.zst"
for file in "$dir/log/$id"/*.zst; do
	expect 0 log cat "$file" --level warning --grep '^[0-9]+$'
	shown 1 1000
	break
done
# What no daemon had drained when the ring went round is told as lost, to the record.
expect 0 log cat "$id" --json
if command -v python3 >/dev/null; then
	python3 -c 'import json, sys
records = [json.loads(line) for line in sys.stdin]
numbers = [int(r["data"]) for r in records if r["data"].isdigit()]
lost = sum(r["lost"] for r in records)
missing = 250000 - len(numbers)
sys.exit(0 if len(set(numbers)) == len(numbers) and lost == missing else print(len(numbers), lost, missing) or 1)' \
		<"$dir/out" || fail "the account does not close"
fi

# The daemon is stopped: under block writers wait for it, until they are told otherwise; under overwrite they never do.
expect 0 arena create "$id.stop" --size 64M --log-size 1M --log-policy block
# Not before it is the consumer.
echo first | "$SHMCTL" log put "$id.stop" || fail "log put"
for _ in $(seq 1 600); do
	"$SHMCTL" log cat "$dir/log/$id.stop" 2>/dev/null | grep -q 'first$' && break
	sleep 0.05
done
kill -STOP "$daemon_pid"
seq 1 100000 | "$SHMCTL" --embedded log put "$id.stop" &
put_pid=$!
sleep 0.5
kill -0 $put_pid 2>/dev/null || fail "a writer does not wait for a consumer that is stopped"
expect 0 --embedded log policy "$id.stop" overwrite
wait $put_pid || fail "log put while the daemon is stopped"
seq 1 100000 | "$SHMCTL" --embedded log put "$id.stop" || fail "log put under overwrite while the daemon is stopped"
kill -CONT "$daemon_pid"
expect 0 arena destroy "$id.stop"

# Without the daemon: by path; the name needs it.
kill "$daemon_pid"
wait "$daemon_pid"
daemon_pid=
expect 3 log cat "$id"
expect 0 log tail "$dir/log/$id" -n 1
out_has ' 250000$'
expect 0 --embedded log tail "$id" -n 1
out_has ' 250000$'
expect 1 log cat "$dir/log/none/0000000000000001.log"
# A directory whose path is too long for the daemon's answer: said, and the ring is shown.
long=$dir/$(printf '%0200d' 0)
mkdir "$long"
rm -f "$dir/ready"
log_dir=$long
start_daemon
expect 0 log tail "$id" -n 1
out_has ' 250000$'
err_has 'longer than the 199 bytes'
expect 0 log status "$id" --json
json_has "d['directory'] is None"
kill "$daemon_pid"
wait "$daemon_pid"
daemon_pid=
mkdir "$dir/empty"
expect 0 log cat "$dir/empty"
out_lines 0
finish
