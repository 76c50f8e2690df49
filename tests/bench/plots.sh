#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# plots.sh FOLDER/TITLE : from TITLE.csv and TITLE-bars.csv the plots TITLE-bars.svg, -peers.svg, -latency.svg, -scaling.svg
# and -traces.svg beside them, by gnuplot (Debian package gnuplot-nox).
set -eu
base=${1:?usage: plots.sh FOLDER/TITLE}
command -v gnuplot >/dev/null || {
	echo "plots.sh: gnuplot is not installed (Debian package gnuplot-nox)" >&2
	exit 77
}
[ -r "$base.csv" ] && [ -r "$base-bars.csv" ] || { echo "plots.sh: no $base.csv or $base-bars.csv" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# value WORKLOAD TRACE METRIC PEER : the median, or ? for gnuplot to leave out.
value() {
	awk -F, -v w="$1" -v t="$2" -v m="$3" -v p="$4" '
		$1 == w && $2 == t && $3 == m && $5 == p && $6 > 0 { print $8; found = 1 }
		END { if (!found) print "?" }' "$base.csv"
}

# matrix FILE PEERS ROWS… : a line a row "WORKLOAD:TRACE:METRIC:LABEL", a column a peer.
matrix() {
	local file=$1 peers=$2 row peer
	shift 2
	{
		printf '"row"'
		printf '\t"%s"' $peers
		echo
		for row; do
			IFS=: read -r work trace metric label <<<"$row"
			printf '"%s"' "$label"
			for peer in $peers; do printf '\t%s' "$(value "$work" "$trace" "$metric" "$peer")"; done
			echo
		done
	} >"$file"
}

# A colour for each peer, the same everywhere; those of shmalloc are the warm ones.
colour() {
	case $1 in
	null) echo '#d0d0d0' ;;
	glibc) echo '#9ecae1' ;;
	jemalloc) echo '#6baed6' ;;
	mimalloc) echo '#3182bd' ;;
	tcmalloc) echo '#08519c' ;;
	boost) echo '#bdbdbd' ;;
	boost-node) echo '#969696' ;;
	rte_mempool) echo '#41ab5d' ;;
	shmalloc) echo '#d94801' ;;
	shmalloc-of) echo '#fdd0a2' ;;
	*) echo '#fd8d3c' ;;
	esac
}

# series FILE PEERS : the plot command's list, a column a peer.
series() {
	local column=2 peer sep=
	for peer in $2; do
		printf "%s'%s' using %d:xtic(1) title '%s' linecolor rgb '%s'" "$sep" "$1" "$column" "$peer" "$(colour "$peer")"
		column=$((column + 1)) sep=', '
	done
}

draw() { # NAME TITLE YLABEL ; the plot commands on stdin
	{
		cat <<-END
			set terminal svg size 1300,720 font 'sans-serif,12' background '#ffffff'
			set output '$base-$1.svg'
			set title "$2" noenhanced
			set ylabel "$3"
			set style data histogram
			set style histogram clustered gap 1
			set style fill solid 0.95 border rgb '#404040'
			set boxwidth 0.95
			set datafile missing '?'
			set grid ytics linecolor rgb '#dddddd'
			set xtics rotate by -40 left nomirror noenhanced
			set ytics add (0.2, 0.5, 2, 5, 20, 50)
			set logscale y
			set key top center horizontal outside noenhanced
			set rmargin 20
		END
		cat
	} >"$folder/$1.gp"
	gnuplot "$folder/$1.gp"
	echo "$base-$1.svg"
}

# Each figure as a multiple of what its bar allows.
plot_bars() {
	local forms="shmalloc shmalloc-of shmalloc-handle"
	awk -F'"' -v forms="$forms" '
		NR == 1 { next }
		{
			split($1, key, ","); split($3, cell, ",")
			id = key[1] "," key[2] "," key[3]
			if (!(id in title)) { order[++n] = id; title[id] = (key[2] ? key[2] ": " : "") $2 }
			if (cell[9] != "unknown" && cell[10] > 0) of[id, cell[2]] = cell[10]
		}
		END {
			split(forms, form, " ")
			print "row\t" form[1] "\t" form[2] "\t" form[3]
			for (i = 1; i <= n; i++) {
				printf "\"%s\"", title[order[i]]
				for (k = 1; k <= 3; k++)
					printf "\t%s", (order[i], form[k]) in of ? of[order[i], form[k]] : "?"
				print ""
			}
		}' "$base-bars.csv" >"$folder/bars"
	draw bars "How each figure stands to its bar: below the line it is met" "multiple of what the bar allows" <<-END
		set bmargin 17
		set arrow from graph 0, first 1 to graph 1, first 1 nohead linewidth 2 linecolor rgb '#cc0000' front
		set label 'the bar' at graph 1.005, first 1 textcolor rgb '#cc0000'
		plot $(series "$folder/bars" "$forms")
	END
}

