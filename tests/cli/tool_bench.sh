#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The benchmark suite through the tool: figures of who is there, names of who is not. No time is judged.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

TMPDIR=$dir
export TMPDIR

expect 0 bench --only pair128,order --peers null,shmalloc --runs 1 --json
json_valid
json_has "{f['workload'] for f in d['figures']} == {'pair128', 'order'}"
json_has "{f['peer'] for f in d['figures']} == {'null', 'shmalloc'}"
json_has "all(f['median'] > 0 and f['runs'] == 1 and f['failed'] == 0 for f in d['figures'])"
# Who was not asked for is not called missing.
json_has "d['not_installed'] == []"

expect 0 bench --only pair128 --peers shmalloc --runs 1
out_has '128 B pair'
out_has '^machine|CPU'

expect 2 bench --only nothing --runs 1
err_has 'no such workload: nothing'
expect 2 bench --peers nobody --json
err_has 'no such peer: nobody'
expect 2 bench --runs 0
expect 1 bench --only trace --trace "$dir/none" --json
[ -z "$(find "$dir" -name 'shmalloc-bench-*')" ] || fail "a directory is left"
finish
