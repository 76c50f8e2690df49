# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts mortal_*.sh share, beside daemon_lib.sh: clients that do what they are told, line by line.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/daemon_lib.sh"
mortal=$top_builddir/tests/cli/mortal

# client TAG VERB [ARGUMENT…] : in the background; its process in $holder, its answers in $work/TAG. It is there when it says so.
client()
{
	local tag=$1
	shift
	mkfifo "$work/$tag.in"
	"$mortal" "$socket" "$@" <"$work/$tag.in" >"$work/$tag" 2>>"$work/err.$tag" &
	holder=$!
	pids+=("$holder")
	exec {feed}>"$work/$tag.in"
	eval "feed_$tag=$feed"
	answered "$tag" client=
}

answers()
{
	grep -c "^$2" "$work/$1" || true
}

# answered TAG PATTERN [COUNT] : waits until the client has said COUNT lines that begin so.
answered()
{
	local tries=12000
	until [ "$(answers "$1" "$2")" -ge "${3:-1}" ]; do
		[ ! -s "$work/err.$1" ] || fail "$1: $(cat "$work/err.$1")"
		((tries-- > 0)) || fail "$1 does not say $2: $(cat "$work/$1")"
		sleep 0.05
	done
}

# order TAG LINE PATTERN : tells it, and waits for its answer.
order()
{
	local before
	before=$(answers "$1" "$3")
	tell "$1" "$2"
	answered "$1" "$3" $((before + 1))
}

# number TAG : the client's number in the arena
number()
{
	sed -n 's/^client=\([0-9]*\).*/\1/p' "$work/$1" | tail -1
}

# clients : those of the arena that are not the daemon's
clients()
{
	ask clients "$name" | grep daemon=0 || true
}

# holds NUMBER… : exactly these clients are in the arena
holds()
{
	local there wanted=
	there=$(clients | sed 's/client=\([0-9]*\).*/\1/' | sort -n)
	[ $# = 0 ] || wanted=$(printf '%s\n' "$@" | sort -n)
	[ "$there" = "$wanted" ]
}

# ends TAG PROCESS : it is told to end, and does well. (Its input does not end: later daemons have inherited it.)
ends()
{
	local status=0
	tell "$1" end
	wait "$2" || status=$?
	[ $status = 0 ] || fail "$1 ends with $status: $(cat "$work/err.$1" "$work/$1")"
}
