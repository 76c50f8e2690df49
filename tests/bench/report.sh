#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# report.sh BUILD-FOLDER RESULTS TITLE [BENCH-FLAG…] : one run of everything into RESULTS: TITLE.txt (the table with the
# machine), TITLE.csv, TITLE-bars.csv, TITLE-scaling.txt and the plots. Wants a machine on which nothing else runs.
set -eu
build=${1:?usage: report.sh BUILD-FOLDER RESULTS TITLE [BENCH-FLAG…]} results=$2 title=$3
shift 3
mkdir -p "$results"
status=0
"$build/bench" --results "$results" --title "$title" "$@" >"$results/$title.new" 2>"$results/$title.err" || status=$?
# What is missing or failed is part of the report. Not the place where it was written.
{ grep -v '^shmallocd:' "$results/$title.err" | awk '!seen[$0]++' || true; grep -v '^results in ' "$results/$title.new"; } | sed "s|$results/||g" >"$results/$title.txt"
rm -f "$results/$title.new" "$results/$title.err" "$results/$title-samples.csv"
"$build/scaling" >"$results/$title-scaling.txt" || echo "report.sh: no model of scaling: status $?" >&2
bash "$(dirname "$0")/plots.sh" "$results/$title" || echo "report.sh: no plots: status $?" >&2
cat "$results/$title.txt"
exit $status
