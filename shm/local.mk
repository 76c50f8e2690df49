# SPDX-License-Identifier: Apache-2.0
# The shared heap: one archive that the library, the daemon, the tool and the unit tests link.

noinst_LTLIBRARIES += libshm.la
libshm_la_CPPFLAGS = $(SHM_CPPFLAGS) $(LIB_CPPFLAGS)
libshm_la_CFLAGS = $(AM_CFLAGS) $(LIB_CFLAGS)
libshm_la_LIBADD = $(NUMA_LIBS) -lm
# Bottom layer first.
libshm_la_SOURCES = \
	%D%/stop_point.h %D%/layout.h %D%/words.h %D%/pagemap.h \
	%D%/clock.h %D%/clock.c \
	%D%/sizeclass.h %D%/sizeclass.c \
	%D%/geometry.h %D%/geometry.c \
	%D%/arena.h %D%/arena.c %D%/arena_file.h %D%/arena_file.c \
	%D%/format.h %D%/format.c \
	%D%/placement.h %D%/placement.c \
	%D%/huge.h %D%/huge.c \
	%D%/boot.h %D%/boot.c \
	%D%/client.h %D%/client.c \
	%D%/liveness.h %D%/liveness.c \
	%D%/zone.h %D%/zone.c \
	%D%/buddy.h %D%/buddy.c \
	%D%/commit.h %D%/commit.c \
	%D%/extent.h %D%/extent.c \
	%D%/span.h %D%/span.c \
	%D%/hint.h %D%/hint.c \
	%D%/record.h %D%/record.c \
	%D%/bits.h %D%/slab.h %D%/slab_inside.h %D%/slab_hold.c %D%/slab.c %D%/slab_put.c %D%/slab_reclaim.c %D%/slab_purge.c %D%/slab_whole.c %D%/slab_drawer.c \
	%D%/quota.h %D%/quota.c \
	%D%/cache.h %D%/cache.c \
	%D%/thread.h %D%/thread.c \
	%D%/stack.h %D%/stack.c \
	%D%/object_word.h %D%/object_word.c %D%/mapped.h %D%/mapped.c \
	%D%/object.h %D%/object_offered.h %D%/object.c %D%/object_owner.c %D%/object_look.c \
	%D%/hold.h %D%/hold_inside.h %D%/hold_table.c %D%/hold.c %D%/hold_recover.c \
	%D%/names.h %D%/names.c \
	%D%/persist.h %D%/persist.c %D%/replace.h %D%/replace.c \
	%D%/profile.h %D%/profile_inside.h %D%/profile.c %D%/profile_look.c \
	%D%/fields.h %D%/fields.c \
	%D%/debug.h %D%/debug.c %D%/debug_report.h %D%/debug_report.c \
	%D%/debug_room.h %D%/debug_room.c %D%/debug_object.h %D%/debug_object.c %D%/debug_sample.h %D%/debug_sample.c \
	%D%/ring_words.h %D%/ring_view.h %D%/ring_format.c \
	%D%/ring.h %D%/ring.c \
	%D%/ring_lease.c %D%/ring_shared.c %D%/ring_large.c \
	%D%/ring_bell.c %D%/ring_terms.c \
	%D%/ring_position.h %D%/ring_position.c %D%/ring_source.h %D%/ring_source.c \
	%D%/ring_reading.h %D%/ring_turn.h %D%/ring_reader.c %D%/ring_reader_open.c %D%/ring_last.c %D%/ring_recover.c \
	%D%/ring_drain.h %D%/ring_piece.h %D%/ring_piece.c %D%/ring_drain.c \
	%D%/ring_repair.h %D%/ring_repair.c \
	%D%/recovery.h %D%/recovery.c \
	%D%/purge.h %D%/purge.c \
	%D%/walk.h %D%/walk.c \
	%D%/stats.h %D%/stats.c \
	%D%/held.h %D%/held.c \
	%D%/residence.h %D%/residence.c \
	%D%/audit.h %D%/audit_run.h %D%/audit.c \
	%D%/debug_audit.c \
	%D%/audit_zone.c %D%/audit_heap.c %D%/audit_owner.c %D%/audit_name.c %D%/audit_hold.c \
	%D%/repair.h %D%/repair_run.h %D%/repair.c \
	%D%/repair_header.c %D%/repair_heap.c %D%/repair_log.c \
	%D%/repair_object.c %D%/repair_name.c %D%/repair_index.c

EXTRA_DIST += %D%/README.md %D%/RING.md
