# SPDX-License-Identifier: Apache-2.0
# The shared heap: one archive that the library, the daemon, the tool and the unit tests link.

noinst_LTLIBRARIES += libshm.la
libshm_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIB_CPPFLAGS)
libshm_la_CFLAGS = $(AM_CFLAGS) $(LIB_CFLAGS)
libshm_la_LIBADD = $(NUMA_LIBS)
libshm_la_SOURCES = \
	%D%/layout.h \
	%D%/words.h \
	%D%/sizeclass.h %D%/sizeclass.c \
	%D%/geometry.h %D%/geometry.c \
	%D%/arena.h \
	%D%/extent.h

EXTRA_DIST += %D%/README.md
