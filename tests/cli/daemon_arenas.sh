#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Arenas: made, listed, shown, opened with the rights that their mode bits grant, destroyed.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

for io in uring epoll; do
	start --io $io
	expect "none at first, $io" "$(ask list)" ""
	expect "posix" "$(ask create "$name.b")" "name=$name.b status=served backing=posix mode=600 *rights=3 capacity=16777216"
	expect "memfd" "$(ask create "$name.a" 1)" "name=$name.a status=served backing=memfd mode=600 *"
	expect "file" "$(ask create "$name.c" 3 640 32)" "name=$name.c status=served backing=file mode=640 *capacity=33554432"
	[ -e /dev/shm/shmalloc."$name.b" ] || fail "no posix arena in /dev/shm"
	[ -e "$work/state/files/$name.c" ] || fail "no file arena in the state directory"
	expect "list in order" "$(ask list | sed 's/ status.*//' | tr '\n' ' ')" "name=$name.a name=$name.b name=$name.c "
	expect "a name twice" "$(ask create "$name.b")" error=EEXIST
	expect "no such arena" "$(ask show "$name.x")" error=ENOENT
	for a in a b c; do
		expect "open $a" "$(ask rights "$name.$a")" "rights=3 writable=1 reopens_writable=1 life=1"
		expect "open $a read-only" "$(ask rights "$name.$a" rdonly)" "rights=1 writable=0 * life=0"
		expect "destroy $a" "$(ask destroy "$name.$a")" ""
		expect "$a is gone" "$(ask show "$name.$a")" error=ENOENT
	done
	expect "no memory is left, $io" "$(shared)" ""
	expect "no record is left, $io" "$(cd "$work/state" && echo *)" "deaths files lock"
	stop
done

# Removed, or made, behind the daemon's back.
start
ask create "$name" >/dev/null
rm /dev/shm/shmalloc."$name"
expect "removed by hand" "$(ask show "$name")" error=ENOENT
expect "made again" "$(ask create "$name")" "name=$name status=served *"
stop
rm "$work/state/$name.arena"
start
expect "not in the book" "$(ask list)" ""
expect "adopted when asked for" "$(ask show "$name")" "name=$name status=served *"
expect "and listed from then on" "$(ask list)" "name=$name *"
head -c 8192 /dev/zero >/dev/shm/shmalloc."$name.bad"
expect "what is no arena is refused" "$(ask rights "$name.bad")" error=EUCLEAN
expect "and its name is taken" "$(ask create "$name.bad")" "error=E*"
ask destroy "$name"

[ "$(id -u)" = 0 ] || { echo "rights of other users: needs root"; exit 0; }
chmod 755 "$work" "$work/run"
as()
{
	DAEMON_PEER_UID=$1 DAEMON_PEER_GROUP=$2 ask "${@:3}"
}
for backing in 0 1 3; do
	expect "an arena belongs to who asked for it, backing $backing" "$(as 12345 0 create "$name" $backing 0640)" \
		"name=$name * mode=640 uid=12345 gid=12345 *"
	expect "its owner may all" "$(as 12345 0 rights "$name")" "rights=3 writable=1 reopens_writable=1 life=1"
	expect "a supplementary group may read" "$(as 23456 12345 rights "$name")" "rights=1 writable=0 reopens_writable=0 life=0"
	expect "others may not" "$(as 23456 0 rights "$name")" error=EACCES
	expect "nor destroy" "$(as 23456 12345 destroy "$name")" error=EPERM
	expect "nor take its name" "$(as 23456 0 create "$name")" error=EEXIST
	expect "root may" "$(ask rights "$name")" "rights=3 *"
	expect "its owner may destroy" "$(as 12345 0 destroy "$name")" ""
done
stop
