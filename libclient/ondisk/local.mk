# SPDX-License-Identifier: Apache-2.0
# What lies on disk: for the daemon and the tools, not in libshmalloc.

noinst_LTLIBRARIES += libondisk.la
libondisk_la_CPPFLAGS = $(ONDISK_CPPFLAGS) $(LIB_CPPFLAGS) $(ZSTD_CFLAGS)
libondisk_la_LIBADD = $(ZSTD_LIBS)
libondisk_la_SOURCES = \
	%D%/segment.h %D%/segment_inside.h \
	%D%/segment_crc.c %D%/segment_make.c %D%/segment_index.c \
	%D%/segment_dir.c \
	%D%/segment_file.h %D%/segment_file.c %D%/segment_unpack.h %D%/segment_unpack.c \
	%D%/segment_scan.c %D%/segment_seen.c %D%/segment_compress.c \
	%D%/segment_group.h %D%/segment_group.c %D%/segment_feed.c \
	%D%/segment_walk.h %D%/segment_walk.c %D%/segment_merge.h %D%/segment_merge.c \
	%D%/segment_cursor.h %D%/segment_cursor.c %D%/segment_open.c \
	%D%/snapshot.h %D%/snapshot_write.c %D%/snapshot_read.c
EXTRA_DIST += %D%/README.md %D%/SEGMENT.md %D%/SNAPSHOT.md

# ---- tests ----

segment_unit_tests = \
	tests/unit/test_segment \
	tests/unit/test_segment_compress \
	tests/unit/test_segment_cursor \
	tests/unit/test_segment_scan \
	tests/unit/test_segment_seen \
	tests/unit/test_segment_time
tests_unit_test_segment_LDADD = libondisk.la $(CHECK_LIBS)
tests_unit_test_segment_compress_LDADD = libondisk.la $(CHECK_LIBS)
tests_unit_test_segment_cursor_LDADD = libondisk.la $(CHECK_LIBS)
tests_unit_test_segment_time_LDADD = libondisk.la $(CHECK_LIBS)
tests_unit_test_segment_scan_LDADD = libondisk.la $(CHECK_LIBS)
tests_unit_test_segment_seen_LDADD = libondisk.la $(CHECK_LIBS)
if HAVE_CHECK
check_PROGRAMS += $(segment_unit_tests)
TESTS += $(segment_unit_tests)
endif
EXTRA_DIST += tests/unit/segment_stage.h

# The reader in Python, compared with the library's.
check_PROGRAMS += tests/cli/segment_records
tests_cli_segment_records_LDADD = libondisk.la
segment_script_tests = tests/cli/segment_python.sh tests/cli/segment_follow.sh
TESTS += $(segment_script_tests)
EXTRA_DIST += $(segment_script_tests)
