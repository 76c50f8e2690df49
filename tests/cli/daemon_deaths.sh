#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Deaths of clients: killed, exec'd, ended in order, killed while the daemon was away; none is taken for dead that lives.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"

clients()
{
	ask clients "$name" | grep daemon=0 || true
}
nobody()
{
	[ -z "$(clients)" ]
}
watched()
{
	ask status | grep -q watched=1
}

tags=0
# another : a client; its number in $client
another()
{
	tag=t$((tags += 1))
	hold $tag "$name" "$@"
	client=$(sed -n 's/client=\([0-9]*\).*/\1/p' "$work/$tag")
}

for io in uring epoll; do
	start --io $io
	another create
	expect "a client is watched, $io" "$(ask status)" "* watched=1 deaths=0 *"
	kill -9 "$holder"
	eventually 2 nobody || fail "killed, and not recovered: $(clients)"
	expect "a death is noticed, $io" "$(ask status)" "* watched=0 deaths=1 *"

	another
	tell $tag exec
	eventually 2 nobody || fail "exec'd, and not recovered: $(clients)"
	kill -0 "$holder"
	expect "exec is a death, $io" "$(ask status)" "* deaths=2 *"

	another
	feed=feed_$tag
	eval "exec ${!feed}>&-"
	eventually 5 nobody || fail "ended in order, and still there: $(clients)"
	expect "an orderly end is none, $io" "$(ask status)" "* deaths=2 *"

	another
	kill -STOP "$holder"
	sleep 2.5
	expect "a stopped client lives, $io" "$(clients)" "client=$client pid=$holder state=2 *"
	kill -9 "$daemon"
	kill -CONT "$holder"
	start --io $io
	expect "and is adopted by the next daemon, $io" "$(eventually 5 watched && clients)" \
		"client=$client pid=$holder state=2 *"
	kill -9 "$daemon"
	kill -9 "$holder"
	start --io $io
	eventually 5 nobody || fail "killed while the daemon was away, and not recovered: $(clients)"
	expect "who died meanwhile is recovered, with the old daemon's own slot, $io" \
		"$(ask clients "$name" | wc -l) $(ask status)" "1 *deaths=2 *"

	another
	expect "nobody can speak for another process" "$(ask attached "$name" "$client")" error=EINVAL
	expect "nor for one that is not" "$(ask attached "$name" 4000)" "error=E*"
	kill -9 "$holder"
	eventually 2 nobody || fail "not recovered"
	ask destroy "$name"
	stop
done
