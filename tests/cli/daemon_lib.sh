# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts daemon_*.sh share: a private directory, daemons in it, clients of them; nothing is left behind.
set -eu

peer=$top_builddir/tests/cli/daemon_peer
export deny=$top_builddir/tests/cli/daemon_deny
work=$(mktemp -d "${TMPDIR:-/tmp}/shmalloc-test.XXXXXX")
chmod 755 "$work"
name=dtest-$$x # whose end tells it from that of another process
socket=$work/run/socket
pids=()

clean()
{
	status=$?
	trap - EXIT
	for pid in "${pids[@]}"; do
		kill -9 "$pid" 2>/dev/null || true
	done
	wait 2>/dev/null || true
	rm -rf "$work" /dev/shm/shmalloc."$name"*
	[ $status = 0 ] || [ $status = 77 ] || echo "FAILED (exit $status)"
	exit $status
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

fail()
{
	echo "FAILED: $*"
	sed 's/^/  daemon: /' "$work"/err* 2>/dev/null || true
	exit 1
}

# What there is of this test in /dev/shm.
shared()
{
	find /dev/shm -name "shmalloc.$name*" "$@"
}

# expect WHAT-IT-SHOWS ACTUAL WANTED-PATTERN
expect()
{
	# shellcheck disable=SC2254
	case $2 in
	$3) echo "ok: $1" ;;
	*) fail "$1: '$2' is not '$3'" ;;
	esac
}

# eventually SECONDS COMMAND… : until it succeeds; seconds of a machine with nothing else to do, so ten times as many.
eventually()
{
	local tries=$(($1 * 200))
	shift
	until "$@" >/dev/null 2>&1; do
		((tries-- > 0)) || return 1
		sleep 0.05
	done
}

# start [ARGUMENT…] : a daemon; its process in $daemon, its stdout and stderr in $work/out and $work/err. PREFIX goes before it.
start()
{
	: >"$work/out"
	# shellcheck disable=SC2086
	${PREFIX:-} "$SHMALLOCD" --socket "$socket" --state-dir "$work/state" --config "${config:-/dev/null}" "$@" \
		>"$work/out" 2>>"$work/err" &
	daemon=$!
	pids+=("$daemon")
	eventually 20 grep -q '^ready ' "$work/out" || fail "daemon does not start: $*"
}

# stop [SIGNAL] : and its exit status in $status
stop()
{
	status=0
	kill -"${1:-TERM}" "$daemon"
	wait "$daemon" 2>/dev/null || status=$?
}

ask()
{
	timeout 300 "$peer" "$socket" "$@"
}

# hold TAG NAME [create] : a client in the background, told things by `tell TAG LINE`, its answers in $work/TAG, its process
# in $holder.
hold()
{
	local tag=$1
	shift
	mkfifo "$work/$tag.in"
	"$peer" "$socket" hold "$@" <"$work/$tag.in" >"$work/$tag" 2>>"$work/err.peer" &
	holder=$!
	pids+=("$holder")
	exec {feed}>"$work/$tag.in"
	eval "feed_$tag=$feed"
	eventually 20 grep -q '^client=' "$work/$tag" || fail "client $tag does not attach"
}

tell()
{
	local feed=feed_$1
	echo "$2" >&"${!feed}"
}

# write WRITERS ARGUMENT… : processes of $writer, which is set, that log numbered records, in the background, as its own usage says.
write()
{
	rm -f "$work/stop"
	"$writer" write "$name" "$1" "$work/stop" "${@:2}" >"$work/written" 2>>"$work/err.writers" &
	writing=$!
	pids+=("$writing")
}

# finish : ends them; $written is how many records there were.
finish()
{
	: >"$work/stop"
	wait "$writing" || fail "a writer failed: $(cat "$work/err.writers")"
	# shellcheck disable=SC2034 # for the scripts
	written=$(sed -n 's/^written=//p' "$work/written")
}
