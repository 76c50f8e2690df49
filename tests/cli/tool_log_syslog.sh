#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A socket as /dev/log is one: what programs send to it by logger(1), as syslog(3) does, or as Python does, becomes
# records with fields.
: "${top_srcdir:?}" "${top_builddir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
e=--embedded
sock=$dir/log.sock
expect 0 $e arena create "$id" --size 16M --log-size 4M

# serve [WORD…] : begins to listen at $sock.
serve()
{
	"$SHMCTL" $e log put "$@" 2>"$dir/served" &
	put_pid=$!
	wait_for test -S "$sock"
}
# Ends it in order: what was sent is written, the socket is gone.
stop()
{
	kill "$put_pid"
	wait "$put_pid" || { fail "log put: exit code $?"; cat "$dir/served"; }
	[ ! -e "$sock" ] || fail "the socket is still there"
}

serve "$id" --syslog-socket "$sock"
sender=$("$top_builddir/tests/cli/syslog_send" "$sock" 1000) || fail "syslog_send"
mode=$(stat -c %a "$sock")
[ "$mode" = 666 ] || fail "mode $mode"
stop
expect 0 $e log cat "$id" --client "$sender"
out_lines 1000
expect 0 $e log cat "$id" --name syslog_send --level err..err
out_lines 125
out_has " err [0-9]* call 3 ident=syslog_send pid=$sender facility=daemon sender_pid=$sender sender_uid=$(id -u)$"
expect 0 $e log cat "$id" --kv facility=daemon --grep 'call 999$' --json
out_lines 1
json_lines_valid
json_has "d['data'] == 'call 999' and d['level'] == 7 and d['fields']['ident'] == 'syslog_send' and d['fields']['pid'] == $sender"

# The option before the name; a socket that a killed process left; another that is served.
serve "--syslog-socket=$sock" "$id"
kill -9 "$put_pid"
wait "$put_pid" 2>/dev/null
[ -S "$sock" ] || fail "a killed process takes its socket along"
mv "$sock" "$dir/old.sock"
sock=$dir/old.sock
"$SHMCTL" $e log put --syslog-socket "$sock" "$id" 2>"$dir/served" &
put_pid=$!
wait_for "$top_builddir/tests/cli/syslog_send" "$sock" 0 2>/dev/null
expect 1 $e log put "$id" --syslog-socket "$sock"
err_has 'another process listens'
stop

: >"$dir/file"
expect 1 $e log put "$id" --syslog-socket "$dir/file"
err_has 'no socket'
[ -e "$dir/file" ] || fail "a file was removed"
expect 1 $e log put "$id" --syslog-socket "$dir/none/sock"
expect 2 $e log put "$id" --syslog-socket "$sock" --level info

if command -v logger >/dev/null && logger --version | grep -q util-linux; then
	sock=$dir/logger.sock
	serve "$id" --syslog-socket "$sock"
	logger -u "$sock" -p mail.warning -t 'my-prog' "from logger" || fail "logger"
	logger -u "$sock" -p local3.err --id=77 -t prog "with a pid" || fail "logger --id"
	logger -u "$sock" --rfc5424 -p auth.crit -t p5424 --msgid M1 \
		--sd-id demo@1 --sd-param 'k="va \"l"' "by the new format" || fail "logger --rfc5424"
	logger -u "$sock" --rfc3164 -t old -p cron.notice "with a host" || fail "logger --rfc3164"
	printf 'one\ntwo\nthree\n' | logger -u "$sock" -t lines || fail "logger < lines"
	stop
	expect 0 $e log cat "$id" --kv ident=my-prog
	out_lines 1
	out_has ' warning [0-9]* from logger ident=my-prog .*facility=mail'
	expect 0 $e log cat "$id" --client 77
	out_has ' err [0-9]* with a pid ident=prog pid=77 facility=local3'
	expect 0 $e log cat "$id" --kv msgid=M1 --json
	out_lines 1
	json_has "d['data'] == 'by the new format' and d['level'] == 2 and d['fields']['demo@1.k'] == 'va \"l' and d['fields']['facility'] == 'auth' and d['fields']['host'] == '$(hostname)' and d['fields']['timestamp'][:2] == '20'"
	expect 0 $e log cat "$id" --kv ident=old
	out_has " notice [0-9]* with a host ident=old .*facility=cron host=$(hostname)"
	expect 0 $e log cat "$id" --name lines
	out_lines 3
	out_has ' three ident=lines'
fi

if command -v python3 >/dev/null; then
	sock=$dir/python.sock
	serve "$id" --syslog-socket "$sock"
	python3 - "$sock" <<'END' || fail "python"
import logging, logging.handlers, sys
handler = logging.handlers.SysLogHandler(address=sys.argv[1], facility="local1")
handler.ident = "script[5]: "
log = logging.getLogger()
log.addHandler(handler)
log.error("it failed: %s", "badly \u00e9")
log.warning("x" * 100000)
END
	stop
	expect 0 $e log cat "$id" --kv ident=script --json
	out_lines 2
	json_line_has "d['data'] == 'it failed: badly \u00e9' and d['level'] == 3 and d['fields']['pid'] == 5"
	json_line_has "d['data'] == 'x' * 100000 and d['level'] == 4 and d['fields']['facility'] == 'local1'"
fi
finish
