/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a repair: be alone; believe the header; map; find what is there to stay (repair_heap.c,
 * repair_log.c); settle its state words (repair_object.c) and names (repair_name.c); free all else; make
 * the file as long as it was; compute every index (repair_index.c); check.
 *
 * Never a fault: the heap is touched only below the end of the file as it was found, and whatever is
 * touched has had its memory taken before. Never a loop without end: each pass goes once over pages,
 * records, names or blocks, whose numbers the header's checksum vouches for.
 *
 * Crash: a repair may be killed at any instruction and run again. What is to stay is found from the page
 * map, the records, the ring and the names alone; each store makes one of these say what was found, so
 * that the next run finds it, too. What is to go has lost its last witness before its pages are free in
 * any index. The file gets its length back only when everything behind its end is given up, since after
 * that nobody can tell zeros from what was there. Locks, indexes and slots are made anew by every run.
 */
#include "repair.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "format.h"
#include "liveness.h"
#include "repair_run.h"

static const struct {
	enum repair_result result;
	const char *key, *meaning;
} table[] = {
#define REPAIR_ROW(name, result_, key_, text_) \
	[REPAIR_##name] = { .result = REPAIR_##result_, .key = (key_), .meaning = (text_) },
	REPAIR_TABLE(REPAIR_ROW)
#undef REPAIR_ROW
};

const char *repair_key(enum repair_what what)
{
	return what < REPAIR_WHATS ? table[what].key : "unknown";
}

const char *repair_meaning(enum repair_what what)
{
	return what < REPAIR_WHATS ? table[what].meaning : "unknown";
}

void repair_note(struct repair_run *r, enum repair_what what, uint64_t page, uint64_t handle,
		 uint64_t objects, uint64_t bytes, const char *fmt, ...)
{
	struct repair_note note = { .what = what,
				    .result = table[what].result,
				    .page = page,
				    .handle = handle,
				    .objects = objects,
				    .bytes = bytes };
	va_list ap;

	r->sum.repaired += note.result != REPAIR_NOT;
	if (note.result == REPAIR_LOST && what != REPAIR_UNNAMED) {
		r->sum.lost_objects += objects;
		r->sum.lost_bytes += bytes;
	}
	if (!r->watch->note || r->told[what]++ >= REPAIR_NOTES_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(note.text, sizeof(note.text), fmt, ap);
	va_end(ap);
	r->watch->note(r->watch->context, &note);
}

/* ---- being alone ---- */

/* What the header says that matters before the arena is mapped. */
struct found {
	struct arena_header header;
	struct stat stat;
	int healed; /* bytes of the header */
};

static int read_header(struct repair_run *r, int fd, struct found *f)
{
	ssize_t n;

	if (fstat(fd, &f->stat) < 0)
		return -errno;
	if (!S_ISREG(f->stat.st_mode))
		return -EINVAL;
	memset(&f->header, 0, sizeof(f->header));
	n = pread(fd, &f->header, sizeof(f->header), 0);
	if (n < 0)
		return -errno;
	f->healed = n == (ssize_t)sizeof(f->header)
			    ? repair_header_heal(&f->header, (uint64_t)f->stat.st_size)
			    : -EUCLEAN;
	if (f->healed == -EUCLEAN)
		repair_note(r, REPAIR_NO_HEADER, AUDIT_NOWHERE, 0, 0, 0,
			    "nothing else says where the parts of the arena lie");
	return f->healed < 0 ? f->healed : 0;
}

/* A lock on every slot's byte: held by nobody, or not ours to have; and nobody comes in while we hold it.
 * An open file description's, since a process's own would not keep out its own clients. */
static int lock_slots(struct repair_run *r, int life_fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = CLIENTS_MAX };

	if (fcntl(life_fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return -errno;
	lock.l_pid = 0;
	if (fcntl(life_fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
		repair_note(r, REPAIR_ATTACHED, AUDIT_NOWHERE, 0, 0, 0,
			    "process %d is attached, as client %lld, and perhaps others",
			    (int)lock.l_pid, (long long)lock.l_start);
	else
		repair_note(r, REPAIR_ATTACHED, AUDIT_NOWHERE, 0, 0, 0,
			    "some process is attached, or repairs it");
	return -EBUSY;
}

/* The file itself is locked by who opens it first after a boot. */
static int lock_file(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* A copy has no life file, but needs one before anybody can attach to it. */
static int open_life(struct repair_run *r, const char *path, const struct found *f, int *ret)
{
	uint32_t writers = f->stat.st_mode & 0222, mode = writers | writers << 1;
	char life[512];
	int err = arena_life_path(life, sizeof(life), path, f->header.uuid);

	if (err)
		return err;
	*ret = open(life, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (*ret >= 0 || errno != ENOENT)
		return *ret >= 0 ? 0 : -errno;
	*ret = open(life, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (*ret < 0)
		return -errno;
	fchmod(*ret, mode);
	repair_note(r, REPAIR_LIFE, AUDIT_NOWHERE, 0, 0, 0, "%.150s", life);
	return 0;
}

/* A living client may have lost its lock to closefrom(); it still maps the arena. */
static int refuse_the_living(struct repair_run *r)
{
	struct arena *a = &r->a;

	for (uint32_t i = 1; i < CLIENTS_MAX; i++) {
		uint64_t word = atomic_load_explicit(client_word_at(a, i), memory_order_acquire);

		if (client_word_state(word) != CLIENT_LIVE &&
		    client_word_state(word) != CLIENT_OPENING)
			continue;
		if (arena_commit(a, client_area_at(a, i), sizeof(struct client_record)) ||
		    liveness_of(a, i) != LIVENESS_ALIVE)
			continue;
		repair_note(r, REPAIR_ATTACHED, AUDIT_NOWHERE, 0, 0, 0,
			    "process %d is attached, as client %u",
			    (int)atomic_load_explicit(&client_record_at(a, i)->pid,
						      memory_order_relaxed),
			    i);
		return -EBUSY;
	}
	return 0;
}

/* ---- mapping ---- */

static int check_header(struct repair_run *r, const struct found *f)
{
	const struct arena_geometry *g = &f->header.geometry;
	uint64_t size = (uint64_t)f->stat.st_size, dev, ino;
	int err = format_pid_namespace(&dev, &ino);

	if (err)
		return err;
	if (f->header.backing == BACKING_HUGETLB) {
		repair_note(r, REPAIR_BACKING, AUDIT_NOWHERE, 0, 0, 0,
			    "its heap is in huge pages, not in this file");
		return -EUCLEAN;
	}
	if (size < g->ring) {
		repair_note(r, REPAIR_CUT_SHORT, AUDIT_NOWHERE, 0, 0, 0,
			    "%" PRIu64 " bytes of %" PRIu64 ": the log begins at %" PRIu64
			    ", the heap at %" PRIu64,
			    size, g->file_size, g->ring, g->heap);
		return -EUCLEAN;
	}
	return dev == f->header.pidns_dev && ino == f->header.pidns_ino ? 0 : -EXDEV;
}

/* The file below the heap is made whole at once: what is missing is the end of the log. */
static int extend_to_heap(struct repair_run *r, const struct found *f)
{
	const struct arena_geometry *g = &f->header.geometry;
	uint64_t size = (uint64_t)f->stat.st_size;

	r->heap_bytes = size <= g->heap ? 0 : size < g->file_size ? size - g->heap : g->capacity;
	if (size >= g->file_size)
		return 0;
	repair_note(r, REPAIR_LENGTH, AUDIT_NOWHERE, 0, 0, 0,
		    "%" PRIu64 " bytes of %" PRIu64 "; of the heap %" PRIu64 " of %" PRIu64, size,
		    g->file_size, r->heap_bytes, g->capacity);
	if (size < g->heap && ftruncate(r->a.files.fd, (off_t)g->heap) < 0)
		return -errno;
	return 0;
}

/* Crash: a header healed in part is healed by the next run: what was wrong becomes less. */
static void write_header(struct repair_run *r, const struct found *f)
{
	if (f->healed)
		memcpy(r->a.header, &f->header, offsetof(struct arena_header, active_zones));
	if (f->healed)
		repair_note(r, REPAIR_HEADER, AUDIT_NOWHERE, 0, 0, 0, "bytes that were wrong: %d",
			    f->healed);
}

static int map(struct repair_run *r, struct arena_files files, const struct found *f)
{
	int err = arena_map_files(&r->a, files, &f->header.geometry, false);

	if (err)
		return err;
	r->a.tag = f->header.tag;
	r->a.tag_bits = (uint64_t)f->header.tag << HANDLE_TAG_SHIFT;
	return arena_commit(&r->a, 0, r->a.g.name_entries);
}

/* ---- the repair ---- */

static int find_what_stays(struct repair_run *r)
{
	uint64_t words = geometry_words(r->pages + 1);
	int err;

	r->use = calloc(r->pages + 1, 1);
	r->referenced = calloc(words, sizeof(uint64_t));
	if (!r->use || !r->referenced)
		return -ENOMEM;
	err = repair_names_read(r);
	if (!err)
		err = repair_find_blocks(r);
	if (err)
		return err;
	repair_find_slabs(r);
	repair_exchanges(r);
	err = repair_log(r);
	if (err)
		return err;
	repair_find_large(r);
	repair_find_lost_slabs(r);
	return repair_intents_read(r);
}

static int settle(struct repair_run *r)
{
	int err;

	repair_objects(r);
	err = repair_names(r);
	if (err)
		return err;
	repair_free_rest(r);
	repair_intents_finish(r);
	if (r->intent_count)
		repair_free_rest(r);
	if (ftruncate(r->a.files.fd, (off_t)r->a.g.file_size) < 0)
		return -errno;
	r->heap_bytes = r->a.g.capacity;
	return repair_indexes(r);
}

struct checking {
	struct repair_run *r;
	bool before;
	uint64_t stale;
	int misuse; /* of objects, which are nobody's to repair */
};

static void on_finding(void *context, const struct audit_finding *finding)
{
	struct checking *c = context;
	const struct repair_watch *watch = c->r->watch;

	c->stale += finding->severity == AUDIT_INDEX;
	if (c->before && watch->found)
		watch->found(watch->context, finding);
	c->misuse += finding->severity == AUDIT_MISUSE;
	if (!c->before && finding->severity != AUDIT_MISUSE)
		repair_note(c->r, REPAIR_STILL, finding->page, finding->handle, 0, 0, "%.150s",
			    finding->text);
}

/* A file that is cut off is not looked at as a whole. */
static int check_before(struct repair_run *r)
{
	struct checking c = { .r = r, .before = true };
	int n = r->heap_bytes == r->a.g.capacity ? audit_arena(&r->a, false, on_finding, &c) : 0;

	if (c.stale)
		repair_note(r, REPAIR_INDEX, AUDIT_NOWHERE, 0, 0, 0, "%llu of them",
			    (unsigned long long)c.stale);
	return n < 0 ? n : 0;
}

static int check_after(struct repair_run *r)
{
	struct checking c = { .r = r };
	int n;

	atomic_store_explicit(&r->a.header->damaged, 0, memory_order_relaxed);
	n = audit_arena(&r->a, false, on_finding, &c);
	if (n >= 0)
		n -= c.misuse;
	if (n <= 0)
		return n;
	r->sum.left = (uint64_t)n;
	atomic_store_explicit(&r->a.header->damaged, 1, memory_order_relaxed);
	return -EUCLEAN;
}

static int repair_mapped(struct repair_run *r, const struct found *f)
{
	int err = refuse_the_living(r);

	if (!err)
		err = lock_slots(r, r->a.files.life_fd);
	if (!err)
		err = lock_file(r->a.files.fd);
	if (!err)
		err = extend_to_heap(r, f);
	if (err)
		return err;
	write_header(r, f);
	err = check_before(r);
	if (!err)
		err = repair_bounds(r);
	if (!err)
		err = find_what_stays(r);
	if (!err)
		err = settle(r);
	return err ? err : check_after(r);
}

static void end(struct repair_run *r)
{
	free(r->use);
	free(r->referenced);
	free(r->names);
	free(r->sound);
	free(r->intents);
	free(r->intent_clients);
}

static int open_and_repair(struct repair_run *r, const char *path, struct arena_files *files)
{
	struct found f;
	int err;

	files->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (files->fd < 0)
		return -errno;
	err = read_header(r, files->fd, &f);
	if (!err)
		err = check_header(r, &f);
	if (!err)
		err = open_life(r, path, &f, &files->life_fd);
	if (!err)
		err = map(r, *files, &f);
	if (!err)
		err = repair_mapped(r, &f);
	if (r->a.reservation)
		arena_unmap_keep_files(&r->a);
	return err;
}

int repair_file(const char *path, const struct repair_watch *watch, struct repair_sum *ret)
{
	struct arena_files files = { -1, -1, -1 };
	struct repair_run *r = calloc(1, sizeof(*r));
	int err;

	memset(ret, 0, sizeof(*ret));
	if (!r)
		return -ENOMEM;
	r->watch = watch;
	err = open_and_repair(r, path, &files);
	*ret = r->sum;
	end(r);
	free(r);
	arena_files_close(&files);
	return err;
}
