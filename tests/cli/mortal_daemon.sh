#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon is killed, stopped and away while clients work: no call of theirs takes longer than with it, none waits; readers
# of the log go on where they were, and so does the next one after a consumer that was killed.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/mortal_lib.sh"
repeats=${REPEATS:-4}

start
ask create "$name" 0 600 64 >/dev/null
client calls measure "$name"
measure=$holder
for ((i = 0; i < repeats; i++)); do
	tell calls running
	sleep 0.4
	tell calls killed
	kill -9 "$daemon"
	if ((i % 2)); then start --io epoll; else start --io uring; fi
	sleep 0.2
	tell calls stopped
	kill -STOP "$daemon"
	sleep 0.4
	kill -CONT "$daemon"
	tell calls away
	kill -9 "$daemon"
	sleep 0.4
	tell calls -
	start
done
tell calls end
status=0
wait "$measure" || status=$?
sed 's/^/  /' "$work/calls"
expect "nobody notices how the daemon is" "$status $(grep verdict "$work/calls")" "0 verdict=unnoticed"
eventually 5 holds || fail "who has left is still there: $(clients)"
ask destroy "$name"

log=$name.log
client log follow "$log"
follow=$holder
ask show "$log" >/dev/null
for ((i = 0; i < repeats; i++)); do
	kill -9 "$daemon"
	order log progress reads
	start
	order log progress reads
	order log stop reads
	kill -9 "$daemon"
	order log kill reads
	start
	order log kill reads
done
ends log "$follow"
expect "what was written is read, once each" "$(tail -1 "$work/log")" "wrote=* read=all"
ask destroy "$log"
stop
