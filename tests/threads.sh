#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/threads.sh : the tests that have several threads in one process (thread_tests in tests/local.mk), under
# ThreadSanitizer. It knows nothing of other processes, so the rest would show it nothing.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build-tsan}
tools/packages.sh util-linux
tools/build.sh "$build" --enable-sanitizers=thread --enable-debug --disable-static
mkdir -p "$build/tests"
find "$build/tests" -name '*.trs' -delete
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
# Its shadow memory lies at fixed addresses, which much address randomisation may already have taken.
exec setarch "$(uname -m)" -R make -C "$build" --no-print-directory -s check-threads VERBOSE=1
