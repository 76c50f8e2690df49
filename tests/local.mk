# SPDX-License-Identifier: Apache-2.0
# All tests. A unit test needs one line: its source is the program's name with .c, and it links
# whatever it needs of the tool, the daemon and libclient, which contains libshm.

LDADD = libshmctl.la libclient.la $(CHECK_LIBS)

# Of one check. Those that go instruction by instruction are slow where each is watched.
if SANITIZED
TEST_SECONDS = 400
else
TEST_SECONDS = 60
endif

# By which all limits of checks are multiplied: they are for what hangs, not for machines that are slow or busy.
TEST_PATIENCE = 10

# What test scripts find in their environment.
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	SHMALLOCD='$(abs_top_builddir)/shmallocd'; export SHMALLOCD; \
	SHMCTL='$(abs_top_builddir)/shmctl-tool'; export SHMCTL; \
	SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	CK_DEFAULT_TIMEOUT=$(TEST_SECONDS); export CK_DEFAULT_TIMEOUT; \
	CK_TIMEOUT_MULTIPLIER=$(TEST_PATIENCE); export CK_TIMEOUT_MULTIPLIER; \
	MAKE='$(MAKE)'; export MAKE;

unit_tests = \
	%D%/unit/test_arena \
	%D%/unit/test_audit \
	%D%/unit/test_buddy \
	%D%/unit/test_cache \
	%D%/unit/test_client \
	%D%/unit/test_clock \
	%D%/unit/test_damage \
	%D%/unit/test_debug \
	%D%/unit/test_drawer \
	%D%/unit/test_emit \
	%D%/unit/test_errors \
	%D%/unit/test_extent \
	%D%/unit/test_fields \
	%D%/unit/test_geometry \
	%D%/unit/test_handler \
	%D%/unit/test_held %D%/unit/test_profile \
	%D%/unit/test_hint \
	%D%/unit/test_hold \
	%D%/unit/test_interleave \
	%D%/unit/test_liveness \
	%D%/unit/test_map_file \
	%D%/unit/test_log_seen \
	%D%/unit/test_names \
	%D%/unit/test_object \
	%D%/unit/test_open \
	%D%/unit/test_pack \
	%D%/unit/test_parse \
	%D%/unit/test_persist \
	%D%/unit/test_placement \
	%D%/unit/test_pointer \
	%D%/unit/test_purge \
	%D%/unit/test_quota \
	%D%/unit/test_record \
	%D%/unit/test_repair \
	%D%/unit/test_replace \
	%D%/unit/test_recovery \
	%D%/unit/test_ring \
	%D%/unit/test_ring_drain \
	%D%/unit/test_ring_position \
	%D%/unit/test_ring_reader \
	%D%/unit/test_ring_recover \
	%D%/unit/test_sizeclass \
	%D%/unit/test_slab \
	%D%/unit/test_span \
	%D%/unit/test_stack \
	%D%/unit/test_stats \
	%D%/unit/test_syslog \
	%D%/unit/test_thread \
	%D%/unit/test_trace \
	%D%/unit/test_walk \
	%D%/unit/test_zone

# Several processes that are stopped and killed; each prints its seed.
process_tests = \
	%D%/stress/heap_fork \
	%D%/stress/heap_kill \
	%D%/stress/hold_kill \
	%D%/stress/ring_kill \
	%D%/stress/stack_kill \
	%D%/stress/soak \
	%D%/stress/ring_step

# Those of them that run several threads in one process: also run under ThreadSanitizer.
thread_tests = \
	%D%/unit/test_audit \
	%D%/unit/test_cache \
	%D%/unit/test_drawer \
	%D%/unit/test_hold \
	%D%/unit/test_liveness \
	%D%/unit/test_map_file \
	%D%/unit/test_names \
	%D%/unit/test_ring \
	%D%/unit/test_ring_reader \
	%D%/unit/test_ring_recover \
	%D%/unit/test_slab \
	%D%/unit/test_stack \
	%D%/unit/test_stats \
	%D%/unit/test_thread
check-threads:
	$(AM_V_at)$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(thread_tests)'
.PHONY: check-threads

if HAVE_CHECK
check_PROGRAMS += $(unit_tests) $(process_tests)
TESTS += $(unit_tests) $(process_tests)
else
check-local:
	@echo "make check needs the unit test library: install check, then configure again" >&2; exit 1
endif

