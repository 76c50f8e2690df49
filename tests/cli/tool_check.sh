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

# repair CODE ARGUMENT…: of the copy, which anything may have happened to; then a check has nothing to say.
repair()
{
	wanted=$1
	shift
	expect "$wanted" arena check "$bad" --repair "$@"
	[ "$wanted" != 0 ] || "$SHMCTL" arena check "$bad" >/dev/null || fail "not whole after the repair"
}

# A sound arena stays as it is; a copy gets the life file without which nobody attaches.
cp --sparse=always "$good" "$bad"
repair 0
out_has '^repaired  *life-file'
repair 0
out_has '^result: *sound$'
"$SHMCTL" --embedded stats "$bad" >/dev/null || fail "no statistics after the repair"

# What is wrong is said, in both forms.
break_at 24 '\377\376\377\376\377\376\377\376'
repair 4
out_has '^result: *refused'
out_has '^refused  *no-header'
break_at 3 '\000'
repair 0
out_has '^result: *repaired$'
out_has '^repaired  *header .*wrong: 1'
break_at 200000 '\377\376\001\252\125\003'
repair 0 --json
json_valid
json_has "d['sound'] is True and d['result'].startswith('repaired') or d['result'] == 'sound'"
json_has "all(k in d for k in ('damage', 'stale', 'repaired', 'lost_objects', 'lost_bytes', 'lost_records'))"
json_has "all(k in d for k in ('kept_objects', 'kept_bytes', 'returned_objects', 'returned_bytes'))"
json_has "all(n['result'] in ('repaired', 'lost') and n['meaning'] for n in d['repairs'])"

# Cut off: with its heap gone it is whole again, and says so; without even a log it is refused.
cp --sparse=always "$good" "$bad"
size=$(stat -c %s "$bad")
truncate -s $((size - 5000000)) "$bad"
expect 4 arena check "$bad"
repair 0
out_has '^repaired  *length'
[ "$(stat -c %s "$bad")" = "$size" ] || fail "its length is not what it was"
truncate -s 1M "$bad"
repair 4
out_has '^refused  *cut-short'
head -c 100000 /dev/urandom >"$bad"
repair 4 --json
json_has "d['sound'] is False and d['repairs'][0]['what'] == 'no-header'"
expect 1 arena check "$dir/" --repair
err_has 'directory'
expect 1 arena check "$dir/nowhere" --repair
err_has 'no such file'
expect 1 arena check "$id-none" --repair
err_has 'no such arena'

# Whoever is attached must not be disturbed, though it may only be waiting for a line.
mkfifo "$dir/lines"
expect 0 --embedded arena create "$id-live" --size 16M
"$SHMCTL" --embedded log put "$id-live" <"$dir/lines" &
putter=$!
exec 9>"$dir/lines"
echo "first line" >&9
wait_for sh -c "'$SHMCTL' --embedded log cat $id-live | grep -q 'first line'"
expect 1 --embedded arena check "$id-live" --repair
err_has "attached.*process $putter"
exec 9>&-
wait $putter
expect 0 --embedded arena check "$id-live" --repair

# Nor the daemon that serves it: it is a client as others.
start_daemon
expect 0 arena create "$id-served" --size 16M
expect 1 arena check "$id-served" --repair
err_has "attached.*process $daemon_pid"
kill "$daemon_pid"
wait "$daemon_pid"
daemon_pid=
expect 0 arena check "$id-served" --repair

# Random bytes over the fixed part: any verdict, but an orderly end.
seed=${SHMA_TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
echo "SHMA_TEST_SEED=$seed"
i=0
while [ $i -lt 12 ]; do
	seed=$(((seed * 1103515245 + 12345) % 2147483648))
	offset=$((4096 + seed % 2000000))
	break_at $offset '\377\376\001\252\125\003\377\001\377\376\001\252\125\003\377\001'
	for verb in "arena check" "arena map" "arena show" "stats" "client list" "arena check --repair"; do
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
