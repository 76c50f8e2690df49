/* SPDX-License-Identifier: Apache-2.0 */
#include "mapped.h"

#include <errno.h>
#include <string.h>

#include "object_word.h"

/* FNV-1a, by bytes: told apart from what lay there by chance, or was spoilt, not from what somebody meant. */
static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t check_of(const struct mapped_file *file, const char *path)
{
	uint64_t h = hash(UINT64_C(0xcbf29ce484222325), file, offsetof(struct mapped_file, check));

	return hash(h, path, file->path_bytes);
}

void mapped_write(struct arena *a, uint64_t page, const struct mapped_file *file, const char *path)
{
	struct mapped_description *to = (struct mapped_description *)(a->heap + (page << PAGE_SHIFT));
	struct mapped_file f = *file;

	f.magic = MAPPED_MAGIC;
	f.page = page;
	f.check = check_of(&f, path);
	/* Crash: before, between and after, bytes of a raw extent: nobody's. */
	memcpy(to->path, path, f.path_bytes);
	to->file = f;
}

bool mapped_valid(const struct mapped_description *d, uint64_t page)
{
	const struct mapped_file *f = &d->file;

	return f->magic == MAPPED_MAGIC && f->page == page && f->path_bytes > 1 &&
	       f->path_bytes <= MAPPED_PATH_MAX && d->path[0] == '/' &&
	       strnlen(d->path, f->path_bytes) == f->path_bytes - 1 && f->check == check_of(f, d->path) &&
	       f->size > 0 && f->size <= INT64_MAX;
}

int mapped_describe(struct arena *a, uint64_t handle, struct mapped_description *ret)
{
	struct object o;
	uint32_t state;
	int64_t n;
	int r = object_word_find_live(a, handle, &o, &state);

	if (r)
		return r;
	if (!object_is_mapped(&o))
		return -EINVAL;
	n = arena_read(a, a->g.heap + (o.page << PAGE_SHIFT), ret, sizeof(*ret));
	if (n < 0)
		return (int)n;
	/* What was copied was this object's only if it is still live. PAIR(read): the copy, then the look. */
	atomic_thread_fence(memory_order_acquire);
	r = object_word_load(&o, &state);
	if (r)
		return r;
	return n == (int64_t)sizeof(*ret) && mapped_valid(ret, o.page) ? 0 : -EUCLEAN;
}
