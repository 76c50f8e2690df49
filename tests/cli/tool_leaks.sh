#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What nobody will free is found, and nothing that somebody knows: by name, from another's contents, packed or not, held.
: "${top_srcdir:?}" "${top_builddir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

mkfifo "$dir/hold"
"$top_builddir/tests/cli/leaky" "$id" <"$dir/hold" >"$dir/said" 2>"$dir/err.leaky" &
leaky=$!
exec 3>"$dir/hold"
tries=0
until [ "$(grep -c '^lost' "$dir/said")" = 2 ]; do
	tries=$((tries + 1))
	[ $tries -lt 600 ] || { fail "no arena: $(cat "$dir/err.leaky")"; finish; }
	sleep 0.1
done

expect 0 --embedded leaks "$id" --json
json_valid
json_has "d['persistent_objects'] == 5 and d['unreached_objects'] == 2 and 200200 <= d['unreached_bytes'] < 220000"
lost=$(sed -n 's/^lost //p' "$dir/said" | tr '\n' ' ')
json_has "{int(o['handle'], 16) for o in d['objects']} == {int(h, 16) for h in '$lost'.split()}"
json_has "d['objects'][0]['bytes'] >= 200000 and d['objects'][0]['allocated'] and d['objects'][0]['pid'] > 0"
json_has "'lose' in d['objects'][0]['calls'] or '+0x' in d['objects'][0]['calls']"
expect 0 --embedded stats "$id" --json
json_has "[(o['held_objects'], o['holds']) for o in d['owners'] if o['holds']] == [(1, 1)] and d['holds'] == 1"
expect 0 --embedded leaks "$id" -n 1
out_has '^unreached objects: *2$'
expect 0 --embedded leaks "$id" --collapsed
out_has ' [0-9]+$'
expect 0 --embedded leaks "$id" --pprof "$dir/leaks.pb.gz"
[ -s "$dir/leaks.pb.gz" ] || fail "no profile"

# What is live for long, of anybody, as far as it was sampled.
expect 0 --embedded leaks "$id" --before now --json
json_valid
json_has "d['live_samples'] >= 1 and d['live_bytes'] > 190000 and d['sites']"
expect 0 --embedded leaks "$id" --before 2001-01-01 --json
json_has "d['live_samples'] == 0 and d['sites'] == []"

exec 3>&-
wait $leaky || fail "the program failed: $(cat "$dir/err.leaky")"

# Where nothing is lost, and nothing was profiled.
expect 0 --embedded arena create "$id-none" --size 16M
expect 0 --embedded leaks "$id-none" --json
json_has "d['unreached_objects'] == 0 and d['objects'] == []"
expect 1 --embedded leaks "$id-none" --collapsed
err_has 'not profiled'
expect 0 --embedded arena create "$id-some" --size 16M --profile 64K
expect 0 --embedded profile "$id-some" --json
json_has "d['rate_bytes'] == 65536"
expect 0 --embedded leaks "$id-some" --collapsed
expect 2 --embedded arena create "$id-more" --size 16M --profile 1
expect 1 --embedded arena show "$id-more"
expect 2 --embedded leaks "$id" --before sometime
expect 2 --embedded leaks "$id" --limit many
expect 1 --embedded leaks "$id-never"
finish
