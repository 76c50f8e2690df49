#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/run.sh [TEST…] : builds, then runs all tests, or those named (tests/unit/test_buddy …). BUILD names the build
# directory (default build), CONFIGURE its configure arguments.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}

tools/packages.sh g++ binutils procps util-linux python3 zstd nats-server
read -ra arguments <<<"${CONFIGURE:-}"
tools/build.sh "$build" "${arguments[@]}"

# Results of tests that are no more would be counted.
mkdir -p "$build/tests"
find "$build/tests" -name '*.trs' -delete
status=0
only=()
[ $# -eq 0 ] || only=("TESTS=$*")
make -C "$build" --no-print-directory -s -j"$(nproc)" check VERBOSE=1 "${only[@]}" </dev/null || status=$?

read -r passed failed skipped < <(tests/tally.sh "$build")
echo "$passed passed, $failed failed${skipped:+, $skipped skipped}"
[ "$status" = 0 ] && [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
