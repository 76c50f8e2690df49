#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Peers that misbehave: garbage, no reading, too many connections, foreign descriptors, memory taken away. The daemon goes on.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

limits=$work/limits
printf '[daemon]\nmax-connections = 20\n' >"$limits"

# Whether no connection is left but the one that asks.
alone()
{
	ask status | grep -q " connections=1 "
}

for io in uring epoll; do
	config=$limits
	start --io $io
	expect "garbage, $io" "$(ask garbage 2>/dev/null | tr '\n' ' ')" \
		"one_byte=hangup request_sized_noise=hangup much_noise=hangup truncated=hangup other_version=EPROTO nonsense=EINVAL "
	expect "the daemon goes on" "$(ask status)" "pid=$daemon *dropped=5"
	expect "a peer that does not read is dropped, $io" "$(ask flood)" hangup

	mkfifo "$work/many.$io"
	# Each round a file of its own: the one before would look like its answer until it is opened.
	"$peer" "$socket" connections 30 <"$work/many.$io" >"$work/answers.$io" &
	many=$!
	pids+=("$many")
	exec {feed}>"$work/many.$io"
	eventually 10 grep -q answered "$work/answers.$io" || fail "connections are not answered"
	expect "connections are bounded, $io" "$(cat "$work/answers.$io")" answered=20
	exec {feed}>&-
	wait $many
	expect "and free again" "$(eventually 5 alone && ask status)" "* connections=1 *"

	ask create "$name" >/dev/null
	expect "who presents what is not lost is refused, $io" "$(ask foreign "$name")" presented=EEXIST
	kill -0 "$daemon"
	hold "victim_$io" "$name"
	tell "victim_$io" truncate
	eventually 5 grep -q truncated=0 "$work/victim_$io" || fail "not truncated"
	kill -9 "$holder"
	sleep 0.5
	expect "an arena whose memory is taken away costs nobody else, $io" "$(ask status)" "pid=$daemon *"
	expect "and is refused" "$(ask rights "$name")" "error=EUCLEAN"
	expect "but can be destroyed" "$(ask destroy "$name")" ""
	expect "no file is left" "$(shared ! -name '*.life')" ""
	rm -f /dev/shm/shmalloc."$name".*.life
	stop
	expect "orderly end after all that, $io" "$status" 0
done
