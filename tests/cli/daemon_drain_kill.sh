#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon is killed again and again while it writes logs to the disk: each record is there once, or was overwritten
# and is counted, whenever the next one comes.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"
kills=${DRAIN_KILLS:-12}

nap()
{
	sleep "0.$(printf '%03d' $((RANDOM % $1)))"
}

# kill_while_writing IO FSYNC POLICY RING COMPRESS
kill_while_writing()
{
	configure "io = $1" "log-fsync = $2" "log-compress = $5" 'log-segment-size = 1M' 'log-drain-ms = 20' \
		'log-retention = all'
	start --log-dir "$logs"
	make_arena --log-policy "$3" --log-size "$4"
	write 4 400
	for ((k = 0; k < kills; k++)); do
		nap 250
		stop KILL
		((k % 3)) || nap 300 # so long that the ring goes round
		start --log-dir "$logs"
	done
	nap 200
	finish
	# The last one has recovered what the one before held when it ends.
	sleep 0.5
	stop
	expect "stops in order" $status 0
	account 4
	[ "$torn" = 0 ] || fail "a torn segment was left"
	all_there "$1, fsync $2, $3, $4: killed $kills times"
	start --log-dir "$logs"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	rm -rf "$logs"
}

kill_while_writing uring never overwrite 256K no
kill_while_writing epoll never overwrite 256K no
kill_while_writing uring batch block 64K yes
kill_while_writing epoll interval block 4M yes
