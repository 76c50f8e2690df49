/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop_point.h - named places between two steps of something that others may find half done.
 * STOP_POINT(name) is nothing, unless the file is compiled with SHM_STOP_POINTS: then it calls
 * stop_point(), by which tests/interleave holds the process there while others go on. The table says
 * what is half done at each; a name stands in one place of the code.
 */
#ifndef SHM_STOP_POINT_H
#define SHM_STOP_POINT_H

#ifndef SHM_STOP_POINTS
#define STOP_POINT(name) ((void)0)
#else
#define STOP_POINT(name) stop_point(STOP_##name)

/* By file, in the order of the code. */
#define STOP_POINT_TABLE(X) \
	/* zone.c */ \
	X(zone_committed, "a zone has memory for its index and is not in use yet") \
	X(zone_in_use, "a zone is in use, its index not built") \
	X(zone_run_free, "pages are free, the index does not know") \
	X(pending_freeing, "an extent on the stack is about to be freed") \
	X(pending_freed, "returned extents are freed and still on the stack") \
	X(pending_returned, "an extent says returned and is on no stack") \
	X(pending_pushed, "an extent waits on the stack of a busy zone") \
	X(zone_locked, "a zone's lock is taken, nothing done") \
	X(zone_rebuilt, "a dead holder's zone is built anew, its lock not made good") \
	X(zone_consistent, "a dead holder's lock is made good and held") \
	X(zone_first_built, "a zone has its first index, not said to be ready") \
	X(zone_unlocking, "a zone's lock is held, all done") \
	/* buddy.c */ \
	X(buddy_merging, "two free blocks are in no bitmap") \
	X(buddy_put_uncounted, "free pages are in the bitmaps, not counted") \
	X(buddy_block_taken, "a block is in no bitmap, its tail not back") \
	X(buddy_taken_uncounted, "pages are off the bitmaps, still counted as free") \
	X(buddy_rebuilding, "a zone's bitmaps are empty") \
	/* commit.c */ \
	X(commit_unmarked, "pages have memory, their bits do not say so") \
	X(commit_still_purged, "purged pages have memory again, their bits do not say so") \
	X(commit_region_given, "a region's bit is off, its pages' not") \
	/* extent.c */ \
	X(extent_high_raised, "a zone's high-water mark is raised, nothing is entered") \
	X(extent_half_entered, "an entry has its length, not its owner") \
	X(extent_taken, "an extent is entered, its zone's lock held") \
	X(extent_raw, "an extent is raw and without memory, no lock held") \
	X(extent_freeing, "an extent is to be freed, no lock held") \
	X(extent_row_freeing, "some of a row of extents are free, the index does not know") \
	X(extent_trimmed, "an extent is shorter, its tail not in the index") \
	X(extent_inside_clearing, "a slab's page says free and still leads to a record") \
	X(extent_reclaiming, "a dead client's extent is about to be freed, lock held") \
	/* span.c */ \
	X(span_unlocking, "some of the zones of a span are unlocked") \
	X(span_zone_locked, "some of the zones for a span are locked") \
	X(span_piece_entered, "a span has pieces and no head") \
	X(span_entered, "a span is entered, all its zones locked") \
	X(span_piece_split, "a span's last piece is an extent, the span still reaches it") \
	X(span_piece_cut, "a span's last piece is cut off, its length not written") \
	X(span_piece_raw, "a span's last piece is a raw extent of its own") \
	X(span_reclaim_cut, "a dead client's span is cut, the piece not freed") \
	/* hint.c */ \
	X(hint_leaf_set, "a region's hint is set, its zone's summary not") \
	X(hint_summary_set, "a zone's summary of hints is set, the arena's not") \
	X(hint_leaf_cleared, "a region's hint is cleared and not looked after") \
	X(hint_summary_cleared, "a zone's summary of hints is cleared and not looked after") \
	X(hint_arena_cleared, "the arena's hint of a zone is cleared and not looked after") \
	/* record.c */ \
	X(record_block_filled, "a state block is written and still raw") \
	X(record_block_made, "a new state block is told of nowhere") \
	X(record_freed, "a record is free and told of nowhere") \
	/* slab.c */ \
	X(slab_bits_taken, "objects are off the bitmap, not claimed") \
	X(slab_held, "a slab's record is held, nothing of it claimed") \
	X(slab_words_claimed, "objects are claimed, their slab's record still held") \
	X(slab_opened, "a record is open again, bits and hint not looked at") \
	X(slab_hint_cleared, "a region's hint is cleared, the region not looked at again") \
	X(slab_extent_raw, "a slab's pages are there, it has no record") \
	X(slab_record_got, "a slab in the making has its record") \
	X(slab_record_named, "a record names a head that does not name it") \
	X(slab_words_set, "a slab's states are written, its pages are raw") \
	X(slab_page_entering, "a slab's page leads to its record and says raw or free") \
	X(slab_entered, "a slab is entered, its record still busy") \
	X(slab_untold, "a new slab is told of nowhere") \
	X(slab_words_freed, "objects are free, not in the bitmap") \
	X(slab_bits_set, "free objects are in the bitmap, the hint not set") \
	X(slab_looks_empty, "a slab was seen empty, its record not held") \
	X(slab_ending, "a slab to be given back is held, all of its objects free") \
	X(slab_head_raw, "a slab's head is raw again, its other pages not") \
	X(slab_raw, "a slab is a raw extent again, its record busy") \
	X(slab_unmade, "a slab's pages are raw, its record is free") \
	/* slab_whole.c */ \
	X(slab_whole_held, "a single object's record is held, to give the slab back") \
	X(slab_whole_unmade, "a single object's pages are raw, its record is free") \
	/* slab_purge.c */ \
	X(slab_idle_opening, "a purger has done with a slab's idle pages and still holds it") \
	/* slab_reclaim.c */ \
	X(slab_inherited, "a record that a dead client held is held by its heir") \
	X(slab_taking_over, "a slab is held for a dead client, some of its objects looked at") \
	X(slab_closed, "a dead client's slab is held, all of its objects its or free") \
	X(slab_closed_freed, "the objects of a closed slab are free") \
	X(slab_gathered, "a dead client's slabs are raw extents, not freed") \
	X(slab_recovering, "some of a dead client's objects of a slab are free") \
	X(slab_recovered, "a dead client's objects are free and told of nowhere") \
	/* cache.c */ \
	X(cache_array_claimed, "a cache's new array is claimed, the old one in use") \
	X(cache_array_named, "a cache has a new array, its size is the old one's") \
	X(cache_array_freeing, "a cache's old array is named nowhere") \
	X(cache_lowered, "handles have left a cache, their objects are not free") \
	X(cache_put, "objects are freed, still counted as drawn") \
	X(cache_claimed, "objects are claimed for a cache, its top not raised") \
	X(cache_slot_written, "a freed object's handle is above the cache's top") \
	/* thread.c */ \
	X(thread_word_claimed, "a thread's word is claimed, it has no block") \
	X(thread_block_ready, "a thread's block is written, its word only claimed") \
	X(thread_live, "a thread is live, its process does not count it") \
	X(thread_emptied, "an ending thread has emptied its caches") \
	X(thread_closing, "an ending thread's word does not lead to its block") \
	X(thread_block_freed, "an ending thread's block is free, its word not") \
	/* client.h */ \
	X(client_line_marked, "a line of marks is told of, the mark not set") \
	/* client.c */ \
	X(client_byte_locked, "a slot's life lock is held, the slot is free") \
	X(client_opening, "a slot is opening, its record empty") \
	X(client_recorded, "a client has its record, its slot still opening") \
	X(client_marked, "a zone has memory for a client's marks, not noted") \
	X(client_closing, "a closing client's slot is opening, its record there") \
	X(client_wiped, "a closing client's record is wiped") \
	X(client_freed, "a slot is free, its life lock held") \
	/* liveness.c */ \
	X(liveness_verdict, "a client was found dead, not taken over") \
	X(liveness_wiped, "a recovered client's record is wiped, its slot not free") \
	/* names.c */ \
	X(name_reserved, "a name's entry is reserved and empty") \
	X(name_written, "a name's entry is written, not claimed") \
	X(name_claimed, "a name is claimed, its rivals not looked at") \
	X(name_looked, "a name is claimed, no rival was seen") \
	X(name_committed, "a name is committed, its object not published") \
	X(name_published, "an object is published, its name only committed") \
	X(name_unpublishing, "a name is being unpublished, its object is published") \
	X(name_unpublished, "an object is unpublished, its name not free") \
	X(name_recovering, "a dead client's name is looked at") \
	/* hold.c */ \
	X(hold_object_freed, "an object that nobody holds is freed, its record not") \
	X(hold_ending, "nobody holds an object, which is to be freed") \
	X(hold_ended, "an object that nobody held is freed, its record ending") \
	X(hold_settling, "a hold record is about to become what its slots say") \
	X(hold_adding, "a record is to be an extension, in no list") \
	X(hold_added, "a record is in a list, not said to be an extension") \
	X(hold_slot_marked, "a hold is about to be taken, its regions are marked") \
	X(hold_slot_taken, "a hold is taken, its record not looked at") \
	X(hold_claimed, "a hold record is claimed and empty") \
	X(hold_written, "a hold record is written, not live") \
	X(hold_live, "a hold record is live, its object not held") \
	X(hold_begun, "an object is held, not accounted for") \
	X(hold_slot_emptied, "a client's last hold is gone, the record not settled") \
	/* hold_recover.c */ \
	X(hold_slot_dropped, "a dead client's hold is dropped, the record not settled") \
	/* persist.c */ \
	X(persist_noted, "what persist is about to do is noted, not armed") \
	X(persist_armed, "a persist is armed, its object still the client's") \
	X(persist_offered, "an object to be persistent is on offer, its cell does not hold it") \
	X(persist_stored, "a cell holds an object that is its client's still") \
	X(persist_worded, "an object is persistent, its persist armed") \
	X(persist_recovering, "a dead client's handle is to leave its cell") \
	/* replace.c */ \
	X(replace_armed, "an object is about to be replaced by another") \
	X(replace_claimed, "an object is its replacer's, the other is private still") \
	X(replace_given, "an object is replaced, its place not free yet") \
	X(replace_recovering, "a dead client's replacement is to become the arena's") \
	/* stack.h */ \
	X(stack_object_written, "temporary memory is written, its region's top below it") \
	/* stack.c */ \
	X(stack_region_raw, "a region of temporary memory is made and raw") \
	X(stack_region_made, "a new region of temporary memory is its thread's, who does not know") \
	X(stack_region_left, "a region of temporary memory is empty and in nobody's use") \
	X(stack_region_dropped, "a region of temporary memory is raw again, not freed") \
	X(stack_note_written, "an object of the heap has its note on the stack, in no list") \
	X(stack_note_dropped, "an object of the heap is to be freed, its note in no list") \
	X(stack_recovering, "a dead thread's temporary memory is looked at") \
	/* object.c */ \
	X(object_large_raw, "a large object's pages are raw") \
	X(object_freed, "an object is freed, in no cache and no bitmap") \
	X(object_copied, "an object is copied, the old one is not freed") \
	X(object_moved, "a moved object's old place is freed, the new one private") \
	X(object_offered_marked, "an object on offer is about to be freed, its region is marked") \
	X(object_offered_freed, "an object that was on offer is freed, in no cache and not accounted for") \
	X(object_claim_marked, "an object is about to be freed, its region is marked") \
	/* object_owner.c */ \
	X(object_take_marked, "an object is about to be taken, its region is marked") \
	X(object_taken, "an object is taken, not accounted for") \
	/* object.h */ \
	X(object_state_stored, "an own object is freed, its handle in no cache") \
	/* ring.c */ \
	X(ring_sealed, "a full block is sealed, the next not leased") \
	X(ring_leased, "a block is leased, its thread does not know") \
	X(ring_busy, "a record is being published") \
	X(ring_record_written, "a record is written, not committed") \
	X(ring_committed, "a record is committed, its block still busy") \
	X(ring_extent_noted, "a large record's extent is the log's, no record refers to it") \
	X(ring_extent_unsettled, "a large record is committed, its extent the writer's") \
	/* ring_lease.c */ \
	X(ring_sealing, "a block is about to be sealed") \
	X(ring_counted, "the records of a block in reset are counted, its lap not begun") \
	X(ring_lap_begun, "a block in reset has begun its lap") \
	X(ring_resetting, "a block is being reset, nothing in it changed") \
	X(ring_signed, "a block in reset is signed and has no ticket") \
	X(ring_ticketed, "a block in reset has its ticket, not open") \
	X(ring_taken, "a block is taken, the cursor still points to it") \
	/* ring_shared.c */ \
	X(ring_shared_leased, "a block to share is open and told of nowhere") \
	X(ring_slot_claimed, "a place in a shared block is claimed, nothing is in it") \
	X(ring_slot_written, "a record is written in a shared block, not done") \
	X(ring_slot_done, "a record in a shared block is done") \
	X(ring_closing, "a shared block is about to be closed") \
	/* ring_large.c */ \
	X(ring_extent_filled, "a large record is in a raw extent") \
	X(ring_extent_released, "an overwritten large record's extent is raw") \
	/* ring_recover.c */ \
	X(ring_burying, "a dead client's blocks of the ring are gone through") \
	X(ring_reset_recovered, "a dead client's block is reset, still resetting") \
	/* ring_reader.c */ \
	X(ring_consuming, "a consumer is signed, its position not set") \
	X(ring_passed, "a record is consumed, nobody told of room") \
	X(ring_consumer_gone, "a consumer is gone, writers not told") \
	/* ring_position.c */ \
	X(ring_position_claimed, "a position has its reader, who has not looked at it") \
	X(ring_position_written, "a step of a position is written, its number not") \
	X(ring_position_half, "a step of a position is taken, its block not told of it") \
	/* ring_drain.c */ \
	X(ring_holding, "a sealed block is about to be drained") \
	X(ring_held, "a block is being drained, nothing of it is written") \
	X(ring_drained, "a piece of a block is written and consumed, the block still held") \
	/* recovery.c */ \
	X(recovery_claimed, "a dead client is taken over, nothing is done") \
	X(recovery_thread, "a dead thread is recovered, its word not free") \
	X(recovery_names, "a dead client's threads are gone, its names not") \
	X(recovery_ring, "a dead client's names are settled, its blocks not") \
	X(recovery_region, "a region of a dead client's is done, still marked") \
	X(recovery_done, "a dead client owns nothing, its slot is not free") \
	/* purge.c */ \
	X(purge_taken, "idle pages are taken, with memory") \
	X(purge_unmarked, "idle pages have memory that no bit tells of") \
	X(purge_punched, "idle pages are without memory, still taken") \
	/* arena_file.c */ \
	X(arena_sized, "an arena's files are there, without names and empty") \
	X(arena_formatted, "an arena is formatted, without a name") \
	X(arena_life_linked, "an arena's life file has its name, the arena not") \
	X(arena_linked, "an arena is there, its maker's lock held")

enum stop_point_name {
#define STOP_POINT_NAME(name, what) STOP_##name,
	STOP_POINT_TABLE(STOP_POINT_NAME)
#undef STOP_POINT_NAME
	STOP_POINTS
};

void stop_point(enum stop_point_name name);
#endif

#endif
