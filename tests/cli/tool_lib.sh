# SPDX-License-Identifier: Apache-2.0
# tool_lib.sh - sourced by the tests of shmctl-tool: a directory of its own, unique names, checks.
# shellcheck shell=sh
set -u
: "${SHMCTL:?}" "${top_srcdir:?}"

dir=$(mktemp -d "${TMPDIR:-/tmp}/shmctl.XXXXXX") || exit 1
id=t$$x # whose end tells it from that of another process
failures=0
daemon_pid=
SHMALLOC_SOCKET=$dir/none.sock
TZ=UTC
LC_ALL=C
export SHMALLOC_SOCKET TZ LC_ALL
unset COLUMNS

cleanup()
{
	[ -z "$daemon_pid" ] || { kill "$daemon_pid" && wait "$daemon_pid"; } 2>/dev/null
	for file in /dev/shm/shmalloc."$id"*; do
		[ ! -e "$file" ] || rm -f "$file"
	done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

fail()
{
	echo "FAILED: $*"
	failures=$((failures + 1))
}

# expect CODE ARGUMENT…: runs the tool; its output is in $dir/out and $dir/err.
expect()
{
	wanted=$1
	shift
	code=0
	"$SHMCTL" "$@" >"$dir/out" 2>"$dir/err" </dev/null || code=$?
	[ "$code" = "$wanted" ] || {
		fail "shmctl-tool $*: exit code $code, not $wanted"
		cat "$dir/out" "$dir/err"
	}
	# Data on stdout, messages on stderr: a failure has a message and no half data.
	case $code in
	0) ;;
	4) ;;
	*)
		[ ! -s "$dir/out" ] || fail "shmctl-tool $*: fails with data on stdout"
		[ -s "$dir/err" ] || fail "shmctl-tool $*: fails without a message"
		;;
	esac
}

out_has() { grep -Eq -e "$1" "$dir/out" || { fail "no '$1' in the output:"; cat "$dir/out"; }; }
out_lacks() { ! grep -Eq -e "$1" "$dir/out" || { fail "'$1' is in the output:"; cat "$dir/out"; }; }
err_has() { grep -Eq -e "$1" "$dir/err" || { fail "no '$1' in the messages:"; cat "$dir/err"; }; }
out_lines() { [ "$(wc -l <"$dir/out")" = "$1" ] || { fail "not $1 lines:"; cat "$dir/out"; }; }

# Is the output one JSON value, or one on each line?
json_valid()
{
	command -v python3 >/dev/null || return 0
	python3 -m json.tool <"$dir/out" >/dev/null || { fail "not JSON:"; cat "$dir/out"; }
}
json_lines_valid()
{
	command -v python3 >/dev/null || return 0
	python3 -c 'import json, sys
for line in sys.stdin: json.loads(line)' <"$dir/out" || { fail "not JSON lines:"; cat "$dir/out"; }
}
# json_has EXPRESSION: of d, the document, in Python; true.
json_has()
{
	command -v python3 >/dev/null || return 0
	python3 -c 'import json, sys
d = json.load(sys.stdin)
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" <"$dir/out" || { fail "not so: $1"; cat "$dir/out"; }
}
# json_line_has EXPRESSION: of some line's document.
json_line_has()
{
	command -v python3 >/dev/null || return 0
	python3 -c 'import json, sys
sys.exit(0 if any(eval(sys.argv[1], {"d": json.loads(line)}) for line in sys.stdin) else 1)' "$1" <"$dir/out" ||
		{ fail "not so of any line: $1"; cat "$dir/out"; }
}

# wait_for COMMAND…: until it succeeds, for at most 100 seconds: a slow machine is no failure.
wait_for()
{
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 2000 ] || { fail "in vain: $*"; return 1; }
		sleep 0.05
	done
}

start_daemon()
{
	SHMALLOC_SOCKET=$dir/d.sock
	mkdir -p "$dir/state" "$dir/log"
	"$SHMALLOCD" --socket "$SHMALLOC_SOCKET" --state-dir "$dir/state" --log-dir "${log_dir:-$dir/log}" \
		>"$dir/ready" 2>"$dir/daemon.err" &
	daemon_pid=$!
	wait_for grep -q '^ready ' "$dir/ready" || { cat "$dir/daemon.err"; finish; }
}

finish()
{
	[ "$failures" = 0 ] || exit 1
	exit 0
}
