# SPDX-License-Identifier: Apache-2.0
# The shared heap: one archive that the library, the daemon, the tool and the unit tests link.

noinst_LTLIBRARIES += libshm.la
libshm_la_CPPFLAGS = $(SHM_CPPFLAGS) $(LIB_CPPFLAGS)
libshm_la_CFLAGS = $(AM_CFLAGS) $(LIB_CFLAGS)
libshm_la_LIBADD = $(NUMA_LIBS)
libshm_la_SOURCES = \
	%D%/layout.h \
	%D%/words.h \
	%D%/pagemap.h \
	%D%/arena_file.c \
	%D%/format.h %D%/format.c \
	%D%/sizeclass.h %D%/sizeclass.c \
	%D%/geometry.h %D%/geometry.c \
	%D%/arena.h %D%/arena.c \
	%D%/hint.h %D%/hint.c \
	%D%/span.h %D%/span.c \
	%D%/buddy.h %D%/buddy.c \
	%D%/zone.h %D%/zone.c \
	%D%/extent.h %D%/extent.c \
	%D%/record.h %D%/record.c \
	%D%/slab.h %D%/slab.c \
	%D%/walk.h %D%/walk.c

EXTRA_DIST += %D%/README.md
