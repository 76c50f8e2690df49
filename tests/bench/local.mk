# SPDX-License-Identifier: Apache-2.0
# The benchmark: a driver, and one plug-in for each allocator. Nothing here judges by time: make check
# only shows that everything runs.

# Installed with the plug-ins that need no more than is there: `shmctl-tool bench` and `trace replay` run it.
suitedir = $(pkglibexecdir)
suite_PROGRAMS = %D%/bench
suite_DATA = $(bench_plugins)
%C%_bench_SOURCES = \
	%D%/bench.c %D%/bench.h \
	%D%/child.c %D%/launch.c %D%/traces.c \
	%D%/report.c %D%/report.h %D%/report_table.c %D%/bars.c %D%/machine.c \
	%D%/work.c %D%/work.h \
	%D%/work_one.c %D%/work_latency.c %D%/gang.c %D%/gang.h %D%/work_many.c %D%/work_log.c %D%/work_memory.c \
	%D%/work_scale.c %D%/work_trace.c %D%/work_recovery.c %D%/work_huge.c %D%/work_purge.c %D%/work_stack.c %D%/work_object.c %D%/work_file.c \
	%D%/peer.h
# Flags are part of what instructions are counted for.
%C%_bench_CPPFLAGS = $(AM_CPPFLAGS) -DBENCH_CFLAGS='"$(CFLAGS)"'
%C%_bench_LDADD = -ldl -lm $(LZ4_LIBS) $(ZSTD_LIBS)

# A process killed, and its memory back.
check_PROGRAMS += %D%/death
%C%_death_SOURCES = %D%/death.h %D%/death.c %D%/death_role.c
%C%_death_LDADD = libclient.la

# What a model of many cores needs: times calls inside the heap, which are wrapped for it.
check_PROGRAMS += %D%/scaling
%C%_scaling_SOURCES = %D%/scaling.h %D%/scaling.c %D%/scaling_machine.c %D%/scaling_model.c
%C%_scaling_LDADD = libclient.la
%C%_scaling_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=cache_refill -Wl,--wrap=cache_flush -Wl,--wrap=zone_trylock \
	-Wl,--wrap=zone_trylock_patiently -Wl,--wrap=zone_unlock

# Large pages: a program of its own, since no public call makes an arena of a chosen backing.
check_PROGRAMS += %D%/huge
%C%_huge_SOURCES = %D%/huge.c
%C%_huge_LDADD = libclient.la

# Memory given back beside a client at work: purges when it is told, as only the daemon does.
check_PROGRAMS += %D%/purge
%C%_purge_SOURCES = %D%/purge.c
%C%_purge_LDADD = libclient.la

# How fast a log goes to the disk: drain.sh, beside dd.
check_PROGRAMS += %D%/drain_write
%C%_drain_write_SOURCES = %D%/drain_write.c
%C%_drain_write_LDADD = libclient.la
# Segments to measure queries over.
check_PROGRAMS += %D%/log_segments
%C%_log_segments_SOURCES = %D%/log_segments.c
%C%_log_segments_LDADD = libondisk.la $(ZSTD_LIBS)

# Plug-ins are plain shared objects that no one installs; thread-locals as cheap as in a program.
bench_plugins = %D%/peer_null.so %D%/peer_malloc.so %D%/peer_queue.so %D%/peer_shmalloc.so
bench_flags = $(DEFS) -I$(top_srcdir)/libclient -D_GNU_SOURCE $(CPPFLAGS)
bench_shared = -fPIC -fno-plt -shared -pthread -ftls-model=initial-exec -fvisibility=hidden

%D%/peer_null.so: %D%/peer_null.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_CCLD)$(CC) $(bench_flags) $(AM_CFLAGS) $(CFLAGS) $(bench_shared) -o $@ $(srcdir)/%D%/peer_null.c $(LDFLAGS)
%D%/peer_malloc.so: %D%/peer_malloc.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_CCLD)$(CC) $(bench_flags) $(AM_CFLAGS) $(CFLAGS) $(bench_shared) -o $@ $(srcdir)/%D%/peer_malloc.c $(LDFLAGS) -ldl
%D%/peer_queue.so: %D%/peer_queue.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_CCLD)$(CC) $(bench_flags) $(AM_CFLAGS) $(CFLAGS) $(bench_shared) -o $@ $(srcdir)/%D%/peer_queue.c $(LDFLAGS) -lrt
# The shared library as a user links it, or where there is none the archive.
%D%/peer_shmalloc.so: %D%/peer_shmalloc.c %D%/peer.h libclient/shmalloc.h libshmalloc.la
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_CCLD)if test -f .libs/libshmalloc.so; then \
		lib="-L.libs -Wl,-rpath,$(libdir) -lshmalloc"; \
	else \
		lib=".libs/libshmalloc.a $(NUMA_LIBS) $(ZSTD_LIBS)"; \
	fi; \
	$(CC) $(bench_flags) $(AM_CFLAGS) $(CFLAGS) $(bench_shared) -o $@ $(srcdir)/%D%/peer_shmalloc.c $(LDFLAGS) $$lib

# The one peer in C++. Without its headers, or without a compiler, the driver reports it missing.
BENCH_CXX = c++
%D%/peer_boost.so: %D%/peer_boost.cc %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_GEN)if echo '#include <boost/interprocess/managed_shared_memory.hpp>' | \
			$(BENCH_CXX) -x c++ -fsyntax-only - 2>/dev/null; then \
		$(BENCH_CXX) -O2 -g $(bench_flags) $(bench_shared) -o $@ $(srcdir)/%D%/peer_boost.cc -lrt; \
	else \
		echo "bench: NO Boost.Interprocess: install libboost-dev and g++" >&2; \
	fi

