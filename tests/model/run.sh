#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/model/run.sh [--long] [MODEL…] : checks the models with Spin. Each is to hold as it stands and with what
# its lines "holds with" define (with --long also those "at length"), and to fail with each "fails with", so that
# it is known to look.
set -u
models=$(cd "$(dirname "$0")" && pwd)
jobs=${JOBS:-$(nproc)}
for tool in spin gcc; do
	command -v "$tool" >/dev/null || { echo "models are checked with $tool, which is not installed"; exit 77; }
done

long=
[ "${1:-}" != --long ] || { long=1; shift; }
[ $# -gt 0 ] || set -- "$models"/*.pml

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# lines MODEL WORD : the definitions on its lines that begin so, one line a run.
lines()
{
	sed -n "s/^ \* $2 with \([-A-Z0-9_= ]*[A-Z0-9]\).*/\1/p" "$models/$1.pml"
}

# One run, in a directory of its own: EXPECTED MODEL DEFINITION… ; writes its verdict there.
run()
{
	local expected=$1 model=$2 dir defs states errors optimize=-O2
	shift 2
	dir=$(mktemp -d "$work/$model.XXXXXX")
	cd "$dir" || return
	defs=("${@/#/-D}")
	[ "$expected" = holds ] || optimize=-O1
	spin -a "${defs[@]}" "$models/$model.pml" >log 2>&1 &&
		gcc "$optimize" -w -DSAFETY -DMEMLIM=6000 -DVECTORSZ=1024 -o pan pan.c >>log 2>&1 &&
		./pan -m1000000 -w22 >>log 2>&1
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' log)
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
	# A search that was cut short has shown nothing, unless it found what it should.
	if [ -z "$errors" ] || { [ "$errors" = 0 ] && grep -q 'depth too small\|Search not completed' log; }; then
		echo "error $* $(tail -n 3 log | tr '\n' ' ')" >verdict
	elif [ "$expected" = holds ] && [ "$errors" != 0 ]; then
		echo "error $* $(grep -m1 '^pan:' log)" >verdict
		spin -t -k ./*.trail -p -g "${defs[@]}" "$models/$model.pml" 2>&1 | tail -n 100 >trace
	elif [ "$expected" = fails ] && [ "$errors" = 0 ]; then
		echo "error $* should fail and does not" >verdict
	else
		echo "$expected $states" >verdict
	fi
}
export -f run
export models work

for model; do
	model=$(basename "$model" .pml)
	echo "holds $model"
	lines "$model" holds | sed "s/^/holds $model /"
	[ -z "$long" ] || lines "$model" 'at length' | sed "s/^/holds $model /"
	lines "$model" fails | sed "s/^/fails $model /"
done >"$work/list"
# shellcheck disable=SC2016
xargs -P "$jobs" -L 1 bash -c 'run "$@"' run <"$work/list"

status=0
for model; do
	model=$(basename "$model" .pml)
	wanted=$(grep -c "^[a-z]* $model\( \|$\)" "$work/list")
	cat "$work/$model".*/verdict >"$work/verdicts" 2>/dev/null
	bad=$(grep -c ^error "$work/verdicts")
	if [ "$bad" = 0 ] && [ "$(wc -l <"$work/verdicts")" = "$wanted" ]; then
		awk -v model="$model" '
			$1 == "holds" { states += $2; runs++ }
			$1 == "fails" { fails++ }
			END { printf "PASS: %s: %d states in %d run%s; %d variants fail, as they must\n",
				model, states, runs, runs == 1 ? "" : "s", fails }' "$work/verdicts"
	else
		status=1
		echo "FAIL: $model"
		sed -n 's/^error/  with/p' "$work/verdicts"
		cat "$work/$model".*/trace 2>/dev/null
	fi
done
exit $status
