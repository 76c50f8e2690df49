/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls by which objects are packed and unpacked. Both make the new one first, private to the caller, then put
 * it in the old one's place: see replace.h. */
#include "pack_calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "object.h"
#include "packing.h"
#include "replace.h"
#include "thread.h"

/* errno, and nothing. */
static uint64_t fail(int err)
{
	errno = -err;
	return 0;
}

/* The new one's handle; 0 with *err, and it is gone again. */
static uint64_t put(struct arena *a, struct thread_block *t, uint64_t from, uint64_t to, int *err)
{
	if (!*err)
		*err = replace_object(a, t, from, to);
	if (!*err)
		return to;
	object_free(a, to);
	return 0;
}

static uint64_t put_packed(struct arena *a, struct thread_block *t, uint64_t from, const struct packing *packed,
			   int *err)
{
	struct object_want want = {.size = packed->length, .packed = true, .kind = OBJECT_PRIVATE};
	uint64_t to = object_alloc(a, &want, err);

	if (!to)
		return 0;
	memcpy(a->heap + handle_offset(to), packed->data, packed->length);
	return put(a, t, from, to, err);
}

shma_handle shma_pack(shma *s, shma_handle h, int level)
{
	struct arena *a = &s->arena;
	struct replace_view view;
	struct packing packed;
	uint64_t to;
	int err = 0, r;
	struct thread_block *t = thread_self(a, &err);

	if (!t)
		return fail(err);
	r = replace_allowed(a, h, &view);
	if (r)
		return fail(r);
	/* What is watched stays where it is looked at. */
	if (view.is_packed || view.is_watched)
		return h;
	r = packing_make(a, h, view.bytes, view.is_large, level, &packed);
	if (r <= 0)
		return r ? fail(r) : h;
	to = put_packed(a, t, h, &packed, &err);
	free(packed.data);
	return to ? to : fail(err);
}

static uint64_t unpacked(struct arena *a, uint64_t h, const struct packed_header *head, int *err)
{
	struct object_want want = {.size = head->bytes, .large = head->large, .kind = OBJECT_PRIVATE};
	uint64_t to = object_alloc(a, &want, err);
	int64_t n;

	if (!to)
		return 0;
	n = packing_read(a, h, head, 0, a->heap + handle_offset(to), head->bytes);
	*err = n < 0 ? (int)n : 0;
	return to;
}

shma_handle shma_unpack(shma *s, shma_handle h)
{
	struct arena *a = &s->arena;
	struct packed_header head;
	struct replace_view view;
	uint64_t to;
	int err = 0, r;
	struct thread_block *t = thread_self(a, &err);

	if (!t)
		return fail(err);
	r = replace_allowed(a, h, &view);
	if (r)
		return fail(r);
	if (!view.is_packed)
		return h;
	r = packing_head(a, h, &head);
	if (r)
		return fail(r);
	to = unpacked(a, h, &head, &err);
	if (to)
		to = put(a, t, h, to, &err);
	return to ? to : fail(err);
}

ssize_t pack_read(shma *s, shma_handle h, size_t offset, void *to, size_t len)
{
	struct packed_header head;
	int r = packing_head(&s->arena, h, &head);

	return r ? r : packing_read(&s->arena, h, &head, offset, to, len);
}

size_t pack_size(shma *s, shma_handle h, int *err)
{
	struct packed_header head;

	*err = packing_head(&s->arena, h, &head);
	return *err ? 0 : head.bytes;
}
