#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients that look dead and are not, and one that looks alive and is not: all files closed, first thread gone, stopped in the
# middle of a record, another program under the same process number. With a daemon that watches, one that is new, and others
# who recover.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/mortal_lib.sh"

# Everything that makes anybody look: deaths beside it, memory wanted, a daemon's death and the next one.
pressure()
{
	"$mortal" "$socket" press "$name" 5 >/dev/null || fail "pressing: $*"
	kill -9 "$daemon"
	start --io "$1"
	"$mortal" "$socket" press "$name" 5 >/dev/null || fail "pressing: $*"
}

# dies TAG PROCESS : killed, and given back
dies()
{
	kill -9 "$2"
	wait "$2" 2>/dev/null || true
	eventually 12 holds "${@:3}" || fail "$1 is dead and not recovered: $(clients)"
}

for io in uring epoll; do
	start --io $io
	ask create "$name" 0 600 64 >/dev/null

	client closed$io hold "$name"
	order closed$io make made=
	order closed$io reserve reserved=0
	order closed$io closefrom closed
	pressure $io
	order closed$io check whole=300
	order closed$io work worked
	order closed$io commit committed=0
	expect "closefrom() is no death, $io" "$(clients)" "client=$(number closed$io) pid=$holder state=2 *"
	dies closed$io "$holder"

	client zombie$io hold "$name"
	order zombie$io make made=
	tell zombie$io zombie
	eventually 10 grep -q '^State:.*Z' "/proc/$holder/status" || fail "the first thread does not end"
	pressure $io
	order zombie$io check whole=300
	order zombie$io work worked
	expect "a first thread that has ended is no death, $io" "$(clients)" "client=$(number zombie$io) pid=$holder state=2 *"
	dies zombie$io "$holder"

	for how in exec exec-by-thread; do
		tag=${how//-/_}$io
		client "$tag" hold "$name"
		order "$tag" make made=
		first=$(number "$tag")
		tell "$tag" $how
		answered "$tag" client= 2
		second=$(number "$tag")
		expect "the process goes on as another program, $how, $io" "$(sed -n 's/client=.* //p' "$work/$tag" | uniq)" "pid=$holder"
		order "$tag" make made=
		eventually 12 holds "$second" || fail "$how: client $first is dead: $(clients)"
		pressure $io
		order "$tag" check whole=300
		expect "exec is a death, and what it becomes lives, $how, $io" "$(clients)" "client=$second pid=$holder state=2 *"
		dies "$tag" "$holder"
	done

	expect "nothing is left, $io" "$(SHMALLOC_SOCKET=$socket "$SHMCTL" --json stats "$name" | tr -d ' \n')" '*"live_objects":0,*'
	ask destroy "$name"
	stop
	rm -f "$work"/*.in
done
