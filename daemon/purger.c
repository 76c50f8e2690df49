/* SPDX-License-Identifier: Apache-2.0 */
#include "purger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "guard.h"
#include "msg.h"
#include "purge.h"

#define SECOND	UINT64_C(1000000000)
#define MORE_NS UINT64_C(100000) /* between steps that had nothing to punch */
/* A page goes in the second round that finds it idle; one more for busy zones. */
#define ROUNDS_IDLE 3u

struct punch {
	struct loop_op op; /* first */
	struct purging *purging;
};

/* One arena's. Belongs to the loop as long as something of it is pending, forgotten or not. */
struct purging {
	struct loop_op timer;  /* first */
	struct served *served; /* NULL: forgotten */
	struct purging *next, **link; /* of the forgotten */
	struct purge purge;
	uint64_t seen;	/* of the arena when the last round began */
	uint32_t rounds; /* since it changed, or something was given back */
	bool more;
	int fd; /* a round's own, so that no punch meets another file under its number */
	uint32_t under_way;
	struct punch punches[PURGE_PARTS];
};

static struct {
	struct loop *loop;
	struct registry *registry;
	struct purging *forgotten;
	uint32_t decay_s;
	uint64_t bytes;
} purger;

static void step(struct purging *p);

static void start_timer(struct purging *p, uint64_t nanoseconds)
{
	loop_timer(purger.loop, &p->timer, nanoseconds);
}

/* ---- steps ---- */

static void begin_round(struct purging *p)
{
	uint64_t seen = purge_activity(&p->served->arena);

	p->rounds = seen == p->seen ? p->rounds + 1 : 0;
	p->seen = seen;
}

/* On an arena's memory, which may go away. */
static void ask_if_short(void *user)
{
	struct purging *p = user;

	if (purge_is_short(&p->served->arena))
		client_ask_to_shrink(&p->served->arena);
}

/* The same. */
static void gather(void *user)
{
	struct purging *p = user;

	if (!p->more)
		begin_round(p);
	p->more = p->rounds < ROUNDS_IDLE && purge_gather(&p->purge, &p->served->arena);
	if (p->purge.count)
		p->rounds = 0; /* what is left, perhaps, was not idle for long enough */
}

static void settle(void *user)
{
	struct purging *p = user;

	purge_settle(&p->purge, &p->served->arena);
}

/* False: the arena is no longer served, and p may be gone. */
static bool run(struct purging *p, void (*work)(void *user))
{
	struct served *s = p->served;

	if (guard_run(&s->arena, work, p) == 0)
		return true;
	registry_refuse(purger.registry, s, -EUCLEAN);
	return false;
}

static bool open_fd(struct purging *p)
{
	int fd = arena_file_of(&p->served->arena, p->served->arena.g.heap);

	if (p->fd < 0 && fd >= 0)
		p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return p->fd >= 0;
}

static void close_fd(struct purging *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void end_step(struct purging *p)
{
	if (!p->more)
		close_fd(p);
	start_timer(p, p->more ? MORE_NS : (purger.decay_s ? purger.decay_s : 1) * SECOND);
}

static void launch(struct purging *p, struct punch *punch)
{
	const struct purge_part *part = &p->purge.parts[punch - p->punches];

	loop_punch(purger.loop, &punch->op, p->fd, purge_offset(&p->served->arena, part),
		   part->pages << PAGE_SHIFT);
}

static void step(struct purging *p)
{
	if (!p->more && !run(p, ask_if_short))
		return;
	if (!purger.decay_s || !p->served->arena.client || !open_fd(p)) {
		p->more = false;
		end_step(p);
		return;
	}
	if (!run(p, gather))
		return;
	p->under_way = p->purge.count;
	for (uint32_t i = 0; i < p->purge.count; i++)
		launch(p, &p->punches[i]);
	if (!p->under_way && (!p->purge.held || run(p, settle)))
		end_step(p);
}

/* ---- what the loop tells ---- */

static void free_if_done(struct purging *p)
{
	if (p->timer.pending || p->under_way)
		return;
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	close_fd(p);
	free(p);
}

static void timer_done(struct loop_op *op, int result)
{
	struct purging *p = (struct purging *)op;

	(void)result;
	if (p->served)
		step(p);
	else
		free_if_done(p);
}

static void punch_done(struct loop_op *op, int result)
{
	struct punch *punch = (struct punch *)op;
	struct purging *p = punch->purging;

	if (p->served && (result == -EINTR || result == -EAGAIN)) {
		launch(p, punch);
		return;
	}
	if (result == 0)
		purger.bytes += op->length;
	p->under_way--;
	if (!p->served)
		free_if_done(p);
	else if (!p->under_way && run(p, settle))
		step(p);
}

/* ---- arenas ---- */

void purger_adopt(struct served *s)
{
	struct purging *p = calloc(1, sizeof *p);

	s->purging = p;
	if (!p) {
		msg_warning("arena %s: no memory to see what is idle: nothing is given back",
			    s->record.name);
		return;
	}
	p->served = s;
	p->fd = -1;
	p->timer.done = timer_done;
	for (uint32_t i = 0; i < PURGE_PARTS; i++)
		p->punches[i] = (struct punch){ .op.done = punch_done, .purging = p };
	start_timer(p, SECOND);
}

/* What is being punched must not be anybody else's before that is over: not of those either who come after
 * this client. */
void purger_forget(struct served *s, bool usable)
{
	struct purging *p = s->purging;

	if (!p)
		return;
	for (uint32_t i = 0; i < PURGE_PARTS; i++)
		loop_settle(purger.loop, &p->punches[i].op);
	if (usable && (p->purge.count || p->purge.held))
		guard_run(&s->arena, settle, p);
	s->purging = NULL;
	p->served = NULL;
	p->next = purger.forgotten;
	p->link = &purger.forgotten;
	if (p->next)
		p->next->link = &p->next;
	purger.forgotten = p;
	loop_cancel(purger.loop, &p->timer);
	free_if_done(p);
}

void purger_decay(uint32_t seconds)
{
	purger.decay_s = seconds;
}

void purger_start(struct loop *loop, struct registry *registry)
{
	purger.loop = loop;
	purger.registry = registry;
}

uint64_t purger_bytes(void)
{
	return purger.bytes;
}
