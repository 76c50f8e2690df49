#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A daemon's start and end: the ready line, both loops, a second daemon, leftovers of a dead one, wrong command lines, signals.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

for io in uring epoll auto; do
	if [ $io = uring ] && ! "$SHMALLOCD" --socket "$work/probe" --state-dir "$work/probe.d" --io uring --config /nonexistent \
		2>&1 | grep -q nonexistent; then
		fail "a missing --config is not told"
	fi
	start --io $io
	expect "ready line, $io" "$(cat "$work/out")" "ready socket=$socket"
	expect "loop in use, $io" "$(ask status)" "pid=$daemon io=${io/auto/*} arenas=0 *"
	stop
	expect "orderly end, $io" "$status" 0
	[ ! -e "$socket" ] || fail "the socket is left behind"
done

: >"$work/err"
PREFIX=$deny start --io auto
expect "epoll where io_uring is forbidden" "$(ask status)" "*io=epoll*"
expect "which is said once" "$(grep -c io_uring "$work/err")" 1
stop
"$deny" "$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --config /dev/null --io uring >/dev/null 2>"$work/err2" &&
	fail "--io uring runs without io_uring"
expect "--io uring says what is missing" "$(cat "$work/err2")" "*io_uring*not permitted*"

start
"$SHMALLOCD" --socket "$socket" --state-dir "$work/other" --config /dev/null >"$work/out2" 2>"$work/err2" && fail "a second daemon on the socket"
expect "a second daemon on the socket is refused" "$(cat "$work/err2")" "*another shmallocd, process $daemon, uses the socket $socket"
"$SHMALLOCD" --socket "$socket.2" --state-dir "$work/state" --config /dev/null >"$work/out2" 2>"$work/err2" && fail "a second daemon on the state"
expect "a second daemon on the state directory is refused" "$(cat "$work/err2")" \
	"*another shmallocd, process $daemon, uses the state directory $work/state"
expect "nothing but the ready line on stdout" "$(cat "$work/out2")" ""
expect "the first one goes on" "$(ask status)" "pid=$daemon *"

for _ in 1 2 3; do
	kill -9 "$daemon"
	start
done
expect "a killed daemon is no obstacle, at once" "$(ask status)" "pid=$daemon *"
stop

mkdir -p "$work/state"
echo 1 >"$work/state/lock"
echo 1 >"$socket.lock"
echo half >"$work/state/x.tmp"
start
expect "nor are its files" "$(ls "$work/state")" "deaths
files
lock"
stop INT
expect "SIGINT is an orderly end too" "$status" 0

echo precious >"$socket"
"$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --config /dev/null >/dev/null 2>"$work/err2" && fail "starts over a file"
expect "a file in the socket's place is left alone" "$(cat "$work/err2" "$socket")" "*no socket*precious"
rm "$socket"

for wrong in --fast "--io aio" extra --socket; do
	status=0
	# shellcheck disable=SC2086
	"$SHMALLOCD" $wrong >/dev/null 2>"$work/err2" || status=$?
	expect "wrong usage: $wrong" "$status" 2
done

# The configuration, and its reload.
config=$work/config
printf '[daemon]\nsocket-mode = 0600\nlog-level = info\nmax-arenas = 1\n' >"$config"
start
expect "the socket's mode is as configured" "$(stat -c %a "$socket")" 600
ask create "$name.1" >/dev/null
expect "the number of arenas is limited" "$(ask create "$name.2")" error=EMFILE
printf '[daemon]\nsocket-mode = 0666\nmax-arenas = 5\n' >"$config"
kill -HUP "$daemon"
eventually 10 grep -q 'configuration reloaded' "$work/err" || fail "no reload"
expect "SIGHUP: the mode is changed" "$(stat -c %a "$socket")" 666
expect "SIGHUP: and the limit" "$(ask create "$name.2")" "name=$name.2 *"
echo 'nonsense' >"$config"
kill -HUP "$daemon"
eventually 10 grep -q 'not reloaded.*:1:' "$work/err" || fail "a bad file is not told"
expect "a bad file changes nothing" "$(ask create "$name.3")" "name=$name.3 *"
ask destroy "$name.1"
ask destroy "$name.2"
ask destroy "$name.3"
stop
config=/dev/null

# Daemonized: the command ends when the daemon is ready, with its verdict.
mkdir "$work/log"
timeout 200 "$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --log-dir "$work/log" --config /dev/null --daemonize \
	>"$work/out" 2>"$work/err2" </dev/null
expect "--daemonize: ready when the command ends" "$(cat "$work/out")" "ready socket=$socket"
daemon=$(ask status | sed 's/pid=\([0-9]*\).*/\1/')
pids+=("$daemon")
status=0
"$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --config /dev/null --daemonize >/dev/null 2>"$work/err2" || status=$?
expect "--daemonize: failure is told as well" "$status $(cat "$work/err2")" "1 *another shmallocd*"
kill -TERM "$daemon"
gone()
{
	! kill -0 "$daemon" 2>/dev/null
}
eventually 10 gone || fail "does not end"
expect "--daemonize: messages are in the log directory" "$(cat "$work/log/shmallocd.log")" "*stopping*"

# The journal's prefix.
: >"$work/out"
exec 9>"$work/journal"
JOURNAL_STREAM=$(stat -L -c %d:%i "$work/journal") "$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --config /dev/null \
	2>&9 >"$work/out" &
daemon=$!
pids+=("$daemon")
eventually 20 grep -q ready "$work/out" || fail "daemon does not start"
stop
expect "levels for the journal" "$(head -c 3 "$work/journal")" "<6>"
