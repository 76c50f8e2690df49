#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client that is stopped, in the middle of whatever it does, loses nothing, however much happens meanwhile: what would take
# hours is made to happen at once. There is no clock in it that a longer stop would let run out.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/mortal_lib.sh"
repeats=${REPEATS:-6}
seed=${SHMA_TEST_SEED:-$$}

echo "SHMA_TEST_SEED=$seed"
start
ask create "$name" 0 600 64 >/dev/null
client stopped stopped "$name" "$seed"
process=$holder
for ((i = 0; i < repeats; i++)); do
	order stopped stop stopped=1
	"$mortal" "$socket" press "$name" 20 >"$work/press" || fail "the others do not get on"
	case $i in
	1) kill -9 "$daemon"; start --io epoll ;;
	3) kill -9 "$daemon"; start --io uring ;;
	esac
	"$mortal" "$socket" press "$name" 5 >"$work/press" || fail "the others do not get on"
	order stopped go "goes on"
done
ends stopped "$process"
echo "ok: stopped $repeats times, and nothing lost"
eventually 12 holds || fail "it has ended: $(clients)"
expect "nothing is left" "$(SHMALLOC_SOCKET=$socket "$SHMCTL" --json stats "$name" | tr -d ' \n')" '*"live_objects":0,*'
ask destroy "$name"
stop
