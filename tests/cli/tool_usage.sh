#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One table of verbs: usage, help and the manual page tell the same; nonsense gives exit code 2.
: "${top_srcdir:?}"
# shellcheck source=tests/cli/tool_lib.sh
. "$top_srcdir/tests/cli/tool_lib.sh"

# Nonsense.
for arguments in "" "nonsense" "arena" "arena nonsense" "--nonsense" "arena list --nonsense" "arena show" \
	"arena show a b" "arena create a" "arena create a --size" "stats" "log" "log put" "log tail a -n" \
	"help nonsense" "arena list surplus" "client list a b" "trace replay"; do
	# shellcheck disable=SC2086
	expect 2 $arguments
done
for option in "--size 1X" "--size 15M" "--size 17T" "--size 99999999999T" "--size 16M --mode 888" \
	"--size 16M --backing cloth" "--size 16M --numa bind:" "--size 16M --numa bind:64" \
	"--size 16M --numa bind:0,0" "--size 16M --numa bind:1,0-3" "--size 16M --numa bind:0-" "--size 16M --numa bind" \
	"--size 16M --numa bind:0x1" "--size 16M --numa everywhere" "--size 16M --numa=" \
	"--size 16M --huge often" "--size 16M --log-policy forget" "--size 16M --log-size x"; do
	# shellcheck disable=SC2086
	expect 2 --embedded arena create "$id" $option
	err_has '^usage: shmctl-tool arena create NAME'
done
expect 2 log put a --level loud
expect 2 log tail a -n many
expect 2 log cat a --since tomorrow
expect 2 log cat a --until 25:00
expect 2 log cat a --level 8
expect 2 log cat a --client 0
expect 2 log cat a --grep '('

# What every verb says of itself.
expect 0 help
cp "$dir/out" "$dir/help"
expect 0 --help
cmp -s "$dir/out" "$dir/help" || fail "help and --help differ"
expect 0 --version
out_has '^shmctl-tool '
sed -n 's/^  \([a-z][a-z ]*[a-z]\).*/\1/p' "$dir/help" >"$dir/verbs"
count=0
while read -r first second rest; do
	case $first in
	help | stats | debug | profile) verb=$first ;;
	*) verb="$first $second" ;;
	esac
	count=$((count + 1))
	# shellcheck disable=SC2086
	expect 0 help $verb
	out_has "^usage: shmctl-tool $verb"
	cp "$dir/out" "$dir/one"
	# shellcheck disable=SC2086
	expect 0 $verb --help
	cmp -s "$dir/out" "$dir/one" || fail "help $verb and $verb --help differ"
	: "$rest"
done <"$dir/verbs"
wanted=0
for verb in "arena create" "arena list" "arena show" "arena map" "arena check" "arena snapshot" "arena restore" "arena destroy" \
	"client list" "client deaths" debug profile leaks \
	stats "log put" "log tail" "log cat" "log status" "log policy" "log clock" "trace record" "trace replay" bench help; do
	grep -q "^  $verb" "$dir/help" || fail "no $verb in the usage"
	wanted=$((wanted + 1))
done
[ $count = $wanted ] || fail "$count verbs in the usage"

# The manual page has what the table says.
expect 0 help --man
sed '1,/^\.\\" verbs: begin/d; /^\.\\" verbs: end/,$d' "$top_srcdir/tools/shmctl-tool.1" >"$dir/page"
cmp -s "$dir/out" "$dir/page" || {
	fail "tools/shmctl-tool.1 is not what 'shmctl-tool help --man' prints between its marks:"
	diff "$dir/page" "$dir/out"
}
if command -v groff >/dev/null; then
	groff -man -Tascii -ww "$top_srcdir/tools/shmctl-tool.1" 2>"$dir/groff" >/dev/null
	[ ! -s "$dir/groff" ] || { fail "groff complains:"; cat "$dir/groff"; }
fi

# What cannot be written is a failure.
code=0
"$SHMCTL" help >/dev/full 2>"$dir/err" || code=$?
[ $code = 1 ] || fail "help into a full disk: exit code $code"
"$SHMCTL" --embedded --json arena list >/dev/full 2>"$dir/err" && fail "a list into a full disk"
err_has 'cannot write'
finish
