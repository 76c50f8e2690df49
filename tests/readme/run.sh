#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program of the top README compiles with the line given there and does what it says, as it stands but for the name
# of its arena, which others may have, against an installed library.
set -euo pipefail
[ "$SANITIZERS" = no ] || { echo "a plain program cannot load a library built with sanitizers"; exit 77; }

work=$(mktemp -d)
arena=hello-$$x
trap 'rm -rf "$work" /dev/shm/shmalloc."$arena"*' EXIT

env -u MAKEFLAGS -u MFLAGS "$MAKE" -s -C "$top_builddir" install DESTDIR="$work/root" >"$work/install.log" 2>&1 || {
	cat "$work/install.log"
	exit 1
}
pc=$(find "$work/root" -name shmalloc.pc)
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$work/root
LD_LIBRARY_PATH=$(dirname "$(find "$work/root" -name 'libshmalloc.so')")
export LD_LIBRARY_PATH

cd "$work"
sed -n '/^```c$/,/^```$/{/^```/!p}' "$top_srcdir/README.md" | sed "s/\"hello\"/\"$arena\"/" >hello.c
grep -q "$arena" hello.c || { echo "the program has another arena"; exit 1; }
line=$(grep '^cc -o hello ' "$top_srcdir/README.md")
[ "$(wc -l <hello.c)" = 20 ] || { echo "not twenty lines"; exit 1; }
for round in 1 2; do
	echo "round $round: $line"
	output=$(timeout 600 bash -c "$line")
	[ "$output" = "hello from the dead" ] || { echo "it said: $output"; exit 1; }
done
