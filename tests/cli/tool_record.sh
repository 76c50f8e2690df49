#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Recording: what programs allocate is in the trace, threads, forks, exec and a kill included; it can be replayed.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"
TMPDIR=$dir
export TMPDIR

# record WANTED_IN_MESSAGE COMMAND…: into $dir/t, plain; it is sound when replayed.
record()
{
	wanted=$1
	shift
	"$SHMCTL" trace record -o "$dir/t" -- "$@" >"$dir/program" 2>"$dir/err" </dev/null || {
		fail "trace record $*"
		cat "$dir/err"
		return
	}
	err_has "$wanted"
	expect 0 trace replay "$dir/t" --verify
	out_has '^check: *sound'
	[ "$(find "$dir" -name 'shmalloc-trace-*')" = "" ] || fail "$1: raw files are left"
}

# many OP SIZE: how many events of this kind.
many() { od -An -v -tu4 -w12 -j16 "$dir/t" | awk -v op="$1" -v size="$2" '$1 % 256 == op && $3 == size' | wc -l; }
has() { [ "$(many "$2" "$3")" -eq "$1" ] || fail "$(many "$2" "$3") events of kind $2 and size $3, not $1"; }

# Real programs; what they print is what they would have printed.
record '^exit code: *0' ls -R "$top_srcdir/shm"
ls -R "$top_srcdir/shm" >"$dir/same"
cmp "$dir/program" "$dir/same" || fail "ls prints something else"
seq 20000 >"$dir/numbers"
record '^events: *[1-9]' sort -r "$dir/numbers"
[ "$(head -1 "$dir/program")" = 9999 ] || fail "sort sorts otherwise"
if command -v python3 >/dev/null; then
	record '^exit code: *3' python3 -c 'import json, sys; json.dumps(list(range(10000))); sys.exit(3)'
fi

# Named after the program, compressed.
(cd "$dir" && "$SHMCTL" trace record -- ls / >/dev/null 2>"$dir/err") || fail "no name given"
expect 0 trace replay "$dir/ls.trace.zst"

if [ "${SANITIZERS:-no}" = no ]; then # whose programs insist on being the first to see an allocation
	program=$top_builddir/tests/cli/record_program
	record '^programs: *1' "$program"
	has 300 1 55555
	record '^threads: *5' "$program" threads
	has 2000 1 33333
	record '^exit code: *0' "$program" resize
	has 100 3 44444
	record '^exit code: *0' "$program" align
	has 5 1 66666
	has 1 1 66688
	record '^exit code: *0' "$program" fork
	has 0 1 77777
	has 7 1 77778
	record '^programs: *2' "$program" exec
	has 600 1 55555
	record '^signal: *9' "$program" kill
	has 300 1 55555
fi

expect 1 trace record -o "$dir/none" -- "$dir/no-such-program"
err_has 'nothing was recorded'
expect 1 trace record -o "$dir/no/such/folder" -- sort /dev/null
err_has 'No such file'
expect 2 trace record
[ "$(find "$dir" -name 'shmalloc-trace-*')" = "" ] || fail "raw files are left"
finish
