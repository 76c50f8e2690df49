#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# interleave.sh: holds a client at its stop points beside others for half a minute, begun elsewhere each time.
# interleave.sh all: each point, beside each operation, with each ending.
# INTERLEAVE_JOBS, INTERLEAVE_SECONDS, SHMA_TEST_SEED from the environment.
set -eu
interleave=$top_builddir/tests/interleave/interleave

options=(--seed "${SHMA_TEST_SEED:-$(date +%s)}")
if [ "${1:-}" != all ]; then
	exec "$interleave" "${options[@]}" --seconds "${INTERLEAVE_SECONDS:-20}"
fi
jobs=${INTERLEAVE_JOBS:-$(($(nproc) * 2))} # most of the time each waits for a process to come or go
pids=()
trap 'kill "${pids[@]}" 2>/dev/null' INT TERM
for ((i = 0; i < jobs; i++)); do
	"$interleave" "${options[@]}" --part "$i/$jobs" &
	pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
	wait "$pid" || status=1
done
exit $status
