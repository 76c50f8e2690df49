#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tests/tally.sh BUILD-DIR : counts the results of the last make check there: PASSED FAILED SKIPPED. A unit
# test counts as many as it has checks, a script as one.
find "$1/tests" -name '*.trs' 2>/dev/null | while read -r trs; do
	result=$(sed -n 's/^:global-test-result: //p' "$trs")
	checks=$(sed -n 's/^[0-9]*%: Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\)$/\1 \2 \3/p' \
		"${trs%.trs}.log" | tail -1)
	echo "${result:-ERROR} $checks"
done | awk '
	$1 == "SKIP" { skipped++; next }
	NF == 4 { passed += $2 - $3 - $4; bad = $3 + $4 }
	NF != 4 { bad = 0; if ($1 == "PASS") passed++ }
	$1 != "PASS" && bad == 0 { bad = 1 }
	{ failed += bad }
	END { print passed + 0, failed + 0, skipped + 0 }'
