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

EXTRA_DIST += %D%/README.md %D%/libshmalloc.map
