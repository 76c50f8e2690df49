/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing of a snapshot is believed before its sums are right, and then no offset without a look at where it leads. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "arena_file.h"
#include "format.h"
#include "geometry.h"
#include "repair.h"
#include "segment.h"
#include "snapshot.h"
#include "walk.h"

/* ---- reading ---- */

struct reader {
	int fd;
	struct snapshot_seen *seen;
	struct ZSTD_DCtx_s *zstd;
	unsigned char *plain, *packed;
	size_t room;
	uint32_t crc;
	uint64_t blocks;
};

static int refuse(struct reader *r, int err, const char *what)
{
	r->seen->what = what;
	return err;
}

/* All of it, or an error. */
static int get(struct reader *r, void *to, size_t len)
{
	char *p = to;

	while (len) {
		ssize_t n = read(r->fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return refuse(r, -EUCLEAN, "it is cut off");
		r->seen->sum.file_bytes += (uint64_t)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int get_header(struct reader *r)
{
	struct snapshot_header *h = &r->seen->header;
	int err = get(r, h, sizeof(*h));

	if (err)
		return err == -EUCLEAN ? refuse(r, err, "it is no snapshot: too short") : err;
	if (memcmp(h->magic, SNAPSHOT_MAGIC, sizeof(h->magic)) != 0)
		return refuse(r, -EUCLEAN, "it is no snapshot of an arena");
	if (h->version != SNAPSHOT_VERSION || h->layout != LAYOUT_VERSION)
		return refuse(r, -EPROTO, "it was made by another version");
	if (h->crc != segment_crc(0, h, offsetof(struct snapshot_header, crc)) || h->name[sizeof(h->name) - 1])
		return refuse(r, -EUCLEAN, "its header is damaged");
	r->crc = segment_crc(0, h, sizeof(*h));
	return 0;
}

static bool block_fits(const struct reader *r, const struct snapshot_block *b)
{
	uint64_t size = r->seen->header.file_size;

	if (b->magic != SNAPSHOT_BLOCK_MAGIC ||
	    b->head_crc != segment_crc(0, b, offsetof(struct snapshot_block, head_crc)))
		return false;
	if (b->kind == SNAPSHOT_END)
		return b->packed == 0;
	if (!b->plain || b->plain > SNAPSHOT_PIECE || !b->packed || b->packed > r->room)
		return false;
	if (b->kind == SNAPSHOT_HANDLES)
		return b->plain % sizeof(uint64_t) == 0;
	return b->kind == SNAPSHOT_DATA && b->offset <= size && b->plain <= size - b->offset;
}

static int get_payload(struct reader *r, const struct snapshot_block *b)
{
	int err = get(r, r->packed, b->packed);

	if (err)
		return err;
	if (segment_crc(0, r->packed, b->packed) != b->crc ||
	    ZSTD_decompressDCtx(r->zstd, r->plain, SNAPSHOT_PIECE, r->packed, b->packed) != b->plain)
		return refuse(r, -EUCLEAN, "a block of it is damaged");
	r->crc = segment_crc(r->crc, b, sizeof(*b));
	r->crc = segment_crc(r->crc, r->packed, b->packed);
	r->blocks++;
	r->seen->sum.plain_bytes += b->plain;
	return 0;
}

/* The first one is the arena's own header, by which the rest is judged. */
static int check_first(struct reader *r, const struct snapshot_block *b)
{
	struct arena_header *h = &r->seen->arena;
	int err;

	if (b->kind != SNAPSHOT_DATA || b->offset != 0 || b->plain != PAGE_SIZE)
		return refuse(r, -EUCLEAN, "it does not begin with an arena's header");
	memcpy(h, r->plain, sizeof(*h));
	err = format_check(h);
	if (err || h->geometry.file_size != r->seen->header.file_size)
		return refuse(r, err ? err : -EUCLEAN, "the arena's header in it is damaged, or of another version");
	return 0;
}

static int check_end(struct reader *r, const struct snapshot_block *b)
{
	char more;
	ssize_t n;

	if (b->offset != r->blocks || b->plain != r->crc)
		return refuse(r, -EUCLEAN, "blocks of it are missing, or were changed");
	n = read(r->fd, &more, 1);
	if (n < 0)
		return -errno;
	return n ? refuse(r, -EUCLEAN, "something follows its end") : 0;
}

static int walk_blocks(struct reader *r, snapshot_visit visit, void *context)
{
	for (;;) {
		struct snapshot_block b;
		int err = get(r, &b, sizeof(b));

		if (err)
			return err;
		if (!block_fits(r, &b))
			return refuse(r, -EUCLEAN, "a block's head is damaged");
		if (b.kind == SNAPSHOT_END)
			return r->blocks ? check_end(r, &b) : refuse(r, -EUCLEAN, "it is empty");
		err = get_payload(r, &b);
		if (!err && r->blocks == 1)
			err = check_first(r, &b);
		if (!err && visit)
			err = visit(context, &b, r->plain);
		if (err)
			return err;
	}
}

int snapshot_walk(int fd, struct snapshot_seen *ret, snapshot_visit visit, void *context)
{
	struct reader r = {.fd = fd, .seen = ret, .room = ZSTD_compressBound(SNAPSHOT_PIECE)};
	int err = -ENOMEM;

	memset(ret, 0, sizeof(*ret));
	r.zstd = ZSTD_createDCtx();
	r.plain = malloc(SNAPSHOT_PIECE);
	r.packed = malloc(r.room);
	if (r.zstd && r.plain && r.packed)
		err = get_header(&r);
	if (!err && r.zstd && r.plain && r.packed)
		err = walk_blocks(&r, visit, context);
	ZSTD_freeDCtx(r.zstd);
	free(r.plain);
	free(r.packed);
	return err;
}

static int count(void *context, const struct snapshot_block *b, const unsigned char *plain)
{
	struct snapshot_seen *seen = context;

	(void)plain;
	if (b->kind == SNAPSHOT_HANDLES)
		seen->sum.objects += b->plain / sizeof(uint64_t);
	return 0;
}

int snapshot_check(int fd, struct snapshot_seen *ret)
{
	return snapshot_walk(fd, ret, count, ret);
}

/* ---- restoring ---- */

struct restorer {
	int fd;
	uint64_t *handles, len, room;
	uint64_t last;
};

static int put(int fd, const unsigned char *p, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* In ascending order, or they are no handles of a snapshot. */
static int keep_handles(struct restorer *re, const unsigned char *plain, uint64_t n)
{
	if (re->room - re->len < n) {
		uint64_t room = 2 * re->room + n;
		uint64_t *handles = realloc(re->handles, room * sizeof(*handles));

		if (!handles)
			return -ENOMEM;
		re->handles = handles;
		re->room = room;
	}
	memcpy(re->handles + re->len, plain, n * sizeof(uint64_t));
	for (uint64_t i = re->len; i < re->len + n; i++) {
		if (re->handles[i] <= re->last)
			return -EUCLEAN;
		re->last = re->handles[i];
	}
	re->len += n;
	return 0;
}

static int restore_block(void *context, const struct snapshot_block *b, const unsigned char *plain)
{
	struct restorer *re = context;

	if (b->kind == SNAPSHOT_HANDLES)
		return keep_handles(re, plain, b->plain / sizeof(uint64_t));
	return put(re->fd, plain, b->plain, b->offset);
}

static int compare(const void *x, const void *y)
{
	uint64_t p = *(const uint64_t *)x, q = *(const uint64_t *)y;

	return p < q ? -1 : p > q;
}

struct pruner {
	struct arena a;
	const struct restorer *re;
};

static bool to_prune(const struct pruner *p, uint64_t offset, uint32_t state)
{
	uint64_t handle = handle_make(p->a.tag, state_gen(state), offset);

	if (state_kind(state) != OBJECT_PERSISTENT && state_kind(state) != OBJECT_PUBLISHED)
		return false;
	return !p->re->len || !bsearch(&handle, p->re->handles, p->re->len, sizeof(handle), compare);
}

/* What was made so late that its bytes are not all there. Nobody uses the file yet. */
static int prune(void *context, const struct walk_item *item)
{
	struct pruner *p = context;
	struct walk_slab slab;

	if (item->problem)
		return 0;
	if (item->kind == PAGE_LARGE && to_prune(p, item->page << PAGE_SHIFT, pw0_state(item->w0)))
		atomic_store_explicit(&p->a.pages[item->page].w0,
				      pw0_make(PAGE_RAW, 0, item->generation + 1, RAW_PLAIN), memory_order_relaxed);
	if (item->kind != PAGE_SLAB || !walk_slab(&p->a, item, &slab))
		return 0;
	for (uint32_t i = 0; i < slab.objects; i++) {
		uint32_t state = walk_state(&slab, i);

		if (to_prune(p, walk_object_offset(&slab, i), state))
			atomic_store_explicit(&slab.record.at->words[i],
					      state_make(OBJECT_FREE, 0, (state_gen(state) + 1) & 0xffff),
					      memory_order_relaxed);
	}
	return 0;
}

static bool is_kept(const struct pruner *p, uint64_t handle)
{
	struct walk_object o;

	return handle_tag(handle) == p->a.tag && walk_object(&p->a, handle_offset(handle), &o) &&
	       state_gen(o.state) == handle_gen(handle) && state_kind(o.state) == OBJECT_PUBLISHED &&
	       !to_prune(p, handle_offset(handle), o.state);
}

/* Names whose objects are not there: copied before the words of objects, they may have lost theirs in between. A repair
 * would believe the name, and make an object of whatever lies there. */
static void prune_names(struct pruner *p)
{
	_Atomic uint64_t *words = arena_at(&p->a, p->a.g.name_words);
	const struct name_entry *entries = arena_at(&p->a, p->a.g.name_entries);

	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_relaxed);

		if (name_word_state(word) != NAME_FREE &&
		    !is_kept(p, atomic_load_explicit(&entries[i].handle, memory_order_relaxed)))
			atomic_store_explicit(&words[i], name_word(NAME_FREE, 0, name_word_change(word), 0),
					      memory_order_relaxed);
	}
}

static int prune_all(const struct restorer *re, const struct arena_header *h)
{
	struct pruner p = {.re = re};
	struct arena_files files = {.fd = re->fd, .life_fd = -1, .heap_fd = -1};
	int r = arena_map_files(&p.a, files, &h->geometry, false);

	if (r)
		return r;
	p.a.tag = h->tag;
	p.a.tag_bits = (uint64_t)h->tag << HANDLE_TAG_SHIFT;
	arena_refresh(&p.a);
	r = walk_extents(&p.a, prune, &p);
	prune_names(&p);
	arena_unmap_keep_files(&p.a);
	return r;
}

/* Not named yet: who dies here leaves nothing. */
static int make_unnamed(const char *path, uint32_t mode, uint64_t size, int *ret)
{
	char dir[512];
	const char *base = strrchr(path, '/');
	int fd, r = 0;

	if (!base || (size_t)snprintf(dir, sizeof(dir), "%.*s", (int)(base - path + 1), path) >= sizeof(dir))
		return -ENAMETOOLONG;
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, mode) < 0 || ftruncate(fd, (off_t)size) < 0)
		r = -errno;
	if (r)
		close(fd);
	else
		*ret = fd;
	return r;
}

