#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that is full, fails, hangs, or is taken away: writers go on, even those that would wait for the consumer; what
# they overwrite is counted; draining resumes by itself.
# shellcheck disable=SC1091,SC2119,SC2154
set -eu
. "$top_srcdir/tests/cli/daemon_lib.sh"
. "$top_srcdir/tests/cli/daemon_drain_lib.sh"

echo "SHMA_TEST_SEED=$SHMA_TEST_SEED"
shim=$top_builddir/tests/cli/.libs/libdaemon_drain_shim.so
where=$logs # as this script sees it

said()
{
	grep -q "$1" "$work/err"
}

look()
{
	logs=$where account 4 "$@"
}

# All that was written is on the disk or counted, as soon as the daemon has come so far.
caught_up()
{
	(look && [ $((records + lost)) = "$written" ])
}

# How many records there ever were in the ring, and whether it was overwritten since $most was set.
logged()
{
	"$SHMCTL" stats "$name" --json | grep -o '"written": *[0-9]*' | grep -o '[0-9]*'
}
goes_on()
{
	[ "$(logged)" -gt "$most" ]
}

# status_says PATTERN : the tool, of what keeps the log from the disk.
status_says()
{
	"$SHMCTL" log status "$name" --json | tr -d '\n' | grep -q "$1"
}

# disk_fails WHAT BREAK MEND : writers of a ring that is full write on while the disk is broken, and when it is mended.
disk_fails()
{
	make_arena --log-policy block --log-size 256K
	write 4 400
	sleep 0.3
	eval "$2"
	eventually 10 said 'cannot be written' || fail "$1: not said"
	eventually 20 status_says '"disk_error": "[A-Z].*"disk_error_since": "20' || fail "$1: log status does not know"
	most=$(($(logged) + 12000)) # more than the ring holds
	eventually 20 goes_on || fail "$1: writers do not go on"
	finish
	echo "ok: $1: said, and writers went on, $written records"
	eval "$3"
	eventually 20 said 'is written again' || fail "$1: not resumed"
	eventually 20 status_says '"disk_error": null' || fail "$1: log status knows of it still"
	eventually 20 caught_up || {
		(look) || true
		fail "$1: $written were written, not all are there or counted"
	}
	look
	[ "$lost" -gt 0 ] || fail "$1: nothing was lost: the disk was not broken"
	echo "ok: $1: resumed, $records there, $lost counted as lost"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	expect "stops in order" "$status" 0
	rm -rf "$logs"
	: >"$work/err"
}

# A full disk: a tmpfs that only the daemon has, most of it taken by a file.
cat >"$work/on_tmpfs" <<END
#!/bin/sh
mkdir -p "$logs" && mount -t tmpfs -o size=4M,mode=755 none "$logs" && exec "\$@"
END
chmod +x "$work/on_tmpfs"
if unshare -m mount -t tmpfs none /mnt 2>/dev/null; then
	for io in uring epoll; do
		configure "io = $io" 'log-compress = no'
		PREFIX="unshare -m $work/on_tmpfs" start --log-dir "$logs"
		where=/proc/$daemon/root$logs
		head -c 3500000 /dev/zero >"$where/ballast"
		disk_fails "$io, disk full" : "rm \$where/ballast"
	done
	where=$logs
else
	echo "no mount namespace here: no full disk"
fi

# A file ends in the middle of a fragment. (The limit leaves room for what the daemon says.)
for io in uring epoll; do
	configure "io = $io" 'log-compress = no' 'log-segment-size = 64K'
	start --log-dir "$logs"
	disk_fails "$io, no larger files" "prlimit --pid $daemon --fsize=1500:" "prlimit --pid $daemon --fsize=unlimited:"
done

if [ "${SANITIZERS:-no}" = no ]; then
	for fsync in never batch; do
		configure 'io = epoll' 'log-compress = no' "log-fsync = $fsync"
		PREFIX="env LD_PRELOAD=$shim SHIM=$work/shim" start --log-dir "$logs"
		disk_fails "EIO, fsync $fsync" "touch $work/shim.eio" "rm $work/shim.eio"
	done

	# It hangs: the daemon does not.
	PREFIX="env LD_PRELOAD=$shim SHIM=$work/shim" start --log-dir "$logs"
	make_arena
	touch "$work/shim.hang"
	write 4 400 2000
	wait "$writing"
	finish
	"$SHMCTL" arena list >/dev/null || fail "the daemon does not answer while the disk hangs"
	rm "$work/shim.hang"
	eventually 10 caught_up || fail "not all is there when the disk no longer hangs"
	echo "ok: a disk that hangs makes nobody wait"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	rm -rf "$logs"
fi

# The directory is removed. What was there is gone; then all goes on in a new one.
for io in uring epoll; do
	configure "io = $io" 'log-compress = no'
	start --log-dir "$logs"
	make_arena --log-policy block
	write 4 400
	for gone in "$logs/$name" "$logs"; do
		eventually 10 test -e "$logs/$name" || fail "no directory"
		sleep 0.2
		# The daemon may be making a file in it just now.
		eventually 10 rm -r "$gone" || fail "not to be removed"
		eventually 10 test -e "$logs/$name" || fail "the directory is not made again"
	done
	sleep 0.2
	finish
	stop
	look first
	[ "$missing$lost" = 00 ] || fail "$missing are missing, $lost lost"
	[ "$records" -gt 0 ] || fail "nothing is there"
	ends=$(sed -n 's/^writer [0-9]* to //p' "$work/account" | paste -sd+)
	expect "$io, directory removed: the last records are there" "$(($ends))" "$written"
	start --log-dir "$logs"
	"$SHMCTL" arena destroy "$name" >/dev/null
	stop
	rm -rf "$logs"
done
