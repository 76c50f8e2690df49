#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/numa/run.sh : boots a machine of four NUMA nodes, emulated, whose only program is tests/numa/guest, and
# judges by what it says on its console. 77: it cannot be had here.
#   top_builddir   the build whose guest and shmctl-tool run in it
#   NUMA_KERNEL    a kernel image to boot; else Debian's for clouds is fetched, unpacked and kept in the build
#   NUMA_SECONDS   after which the machine has hung
set -u
: "${top_builddir:?}" "${top_srcdir:?}"
seconds=${NUMA_SECONDS:-200}
package=linux-image-cloud-amd64
keep=$top_builddir/tests/numa/kernel

skip()
{
	echo "SKIPPED: $*"
	exit 77
}

[ "${SANITIZERS:-no}" = no ] || skip "the guest is too small for a build with sanitizers"
[ "$(uname -m)" = x86_64 ] || skip "the guest's kernel is of another architecture than this machine's programs"
why=$("$top_srcdir/tools/packages.sh" qemu-system-x86 cpio 2>&1) ||
	skip "there is no emulator: $(tail -n 1 <<<"$why")"

work=$(mktemp -d) || exit 1
machine=
cleanup()
{
	[ -z "$machine" ] || kill "$machine" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# The image of the newest kernel package, unpacked, never installed.
fetch_kernel()
{
	local name
	apt-cache show "$package" >/dev/null 2>&1 || apt-get update -qq >/dev/null 2>&1
	name=$(apt-cache depends "$package" | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -n 1)
	[ -n "$name" ] || return 1
	[ ! -e "$keep/$name" ] || { echo "$keep/$name"; return 0; }
	mkdir "$work/fetch"
	(cd "$work/fetch" && { apt-get download "$name" || { apt-get update -qq && apt-get download "$name"; }; } &&
		dpkg -x ./*.deb .) >"$work/log" 2>&1 || return 1
	mkdir -p "$keep" && mv "$work"/fetch/boot/vmlinuz-* "$keep/$name" && echo "$keep/$name"
}

kernel=${NUMA_KERNEL:-$(fetch_kernel)} || skip "no kernel for the guest: apt-get download $package"
[ -e "$kernel" ] || skip "no kernel for the guest at '$kernel'"

# What the guest's two programs need, and nothing else.
root=$work/root
mkdir -p "$root"/{proc,sys,dev,tmp}
install_program()
{
	local library
	cp "$1" "$2" || return 1
	for library in $(ldd "$1" | grep -o '/[^ ]*'); do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library" || return 1
	done
}
install_program "$top_builddir/tests/numa/guest" "$root/init" || exit 1
install_program "$top_builddir/shmctl-tool" "$root/shmctl-tool" || exit 1
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd" || exit 1

nodes=()
for n in 0 1 2 3; do
	nodes+=(-object "memory-backend-ram,size=512M,id=memory$n" -numa "node,nodeid=$n,memdev=memory$n,cpus=$n")
done
# Nodes 0 and 1 are near each other, 2 and 3 as well.
for a in 0 1 2 3; do
	for b in 0 1 2 3; do
		case $a$b in
		00 | 11 | 22 | 33) ;;
		01 | 10 | 23 | 32) nodes+=(-numa "dist,src=$a,dst=$b,val=12") ;;
		*) nodes+=(-numa "dist,src=$a,dst=$b,val=32") ;;
		esac
	done
done
# Emulated, since a guest within a guest may hang. Memory that is not touched is not taken.
qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -m 2G -smp 4 "${nodes[@]}" \
	-nodefaults -display none -serial "file:$work/console" -no-reboot \
	-kernel "$kernel" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off numa_balancing=disable" >"$work/qemu" 2>&1 </dev/null &
machine=$!
for ((i = 0; i < seconds * 10; i++)); do
	kill -0 "$machine" 2>/dev/null || break
	sleep 0.1
done
hung=
! kill -0 "$machine" 2>/dev/null || hung=1
[ -z "$hung" ] || { kill "$machine"; sleep 1; kill -9 "$machine" 2>/dev/null; }
wait "$machine" 2>/dev/null
machine=

tr -d '\r' <"$work/console" | sed -n '/^numa: begins/,$p'
verdict=$(tr -d '\r' <"$work/console" | sed -n 's/^numa: \([0-9]* passed, [0-9]* failed\)$/\1/p')
if [ -z "$verdict" ]; then
	echo "FAILED: the guest said nothing to the end${hung:+ in $seconds s}"
	tail -n 40 "$work/console" "$work/qemu"
	exit 1
fi
# A run that checked nothing has shown nothing.
[[ $verdict =~ ^([0-9]+)\ passed,\ 0\ failed$ ]] && [ "${BASH_REMATCH[1]}" -gt 0 ]
