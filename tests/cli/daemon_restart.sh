#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The next daemon, after SIGTERM and after SIGKILL: arenas of every backing as they were, or told to be lost; memory files come
# back from the service manager, or from a client that still has them.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

start
ask create "$name.posix" >/dev/null
ask create "$name.memfd" 1 >/dev/null
ask create "$name.file" 3 >/dev/null
ask list | sort >"$work/before"
for signal in TERM KILL; do
	stop $signal
	start
	ask list | sort >"$work/after"
	expect "after SIG$signal: what has a name is there" "$(diff "$work/before" "$work/after" | grep '^[<>]' | cut -d' ' -f2,3 | tr '\n' ' ')" \
		"name=$name.memfd status=served name=$name.memfd status=lost "
done
expect "a lost one cannot be opened" "$(ask rights "$name.memfd")" error=EOWNERDEAD
expect "nor made anew" "$(ask create "$name.memfd" 1)" error=EEXIST
for a in posix memfd file; do
	expect "destroy $a" "$(ask destroy "$name.$a")" ""
done
expect "all gone" "$(ask list)" ""

# A living client hands it back.
ask create "$name" 1 >/dev/null
hold keeper "$name"
stop KILL
start
expect "lost with its daemon" "$(ask show "$name")" "* status=lost *"
tell keeper present
eventually 5 grep -q presented "$work/keeper" || fail "no answer"
expect "presented" "$(grep presented "$work/keeper")" presented=ok
expect "found again, with its client" "$(ask show "$name")" "* status=served *clients=1 *"
kill -9 "$holder"
nobody()
{
	[ -z "$(ask clients "$name" | grep daemon=0)" ]
}
eventually 3 nobody || fail "its client's death is not noticed"
ask destroy "$name"
stop KILL

# Killed in the middle of making a file arena: completed, or as if never begun; destroying: completed.
record()
{
	printf 'shmalloc arena 1\nname=%s\nphase=%s\nuuid=%032d\ncreated=1\nuid=0\ngid=0\nbacking=%s\nmode=600\n' "$1" "$2" 0 "$3" \
		>"$work/state/$1.arena"
}
record "$name.none" creating file
record "$name.memory" creating memfd
record "$name.going" destroying posix
start
expect "nothing came of them" "$(ask list)" ""
expect "and no record stays" "$(cd "$work/state" && echo *)" "deaths files lock"
ask create "$name.whole" 3 >/dev/null
stop KILL
sed -i 's/phase=live/phase=creating/' "$work/state/$name.whole.arena"
start
expect "what was whole is served" "$(ask list)" "name=$name.whole status=served *"
expect "and the record says so" "$(grep phase "$work/state/$name.whole.arena")" phase=live
stop KILL
sed -i 's/phase=live/phase=destroying/' "$work/state/$name.whole.arena"
start
expect "a destruction is completed" "$(ask list)$(cd "$work/state/files" && echo *)" "[*]"
stop

# The service manager keeps descriptors: a stand-in for it receives them, and passes them to the next daemon.
command -v python3 >/dev/null || { echo "descriptor store: needs python3"; exit 0; }
timeout 600 python3 "$top_srcdir/tests/cli/daemon_store.py" "$SHMALLOCD" "$peer" "$work" "$name.kept" || fail "descriptor store"
