#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shared library exports shma_* and nothing else, and all that shmalloc.h declares.
set -eu
lib=$top_builddir/.libs/libshmalloc.so
names=$(nm -D --defined-only "$lib" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }')
if foreign=$(echo "$names" | grep -v '^shma_' | grep .); then
	echo "exported but not of the public interface:" $foreign
	exit 1
fi
status=0
for name in $(grep -o '^SHMA_API.*' "$top_srcdir/libclient/shmalloc.h" |
	grep -o 'shma_[a-z_]*(' | tr -d '('); do
	echo "$names" | grep -qx "$name" || { echo "declared but not exported: $name"; status=1; }
done
exit $status