static int fill(struct restorer *re, int fd, const struct snapshot_target *to, struct snapshot_seen *ret)
{
	struct arena_header h;
	int r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	r = snapshot_walk(fd, ret, restore_block, re);
	if (r)
		return r;
	h = ret->arena;
	r = format_reissue(&h, to->name, to->backing);
	if (!r)
		r = put(re->fd, (const unsigned char *)&h, offsetof(struct arena_header, active_zones), 0);
	return r ? r : prune_all(re, &h);
}

/* Others cannot attach before the repair has made the life file, and then it is alone with it. */
static int link_and_repair(int fd, const char *path)
{
	const struct repair_watch watch = {0};
	struct repair_sum sum;
	char proc[64];
	int r;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	r = repair_file(path, &watch, &sum);
	if (r)
		arena_unlink(path);
	return r;
}

int snapshot_restore(int fd, const struct snapshot_target *to, struct snapshot_seen *ret)
{
	struct restorer re = {.fd = -1};
	int r = arena_name_check(to->name);

	memset(ret, 0, sizeof(*ret));
	if (!r && access(to->path, F_OK) == 0)
		r = -EEXIST;
	/* All of it is looked at before anything is made. */
	if (!r)
		r = snapshot_check(fd, ret);
	if (!r)
		r = make_unnamed(to->path, to->mode, ret->header.file_size, &re.fd);
	if (!r)
		r = fill(&re, fd, to, ret);
	if (!r)
		r = link_and_repair(re.fd, to->path);
	ret->sum.objects = re.len;
	if (re.fd >= 0)
		close(re.fd);
	free(re.handles);
	return r;
}
