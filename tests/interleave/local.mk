# SPDX-License-Identifier: Apache-2.0
# A client is held at each stop point. The program has the library's sources in it, compiled with stop points.
# make check does so for half a minute, make check-interleave with every pair.

check_PROGRAMS += %D%/interleave
%C%_interleave_CPPFLAGS = $(AM_CPPFLAGS) $(LIB_CPPFLAGS) -DSHM_STOP_POINTS \
	-I$(top_srcdir)/tests/crash -DCRASH_CAPACITY='(UINT64_C(30) << 20)' \
	-DCRASH_STATES_MORE=24
%C%_interleave_SOURCES = \
	%D%/interleave.h %D%/interleave.c \
	%D%/plan.h %D%/plan.c \
	%D%/actors.c %D%/watch.c %D%/ops_more.c \
	tests/crash/crash.h tests/crash/stage.h tests/crash/stage.c tests/crash/step.h \
	tests/crash/service.h tests/crash/service.c tests/crash/image.c tests/crash/world.c \
	tests/crash/judge.h tests/crash/judge.c tests/crash/judge_service.c tests/crash/judge_profile.c tests/crash/census.c \
	tests/crash/ops_heap.c tests/crash/ops_single.c tests/crash/ops_file.c tests/crash/ops_resize.c tests/crash/ops_pack.c tests/crash/ops_hand.c tests/crash/ops_stack.c tests/crash/ops_hold.c tests/crash/ops_log.c \
	tests/crash/ops_life.c \
	$(libshm_la_SOURCES) $(libclient_la_SOURCES)
# For the oracle; of what the program has itself, nothing is taken from there.
%C%_interleave_LDADD = libshmallocd.la

script_tests += %D%/interleave.sh

check-interleave: %D%/interleave$(EXEEXT)
	$(AM_V_at)$(AM_TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/%D%/interleave.sh all
.PHONY: check-interleave

EXTRA_DIST += %D%/README.md %D%/interleave.sh
