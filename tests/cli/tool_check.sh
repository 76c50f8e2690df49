#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Damage gives exit code 4 and is told in both forms; whatever a file holds, no verb does worse than say so.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

good=$dir/good.arena
bad=$dir/bad.arena
expect 0 --embedded arena create "$good" --size 16M
expect 0 arena check "$good"

# break_at OFFSET BYTES: a copy of the sound file with these bytes (octal escapes) at the offset.
break_at()
{
	cp --sparse=always "$good" "$bad"
	# shellcheck disable=SC2059
	printf "$2" | dd of="$bad" bs=1 seek="$1" conv=notrunc status=none
}

# The header's uuid, which its checksum covers.
break_at 24 '\377\377\377'
expect 4 arena check "$bad"
out_has '^result: *damaged'
out_has '^damage  *header'
expect 4 arena check "$bad" --json
json_valid
json_has "d['sound'] is False and d['damage'] >= 1 and d['findings'][0]['severity'] == 'damage'"
for verb in "arena show" "arena map" "stats" "client list"; do
	# shellcheck disable=SC2086
	expect 4 $verb "$bad"
done

# A file cut short; one of another kind; nothing at all.
cp --sparse=always "$good" "$bad"
truncate -s 1M "$bad"
expect 4 arena check "$bad"
head -c 100000 /dev/urandom >"$bad"
expect 4 arena check "$bad"
expect 4 arena show "$bad"
: >"$bad"
expect 4 arena check "$bad"
expect 1 arena check "$dir/"

# Another version says nothing of damage.
break_at 8 '\143'
expect 1 arena check "$bad"
err_has 'version'

# Random bytes over the fixed part: any verdict, but an orderly end.
seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
echo "seed $seed"
i=0
while [ $i -lt 12 ]; do
	seed=$(((seed * 1103515245 + 12345) % 2147483648))
	offset=$((4096 + seed % 2000000))
	break_at $offset '\377\376\001\252\125\003\377\001\377\376\001\252\125\003\377\001'
	for verb in "arena check" "arena map" "arena show" "stats" "client list"; do
		code=0
		# shellcheck disable=SC2086
		"$SHMCTL" $verb "$bad" --json >"$dir/out" 2>"$dir/err" || code=$?
		case $code in
		0) json_valid ;;
		4) ;;
		*) fail "$verb of a file broken at $offset: exit code $code"; cat "$dir/err" ;;
		esac
	done
	i=$((i + 1))
done
finish
