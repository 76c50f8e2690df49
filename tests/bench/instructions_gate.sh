#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The comparison of instructions fails when a call grows by more than 3 %, or is not counted any more, and compares
# nothing across compilers. No instruction is counted here.
set -eu
here=$top_srcdir/tests/bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# expect STATUS TEXT: the comparison of table and fresh ends so, and says that.
expect() {
	local status=0
	bash "$here/instructions.sh" compare "$folder/table" "$folder/fresh" >"$folder/out" || status=$?
	[ "$status" = "$1" ] && grep -q "$2" "$folder/out" || {
		echo "status $status, not $1 with \"$2\":"
		cat "$folder/out"
		exit 1
	}
}

table() { printf '# %s\nworkload,peer,call,instructions\n' "$1"; }
table 'gcc 1' >"$folder/table"
printf '%s\n' 'ws,a,alloc,100.0' 'ws,a,free,200.0' >>"$folder/table"

cp "$folder/table" "$folder/fresh"
expect 0 'same .*ws a alloc'
sed -i 's/100\.0/102.9/' "$folder/fresh"
expect 0 '102\.9, was .*100\.0 (+2\.9 %)'
sed -i 's/102\.9/103.1/' "$folder/fresh"
expect 1 'GREW .*ws a alloc'
grep -q 'make update-instructions' "$folder/out"
sed 's/100\.0/90.0/' "$folder/table" >"$folder/fresh"
expect 0 'shrank .*ws a alloc'
grep -v free "$folder/table" >"$folder/fresh"
expect 1 'MISSING .*ws a free'
{ cat "$folder/table"; echo 'ws,a,ptr,1.0'; } >"$folder/fresh"
expect 1 'NEW .*ws a ptr'
sed 's/gcc 1/gcc 2/' "$folder/table" >"$folder/fresh"
expect 77 'nothing compared'
table 'gcc 1' | tee "$folder/table" >"$folder/fresh"
expect 1 'table is empty'

# The table that is kept can be compared, and with itself it is the same.
cp "$here/instructions.csv" "$folder/table"
cp "$here/instructions.csv" "$folder/fresh"
expect 0 'same .*pair128 shmalloc alloc'
