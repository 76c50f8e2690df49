#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Arenas without the daemon: made, listed, shown, mapped, counted, checked, destroyed; in both forms.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

e=--embedded
expect 0 $e arena create "$id-a" --size 64M --mode 640 --log-size 1M --log-policy drop --quota 1M
[ ! -s "$dir/out" ] || fail "create prints data"
expect 1 $e arena create "$id-a" --size 64M
err_has 'already'
expect 1 $e arena create "$id a" --size 64M
expect 1 $e arena create "$id-m" --size 64M --backing memfd
err_has 'without the daemon'

expect 0 $e arena list
out_has "^NAME  *BACKING  *CAPACITY"
out_has "^$id-a  *posix  *64 MiB .* 0640 .* served"
expect 0 $e --json arena list
json_valid
json_has "[a['capacity_bytes'] for a in d['arenas'] if a['name'] == '$id-a'] == [64 << 20]"

expect 0 $e arena show "$id-a"
out_has '^capacity: *64 MiB'
out_has '^log policy: *drop'
out_has '^client quota: *1 MiB'
out_has '^NAME  *HANDLE  *SIZE'
expect 0 $e arena show "$id-a" --json
json_valid
json_has "d['name'] == '$id-a' and d['mode'] == '0640' and d['client_quota_bytes'] == 1 << 20"
json_has "d['names'] == [] and d['damaged'] is False and d['created'].endswith('Z')"

expect 0 $e stats "$id-a"
out_has '^capacity: *64 MiB'
expect 0 $e stats "$id-a" --json
json_valid
json_has "all(type(d[k]) is int for k in 'capacity_bytes committed_bytes live_bytes live_objects cached_bytes clients'.split())"
json_has "d['capacity_bytes'] == 64 << 20 and d['live_bytes'] == 0 and d['live_objects'] == 0 and d['clients'] == 0"
json_has "all(k in d for k in ('pages', 'classes', 'owners', 'zones'))"

expect 0 $e arena map "$id-a"
out_has 's S  small objects'
out_lacks "$(printf '\033')"
expect 0 $e arena map "$id-a" --json
json_valid
json_has "type(d['groups']) is list and d['group_bytes'] == 4096 * d['group_pages']"

expect 0 $e arena check "$id-a"
out_has '^result: *sound'
expect 0 $e arena check "/dev/shm/shmalloc.$id-a" --json
json_valid
json_has "d['sound'] is True and d['damage'] == 0 and d['findings'] == []"

expect 0 $e client list
out_has '^ARENA  *CLIENT  *PID'
expect 0 $e client list "$id-a" --json
json_valid
json_has "d == {'clients': []}"

# Keys are stable: programs rely on them. New ones may come behind.
# keys EXPRESSION KEY…
keys()
{
	what=$1
	shift
	json_has "set('$*'.split()) <= set($what)"
}
expect 0 $e arena list --json
keys "d['arenas'][0]" name backing capacity_bytes log_bytes clients mode uid created status why
expect 0 $e arena show "$id-a" --json
keys d name uuid created version backing uid gid mode handle_tag damaged file_bytes capacity_bytes \
	client_quota_bytes numa numa_nodes numa_state huge huge_state huge_setting nodes log_bytes log_policy log_clock zones zones_in_use zone_bytes committed_bytes live_bytes \
	live_objects clients threads names
expect 0 $e stats "$id-a" --json
keys d arena capacity_bytes committed_bytes live_bytes live_objects cached_bytes cached_objects \
	persistent_objects names clients threads slabs slab_bytes extents extent_bytes state_bytes \
	log_capacity_bytes problems stack_bytes stack_used_bytes stack_high_bytes held_objects holds hold_bytes log pages classes owners nodes zones
keys "d['nodes'][0]" node zones capacity_bytes used_bytes committed_bytes resident_bytes
keys "d['log']" records record_bytes written overwritten dropped blocks block_bytes consumer
expect 0 $e arena map "$id-a" --json
keys d arena capacity_bytes group_bytes group_pages shown_bytes never_taken_bytes groups
expect 0 $e arena check "$id-a" --json
keys d arena result sound damage stale seconds findings

# Nodes and large pages: what is not there is refused, what cannot be had is said.
expect 1 $e arena create "$id-n" --size 16M --numa bind:63
err_has 'no such NUMA node'
err_has 'nodes that this process may use: 0'
expect 1 $e arena create "$dir/n.arena" --size 16M --numa bind:63
case $(stat -f -c %T "$dir") in
tmpfs) ;;
*)
	expect 1 $e arena create "$dir/n.arena" --size 16M --numa bind:0
	err_has 'cannot be bound'
	expect 0 $e arena create "$dir/n.arena" --size 16M --huge always
	err_has 'huge always: no huge pages, the file is not in a tmpfs'
	expect 0 $e arena show "$dir/n.arena" --json
	json_has "d['huge'] == 'always' and d['huge_state'] == 'no tmpfs'"
	expect 0 $e arena destroy "$dir/n.arena"
	;;
esac
[ "$(find "$dir" -name 'n.arena*')" = "" ] || fail "something is left of a refused arena"
expect 0 $e arena create "$id-n" --size 16M --numa interleave --huge advise
expect 0 $e arena show "$id-n" --json
json_has "d['numa'] == 'interleave' and d['numa_state'] in ('kept', 'one node', 'forbidden', 'not kept')"
json_has "d['huge'] == 'advise' and d['huge_state'] in ('granted', 'forbidden', 'unknown here')"
json_has "[n['node'] for n in d['nodes']][0] == 0 and all(n['zones'] is None for n in d['nodes'])"
expect 0 $e arena show "$id-n"
out_has '^NODE  *ZONES  *CAPACITY  *USED  *COMMITTED  *RESIDENT'
expect 0 $e arena destroy "$id-n"
if $SHMCTL $e arena create "$id-n" --size 16M --numa bind:0 2>"$dir/err"; then
	expect 0 $e arena show "$id-n" --json
	json_has "d['numa'] == 'bind' and d['numa_nodes'] == '0' and d['numa_state'] == 'kept'"
	expect 0 $e arena destroy "$id-n"
else
	err_has 'cannot be bound' # a container without the right to set policies
fi

# File arenas, by path; with and without --embedded, since a path needs no daemon.
expect 0 $e arena create "$dir/f.arena" --size 16M
for verb in "arena show" "arena map" "arena check" "stats" "client list"; do
	# shellcheck disable=SC2086
	expect 0 $verb "$dir/f.arena"
	# shellcheck disable=SC2086
	expect 0 $verb "$dir/f.arena" --json
	json_valid
done
expect 0 arena show "$dir/f.arena" --json
json_has "d['backing'] == 'file' and d['name'] == 'f.arena'"
expect 0 $e arena destroy "$dir/f.arena"
[ "$(find "$dir" -name 'f.arena*')" = "" ] || fail "something is left of the file arena"

# What is not there.
for verb in "arena show" "arena map" "arena check" "arena destroy" "stats" "client list"; do
	# shellcheck disable=SC2086
	expect 1 $e $verb "$id-none"
	err_has 'no such arena'
done
expect 1 arena check "$dir/none"
err_has 'no such file'
expect 1 $e arena show 'a b'

expect 0 $e arena destroy "$id-a"
expect 0 $e arena list
out_lacks "$id-a"
[ "$(find /dev/shm -name "shmalloc.$id*")" = "" ] || fail "something is left in /dev/shm"
finish