check_DATA =

# Scripts: exit 0 passed, 77 skipped, else failed.
script_tests = \
	%D%/readme/run.sh \
	%D%/house/exports.sh \
	%D%/house/header_cxx.sh \
	%D%/house/layers.sh \
	%D%/house/listed.sh \
	%D%/house/seeds.sh \
	%D%/house/stop_points.sh \
	%D%/cli/logserver.sh \
	%D%/cli/mortal_clients.sh \
	%D%/cli/mortal_daemon.sh \
	%D%/cli/mortal_halfway.sh \
	%D%/cli/mortal_reuse.sh \
	%D%/cli/mortal_stopped.sh \
	%D%/cli/tool_arena.sh \
	%D%/cli/debug_arena.sh \
	%D%/cli/tool_check.sh \
	%D%/cli/tool_daemon.sh \
	%D%/cli/tool_log.sh \
	%D%/cli/tool_log_position.sh \
	%D%/cli/tool_log_query.sh \
	%D%/cli/tool_log_segments.sh \
	%D%/cli/tool_log_syslog.sh \
	%D%/cli/tool_snapshot.sh \
	%D%/cli/tool_trace.sh \
	%D%/cli/tool_bench.sh \
	%D%/cli/tool_leaks.sh \
	%D%/cli/tool_record.sh \
	%D%/cli/tool_usage.sh

TESTS += $(script_tests)
EXTRA_DIST += $(script_tests) %D%/README.md %D%/stress/README.md %D%/run.sh %D%/cli/tool_lib.sh %D%/tally.sh %D%/threads.sh %D%/analysis.sh

include tests/bench/local.mk
include tests/fuzz/local.mk
include tests/crash/local.mk
include tests/interleave/local.mk
include tests/numa/local.mk

EXTRA_DIST += %D%/thread_time.h %D%/seed.h %D%/unit/heap.h %D%/unit/repair_stage.h

%C%_stress_soak_SOURCES = \
	%D%/stress/soak.c %D%/stress/soak.h %D%/stress/soak_killer.h %D%/stress/soak_work.h \
	%D%/stress/soak_account.c %D%/stress/soak_audit.c %D%/stress/soak_log.c %D%/stress/soak_objects.c \
	%D%/stress/soak_processes.c %D%/stress/soak_strike.c %D%/stress/soak_work.c
# Ten minutes and at least 50,000 kills, on two idle processors.
SOAK_FLAGS = --seconds 600 --kills 50000
check-soak: %D%/stress/soak$(EXEEXT) shmallocd$(EXEEXT)
	$(AM_V_at)SHMALLOCD='$(abs_top_builddir)/shmallocd' %D%/stress/soak$(EXEEXT) $(SOAK_FLAGS)
.PHONY: check-soak

# Writers for the tests of the log.
check_PROGRAMS += %D%/cli/log_fields %D%/cli/syslog_send
%C%_cli_log_fields_LDADD = libclient.la
%C%_cli_syslog_send_LDADD =

check_PROGRAMS += %D%/cli/debug_arena %D%/cli/snapshot_work
# With the shared library, whose calls no stack shows.
%C%_cli_debug_arena_LDADD = libshmalloc.la

check_PROGRAMS += %D%/cli/leaky
%C%_cli_leaky_LDADD = libclient.la

check_PROGRAMS += %D%/cli/daemon_peak
%C%_cli_daemon_peak_LDADD = libclient.la

# Clients of every kind of mortality, and their scripts.
check_PROGRAMS += %D%/cli/mortal
%C%_cli_mortal_SOURCES = %D%/cli/mortal.c %D%/cli/mortal.h %D%/cli/mortal_halfway.c \
	%D%/cli/mortal_measure.c %D%/cli/mortal_stop.c
EXTRA_DIST += %D%/cli/mortal_lib.sh

# Protocols checked by Spin, at length; .ci/run has the shorter form.
check-model:
	$(AM_V_at)$(srcdir)/%D%/model/run.sh --long
.PHONY: check-model
EXTRA_DIST += %D%/model/README.md %D%/model/run.sh %D%/model/memory.inc %D%/model/clock.pml %D%/model/hint.pml %D%/model/hold.pml %D%/model/names.pml \
	%D%/model/object.pml %D%/model/pending.pml %D%/model/ring_bell.pml %D%/model/ring_block.pml \
	%D%/model/ring_drain.pml
