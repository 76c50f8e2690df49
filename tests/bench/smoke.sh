#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every workload of the benchmark runs, with tiny counts, and leaves nothing behind. No time is judged.
set -eu
bench=$top_builddir/tests/bench/bench
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# In a process that a sanitizer watches no other malloc shows anything.
peers=null,glibc,jemalloc,mimalloc,tcmalloc,pipe,mqueue,shmalloc,shmalloc-of,shmalloc-handle,shmalloc-coarse
[ "${SANITIZERS:-no}" = no ] || peers=null,shmalloc,shmalloc-of,shmalloc-handle,shmalloc-coarse

# A trace of two objects, one of them resized: SMTRACE1, objects, threads, events.
trace=$results/small.trace
printf 'SMTRACE1\002\000\000\000\001\000\000\000' >"$trace"
event() { # op object size, all below 256
	printf "\\$(printf %03o "$1")\\0\\0\\0\\$(printf %03o "$2")\\0\\0\\0\\$(printf %03o "$3")\\0\\0\\0" >>"$trace"
}
event 1 0 100
event 1 1 40
event 3 0 200
event 2 1 0
event 2 0 0

"$bench" --tiny --peers "$peers" --trace "$trace" --results "$results" --title smoke
grep -q '^ws,,ns,ns,shmalloc,1,0,' "$results/smoke.csv"
grep -q '^trace,small,ns,ns,shmalloc,1,0,' "$results/smoke.csv"
grep -q '^procs2,,rate,M/s,shmalloc-handle,1,0,' "$results/smoke.csv"
grep -q '^queue128x2,,rate,M/s,shmalloc,1,0,' "$results/smoke.csv"
grep -q '^log128,,own,ns,shmalloc-coarse,1,0,' "$results/smoke.csv"
grep -q '^stack,,own,ns,shmalloc-handle,1,0,' "$results/smoke.csv"
grep -q '^road1m,,temp,ns,shmalloc-handle,1,0,' "$results/smoke.csv"
# Every bar is judged that has somebody to be compared with, and no other.
grep -q '^pair128,,ns,"128 B pair",shmalloc,.*,x,at most,1.2000,' "$results/smoke-bars.csv"
grep -q '^memory,,above,.*,%,at most,8.0000,5.0000,,' "$results/smoke-bars.csv"
grep -q '^pass_procs,,rate,.*,rte_mempool,unknown,' "$results/smoke-bars.csv"

# The program behind the model of many cores; it needs two.
status=0
"$top_builddir/tests/bench/scaling" --tiny >"$results/scaling" || status=$?
[ "$status" = 77 ] || grep -q '^log mix  *2  *[0-9.]* ' "$results/scaling"
[ "$status" = 77 ] || [ "$status" = 0 ]
