#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes configure and Makefile.in from configure.ac and the local.mk files. Needs autoconf, automake,
# libtool and pkg-config. What it makes is not committed.
set -e
cd "$(dirname "$0")"
mkdir -p m4
exec autoreconf --install "$@"