# DPDK's pool: pkg-config names where its headers are; as for Boost, its absence is reported.
%D%/peer_dpdk.so: %D%/peer_dpdk.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_GEN)if flags=$$(pkg-config --cflags libdpdk 2>/dev/null | sed 's/-I/-isystem /g') && test -n "$$flags"; then \
		$(CC) $$flags $(bench_flags) -O2 -g $(bench_shared) -o $@ $(srcdir)/%D%/peer_dpdk.c \
			-Wl,--no-as-needed -lrte_eal -lrte_mempool -lrte_mempool_ring -lrte_ring; \
	else \
		echo "bench: NO DPDK: install libdpdk-dev" >&2; \
	fi

%D%/peer_ck.so: %D%/peer_ck.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_GEN)if echo '#include <ck_ring.h>' | $(CC) -fsyntax-only -x c - 2>/dev/null; then \
		$(CC) $(bench_flags) -O2 -g $(bench_shared) -o $@ $(srcdir)/%D%/peer_ck.c; \
	else \
		echo "bench: NO Concurrency Kit: install libck-dev" >&2; \
	fi

# Temporary memory of others: glibc has the one, APR the other.
%D%/peer_stack.so: %D%/peer_stack.c %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_GEN)if flags=$$(pkg-config --cflags --libs apr-1 2>/dev/null); then \
		$(CC) $(bench_flags) -O2 -g $(bench_shared) -o $@ $(srcdir)/%D%/peer_stack.c $$flags; \
	else \
		echo "bench: NO APR: install libapr1-dev" >&2; \
	fi

# LTTng: its daemon is started by the plug-in, for the time of a measurement.
%D%/peer_lttng.so: %D%/peer_lttng.c %D%/peer_lttng.h %D%/peer.h
	$(AM_V_at)$(MKDIR_P) %D%
	$(AM_V_GEN)if echo '#include <lttng/tracepoint.h>' | $(CC) -fsyntax-only -x c - 2>/dev/null; then \
		$(CC) $(bench_flags) -I$(srcdir)/%D% -O2 -g $(bench_shared) -o $@ $(srcdir)/%D%/peer_lttng.c \
			-llttng-ust -ldl; \
	else \
		echo "bench: NO LTTng-UST: install liblttng-ust-dev and lttng-tools" >&2; \
	fi

script_tests += %D%/smoke.sh %D%/instructions_gate.sh

# Peers by name, workloads and traces: make bench BENCH_FLAGS='--only ws --trace FILE'
BENCH_FLAGS =
bench_results = --results $(abs_builddir)/%D%/results
bench_others = %D%/peer_boost.so %D%/peer_dpdk.so %D%/peer_ck.so %D%/peer_lttng.so %D%/peer_stack.so
bench_ready = %D%/bench$(EXEEXT) %D%/death$(EXEEXT) %D%/huge$(EXEEXT) %D%/purge$(EXEEXT) shmallocd$(EXEEXT) $(bench_plugins) $(bench_others)

bench: $(bench_ready)
	$(AM_V_at)%D%/bench$(EXEEXT) $(bench_results) --title bench $(BENCH_FLAGS)
bench-short: $(bench_ready)
	$(AM_V_at)%D%/bench$(EXEEXT) --short $(bench_results) --title bench-short $(BENCH_FLAGS)
bench-callgrind: $(bench_ready)
	$(AM_V_at)bash $(srcdir)/%D%/callgrind.sh %D%/bench$(EXEEXT)
# The run that is kept beside the sources: text, CSV and plots.
bench-report: $(bench_ready) %D%/scaling$(EXEEXT)
	$(AM_V_at)bash $(srcdir)/%D%/report.sh %D% $(srcdir)/%D%/results reference $(BENCH_FLAGS)
bench-scaling: %D%/scaling$(EXEEXT)
	$(AM_V_at)%D%/scaling$(EXEEXT)
# Against the table in this folder; .ci/run does it as well. After a change that is meant: update.
check-instructions: %D%/bench$(EXEEXT) $(bench_plugins)
	$(AM_V_at)bash $(srcdir)/%D%/instructions.sh check %D%/bench$(EXEEXT) $(srcdir)/%D%/instructions.csv
update-instructions: %D%/bench$(EXEEXT) $(bench_plugins)
	$(AM_V_at)bash $(srcdir)/%D%/instructions.sh update %D%/bench$(EXEEXT) $(srcdir)/%D%/instructions.csv
.PHONY: bench bench-short bench-report bench-scaling bench-callgrind check-instructions update-instructions

CLEANFILES += $(bench_plugins) $(bench_others) %D%/results/bench*.csv
# The last run that was kept.
bench_kept = %D%/results/reference.txt %D%/results/reference.csv %D%/results/reference-bars.csv \
	%D%/results/reference-scaling.txt %D%/results/reference-bars.svg %D%/results/reference-peers.svg \
	%D%/results/reference-latency.svg %D%/results/reference-scaling.svg %D%/results/reference-traces.svg
EXTRA_DIST += %D%/README.md %D%/drain.sh %D%/ship.sh %D%/callgrind.sh %D%/instructions.sh \
	%D%/instructions.csv %D%/plots.sh %D%/report.sh \
	$(bench_kept) %D%/peer_null.c %D%/peer_malloc.c \
	%D%/peer_shmalloc.c %D%/peer_boost.cc %D%/peer_dpdk.c \
	%D%/peer_queue.c %D%/peer_ck.c %D%/peer_stack.c %D%/peer_lttng.c %D%/peer_lttng.h
