#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# log tail --position: each record once over many calls, ended or killed; what was overwritten is told exactly.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
e=--embedded
expect 0 $e arena create "$id" --size 16M --log-size 1M
seq 1 30 | "$SHMCTL" $e log put "$id"
expect 0 $e log tail "$id" --position p
out_lines 30
expect 0 $e log tail "$id" --position p
out_lines 0
seq 31 32 | "$SHMCTL" $e log put "$id"
expect 0 $e log tail "$id" --position p --grep 32
out_lines 1
expect 0 $e log tail "$id" --position p
out_lines 0
expect 0 $e log tail "$id" --position q
out_lines 32

# A follower that is killed: its lines and those of the next are all, the last one perhaps twice. While it lives nobody
# else has its place; stopped, it keeps nobody from writing.
"$SHMCTL" $e log tail "$id" --position p -f >"$dir/one" &
pid=$!
wait_for "$SHMCTL" $e log put "$id" </dev/null
(seq 33 100; sleep 0.1; seq 101 2000) | "$SHMCTL" $e log put "$id"
wait_for grep -q ' 1000$' "$dir/one"
expect 1 $e log tail "$id" --position p
err_has 'another process reads'
kill -STOP $pid
seq 2001 3000 | "$SHMCTL" $e log put "$id"
expect 1 $e log tail "$id" --position p
kill -9 $pid
wait $pid 2>/dev/null
expect 0 $e log tail "$id" --position p
cat "$dir/one" "$dir/out" | sed 's/.* //' | uniq >"$dir/all"
seq 33 3000 | cmp -s - "$dir/all" || { fail "not each record"; wc -l "$dir/one" "$dir/out"; }

# More than the ring holds: shown and lost are all that was written.
seq 1 40000 | "$SHMCTL" $e log put "$id"
expect 0 $e log tail "$id" --position p --json
if command -v python3 >/dev/null; then
	python3 -c 'import json, sys
records = [json.loads(line) for line in sys.stdin]
lost = sum(r["lost"] for r in records)
sys.exit(0 if lost > 0 and len(records) + lost == 40000 else print(len(records), lost) or 1)' <"$dir/out" ||
		fail "the count of what was lost is wrong"
fi
expect 0 $e arena check "$id"
expect 2 $e log tail "$id" --position p -n 3
expect 2 $e log tail "$id" "$id" --position p
expect 1 $e log tail "$id" --position ''
finish
