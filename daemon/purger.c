/* SPDX-License-Identifier: Apache-2.0 */
#include "purger.h"

#include <errno.h>
#include <string.h>

#include "guard.h"
#include "msg.h"

#define LOOK_NS	    UINT64_C(1000000000)
#define MORE_NS	    UINT64_C(20000000) /* when a look had to stop at its limit */
#define PIECE_BYTES (UINT64_C(128) << 20)
#define LOOKS_IDLE \
	3u /* a region goes at the second look that finds it idle; one more, for busy zones */

static struct {
	struct loop *loop;
	struct registry *registry;
	struct loop_op timer;
	uint64_t bytes;
} purger;

void purger_adopt(struct served *s)
{
	s->purge_seen = 0;
	s->purge_idle = 0;
	if (purge_init(&s->purge, &s->arena)) {
		memset(&s->purge, 0, sizeof s->purge);
		msg_warning("arena %s: no memory to see what is idle: nothing is given back",
			    s->record.name);
	}
}

void purger_forget(struct served *s)
{
	purge_fini(&s->purge);
	memset(&s->purge, 0, sizeof s->purge);
}

/* Changes when pages are taken or freed; a change and its exact opposite between two looks may pass
 * unseen, which leaves what was idle before as idle as it was. */
static uint64_t zones_look(const struct arena *a, uint32_t zones)
{
	const struct zone *z = arena_at(a, a->g.zones);
	uint64_t look = zones;

	for (uint32_t i = 0; i < zones; i++) {
		look = look * 31 + atomic_load_explicit(&z[i].free_pages, memory_order_relaxed);
		look = look * 31 + atomic_load_explicit(&z[i].high, memory_order_relaxed);
		look = look * 31 + atomic_load_explicit(&z[i].pending, memory_order_relaxed);
	}
	return look;
}

struct looking {
	struct served *s;
	uint64_t bytes;
};

static void look(void *user)
{
	struct looking *l = user;
	struct served *s = l->s;
	uint64_t seen = zones_look(&s->arena, arena_refresh(&s->arena));

	if (seen != s->purge_seen)
		s->purge_idle = 0;
	s->purge_seen = seen;
	if (s->purge_idle >= LOOKS_IDLE)
		return;
	s->purge_idle++;
	l->bytes = purge_idle(&s->purge, &s->arena, PIECE_BYTES);
	if (l->bytes)
		s->purge_idle = 0;
}

/* Whether there is more to be done at once. */
static bool look_at(struct served *s)
{
	struct looking l = { .s = s };

	if (s->status != ARENA_SERVED || !s->arena.client || !s->purge.idle)
		return false;
	if (guard_run(&s->arena, look, &l)) {
		registry_refuse(purger.registry, s, -EUCLEAN);
		return false;
	}
	purger.bytes += l.bytes;
	return l.bytes >= PIECE_BYTES;
}

static void timer_done(struct loop_op *op, int result)
{
	bool more = false;

	(void)result;
	for (struct served *s = purger.registry->first; s; s = s->next)
		more |= look_at(s);
	loop_timer(purger.loop, op, more ? MORE_NS : LOOK_NS);
}

void purger_start(struct loop *loop, struct registry *registry)
{
	purger.loop = loop;
	purger.registry = registry;
	purger.timer.done = timer_done;
	loop_timer(loop, &purger.timer, LOOK_NS);
}

uint64_t purger_bytes(void)
{
	return purger.bytes;
}
