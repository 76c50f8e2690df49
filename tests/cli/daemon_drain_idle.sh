#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A log that nobody writes costs its daemon nothing; the next record is drained all the same. Where the kernel cannot wait
# for the bell, and where a client cannot ring it reliably, it is looked at now and then.
# shellcheck disable=SC1091,SC2119,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"
shim=$top_builddir/tests/cli/.libs/libdaemon_drain_shim.so

# How often threads of the daemon went to sleep so far: each time one was woken before.
switches()
{
	cat "/proc/$daemon/task/"*/status | awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }'
}

# sleeps AT-MOST : in a second; what it was in $wakeups. (Not of timing: a busy machine lets it run less, not more.)
sleeps()
{
	local before
	before=$(switches)
	sleep 1
	wakeups=$(($(switches) - before))
	[ "$wakeups" -le "$1" ]
}

drained()
{
	"$drain" check "$logs/$name" 1 | grep -q "^records=$1 "
}

# Some records a round, each to be drained, some while the daemon is asleep and some while it falls asleep.
rounds()
{
	for round in 1 2 3 4 5 6 7 8; do
		echo "record $round" | "$SHMCTL" log put "$name"
		eventually 20 drained_text "record $round" || fail "$1: record $round is not drained"
		sleep "0.0$((RANDOM % 10))"
	done
	echo "ok: $1: what is logged later is drained"
}

drained_text()
{
	"$SHMCTL" log cat "$logs/$name" | grep -q "$1\$"
}

# Looks every 50 ms would be 20. A thread sanitizer has a thread of its own that wakes ten times.
most=8
[ "${SANITIZERS:-no}" = no ] || most=17
for io in uring epoll; do
	configure "io = $io" 'log-drain-ms = 20' 'log-compress = no'
	start --log-dir "$logs"
	make_arena
	sleeps_at_last() { sleeps $most; }
	eventually 1 sleeps_at_last || fail "$io: $wakeups wakeups in a second of idleness"
	echo "ok: $io: $wakeups wakeups in a second of idleness"
	rounds "$io"
	eventually 1 sleeps_at_last || fail "$io: $wakeups wakeups in a second after records"
	echo "ok: $io: $wakeups wakeups in a second after records"
	# Its file is cut while the daemon sleeps: nobody dies of it.
	shared -type f -exec truncate -s 0 {} +
	"$SHMCTL" arena list >/dev/null || fail "$io: the daemon is gone with the file"
	stop
	expect "$io: stops in order" "$status" '[01]'
	rm -rf "$logs" "$work/state"
	find /dev/shm -name "shmalloc.$name*" -delete
done

if [ "${SANITIZERS:-no}" = no ]; then
	configure 'log-drain-ms = 20' 'log-compress = no'
	PREFIX="env LD_PRELOAD=$shim SHIM=$work/shim SHIM_NO_WAITV=1" start --log-dir "$logs"
	make_arena
	rounds "no bell"
	grep -q 'bell cannot be waited for' "$work/err" || fail "not said that the bell cannot be waited for"
	echo "ok: said so"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	expect "stops in order" "$status" 0
fi
