#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Records in, records out: lines of standard input, the last ones, those that match, in both forms.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

e=--embedded
expect 0 $e arena create "$id" --size 16M --log-size 1M
# put LEVEL: standard input.
put() { "$SHMCTL" $e log put "$id" --level "$1" || fail "log put --level $1"; }

expect 0 $e log tail "$id"
out_lines 0
i=0
while [ $i -lt 30 ]; do echo "line $i"; i=$((i + 1)); done | put info
expect 0 $e log tail "$id"
out_lines 10
out_has '^[-0-9]* [0-9:.]* info [0-9]* line 20$'
out_has 'line 29$'
expect 0 $e log tail "$id" -n 3
out_lines 3
expect 0 $e log tail "$id" -n 0
out_lines 0
expect 0 $e log tail "$id" -n 1000 --json
out_lines 30
json_lines_valid

# A last line without its end, an empty one, bytes of all kinds.
printf 'warned: \033[31mred\n\nno end' | put warning
printf 'bad \377\376 and zero \0 byte\n' | put 3
expect 0 $e log cat "$id" --level err
out_lines 1
out_has 'err [0-9]* bad \\xff\\xfe and zero \\x00 byte$'
expect 0 $e log cat "$id" --level err --json
json_lines_valid
json_has "d['data'] == 'bad \ufffd\ufffd and zero \0 byte' and d['data_base64'] == 'YmFkIP/+IGFuZCB6ZXJvIAAgYnl0ZQ=='"
json_has "d['level'] == 3 and d['level_name'] == 'err' and d['lost'] == 0 and d['late'] is False and d['seq'] == 1"
json_has "d['arena'] == '$id' and d['pid'] == d['tid'] and d['time'].endswith('Z')"
expect 0 $e log cat "$id" --level warning
out_lines 4
out_has 'x1b\[31mred'
out_has 'no end$'

# Filters.
expect 0 $e log cat "$id"
out_lines 34
expect 0 $e log cat "$id" --grep 'line (7|[12]5)$'
out_lines 3
expect 0 $e log cat "$id" --grep ' byte$'
out_lines 1
expect 0 $e log cat "$id" --since -1h --until now
out_lines 34
expect 0 $e log cat "$id" --until -1h
out_lines 0
expect 0 $e log cat "$id" --since @4000000000
out_lines 0
pid=$(sed -n '1s/^[^ ]* [^ ]* [^ ]* \([0-9]*\) .*/\1/p' "$dir/out")
"$SHMCTL" $e log cat "$id" >"$dir/out"
pid=$(sed -n '1s/^[^ ]* [^ ]* [^ ]* \([0-9]*\) .*/\1/p' "$dir/out")
expect 0 $e log cat "$id" --client "$pid"
out_lines 30
expect 0 $e log cat "$id" --client 1
out_lines 0

# Several logs are one, by time.
expect 0 $e arena create "$id-2" --size 16M
echo between | "$SHMCTL" $e log put "$id-2"
echo after | put notice
expect 0 $e log cat "$id" "$id-2"
out_lines 36
tail -n 2 "$dir/out" | head -n 1 | grep -q "^$id-2 .* info .* between$" || fail "not in order of time"
tail -n 1 "$dir/out" | grep -q "^$id .* notice .* after$" || fail "not in order of time"

# By path, without any daemon; a file arena left on disk too.
expect 0 log cat "/dev/shm/shmalloc.$id" --grep after
out_lines 1
expect 0 $e arena create "$dir/f.arena" --size 16M
echo kept | "$SHMCTL" log put "$dir/f.arena"
chmod 400 "$dir/f.arena"
expect 0 log cat "$dir/f.arena"
out_has 'kept$'
rm -f "$dir"/f.arena.*
expect 0 log tail "$dir/f.arena"
out_has 'kept$'

# New records as they come.
"$SHMCTL" $e log tail "$id" -n 1 -f >"$dir/followed" &
tail_pid=$!
wait_for grep -q 'after$' "$dir/followed"
echo 'first new' | put info
wait_for grep -q 'first new$' "$dir/followed"
echo 'second new' | put info
wait_for grep -q 'second new$' "$dir/followed"
[ "$(wc -l <"$dir/followed")" = 3 ] || { fail "tail -f"; cat "$dir/followed"; }
kill $tail_pid
wait $tail_pid 2>/dev/null

# What an overwritten ring has lost is known.
seq 1 40000 | put debug
expect 0 $e log tail "$id" -n 1
out_has 'debug [0-9]* 40000$'
expect 0 $e log cat "$id"
shown=$(wc -l <"$dir/out")
[ "$shown" -lt 40037 ] || fail "a ring of 1 MiB holds all"
expect 0 $e stats "$id" --json
json_has "d['log']['written'] == 40037 and d['log']['records'] == $shown"
json_has "d['log']['overwritten'] == 40037 - $shown and d['log']['dropped'] == 0"

# Terms that change while it is in use.
expect 0 $e log policy "$id"
out_has '^log policy: overwrite$'
expect 0 $e log policy "$id" drop
out_lines 0
expect 0 $e log policy "$id" --json
json_has "d == {'name': '$id', 'log_policy': 'drop'}"
expect 0 $e arena show "$id" --json
json_has "d['log_policy'] == 'drop' and d['log_clock'] == 'exact'"
expect 2 $e log policy "$id" forget
expect 0 $e log policy "$id" overwrite
expect 0 $e log clock "$id" coarse
expect 0 $e log clock "$id" --json
json_has "d == {'name': '$id', 'log_clock': 'coarse'}"
expect 2 $e log clock "$id" late
expect 1 $e log policy "$id-none"
expect 1 $e log clock "$id-none" exact
expect 0 $e arena create "$id-3" --size 16M --log-clock coarse --log-policy block
expect 0 $e arena show "$id-3" --json
json_has "d['log_policy'] == 'block' and d['log_clock'] == 'coarse'"
seq 1 500 | "$SHMCTL" $e log put "$id-3" || fail "log put with a coarse clock"
expect 0 $e log cat "$id-3"
sed 's/.* //' "$dir/out" >"$dir/numbers"
seq 1 500 | cmp -s - "$dir/numbers" || fail "not in order with a coarse clock"

# What is not there.
expect 1 $e log put "$id-none"
expect 1 $e log tail "$id-none"
expect 1 log cat "$dir/none"
expect 3 log tail "$id"
expect 3 log cat "$id"
expect 3 log put "$id"
finish
