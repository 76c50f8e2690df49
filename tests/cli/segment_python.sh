#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The format is what SEGMENT.md says: a reader in Python, which knows no more, gets the same records as the library.
set -eu
: "${top_srcdir:?}" "${top_builddir:?}"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }
command -v zstd >/dev/null || { echo "no zstd"; exit 77; }
ours=$top_builddir/tests/cli/segment_records
theirs=$top_srcdir/tools/shmalog.py
dir=$(mktemp -d "${TMPDIR:-/tmp}/segment_python.XXXXXX")
trap 'rm -rf "$dir"' EXIT
status=0

# same WHAT PATH… : both readers get the same of it, and something.
same()
{
	what=$1
	shift
	"$ours" show "$@" >"$dir/ours" 2>/dev/null
	python3 "$theirs" --raw "$@" >"$dir/theirs" 2>"$dir/err"
	[ -s "$dir/ours" ] || { echo "$what: no records"; status=1; }
	cmp "$dir/ours" "$dir/theirs" || { echo "$what: not the same"; status=1; }
}

[ "$(wc -l <"$theirs")" -le 100 ] || { echo "the reader is longer than 100 lines"; status=1; }
seed=${SHMA_TEST_SEED:-$$}
echo "SHMA_TEST_SEED=$seed"
mkdir "$dir/log"
"$ours" make "$dir/log" "$seed"
same "a directory" "$dir/log"
[ ! -s "$dir/err" ] || { echo "said of whole segments:"; cat "$dir/err"; status=1; }
for segment in "$dir/log"/*; do
	same "${segment##*/}" "$segment"
done
[ "$(ls "$dir/log"/*.zst | wc -l)" = 4 ] || { echo "not half of them compressed"; status=1; }

# What people see of structured records.
python3 "$theirs" "$dir/log" >"$dir/shown" 2>/dev/null
grep -aq ' 6 [0-9]*/-5 text s=abc i=-2 u=9223372036854775809 d=1.5 b=True x=00ff$' "$dir/shown" ||
	{ echo "structured records are not shown as such"; status=1; }

# A torn tail is cut at the same place by both, and told.
size=$(wc -c <"$dir/log/0000000000000002.log")
for cut in 1 500 5000 20000; do
	head -c $((size - cut)) "$dir/log/0000000000000002.log" >"$dir/torn.log"
	same "without its last $cut bytes" "$dir/torn.log"
	grep -q "torn at" "$dir/err" || { echo "not told that it is torn"; status=1; }
done
exit $status
