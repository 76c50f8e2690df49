#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Logs are shipped to NATS JetStream: the daemon, its shipper and the server are killed, and each record is there once.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_ship_lib.sh"

servers 1
configure 'log-drain-ms = 20' 'log-segment-size = 1M'

# The engine comes late: what is there by then is shipped from the segments.
start --log-dir "$logs"
"$SHMCTL" arena create "$name" --size 64M --log-size 16M >/dev/null
write 2 1500
not_shipped()
{
	grep -q "arena $name: its log is not shipped: no connection" "$work/err"
}
eventually 10 not_shipped || fail "that the server is away is not said"
echo "ok: that the server is away is said"
server 0
more 10 2000 "the server is there"
grep -q "arena $name: its log is shipped, from sequence 1 on" "$work/err" || fail "that it is there is not said"

for ((round = 0; round < 3; round++)); do
	kill -9 "$(shipper)"
	more 10 1000 "the shipper was killed"
	stop KILL
	start --log-dir "$logs"
	more 10 1000 "the daemon was killed"
	crash 0
	sleep 0.$((RANDOM % 9))
	server 0
	more 15 1000 "the server was killed"
	kill -STOP "$(shipper)"
	sleep 0.2
	stop KILL
	start --log-dir "$logs"
	more 10 1000 "the shipper was stopped, then the daemon killed"
done

# A position as of long ago, or none, is no reason to ship anything again: the stream's end is the truth.
stop
echo '1 256 0 0' >"$logs/$name/ship.position"
start --log-dir "$logs"
more 10 1000 "an old position"
stop
rm "$logs/$name/ship.position"
start --log-dir "$logs"
more 10 1000 "no position"

finish
once 2

# All that it had has gone, by its limits or by hand: then the position counts.
before=$(at_end)
saved()
{
	[ "$(cut -d ' ' -f 4 "$logs/$name/ship.position")" = "$before" ]
}
eventually 10 saved || fail "the position is not at the end: $(cat "$logs/$name/ship.position"), not $before"
stop
"$ship" purge "$urls" "$stream"
start --log-dir "$logs"
write 1 1500
more 10 500 "the stream was emptied"
finish
once 1

# An arena that is unmade has its last records shipped.
write 2 3000
sleep 0.5
finish
"$SHMCTL" arena destroy "$name" >/dev/null
eventually 20 eval '[ -z "$(shipper)" ]' || fail "the shipper does not end"
expect "all was shipped before the shipper ended" "$(at_end)" $((before + written + records))
stop
expect "stops in order" $status 0
