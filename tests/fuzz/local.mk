# SPDX-License-Identifier: Apache-2.0
# Targets of the fuzzer, here with a main() that replays inputs; run.sh builds them with the fuzzer's.

fuzz_programs = %D%/fuzz_repair %D%/fuzz_protocol %D%/fuzz_text %D%/fuzz_fields %D%/fuzz_segment %D%/fuzz_snapshot \
	%D%/fuzz_position
if HAVE_CHECK
check_PROGRAMS += $(fuzz_programs)
TESTS += %D%/replay.sh
endif

%C%_fuzz_repair_SOURCES = %D%/fuzz_repair.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_repair_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit
%C%_fuzz_protocol_SOURCES = %D%/fuzz_protocol.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_fields_SOURCES = %D%/fuzz_fields.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_segment_SOURCES = %D%/fuzz_segment.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_segment_LDADD = libondisk.la
%C%_fuzz_snapshot_SOURCES = %D%/fuzz_snapshot.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_snapshot_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit $(ZSTD_CFLAGS)
%C%_fuzz_snapshot_LDADD = libondisk.la libclient.la $(ZSTD_LIBS)
%C%_fuzz_position_SOURCES = %D%/fuzz_position.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_position_CPPFLAGS = $(AM_CPPFLAGS) $(ONDISK_CPPFLAGS) -I$(top_srcdir)/daemon
%C%_fuzz_position_LDADD = libshmallocd.la libondisk.la libclient.la
%C%_fuzz_text_SOURCES = %D%/fuzz_text.c %D%/fuzz.h %D%/replay.c
%C%_fuzz_text_LDADD = libshmctl.la libshmallocd.la libclient.la

EXTRA_DIST += %D%/README.md %D%/replay.sh %D%/run.sh
