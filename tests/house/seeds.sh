#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The defects that the crash harness has to find still have their places in the code.
set -eu
command -v python3 >/dev/null || exit 77
exec bash "$top_srcdir/tests/crash/seeded.sh" --apply
