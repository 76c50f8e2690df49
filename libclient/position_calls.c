/* SPDX-License-Identifier: Apache-2.0 */
/* Readers whose place is kept in the arena, in a published object, so that another goes on there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "attach.h"
#include "log_inside.h"
#include "ring_position.h"
#include "thread.h"

#define PREFIX "log-position."
#define TRIES  8 /* of others that make the position, or forget it, meanwhile */

_Static_assert(sizeof(PREFIX) - 1 + SHMA_POSITION_NAME_MAX < NAME_BYTES, "names of positions");

static int object_name(char buf[NAME_BYTES], const char *name)
{
	size_t n = strlen(name);

	if (!n)
		return -EINVAL;
	if (n > SHMA_POSITION_NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(buf, NAME_BYTES, PREFIX "%s", name);
	return 0;
}

/* -ESTALE: it went while it was looked at. */
static int open_there(shma *s, struct shma_reader *r, shma_handle h, unsigned flags)
{
	void *at = shma_ptr(s, h);
	size_t bytes = at ? shma_size(s, h) : 0;

	return bytes ? ring_reader_open_at(&s->arena, &r->ring, at, bytes, flags) : -ESTALE;
}

/* Crash: before it is published, the object goes with its maker. */
static int open_new(shma *s, struct shma_reader *r, const char *name, unsigned flags)
{
	size_t bytes = ring_position_bytes(&s->arena);
	shma_handle h = bytes ? shma_alloc(s, bytes, SHMA_ZERO) : SHMA_NULL;
	int result;

	if (!h)
		return bytes ? -errno : -EUCLEAN;
	result = open_there(s, r, h, flags);
	if (!result) {
		result = shma_publish(s, name, h);
		if (result)
			ring_reader_close(r->ring);
	}
	if (result)
		shma_free(s, h);
	return result;
}

static int open_at(shma *s, struct shma_reader *r, const char *name, unsigned flags)
{
	int result = -EAGAIN;

	for (int i = 0; i < TRIES; i++) {
		shma_handle h = shma_lookup(s, name);

		result = h ? open_there(s, r, h, flags) : open_new(s, r, name, flags);
		if (result != -EEXIST && result != -ESTALE)
			break;
	}
	return result;
}

/* For a client alone, which who calls is from now on; the name of the place's object. */
static int begin(shma *s, char object[NAME_BYTES], const char *name)
{
	int result = object_name(object, name);

	if (!result && s->arena.readonly)
		result = -EROFS;
	return result ? result : thread_become_client(&s->arena);
}

int shma_reader_open_at(shma *s, struct shma_reader **ret, const char *name, unsigned flags)
{
	char object[NAME_BYTES];
	struct shma_reader *r;
	int result = begin(s, object, name);

	if (result)
		return result;
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->s = s;
	result = open_at(s, r, object, flags);
	if (result)
		free(r);
	else
		*ret = r;
	return result;
}

/* As its reader, so that nobody reads on there. Crash: it is the dead one's, who is found to be so; once it has no
 * name it goes with us. */
int shma_reader_forget(shma *s, const char *name)
{
	char object[NAME_BYTES];
	struct ring_place_kept kept;
	struct ring_view v;
	shma_handle h;
	int result = begin(s, object, name);

	if (result)
		return result;
	h = shma_lookup(s, object);
	if (!h || !shma_ptr(s, h))
		return -ENOENT;
	if (!ring_view(&s->arena, &v))
		return -EUCLEAN;
	result = ring_position_claim(&s->arena, &v, shma_ptr(s, h), shma_size(s, h), &kept);
	if (result)
		return result;
	result = shma_unpublish(s, object);
	if (result)
		ring_position_release(&kept);
	return result ? result : shma_free(s, h);
}
