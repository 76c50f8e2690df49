# SPDX-License-Identifier: Apache-2.0
# shmctl-tool, and the scripts around the project. All but its main file is an archive, so that tests
# can link it.

TOOL_CPPFLAGS = $(SHM_CPPFLAGS) -I$(top_srcdir)/tools

noinst_LTLIBRARIES += libshmctl.la
libshmctl_la_CPPFLAGS = $(TOOL_CPPFLAGS)
libshmctl_la_LIBADD =
libshmctl_la_SOURCES = \
	%D%/utf8.h \
	%D%/emit.h %D%/emit.c \
	%D%/parse.h %D%/parse.c \
	%D%/trace_file.h %D%/trace_file.c

EXTRA_DIST += %D%/README.md %D%/demo.sh %D%/packages.sh %D%/build.sh
