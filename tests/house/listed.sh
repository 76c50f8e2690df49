#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No test lies about unused: each stands in a local.mk.
set -eu
cd "$top_srcdir"
status=0
for file in tests/unit/test_*.c tests/*/*.sh; do
	[ -e "$file" ] || continue
	name=${file#tests/}
	cat ./*/local.mk ./*/*/local.mk | tr -s ' \t\\' '\n' |
		grep -qxE "(%D%|tests)/(${name%.c}|${file#tests/*/})(\.c|\.sh)?" ||
		{ echo "$file is in no local.mk"; status=1; }
done
exit $status
