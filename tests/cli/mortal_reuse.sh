#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A dead client's process number goes to another process before anybody has noticed the death: to one that has nothing to do
# with the arena, and to one that is a client of it, at the same addresses.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/mortal_lib.sh"

for as in sleep hold; do
	start
	ask create "$name" 0 600 64 >/dev/null
	# Without address randomisation all map the arena at one place.
	real=$mortal
	mortal="setarch -R $mortal"
	printf '#!/bin/sh\nexec setarch -R %s "$@"\n' "$real" >"$work/mortal"
	chmod 755 "$work/mortal"
	mortal=$work/mortal
	client old$as hold "$name"
	old=$holder first=$(number old$as)
	order old$as make made=
	kill -9 "$daemon"
	wait "$daemon" 2>/dev/null || true
	kill -9 "$old"
	wait "$old" 2>/dev/null || true

	mkfifo "$work/new$as.in"
	"$mortal" "$socket" reuse "$old" $as "$name" <"$work/new$as.in" >"$work/new$as" 2>>"$work/err.new$as" &
	pids+=($!)
	exec {feed}>"$work/new$as.in"
	eval "feed_new$as=$feed"
	eventually 20 grep -q = "$work/new$as" || fail "no second process: $(cat "$work/err.new$as")"
	if grep -q '^reuse=' "$work/new$as"; then
		echo "skipped: a process number cannot be chosen here ($(cat "$work/new$as"))"
		exit 77
	fi
	pids+=("$old")
	expect "the number is used again, $as" "$(cat "$work/new$as")" "*=$old*"
	if [ $as = hold ]; then
		order new$as make made=
	fi

	start
	if [ $as = hold ]; then
		second=$(number new$as)
		[ "$first" != "$second" ] || echo "note: the slot, too, was used again"
		eventually 12 holds "$second" || fail "client $first is dead: $(clients)"
		order new$as check whole=300
		order new$as work worked
		expect "the new client of that number keeps what it has" "$(clients)" "client=$second pid=$old state=2 *"
	else
		eventually 12 holds || fail "client $first is dead: $(clients)"
		kill -0 "$old"
		expect "what it had is returned" "$(SHMALLOC_SOCKET=$socket "$SHMCTL" --json stats "$name" | tr -d ' \n')" '*"live_objects":0,*'
	fi
	kill -9 "$old"
	eventually 12 holds || fail "the second one is dead: $(clients)"
	ask destroy "$name"
	stop
	mortal=$real
done
