# SPDX-License-Identifier: Apache-2.0
# A client is killed after each instruction. make check does so for a minute, make check-crash until all is
# done, and writes the table in the README.

check_PROGRAMS += %D%/crash
%C%_crash_SOURCES = \
	%D%/crash.h %D%/crash.c \
	%D%/step.h %D%/step.c \
	%D%/stage.h %D%/stage.c \
	%D%/service.h %D%/service.c \
	%D%/image.c %D%/world.c \
	%D%/judge.h %D%/judge.c %D%/judge_service.c %D%/judge_profile.c %D%/census.c \
	%D%/ops_heap.c %D%/ops_single.c %D%/ops_file.c %D%/ops_resize.c %D%/ops_pack.c %D%/ops_hand.c %D%/ops_stack.c %D%/ops_hold.c %D%/ops_profile.c %D%/ops_debug.c %D%/ops_log.c %D%/ops_life.c %D%/ops_daemon.c
%C%_crash_LDADD = libshmallocd.la
# No instructions of the dynamic linker between those of the library.
%C%_crash_LDFLAGS = $(AM_LDFLAGS) -Wl,-z,now

script_tests += %D%/crash.sh

check-crash: %D%/crash$(EXEEXT)
	$(AM_V_at)$(AM_TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/%D%/crash.sh all
# Whether it would find what it looks for: the library with one defect at a time.
check-crash-seeded:
	$(AM_V_at)$(AM_TESTS_ENVIRONMENT) CC='$(CC)' NUMA_LIBS='$(NUMA_LIBS)' URING_LIBS='$(URING_LIBS)' LZ4_LIBS='$(LZ4_LIBS)' ZSTD_LIBS='$(ZSTD_LIBS)' NATS_LIBS='$(NATS_LIBS)' $(srcdir)/%D%/seeded.sh
.PHONY: check-crash check-crash-seeded

EXTRA_DIST += %D%/README.md %D%/crash.sh %D%/seeded.sh
