# SPDX-License-Identifier: Apache-2.0
# shmctl-tool, and the scripts around the project. All but its main file is an archive, so that tests
# can link it.

TOOL_CPPFLAGS = $(ONDISK_CPPFLAGS) -I$(top_srcdir)/tools $(ZSTD_CFLAGS)

noinst_LTLIBRARIES += libshmctl.la
libshmctl_la_CPPFLAGS = $(TOOL_CPPFLAGS)
libshmctl_la_LIBADD = $(ZSTD_LIBS)
libshmctl_la_SOURCES = \
	%D%/utf8.h \
	%D%/emit.h %D%/emit.c \
	%D%/emit_text.h %D%/emit_text.c \
	%D%/parse.h %D%/parse.c \
	%D%/syslog_text.h %D%/syslog_text.c \
	%D%/trace_file.h %D%/trace_file.c \
	%D%/trace_source.h %D%/trace_source.c \
	%D%/log_filter.h %D%/log_filter.c \
	%D%/log_names.h %D%/log_names.c \
	%D%/log_seen.h %D%/log_seen.c \
	%D%/log_show.h %D%/log_show.c \
	%D%/log_source.h %D%/log_source.c \
	%D%/log_query.h %D%/log_query.c \
	%D%/reach.h %D%/reach.c \
	%D%/nodes.h %D%/nodes.c

bin_PROGRAMS += shmctl-tool
shmctl_tool_CPPFLAGS = $(TOOL_CPPFLAGS) $(DW_CFLAGS) $(ZLIB_CFLAGS) \
	-DPKGLIBDIR='"$(pkglibdir)"' -DPKGLIBEXECDIR='"$(pkglibexecdir)"'
shmctl_tool_LDADD = libshmctl.la libondisk.la libclient.la $(DW_LIBS) $(ZLIB_LIBS) -lm
shmctl_tool_SOURCES = \
	%D%/shmctl-tool.c \
	%D%/tool.h %D%/tool.c \
	%D%/syslog_socket.h %D%/syslog_socket.c \
	%D%/verbs.c \
	%D%/verb_arena_check.c \
	%D%/verb_arena_create.c \
	%D%/verb_arena_destroy.c \
	%D%/verb_arena_list.c \
	%D%/verb_arena_map.c \
	%D%/verb_arena_show.c \
	%D%/verb_arena_snapshot.c %D%/verb_arena_restore.c \
	%D%/verb_debug.c %D%/verb_client_list.c %D%/verb_client_deaths.c \
	%D%/deaths.h %D%/deaths.c \
	%D%/verb_log_cat.c \
	%D%/verb_log_policy.c \
	%D%/verb_log_status.c \
	%D%/verb_log_put.c \
	%D%/verb_log_tail.c \
	%D%/symbols.h %D%/symbols.c %D%/profile_sites.h %D%/profile_sites.c %D%/pprof.h %D%/pprof.c \
	%D%/profile_show.h %D%/profile_show.c %D%/verb_profile.c %D%/unreached.h %D%/unreached.c %D%/verb_leaks.c \
	%D%/verb_stats.c \
	%D%/suite.h %D%/suite.c %D%/verb_bench.c \
	%D%/trace_make.h %D%/trace_make.c %D%/verb_trace_record.c \
	%D%/verb_trace_replay.c

check_PROGRAMS += tests/cli/record_program

# What `trace record` preloads: it finds it here, or where it is installed. Never with a sanitizer, which has to
# be the first to see each allocation.
pkglib_LTLIBRARIES += libshmtrace.la
libshmtrace_la_SOURCES = %D%/preload/trace_raw.h %D%/preload/trace_preload.c
libshmtrace_la_CPPFLAGS = -D_GNU_SOURCE
libshmtrace_la_CFLAGS = -std=gnu11 -pthread -fvisibility=hidden -fno-builtin-malloc $(WARN_CFLAGS)
libshmtrace_la_LDFLAGS = -module -avoid-version -shared -Wl,-z,nodelete

dist_man_MANS += %D%/shmctl-tool.1

EXTRA_DIST += %D%/README.md %D%/demo.sh %D%/packages.sh %D%/build.sh %D%/shmalog.py
