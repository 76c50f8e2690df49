#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shmalloc.h compiles alone, as strict C11 and as C++11 and C++20, without a warning.
set -eu
command -v g++ >/dev/null || { echo "no g++"; exit 77; }
header=$top_srcdir/libclient/shmalloc.h
gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c "$header"
for std in c++11 c++20; do
	g++ -std=$std -Wall -Wextra -Wpedantic -Werror \
		-fsyntax-only -x c++ "$header"
done
