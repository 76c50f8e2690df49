# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts daemon_drain*.sh share, beside daemon_lib.sh: writers, and the account of what is on the disk.
drain=$top_builddir/tests/cli/daemon_drain
logs=$work/logs
export SHMALLOC_SOCKET=$socket
: "${SHMA_TEST_SEED:=$RANDOM$RANDOM}"
export SHMA_TEST_SEED
RANDOM=$((SHMA_TEST_SEED % 32768))

# configure LINE… : what follows is the daemon's [daemon] section.
configure()
{
	config=$work/conf
	{
		echo '[daemon]'
		printf '%s\n' "$@"
	} >"$config"
}

# make_arena [OPTION…]
make_arena()
{
	"$SHMCTL" arena create "$name" --size 64M "$@" >/dev/null
}

# write WRITERS LONGEST [RECORDS] : in the background; `finish` ends it.
write()
{
	rm -f "$work/stop"
	"$drain" write "$name" "$1" "$work/stop" "$2" "${@:3}" >"$work/written" 2>>"$work/err.writers" &
	writing=$!
	pids+=("$writing")
}

# And $written is how many there were.
finish()
{
	: >"$work/stop"
	wait "$writing" || fail "a writer failed: $(cat "$work/err.writers")"
	written=$(sed -n 's/^written=//p' "$work/written")
}

# account WRITERS [FIRST] : sets records, lost, duplicates, missing, wrong, torn, large, segments, fragments.
account()
{
	"$drain" check "$logs/$name" "$@" >"$work/account" || fail "segments cannot be read"
	sed 's/^/  /' "$work/account"
	eval "$(head -1 "$work/account" | tr ' ' '\n')"
	[ "$duplicates" = 0 ] || fail "$duplicates records are there twice"
	[ "$wrong" = 0 ] || fail "$wrong records are not what was written"
}

# all_there WHAT-IT-SHOWS : each record is there, or counted.
all_there()
{
	[ $((records + lost)) = "$written" ] || fail "$1: $written written, $records there, $lost lost"
	echo "ok: $1: $written written, $records there, $lost lost"
}
