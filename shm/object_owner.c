/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that change hands: offered, taken, made the arena's, given a name. share() and take() are modelled in
 * tests/model/object.pml, the words of publishing and unpublishing in tests/model/names.pml. */
#include <errno.h>

#include "debug_object.h"
#include "object.h"
#include "object_word.h"
#include "stop_point.h"

static int share(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_HELD)
		return -EBUSY;
	if (state_kind(state) != OBJECT_PRIVATE && state_kind(state) != OBJECT_TAKEN)
		return 0;
	if (!object_word_is_mine(a, state))
		return -EPERM;
	if (!debug_object_open_up(a, o))
		return -ENOMEM;
	return object_word_change(o, state, state_make(OBJECT_SHARED, a->client, gen)) ? 0
										       : -EAGAIN;
}

int object_share(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int err = 0;

	if (!thread_self(a, &err))
		return err;
	return object_word_step_handle(a, handle, share, &o, &state);
}

static int take(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PRIVATE)
		return -EPERM;
	if (state_kind(state) != OBJECT_SHARED && state_kind(state) != OBJECT_PERSISTENT)
		return -EBUSY;
	if (object_word_mark(a, o))
		return -ENOMEM;
	STOP_POINT(object_take_marked);
	/* Crash: before, as it was; after, ours, and returns with us. */
	return object_word_change(o, state, state_make(OBJECT_TAKEN, a->client, gen)) ? 0 : -EAGAIN;
}

int object_take(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t first, state;
	int err = 0, r;

	if (!thread_self(a, &err))
		return err;
	r = object_word_find_live(a, handle, &o, &state);
	if (r)
		return r;
	first = state;
	r = object_word_step(a, &o, &state, take, o.gen);
	STOP_POINT(object_taken);
	if (r == 0)
		object_word_account(a, state_owner(state), a->client, o.bytes);
	/* It was on offer: another took it, and has published and unpublished it since. */
	return r == -EPERM && state != first ? -EBUSY : r;
}

/* A step by which an object is its owner's no longer. */
static int become_arenas(struct arena *a, uint64_t handle, object_step_fn step)
{
	struct object o;
	uint32_t state;
	int r = object_word_step_handle(a, handle, step, &o, &state);

	if (r == 0)
		object_word_account(a, state_owner(state), 0, o.bytes);
	return r;
}

static int make_persistent(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PERSISTENT)
		return 0;
	if (state_kind(state) == OBJECT_PUBLISHED || state_kind(state) == OBJECT_HELD)
		return -EBUSY;
	if (!object_word_is_mine(a, state))
		return -EPERM;
	if (!debug_object_open_up(a, o))
		return -ENOMEM;
	return object_word_change(o, state, state_make(OBJECT_PERSISTENT, 0, gen)) ? 0 : -EAGAIN;
}

int object_persist_word(struct arena *a, uint64_t handle)
{
	return become_arenas(a, handle, make_persistent);
}

static int publish(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PUBLISHED || state_kind(state) == OBJECT_HELD)
		return -EBUSY;
	if (state_kind(state) != OBJECT_PERSISTENT && !object_word_is_mine(a, state))
		return -EPERM;
	if (!debug_object_open_up(a, o))
		return -ENOMEM;
	return object_word_change(o, state, state_make(OBJECT_PUBLISHED, 0, gen)) ? 0 : -EAGAIN;
}

int object_publish_word(struct arena *a, uint64_t handle)
{
	return become_arenas(a, handle, publish);
}

static int unpublish(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) != OBJECT_PUBLISHED)
		return -ESTALE;
	if (object_word_mark(a, o))
		return -ENOMEM;
	return object_word_change(o, state, state_make(OBJECT_PRIVATE, a->client, gen)) ? 0
											: -EAGAIN;
}

int object_unpublish_word(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = object_word_step_handle(a, handle, unpublish, &o, &state);

	if (r == 0)
		object_word_account(a, 0, a->client, o.bytes);
	return r;
}
