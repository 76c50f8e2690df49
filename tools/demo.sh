#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/demo.sh [--lines N] [FILE…] : the main job, on this machine's own logs if no file is given. A daemon of its own in a
# private directory, an arena, the example log server with a kill -9 half-way, then what the tool shows of it.
# Exit status 0 only if every line is accounted for and nothing is left over.
set -eu

usage()
{
	echo "usage: tools/demo.sh [--lines N] [FILE…]" >&2
	exit 2
}

lines=()
files=()
while [ $# -gt 0 ]; do
	case $1 in
	--lines)
		[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage
		lines=(--lines "$2")
		shift
		;;
	-h | --help | -*) usage ;;
	*) files+=("$(realpath -- "$1")") || exit 1 ;;
	esac
	shift
done

cd "$(dirname "$0")/.."
tools/build.sh build
build=$PWD/build

if [ ${#files[@]} = 0 ]; then
	# Text only: journal files and login records are not lines.
	mapfile -t files < <(find /var/log -type f -readable -size +0 \
		! -path '*/journal/*' ! -name '*.gz' ! -name '*.xz' ! -name '*tmp' ! -name lastlog -print0 2>/dev/null |
		xargs -r -0 grep -lIs . | sort | head -n 32)
	[ ${#files[@]} -gt 0 ] || { echo "no readable log below /var/log: name a FILE" >&2; exit 1; }
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/shmalloc-demo.XXXXXX")
arena=demo-$$
export SHMALLOC_SOCKET=$dir/shmallocd.sock
daemon=
tool=$build/shmctl-tool

clean()
{
	status=$?
	trap - EXIT
	if [ -n "$daemon" ]; then
		"$tool" arena destroy "$arena" >/dev/null 2>&1 || status=1
		kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null || status=1
		# Whatever an orderly end left undone, a failure included.
		kill -9 "$daemon" 2>/dev/null || true
	fi
	rm -rf "$dir" /dev/shm/shmalloc."$arena"*
	exit $status
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

echo "== shmallocd in $dir"
"$build/shmallocd" --socket "$SHMALLOC_SOCKET" --state-dir "$dir/state" --log-dir "$dir/log" >"$dir/out" 2>"$dir/err" &
daemon=$!
for _ in $(seq 100); do
	grep -q '^ready ' "$dir/out" && break
	kill -0 "$daemon" 2>/dev/null || break
	sleep 0.05
done
cat "$dir/out" "$dir/err"
grep -q '^ready ' "$dir/out" || { daemon=; echo "the daemon does not get ready" >&2; exit 1; }

echo "== shmctl-tool arena create $arena"
"$tool" arena create "$arena" --size 256M

echo "== log server"
"$build/libclient/examples/logserver" --arena "$arena" --socket "$SHMALLOC_SOCKET" "${lines[@]}" -- "${files[@]}"

for what in "arena show" "arena map" "arena check"; do
	echo "== shmctl-tool $what $arena"
	# shellcheck disable=SC2086
	"$tool" $what "$arena"
done
echo "== shmctl-tool log tail $arena"
"$tool" log tail "$arena"

# One of them was killed: who, how, what it held, the last it logged.
echo "== shmctl-tool client deaths $arena"
"$tool" client deaths "$arena"
victim=$("$tool" --json client deaths "$arena" | grep -o '"pid": *[0-9]*, *"uid": *[0-9]*, *"command": *"[^"]*", *"ended": *"signal 9"' |
	grep -o '[0-9]*' | head -n 1)
[ -z "$victim" ] || "$tool" client deaths "$arena" --pid "$victim"

# The log is on the disk too, where it stays when the arena is gone.
sleep 1
echo "== shmctl-tool log cat $dir/log/$arena"
"$tool" log cat "$dir/log/$arena" >"$dir/cat"
ls -l "$dir/log/$arena"
echo "$(wc -l <"$dir/cat") records in $(find "$dir/log/$arena" -type f | wc -l) segment"
[ -s "$dir/cat" ]
