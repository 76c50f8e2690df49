/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: an object changes hands, gets a name, becomes the arena's. */
#include <errno.h>
#include <string.h>

#include "crash.h"
#include "names.h"
#include "words.h"

static uint32_t thing, holder;
static int result;
static uint64_t handle;

static bool done(void)
{
	return result == 0;
}

/* A thread that has been here before. */
static void come(void)
{
	make_thing(64, 0, FATE_GONE);
}

static void with(uint32_t t, enum fate fate)
{
	come();
	thing = t;
	thing_at(t)->fate = fate;
}

static void mine(uint64_t bytes, unsigned flags, enum fate fate)
{
	come();
	thing = make_thing(bytes, flags, fate);
}

/* ---- sharing and taking ---- */

static void share(void)
{
	result = shma_share(self, thing_at(thing)->handle);
}

static void take(void)
{
	result = shma_take(self, thing_at(thing)->handle);
}

static void read_it(void)
{
	char to[64];

	result = shma_read(self, thing_at(thing)->handle, 0, to, sizeof(to)) != sizeof(to);
}

static void my_small(void)
{
	mine(200, 0, FATE_GONE);
}
static void my_large(void)
{
	mine(40960, SHMA_LARGE, FATE_GONE);
}
static void others_small(void)
{
	with(T_SHARED, FATE_EITHER);
}
static void others_large(void)
{
	with(T_SHARED_LARGE, FATE_EITHER);
}
static void others_span(void)
{
	with(T_SHARED_SPAN, FATE_EITHER);
}
static void arenas_small(void)
{
	with(T_PERSISTENT, FATE_EITHER);
}
static void arenas_large(void)
{
	with(T_PERSISTENT_LARGE, FATE_EITHER);
}
static void others_kept(void)
{
	with(T_SHARED, FATE_KEPT);
}

/* ---- names ---- */

static void publish(void)
{
	result = shma_publish(self, "victim", thing_at(thing)->handle);
}

static void to_publish(uint32_t t, enum fate fate, bool ties)
{
	with(t, fate);
	note_label("victim", t, FATE_EITHER, ties);
}

static void small_to_publish(void)
{
	my_small();
	to_publish(thing, FATE_EITHER, true);
}

static void large_to_publish(void)
{
	my_large();
	to_publish(thing, FATE_EITHER, true);
}

static void shared_to_publish(void)
{
	my_small();
	share();
	to_publish(thing, FATE_EITHER, true);
}

static void taken_to_publish(void)
{
	with(T_SHARED, FATE_KEPT);
	take();
	to_publish(thing, FATE_EITHER, true);
}

/* Published or not, it stays. */
static void arenas_to_publish(void)
{
	to_publish(T_PERSISTENT, FATE_KEPT, false);
}

static void publish_again(void)
{
	result = shma_publish(self, "small", thing_at(thing)->handle) != -EEXIST;
}

static void publish_twice(void)
{
	result = shma_publish(self, "victim", thing_at(thing)->handle) != -EBUSY;
}

static void named(void)
{
	with(T_NAMED, FATE_KEPT);
}

/* Anothers' name: its object is the arena's. */
static void unpublish(void)
{
	result = shma_unpublish(self, board->account.label[holder].name);
}

static void small_to_unpublish(void)
{
	with(T_NAMED, FATE_EITHER);
	holder = 0;
	board->account.label[holder].fate = FATE_EITHER;
}

static void large_to_unpublish(void)
{
	with(T_NAMED_LARGE, FATE_EITHER);
	holder = 1;
	board->account.label[holder].fate = FATE_EITHER;
}

static void own_to_unpublish(void)
{
	small_to_publish();
	publish();
	holder = board->account.labels - 1;
}

/* ---- persistence ---- */

static uint64_t *cell(void)
{
	return (uint64_t *)(self->arena.heap + board->account.cell);
}

/* The last word of an object of the arena's: nobody looks for it to be as it was written. */
static void with_cell(uint32_t container)
{
	struct thing *t = thing_at(container);

	t->bytes -= 8;
	board->account.cell = handle_offset(t->handle) + t->bytes;
	board->account.cell_old = *cell();
	board->account.cell_thing = thing;
}

static void small_to_persist(void)
{
	mine(200, 0, FATE_EITHER);
	with_cell(T_PERSISTENT);
}

static void large_to_persist(void)
{
	mine(40960, SHMA_LARGE, FATE_EITHER);
	with_cell(T_NAMED_LARGE);
}

static void taken_to_persist(void)
{
	with(T_SHARED, FATE_EITHER);
	take();
	with_cell(T_PERSISTENT_LARGE);
}

static void persist(void)
{
	result = shma_persist(self, thing_at(thing)->handle, cell());
}

static void look_up(void)
{
	handle = shma_lookup(self, "large");
	result = handle != thing_at(T_NAMED_LARGE)->handle;
}

bool hand_op_worked(void)
{
	return result == 0;
}

const struct op hand_ops[] = { OP("share", "small", my_small, share, done),
			       OP("share", "large", my_large, share, done),
			       OP("take", "small", others_small, take, done),
			       OP("take", "large", others_large, take, done),
			       OP("take", "span of zones", others_span, take, done),
			       OP("take", "persistent", arenas_small, take, done),
			       OP("take", "persistent, large", arenas_large, take, done),
			       OP("read", "another's", others_kept, read_it, done),
			       OP("publish", "small", small_to_publish, publish, done),
			       OP("publish", "large", large_to_publish, publish, done),
			       OP("publish", "shared", shared_to_publish, publish, done),
			       OP("publish", "taken", taken_to_publish, publish, done),
			       OP("publish", "persistent", arenas_to_publish, publish, done),
			       OP("publish", "name is taken", my_small, publish_again, done),
			       OP("publish", "object has a name", named, publish_twice, done),
			       OP("look up", "name", come, look_up, done),
			       OP("unpublish", "small", small_to_unpublish, unpublish, done),
			       OP("unpublish", "large", large_to_unpublish, unpublish, done),
			       OP("unpublish", "one's own", own_to_unpublish, unpublish, done),
			       OP("persist", "small", small_to_persist, persist, done),
			       OP("persist", "large", large_to_persist, persist, done),
			       OP("persist", "taken", taken_to_persist, persist, done),
			       { .name = NULL } };
