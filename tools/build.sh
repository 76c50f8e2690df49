#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tools/build.sh [DIR [CONFIGURE-ARGUMENT…]] : builds in DIR (default build) of this checkout, from
# nothing if need be, missing Debian packages included. At once when nothing changed.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
dir=${1:-build}
[ $# -eq 0 ] || shift

tools/packages.sh gcc libc6-dev make autoconf automake libtool pkgconf \
	liburing-dev libnuma-dev libzstd-dev liblz4-dev libdw-dev zlib1g-dev libinih-dev libnats-dev check

[ -e configure ] || ./autogen.sh >/dev/null 2>&1 || ./autogen.sh >&2
mkdir -p "$dir"
cd "$dir"
if [ ! -e Makefile ]; then
	"$top/configure" --quiet "$@" || { rm -f Makefile; exit 1; }
fi
exec make --no-print-directory -s -j"$(nproc)"
