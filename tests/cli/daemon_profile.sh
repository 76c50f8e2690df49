#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which calls live memory came from: told while the client lives, by the report of its death, and to other viewers.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

profile()
{
	"$SHMCTL" --socket "$socket" "$@" profile "$name"
}
# bytes DOCUMENT FUNCTION KEY : what its sites sum up to
bytes()
{
	python3 - "$1" "$2" "$3" <<'EOF'
import json, sys
with open(sys.argv[1]) as f:
    document = json.load(f)
sites = document.get("sites", document.get("held_by_call"))
print(int(sum(site[sys.argv[3]] for site in sites if site["calls"].startswith(sys.argv[2] + " <"))))
EOF
}
# about WHAT BYTES EXPECTED : within a factor of 2.5, some five standard deviations
about()
{
	[ $(($2 * 10)) -ge $(($3 * 4)) ] && [ $(($2 * 10)) -le $(($3 * 25)) ] || fail "$1: $2 bytes, not about $3"
}

command -v python3 >/dev/null || { echo "no python3"; exit 77; }
start
(exec "$top_builddir/tests/cli/daemon_profiled" "$socket" "$name" 16384) >"$work/said" 2>"$work/err.client" &
pid=$!
pids+=("$pid")
eventually 20 grep -q ready "$work/said" || fail "no client: $(cat "$work/err.client")"

profile --json >"$work/profile"
about "records live" "$(bytes "$work/profile" take_record live_bytes)" 2688000
about "buffers live" "$(bytes "$work/profile" take_buffer live_bytes)" 4800000
"$SHMCTL" --socket "$socket" profile "$name" --collapsed >"$work/collapsed"
grep -q '^.*;main;take_record [0-9]*$' "$work/collapsed" || fail "no such stack: $(cat "$work/collapsed")"
"$SHMCTL" --socket "$socket" profile "$name" --pprof "$work/pprof"
decoded=$(python3 "$top_srcdir/tests/cli/pprof.py" "$work/pprof")
expect "buffers in pprof's file" "$decoded" "*take_buffer;main;*"
expect "records in pprof's file" "$decoded" "*take_record;main;*"
expect "another process's part" "$("$SHMCTL" --socket "$socket" profile "$name" --client $$ 2>&1 || echo $?)" "*no process*1"

kill -9 "$pid"
reported()
{
	"$SHMCTL" --socket "$socket" --json client deaths "$name" --pid "$pid" >"$work/report"
}
eventually 5 reported || fail "no report"
grep -q '"profiled": *true' "$work/report" || fail "not said to be profiled"
about "records held at death" "$(bytes "$work/report" take_record bytes)" 2688000
about "buffers held at death" "$(bytes "$work/report" take_buffer bytes)" 4800000

# The dead hold nothing; what is known of their calls stays.
gone()
{
	profile --json >"$work/profile" && grep -q '"live_samples": *0' "$work/profile"
}
eventually 5 gone || fail "the dead one's objects are live still: $(cat "$work/profile")"
"$SHMCTL" --socket "$socket" profile "$name" --rate 0
expect "switched off" "$(profile --json | tr -d ' \n')" '*"rate_bytes":0,*'
expect "a rate that is none" "$("$SHMCTL" --socket "$socket" profile "$name" --rate 10 2>&1 || echo $?)" "*2"
ask destroy "$name"
