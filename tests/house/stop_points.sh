#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stop points cost nothing: in the library they are empty statements, and none of their names is in it. Each stands
# in one place of the code, and in the table.
set -eu
shm=$top_srcdir/shm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

sed -n 's/^\tX(\([a-z_]*\), ".*/\1/p' "$shm/stop_point.h" | sort >"$work/table"
cat "$shm"/*.[ch] | sed -n 's/^\t*STOP_POINT(\([a-z_]*\));$/\1/p' | sort >"$work/code"
[ -s "$work/table" ]
if ! diff "$work/table" "$work/code"; then
	echo "< in the table only, > in the code only, or twice"
	status=1
fi

# What the compiler sees, with the stop points and with lines that say nothing in their place.
expand()
{
	cat "$1" | gcc -D_GNU_SOURCE -DNDEBUG -E -P -I"$shm" -I"$top_srcdir/libclient" -x c - | tr -d ' \n'
}
for file in $(grep -l '^	*STOP_POINT(' "$shm"/*.c); do
	sed 's/^\(	*\)STOP_POINT(.*);$/\1((void)0);/' "$file" >"$work/empty.c"
	expand "$file" >"$work/with"
	expand "$work/empty.c" >"$work/without"
	[ -s "$work/with" ]
	cmp -s "$work/with" "$work/without" || { echo "$file: a stop point is not empty"; status=1; }
done

# traces FILE: symbols and texts of stop points in it, but for what a debugger is told.
traces()
{
	strip --strip-debug -o "$work/stripped" "$1"
	{ nm "$work/stripped"; nm -D "$work/stripped" 2>/dev/null || :; strings -a "$work/stripped"; } |
		grep -c 'stop_point' || :
}
lib=$top_builddir/.libs/libshmalloc.so
[ "$(traces "$lib")" = 0 ] || { echo "$lib: has stop points"; status=1; }
# The program that has them would be told so.
[ "$(traces "$top_builddir/tests/interleave/interleave")" != 0 ] || { echo "not seen where they are"; status=1; }
exit $status