# Times as a multiple of the best private malloc's, and the bar of each row as a black line across it.
plot_peers() {
	local peers="glibc jemalloc mimalloc tcmalloc shmalloc shmalloc-of shmalloc-handle" rows
	rows=$(awk -F'"' 'NR > 1 { split($1, key, ","); split($3, cell, ",")
		if (cell[4] == "x" && cell[5] == "at most" && cell[8] != "" && !seen[$1]++) print key[1] "," key[2] "," key[3] "," cell[6] }' \
		"$base-bars.csv")
	{
		printf '"row"'
		printf '\t"%s"' $peers
		printf '\t"bar"\n'
		while IFS=, read -r work trace metric bar; do
			printf '"%s%s.%s"' "${trace:+$trace: }" "$work" "$metric"
			for peer in $peers; do
				awk -F, -v w="$work" -v t="$trace" -v m="$metric" -v p="$peer" '
					$1 == w && $2 == t && $3 == m && $5 == p && $13 > 0 { printf "\t%s", $13; found = 1 }
					END { if (!found) printf "\t?" }' "$base.csv"
			done
			printf '\t%s\n' "$bar"
		done <<<"$rows"
	} >"$folder/peers"
	draw peers "Time, as a multiple of the best private malloc's" "times the best private malloc" <<-END
		set bmargin 10
		plot $(series "$folder/peers" "$peers"), '$folder/peers' using 0:9:(0.45) with xerrorbars pointtype 0 linewidth 3 linecolor rgb '#000000' title 'bar'
	END
}

plot_latency() {
	local peers="null glibc jemalloc mimalloc tcmalloc boost rte_mempool shmalloc shmalloc-of shmalloc-handle"
	matrix "$folder/latency" "$peers" \
		latency_pair::p50:"pair p50" latency_pair::p99:"pair p99" latency_pair::p99.9:"pair p99.9" \
		latency_pair::worst:"pair, worst of 2 million" \
		latency::p50:"128 B call p50" latency::p99:"128 B call p99" latency::p99.9:"128 B call p99.9" \
		latency_logmix::p50:"log mix call p50" latency_logmix::p99:"log mix call p99" latency_logmix::p99.9:"log mix call p99.9"
	draw latency "Latency of single calls" "ns" <<-END
		set bmargin 9
		plot $(series "$folder/latency" "$peers")
	END
}

plot_scaling() {
	local peers="glibc jemalloc mimalloc tcmalloc boost boost-node rte_mempool shmalloc shmalloc-handle"
	matrix "$folder/scaling" "$peers" \
		pair128::ns:"pair, 1 thread" threads_pair::ns:"pair, 16 threads" \
		ws::ns:"random replace, 1 thread" threads_ws::ns:"random replace, 16 threads" \
		procs1::ns:"random replace, 1 process" procs2::ns:"random replace, 2 processes" \
		procs1_128::ns:"128 B, 1 process" procs2_128::ns:"128 B, 2 processes" \
		clients::pair_1:"pair, 1 client" clients::pair_1000:"pair, 1,000 clients" \
		capacity::pair_1:"pair, 1 GiB" capacity::pair_64:"pair, 64 GiB"
	draw scaling "From one to many: time of an operation, times CPUs in use" "ns x CPUs" <<-END
		set bmargin 10
		plot $(series "$folder/scaling" "$peers")
	END
}

# Speed against memory: lower left is better.
plot_traces() {
	local peers="glibc jemalloc mimalloc tcmalloc boost shmalloc shmalloc-handle" trace traces sep='' plots=''
	traces=$(awk -F, '$1 == "trace" && !seen[$2]++ { print $2 }' "$base.csv")
	[ -n "$traces" ] || { echo "plots.sh: no trace in $base.csv: no $base-traces.svg" >&2; return 0; }
	for trace in $traces; do
		for peer in $peers; do
			echo "$peer $(value trace "$trace" ns "$peer") $(value trace "$trace" memory "$peer")"
		done | grep -v '?' >"$folder/trace-$trace" || true
		plots+="$sep'$folder/trace-$trace' using 3:2 with points pointsize 1.2 title '$trace', '' using 3:2:1 with labels left offset 0.8,0.3 noenhanced notitle"
		sep=', '
	done
	draw traces "Real traces: speed and memory of one heap" "ns an event" <<-END
		set xlabel "memory above peak live bytes, percent"
		set xtics norotate autofreq
		set ytics add (2, 3, 5, 7, 20, 30, 50, 200)
		set xrange [0:*]
		set grid xtics
		plot $plots
	END
}

plot_bars
plot_peers
plot_latency
plot_scaling
plot_traces
