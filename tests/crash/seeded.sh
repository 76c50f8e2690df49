#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Whether the harness would find what it looks for: builds the library with one defect at a time, in a copy, and runs the
# harness where the defect lies. Each must be found, and the copy without a defect must pass.
# seeded.sh [DEFECT…] | --apply: all of them, and a table in the README, without arguments; --apply: only whether the code that
# they change is there. CC, SEED and CRASH_JOBS from the environment.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CC=${CC:-gcc}
flags=(-std=gnu11 -D_GNU_SOURCE -DNDEBUG -pthread -fvisibility=hidden -O2 -g -fPIC
	-Ishm -Ilibclient -Ilibclient/ondisk -Idaemon '-DPACKAGE_VERSION="0"')
seed=${SEED:-1}
jobs=${CRASH_JOBS:-$(nproc)}
readme=tests/crash/README.md

# defect NAME FILE "WHERE IT SHOWS" SCRIPT WHAT: the script, in Python, changes the text s of a file, of shm/ if no folder is
# named.
names=() files=() shows=() scripts=() whats=()
defect()
{
	case $2 in
	*/*) files+=("$2") ;;
	*) files+=("shm/$2") ;;
	esac
	names+=("$1") shows+=("$3") scripts+=("$4") whats+=("$5")
}

defect mark-late slab_hold.c "=alloc, refill" '
swap("	if (slab_mark(a, r, head))\n		return false;\n", "	(void)head;\n")' \
	"objects are claimed without the mark of their region"
defect mark-span span.c "recovery, alloc, span" '
swap("		client_mark(a, zone_first(a, zone));\n", "		if (zone == first)\n			client_mark(a, zone_first(a, zone));\n")' \
	"a span marks its first zone only"
defect stack-forgotten recovery.c "=stack, alloc, next region" '
swap("		return stack_recover(a, page, w0, client) ? extent_reclaim(a, page, client) : 0;\n", "		return 0;\n")' \
	"temporary memory of the dead is not looked for"
defect take-unmarked object_owner.c "=take" '
swap("	if (object_word_mark(a, o))\n		return -ENOMEM;\n	/* Crash: before, as it was; after, ours, and", "	/* Crash: before, as it was; after, ours, and")' \
	"an object is taken before its region is marked"
defect span-order span.c "alloc, span of zones" '
swap("	for (uint32_t zone = first; zone == first || left > 0; zone++) {", "	extent_note_taken(a, head, a->g.zone_pages, pw0_make(PAGE_RAW, a->client, 0, use), pw1_extent(pages, 0));\n	for (uint32_t zone = first; zone == first || left > 0; zone++) {")' \
	"the head of a span is entered before its pieces"
defect words-swapped extent.c "alloc, large" '
swap("	atomic_store_explicit(&e->w1, w1, memory_order_relaxed);\n	w0 |=", "	w0 |=")
swap("	atomic_store_explicit(&e->w0, w0, memory_order_release);\n}\n\nstatic uint64_t take_from_zone", "	atomic_store_explicit(&e->w0, w0, memory_order_release);\n	atomic_signal_fence(memory_order_seq_cst);\n	atomic_store_explicit(&e->w1, w1, memory_order_relaxed);\n}\n\nstatic uint64_t take_from_zone")' \
	"word 0 of a page map entry is written before word 1"
defect no-rebuild zone.c "alloc, page, zone split" '
swap("		buddy_rebuild(a, zone);\n		atomic_fetch_add_explicit(&z->rebuilds", "		atomic_fetch_add_explicit(&z->rebuilds")' \
	"a dead holder's zone is not rebuilt"
defect drain-early zone.c "=free, large, another" '
swap("	while ((uint32_t)top) {", "	atomic_store(&z->pending, ((top >> 32) + 1) << 32);\n	while ((uint32_t)top) {")' \
	"the stack of returned extents is taken off before it is freed"
defect raw-use slab.c "=alloc, new slab" '
swap("	slab_set_raw_use(c->a, c->head, RAW_SLAB + c->class);\n	enter_pages", "	enter_pages")' \
	"an extent does not say that it is becoming a slab"
defect record-busy record.c "recovery, free, slab goes" '
swap("		if (seen == record_busy(client)) {", "		if (0) {")' \
	"records that the dead were busy with stay so"
defect name-late slab.c "=alloc, new slab, record" '
swap("	atomic_store_explicit(&r->head, (uint32_t)c->head, memory_order_relaxed);\n", "")
swap("	atomic_store_explicit(&r->owner, RECORD_LIVE, memory_order_seq_cst);\n	if (c->want", "	atomic_store_explicit(&r->owner, RECORD_LIVE, memory_order_seq_cst);\n	atomic_store_explicit(&r->head, (uint32_t)c->head, memory_order_relaxed);\n	if (c->want")' \
	"the record of a new slab says whose it is after it is open"
defect bits-lost slab_reclaim.c "free, flush" '
swap("	if (slab_refresh_bits(r, objects))\n		hint_set(h->a, class, head);\n", "	(void)objects;\n")' \
	"recovery does not tell of the objects it frees"
defect hold-kept slab_reclaim.c "=alloc, refill" '
swap("	if (held)\n		slab_let_go(h->a, r);\n	else if (slab_looks", "	if (!held && slab_looks")' \
	"recovery does not open the records that it has held"
defect internal-kept slab_reclaim.c "first call, alloc" '
swap("		if (state_owner(seen) == client)\n			count++;", "		if (state_owner(seen) == client && state_kind(seen) != OBJECT_INTERNAL)\n			count++;")
swap("	while (state_owner(seen) == client) {", "	while (state_owner(seen) == client && state_kind(seen) != OBJECT_INTERNAL) {")' \
	"arrays of caches are forgotten by recovery"
defect gen-kept slab_reclaim.c "alloc, from cache" '
swap("(state_gen(seen) + 1) & 0xffff", "state_gen(seen)")
swap("gen = (gen + 1) & 0xffff;", "(void)0;")
swap("(words[i] | 0xffff) + 1", "words[i] & 0xffff0000")
swap("memory_order_relaxed)) + 1;", "memory_order_relaxed));")' \
	"recovery frees objects under the same generation"
defect gathered-lost recovery.c "recovery, alloc, new slab" '
swap("	slab_recover_end(&heir);\n", "")' \
	"recovery does not free the pages it has gathered"
defect publish-early names.c "publish, small" '
swap("	r = write_entry(a, &c);\n	if (!r)\n		r = become_only_one(a, &c);", "	r = object_publish_word(a, handle);\n	if (!r)\n		r = write_entry(a, &c);\n	if (!r)\n		r = become_only_one(a, &c);")
swap("	if (!r)\n		r = object_publish_word(a, handle);\n	if (r) {\n		give_up", "	if (r) {\n		give_up")' \
	"the object is published before its name"
defect name-dropped names.c "publish, small" '
swap("	if (state != NAME_COMMITTED && state != NAME_UNPUBLISHING)", "	if (state != NAME_UNPUBLISHING)")' \
	"recovery drops a committed name"
defect unpublish-early names.c "unpublish, small" '
swap("	int r = object_unpublish_word(a, f->handle);\n\n	if (r &&", "	int r;\n\n	swap_word(a, f->index, f->word, freed(f->word));\n	r = object_unpublish_word(a, f->handle);\n	if (r &&")' \
	"the name goes before its object"
defect persist-unarmed persist.c "persist, small" '
swap("	atomic_store_explicit(&intent->armed, INTENT_PERSIST, memory_order_relaxed);", "	(void)0;")' \
	"shma_persist() does not arm its intent"
defect thread-word thread.c "first call, alloc" '
swap("thread_word(THREAD_CLAIMED, a->client, 0),\n			    memory_order_acq_rel", "thread_word(THREAD_CLAIMED, 0, 0),\n			    memory_order_acq_rel")' \
	"a claimed thread word does not say whose it is"
defect life-number liveness.c "open, arena" '
swap("	if (pid == 0)\n		return LIVENESS_DEAD;", "	if (pid == 0)\n		return LIVENESS_UNSURE;")' \
	"who died while opening is never known to be dead"
defect large-kept recovery.c "alloc, large" '
swap("		return unmake_large(a, page, w0, client) ? extent_reclaim(a, page, client) : 0;", "		return 0;")' \
	"recovery forgets large objects"
defect trim-swapped extent.c "=resize, in place, large" '
swap("	if (done)\n		buddy_put(a, zone, (uint32_t)(in_zone + keep), (uint32_t)(pages - keep));\n	zone_unlock(a, zone);\n	return done;", "	if (done)\n		atomic_store(&e->w1, pw1_extent(pages, 0));\n	if (done)\n		buddy_put(a, zone, (uint32_t)(in_zone + keep), (uint32_t)(pages - keep));\n	zone_unlock(a, zone);\n	if (done)\n		atomic_store(&e->w1, pw1_extent(keep, 0));\n	return done;")' \
	"an extent is cut short after its tail is free"
defect commit-swapped ring.c "log, next record" '
swap("	/* PAIR(ring-commit): payload and header before committed length. */\n	atomic_store_explicit(&head->committed, committed, memory_order_release);\n", "")
swap("	record->info = info;\n	record->dropped = stamp.dropped;\n	record->time = stamp.time;", "	atomic_store_explicit(&head->committed, committed, memory_order_release);\n	atomic_signal_fence(memory_order_seq_cst);\n	record->info = info;\n	record->dropped = stamp.dropped;\n	record->time = stamp.time;")' \
	"a record is committed before its header is written"
defect payload-late ring.c "log, next record" '
swap("	if (len)\n		memcpy(record + 1, data, len);\n	publish(a, &tb->ring, level_head(a, level), level, record,\n		ring_info((uint32_t)len, kind, false), ring_record_bytes((uint32_t)len));", "	publish(a, &tb->ring, level_head(a, level), level, record,\n		ring_info((uint32_t)len, kind, false), ring_record_bytes((uint32_t)len));\n	if (len)\n		memcpy(record + 1, data, len);")' \
	"a record is committed before its payload"
defect base-late ring_lease.c "log, ring wrap" '
swap("	atomic_store_explicit(&head->base[lap & 1], base, memory_order_relaxed);\n	/* PAIR(ring-base): base before the lap in committed. */\n	atomic_store_explicit(&head->committed, ring_committed(lap, false), memory_order_release);", "	atomic_store_explicit(&head->committed, ring_committed(lap, false), memory_order_release);\n	atomic_signal_fence(memory_order_seq_cst);\n	atomic_store_explicit(&head->base[lap & 1], base, memory_order_relaxed);")' \
	"the count of overwritten records comes after their end"
defect reset-forgotten ring_recover.c "log, ring wrap" '
swap("	case RING_RESETTING:\n		return finish_reset(a, v, block, word);", "	case RING_RESETTING:\n		return 0;")' \
	"a block that the dead was resetting stays so"
defect reference-late ring.c "log, large record" '
swap("	memcpy(record + 1, &ref, sizeof(ref));\n	level->extent_pages += ref.pages;\n	stamp = publish(a, w, head, level, record, info, ring_record_bytes(sizeof(ref)));", "	level->extent_pages += ref.pages;\n	stamp = publish(a, w, head, level, record, info, ring_record_bytes(sizeof(ref)));\n	memcpy(record + 1, &ref, sizeof(ref));")' \
	"a large record is committed before it refers to its extent"
defect slot-unburied ring_recover.c "log, shared block" '
swap("			ring_shared_bury(&v, i, ring_word_lap(word), client);", "			;")' \
	"what the dead left in shared blocks stays open"
defect consumer-kept ring_recover.c "log reader, next" '
swap("	recover_consumer(&v, client);\n	return result;", "	return result;")' \
	"a dead consumer stays the consumer"
defect handover recovery.c "recovery, alloc, new slab" '
swap("		if (recover_region(h, region)) {", "		client_marks_drop(h->a, h->client, region);\n		if (recover_region(h, region)) {")
swap("			client_marks_drop(h->a, h->client, region);\n			regions--;", "			regions--;")' \
	"a mark goes before its region is recovered"
defect slot-first recovery.c "recovery, alloc, new slab" '
swap("	r = recover_threads(a, client);\n", "	liveness_finish_recovery(a, client);\n	r = recover_threads(a, client);\n")' \
	"the slot is free before its client is recovered"

defect book-in-place daemon/state.c "daemon destroys, arena in a file" '
swap("	err = write_file(dir, temporary, text, (size_t)n);", "	err = write_file(dir, file, text, (size_t)n);")
swap("	if (renameat(dir, temporary, dir, file) < 0 || fsync(dir) < 0)", "	if (fsync(dir) < 0)")' \
	"the daemon's book is written over, not replaced"
defect create-unbooked daemon/registry_create.c "daemon creates, arena in a file" '
swap("	int err = file ? state_write(r->state_dir, record) : 0;", "	int err = 0;")' \
	"the daemon makes a file of which its book says nothing"
defect destroy-unbooked daemon/registry.c "daemon destroys, arena in a file" '
swap("	err = state_write(r->state_dir, &s->record);\n	if (err) {\n		s->record.phase = STATE_LIVE;\n		return err;\n	}\n", "")' \
	"the daemon destroys an arena that its book calls live"
defect life-left daemon/registry.c "daemon destroys, arena in shared memory" '
swap("	if (!registry_file_path(r, record, path, sizeof path))\n		arena_unlink_life(path, record->uuid);\n", "")' \
	"the next daemon leaves one of an arena's two files"

# build DIRECTORY [FILE]: the harness there; with the objects of the sound one but for that file.
build()
{
	local dir=$1 changed=${2:-} source object objects=()
	for source in shm/*.c libclient/*.c libclient/ondisk/*.c daemon/*.c tests/crash/*.c; do
		case $source in
		daemon/main.c | daemon/config.c) continue ;;
		esac
		object=$work/sound/${source//\//-}.o
		if [ "$source" = "$changed" ]; then
			object=$dir/changed.o
			"$CC" "${flags[@]}" -c "$dir/changed.c" -o "$object" || return
		elif [ -z "$changed" ]; then
			"$CC" "${flags[@]}" -c "$source" -o "$object" || return
		fi
		objects+=("$object")
	done
	# shellcheck disable=SC2086 # lists of words
	"$CC" -pthread -Wl,-z,now -o "$dir/crash" "${objects[@]}" ${NUMA_LIBS--lnuma} ${URING_LIBS--luring} ${LZ4_LIBS--llz4} ${ZSTD_LIBS--lzstd} ${NATS_LIBS--lnats} -lm
}

# apply NUMBER…: the changed files, each in its defect's directory.
apply()
{
	local i arguments=()
	for i in "$@"; do
		mkdir "$work/${names[$i]}" || return
		arguments+=("${names[$i]}" "${files[$i]}" "$work/${names[$i]}/changed.c" "${scripts[$i]}")
	done
	python3 - "${arguments[@]}" <<-'END'
		import re, sys
		def swap(old, new):
		    global s
		    if s.count(old) != 1:
		        sys.exit("defect %s has lost its place: not there, or not once:\n%s" % (name, old))
		    s = s.replace(old, new)
		rest = sys.argv[1:]
		while rest:
		    name, source, target, script, *rest = rest
		    s = re.sub(r"\n\t*STOP_POINT\(\w+\);", "", open(source).read()) # nothing in this build
		    exec(script)
		    open(target, "w").write(s)
	END
}

# seed_defect NUMBER: 0 if the harness finds it.
seed_defect()
{
	local dir=$work/${names[$1]}
	apply "$1" || return 3
	build "$dir" "${files[$1]}" || return 3
	timeout 300 "$dir/crash" --only "${shows[$1]}" --changes --first --seed "$seed" >"$dir/log" 2>&1 && return 1
	grep -q ^FAILED "$dir/log" || return 3
}

wanted()
{
	local name
	[ $# -gt 1 ] || return 0
	for name in "${@:2}"; do
		[ "$name" = "$1" ] && return 0
	done
	return 1
}

if [ "${1:-}" = --apply ]; then
	apply "${!names[@]}" || exit 1
	echo "${#names[@]} defects have their places"
	exit 0
fi
# row TEXT: what the harness said, as columns; of several findings the first.
row()
{
	sed -E 's/[|]/,/g; s/;.*//; s/: killed after ([0-9]+) instructions of ([0-9]+), judged by way [0-9]: / | \1 of \2 | /' <<<"$1"
}

mkdir "$work/sound"
build "$work/sound" || exit 2
if [ $# -eq 0 ] && ! "$work/sound/crash" --seconds 60 --seed "$seed" >"$work/log" 2>&1; then
	cat "$work/log"
	echo "without a defect it fails already"
	exit 1
fi
# Several at a time.
for i in "${!names[@]}"; do
	wanted "${names[$i]}" "$@" || continue
	while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	{
		seed_defect "$i"
		echo $? >"$work/${names[$i]}.result"
	} &
done
wait

found=0 missed=0
for i in "${!names[@]}"; do
	wanted "${names[$i]}" "$@" || continue
	by=$(grep -m1 ^FAILED "$work/${names[$i]}/log" | cut -c 8-300)
	case $(cat "$work/${names[$i]}.result") in
	0)
		found=$((found + 1))
		printf 'found   %-16s %s\n          %s\n' "${names[$i]}" "${whats[$i]}" "$by"
		echo "| ${whats[$i]} | \`${files[$i]}\` | $(row "$by") |" >>"$work/rows"
		;;
	1) missed=$((missed + 1)) && printf 'MISSED  %-16s %s\n' "${names[$i]}" "${whats[$i]}" ;;
	*) missed=$((missed + 1)) && printf 'BROKEN  %-16s %s\n' "${names[$i]}" "${whats[$i]}" && cat "$work/${names[$i]}/log" ;;
	esac
done
echo "$found defects found, $missed missed"

if [ $# -eq 0 ] && [ -w "$readme" ]; then
	{
		sed '/^<!-- defects -->$/q' "$readme"
		echo
		echo "| defect | in | found in | killed after | the oracle |"
		echo "|---|---|---|---|---|"
		cat "$work/rows"
		echo
		echo "$found of $((found + missed)) found; without a defect: $(tail -n 1 "$work/log")."
		echo
		sed -n '/^<!-- end of defects -->$/,$p' "$readme"
	} >"$work/README"
	cat "$work/README" >"$readme"
fi
[ "$missed" = 0 ] && [ "$found" -gt 0 ]
