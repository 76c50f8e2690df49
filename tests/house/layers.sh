#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Files include their own layer and those below, never one above. shm sees the public header, no more of libclient.
set -eu
cd "$top_srcdir"
status=0
# layer FOLDER FOLDER… : headers that the first may include lie in these folders.
layer()
{
	for file in "$1"/*.[ch]; do
		for header in $(sed -n 's/^#[ \t]*include "\([^"]*\)".*/\1/p' "$file"); do
			found=
			for folder; do
				[ ! -e "$folder/$header" ] || found=$folder
			done
			[ "$1 $header" != "shm shmalloc.h" ] || found=libclient
			[ -n "$found" ] || { echo "$file includes $header"; status=1; }
		done
	done
}
layer shm
layer libclient shm
layer libclient/ondisk libclient shm
layer daemon libclient/ondisk libclient shm
layer tools libclient/ondisk libclient shm
exit $status
