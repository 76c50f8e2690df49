# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts daemon_drain*.sh share, beside daemon_lib.sh: the account of what is on the disk.
drain=$top_builddir/tests/cli/daemon_drain
export writer=$drain
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
