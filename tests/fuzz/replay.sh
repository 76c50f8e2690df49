#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The targets of the fuzzer without a fuzzer: the inputs to begin with, and some changed by chance.
set -eu
: "${top_builddir:?}"
cd "$top_builddir/tests/fuzz"
./fuzz_protocol --mutate 30000
./fuzz_text --mutate 30000
./fuzz_fields --mutate 30000
./fuzz_position --mutate 3000
./fuzz_segment --mutate 2000
./fuzz_repair --mutate 30
./fuzz_snapshot --mutate 300
