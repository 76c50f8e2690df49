# SPDX-License-Identifier: Apache-2.0
# The client library. libclient.la is libshm plus the public calls, for this project's own programs
# and tests; libshmalloc is the same with only shma_* exported.

noinst_LTLIBRARIES += libclient.la
libclient_la_CPPFLAGS = $(SHM_CPPFLAGS) $(LIB_CPPFLAGS) $(ZSTD_CFLAGS) $(LZ4_CFLAGS)
libclient_la_CFLAGS = $(AM_CFLAGS) $(LIB_CFLAGS)
libclient_la_LIBADD = libshm.la $(ZSTD_LIBS) $(LZ4_LIBS)
libclient_la_SOURCES = \
	%D%/protocol.h %D%/protocol.c \
	%D%/connect.h %D%/connect.c \
	%D%/attach.h %D%/attach.c \
	%D%/map_file.h %D%/map_file.c %D%/hold_calls.c %D%/debug_calls.h %D%/debug_calls.c \
	%D%/packing.h %D%/packing.c %D%/pack_calls.h %D%/pack_calls.c \
	%D%/profile_calls.h %D%/profile_calls.c %D%/profile_binaries.h %D%/profile_binaries.c \
	%D%/object_calls.c %D%/stack_calls.h %D%/stack_calls.c %D%/log_inside.h %D%/log_calls.c %D%/kv_calls.c %D%/position_calls.c %D%/error.c

# The files that a log is drained to: for the daemon and the tools, not in libshmalloc.
noinst_LTLIBRARIES += libsegment.la
libsegment_la_CPPFLAGS = $(SHM_CPPFLAGS) $(LIB_CPPFLAGS) $(ZSTD_CFLAGS)
libsegment_la_LIBADD = $(ZSTD_LIBS)
libsegment_la_SOURCES = \
	%D%/segment.h %D%/segment_inside.h \
	%D%/segment_crc.c %D%/segment_make.c %D%/segment_index.c \
	%D%/segment_dir.c \
	%D%/segment_file.h %D%/segment_file.c %D%/segment_unpack.h %D%/segment_unpack.c \
	%D%/segment_scan.c %D%/segment_seen.c %D%/segment_compress.c \
	%D%/segment_group.h %D%/segment_group.c %D%/segment_feed.c \
	%D%/segment_walk.h %D%/segment_walk.c %D%/segment_merge.h %D%/segment_merge.c \
	%D%/segment_cursor.h %D%/segment_cursor.c %D%/segment_open.c \
	%D%/snapshot.h %D%/snapshot_write.c %D%/snapshot_read.c

include_HEADERS = %D%/shmalloc.h
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = %D%/shmalloc.pc

lib_LTLIBRARIES += libshmalloc.la
libshmalloc_la_SOURCES =
libshmalloc_la_LIBADD = libclient.la
libshmalloc_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 \
	-Wl,--version-script=$(top_srcdir)/%D%/libshmalloc.map -Wl,-z,nodelete -Wl,-z,relro \
	-Wl,-z,now $(LIB_LDFLAGS)
EXTRA_libshmalloc_la_DEPENDENCIES = %D%/libshmalloc.map

# ---- tests ----

segment_unit_tests = \
	tests/unit/test_segment \
	tests/unit/test_segment_compress \
	tests/unit/test_segment_cursor \
	tests/unit/test_segment_scan \
	tests/unit/test_segment_seen \
	tests/unit/test_segment_time
tests_unit_test_segment_LDADD = libsegment.la $(CHECK_LIBS)
tests_unit_test_segment_compress_LDADD = libsegment.la $(CHECK_LIBS)
tests_unit_test_segment_cursor_LDADD = libsegment.la $(CHECK_LIBS)
tests_unit_test_segment_time_LDADD = libsegment.la $(CHECK_LIBS)
tests_unit_test_segment_scan_LDADD = libsegment.la $(CHECK_LIBS)
tests_unit_test_segment_seen_LDADD = libsegment.la $(CHECK_LIBS)
if HAVE_CHECK
check_PROGRAMS += $(segment_unit_tests)
TESTS += $(segment_unit_tests)
endif
EXTRA_DIST += tests/unit/segment_stage.h

# The reader in Python, compared with the library's.
check_PROGRAMS += tests/cli/segment_records
tests_cli_segment_records_LDADD = libsegment.la
segment_script_tests = tests/cli/segment_python.sh tests/cli/segment_follow.sh
TESTS += $(segment_script_tests)
EXTRA_DIST += $(segment_script_tests)

# A whole program on the public interface alone.
noinst_PROGRAMS += %D%/examples/logserver
%C%_examples_logserver_LDADD = libshmalloc.la
%C%_examples_logserver_SOURCES = \
	%D%/examples/logserver.h \
	%D%/examples/logserver.c \
	%D%/examples/logserver_ingest.c \
	%D%/examples/logserver_parse.c \
	%D%/examples/logserver_supervisor.c \
	%D%/examples/logserver_worker.c

EXTRA_DIST += %D%/README.md %D%/SEGMENT.md %D%/SNAPSHOT.md %D%/libshmalloc.map
