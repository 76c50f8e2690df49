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

# A scope, and one in it, in a function that is left in all ways.
scope='#include <shmalloc.h>
int work(shma *a);
int work(shma *a)
{
	int x;
	SHMA_STACK_SCOPE(a) {
		x = 1;
		SHMA_STACK_SCOPE(a) {
			if (shma_stack_alloc(a, 8))
				return 2;
			x++;
			continue;
		}
	}
	return x;
}'
folder=$(dirname "$header")
echo "$scope" | gcc -std=c11 -O2 -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$folder" -c -o /dev/null -x c -
for std in c++11 c++20; do
	echo "$scope" | g++ -std=$std -O2 -Wall -Wextra -Wpedantic -Werror -I"$folder" -c -o /dev/null -x c++ -
done
