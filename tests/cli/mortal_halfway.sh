#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A recoverer is stopped at some instruction and goes on, or is killed, when others have recovered its victim and a new client
# bears the victim's number, with objects of its own: it harms nobody. And what it had begun nobody else takes from it.
# shellcheck disable=SC1091
. "$top_srcdir/tests/cli/mortal_lib.sh"
seed=${SHMA_TEST_SEED:-$$}

[ "${SANITIZERS:-no}" = no ] || { echo "skipped: too slow to be stepped through"; exit 77; }
echo "SHMA_TEST_SEED=$seed"
start
ask create "$name" 0 600 64 >/dev/null
stop KILL
"$mortal" "$socket" halfway "$name" "$seed" "${STOPS:-16}" >"$work/said" 2>"$work/err" || fail "$(cat "$work/said" "$work/err")"
expect "stopped anywhere in a recovery: $(cat "$work/said")" "$(cat "$work/said")" "steps=*reused=[1-9]* kept=[1-9]*"
