#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Logs are shipped to a cluster of three: servers are killed and stopped, and each record is there once.
# shellcheck disable=SC1091,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_ship_lib.sh"

servers 3
server 0
server 1
server 2
batch=16 # more counts messages
configure 'log-drain-ms = 20' 'ship-replicas = 3'
start --log-dir "$logs"
"$SHMCTL" arena create "$name" --size 64M --log-size 16M >/dev/null
write 2 500
more 20 125 "the cluster is there"

# leading : the number of the server that leads the stream.
leading()
{
	local url found
	for url in ${urls//,/ }; do
		found=$(timeout 3 "$ship" leader "$url" "$stream" 2>/dev/null) && echo "${found#n}" && return
	done
	return 1
}

eventually 10 leading || fail "nobody leads"
one=$(leading)
crash "$one"
more 20 75 "the leader was killed"
server "$one"

# As a link that is cut: it takes what is sent, and answers nothing.
eventually 10 leading || fail "nobody leads"
one=$(leading)
kill -STOP "${server[one]}"
more 30 75 "the leader was stopped"
kill -CONT "${server[one]}"
more 20 75 "and goes on"

# All are away for a moment.
for one in 0 1 2; do
	crash $one
done
status_says()
{
	"$SHMCTL" log status "$name" --json | tr -d '\n' | grep -q "$1"
}
eventually 30 status_says '"ship_error": "[^"]*not shipped.*"ship_error_since": "20' || fail "log status does not know"
for one in 0 1 2; do
	server $one
done
more 30 125 "all were killed"

eventually 30 status_says '"ship_error": null' || fail "log status knows of it still"
finish
once 2
stop
expect "stops in order" $status 0
