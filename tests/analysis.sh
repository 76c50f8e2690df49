#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/analysis.sh [BUILD] : what reading alone finds: cppcheck, the compiler's analyzer where its findings are
# certain, shellcheck.
set -eu
cd "$(dirname "$0")/.."
tools/packages.sh gcc cppcheck shellcheck
status=0
mapfile -t sources < <(find shm libclient daemon tools -name '*.c')
defines=(-D_GNU_SOURCE -DNDEBUG -DPACKAGE_NAME='"shmalloc"' -DPACKAGE_VERSION='"0"' -DPKGLIBDIR='"/usr/lib"' -DPKGLIBEXECDIR='"/usr/libexec"' -Ishm -Ilibclient -Ilibclient/ondisk -Idaemon -Itools)

echo "cppcheck: ${#sources[@]} files"
# It takes the bytes of a struct, read through another pointer once they are copied there, for unset.
cppcheck --quiet -j"$(nproc)" --std=c11 --language=c --enable=warning,portability --inline-suppr \
	--suppress=missingIncludeSystem --suppress=uninitvar:shm/format.c --error-exitcode=1 "${defines[@]}" "${sources[@]}" || status=1

echo "gcc -fanalyzer"
certain=(double-free use-after-free free-of-non-heap double-fclose file-leak
	use-of-pointer-in-stale-stack-frame shift-count-negative shift-count-overflow write-to-const)
errors=()
for warning in "${certain[@]}"; do errors+=("-Werror=analyzer-$warning"); done
printf '%s\0' "${sources[@]}" | xargs -0 -n1 -P"$(nproc)" timeout 120 gcc -std=gnu11 -O1 -fanalyzer \
	-Wno-analyzer-malloc-leak -Wno-analyzer-null-dereference -Wno-analyzer-possible-null-dereference \
	-Wno-analyzer-possible-null-argument -Wno-analyzer-null-argument -Wno-analyzer-too-complex \
	-Wno-analyzer-use-of-uninitialized-value \
	"${errors[@]}" "${defines[@]}" -c -o /dev/null || status=1

echo "shellcheck"
mapfile -t scripts < <(find tools tests .ci autogen.sh -name '*.sh' -o -path .ci/run)
shellcheck --severity=warning --exclude=SC2154 "${scripts[@]}" || status=1
exit $status
