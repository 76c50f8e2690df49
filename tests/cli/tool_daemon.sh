#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every verb by way of the daemon, and what they say when it is away.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
: "${SHMALLOCD:?}"

# Nobody listens: 3, for every verb with a name; nothing is created.
for verb in "arena list" "arena create $id --size 16M" "arena show $id" "arena map $id" "arena check $id" \
	"arena destroy $id" "client list" "client list $id" "stats $id" "log put $id" "log tail $id" "log cat $id"; do
	# shellcheck disable=SC2086
	expect 3 $verb
	err_has 'not running'
done
# A socket that nobody listens at any more is no daemon.
if command -v python3 >/dev/null; then
	python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])' "$dir/dead.sock"
	expect 3 --socket "$dir/dead.sock" arena list
fi

start_daemon
expect 0 arena list --json
json_valid
json_has "d == {'arenas': []}"
for backing in posix memfd; do
	name=$id-$backing
	expect 0 arena create "$name" --size 64M --backing $backing --log-size 1M
	expect 1 arena create "$name" --size 64M
	err_has 'already'
	expect 0 arena show "$name" --json
	json_valid
	json_has "d['backing'] == '$backing' and d['capacity_bytes'] == 64 << 20"
	for verb in "arena show" "arena map" "arena check" "stats" "client list"; do
		# shellcheck disable=SC2086
		expect 0 $verb "$name"
		# shellcheck disable=SC2086
		expect 0 $verb "$name" --json
		json_valid
	done
	echo "into $backing" | "$SHMCTL" log put "$name" --level notice || fail "log put"
	expect 0 log tail "$name"
	out_has "notice [0-9]* into $backing$"
	expect 0 log cat "$name" --json
	json_lines_valid
done
expect 1 arena create "$id-node" --size 64M --numa bind:63
err_has 'no such NUMA node'
err_has 'nodes that this process may use: 0'
expect 0 arena list
out_lacks "^$id-node"
out_has "^$id-memfd  *memfd"
out_has "^$id-posix  *posix"

# Somebody is attached, and is shown as long as it lives.
mkfifo "$dir/fifo"
"$SHMCTL" log put "$id-posix" <"$dir/fifo" &
writer=$!
exec 9>"$dir/fifo"
echo hello >&9
wait_for sh -c "'$SHMCTL' client list | grep -q ' $writer '"
expect 0 client list --json
json_valid
json_has "set('arena client pid uid command role state since threads live_bytes cached_bytes'.split()) <= set(d['clients'][0])"
json_has "[c['arena'] for c in d['clients'] if c['pid'] == $writer and c['state'] == 'live'] == ['$id-posix']"
expect 0 stats "$id-posix" --json
json_has "d['clients'] == 1 and any(o['pid'] == $writer for o in d['owners'])"
kill -9 $writer
wait $writer 2>/dev/null
exec 9>&-
wait_for sh -c "! '$SHMCTL' client list | grep -q ' $writer '"
expect 0 arena check "$id-posix"
expect 0 log tail "$id-posix"
out_has 'hello$'

# A trace in an arena of the daemon's leaves nothing there.
printf 'SMTRACE1\001\0\0\0\001\0\0\0\001\0\0\0\0\0\0\0\144\0\0\0' >"$dir/one.trace"
expect 0 trace replay "$dir/one.trace" --arena "$id-memfd" --json
json_has "d['events'] == 1 and d['peak_live_bytes'] == 100 and d['check'] == 'sound'"
expect 0 stats "$id-memfd" --json
json_has "d['live_objects'] == 0"

expect 1 arena show "$id-none"
err_has 'no such arena'
expect 1 arena destroy "$id-none"
expect 1 arena show 'a b'
for name in "$id-posix" "$id-memfd"; do
	expect 0 arena destroy "$name"
done
expect 0 arena list --json
json_has "d == {'arenas': []}"

# A daemon that does not answer holds nobody up for long; one that is gone is said to be.
kill -STOP "$daemon_pid"
expect 1 arena list
err_has 'answer|time'
kill -CONT "$daemon_pid"
expect 0 arena list
kill -9 "$daemon_pid"
wait "$daemon_pid" 2>/dev/null
daemon_pid=
expect 3 arena list
finish
