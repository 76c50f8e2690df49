/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are held, that work beside a held one, and that judge afterwards. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plan.h"

#define HANG_SECONDS 60 /* of an operation: longer is for ever, on whatever machine */

/* ---- one account for two who prepare ---- */

static void merge_fate(enum fate *now, enum fate before)
{
	if (*now == FATE_KEPT)
		*now = before;
	else if (before != FATE_KEPT && before != *now)
		*now = FATE_EITHER;
}

/* What another has said of the survivor's things, names and cells before is not forgotten. */
static void prepare(const struct op *op, enum role role)
{
	struct account *a = &board->account;
	enum fate things[T_FIRST_OTHER], labels[LABELS_MAX];
	uint32_t strays = a->strays, before = a->labels;

	for (uint32_t i = 0; i < T_FIRST_OTHER; i++) {
		things[i] = a->thing[i].fate;
		a->thing[i].fate = FATE_KEPT;
	}
	for (uint32_t i = 0; i < before; i++)
		labels[i] = a->label[i].fate;
	a->strays = 0;
	a->cell = 0;
	if (op->prepare)
		op->prepare();
	a->strays += strays;
	for (uint32_t i = 0; i < T_FIRST_OTHER; i++)
		merge_fate(&a->thing[i].fate, things[i]);
	for (uint32_t i = 0; i < before; i++)
		merge_fate(&a->label[i].fate, labels[i]);
	scene->cell[role].at = a->cell;
	scene->cell[role].old = a->cell_old;
	scene->cell[role].thing = a->cell_thing;
}

static void use_cell(enum role role)
{
	board->account.cell = scene->cell[role].at;
	board->account.cell_old = scene->cell[role].old;
	board->account.cell_thing = scene->cell[role].thing;
}

/* ---- operating ---- */

static void operate(const struct op *op, enum role role)
{
	use_cell(role);
	if (op->flags & OP_STEPS) {
		op->run();
	} else {
		step_begin();
		op->run();
		step_end();
	}
	scene->worked[role] = plan_worked(op);
}

static void come(const struct op *op, enum role role)
{
	if (!(op->flags & OP_UNATTACHED))
		attach_self();
	prepare(op, role);
}

static void be_held(const struct op *op, enum stop_point_name at, uint32_t hit)
{
	come(op, HELD);
	watch_hold(at, hit);
	operate(op, HELD);
	_exit(0);
}

static void be_dead(const struct op *op, uint32_t hit)
{
	come(op, DEAD);
	watch_die(hit);
	operate(op, DEAD);
	_exit(1);
}

/* If its child has operated, it lives on, as the account of such an operation says. */
static void be_other(const struct op *op)
{
	come(op, OTHER);
	raise(SIGSTOP);
	alarm(HANG_SECONDS);
	watch_time();
	operate(op, OTHER);
	if (op->flags & OP_FORK)
		raise(SIGSTOP);
	_exit(0);
}

/* ---- the third ---- */

static void third_begin(void)
{
	watch_time();
	step_begin();
}

static void third_end(const char *what, bool well)
{
	static struct timing longest;

	step_end();
	if (!well)
		broken("a third client, %s: failed", what);
	if (scene->timing.own_ns > longest.own_ns) {
		longest = scene->timing;
		snprintf(scene->slowest, sizeof(scene->slowest), "%s", what);
	}
	scene->timing = longest;
}

/* Memory of a zone, of a slab, and what comes with a new thread. */
static void third_allocates(void)
{
	static const uint64_t sizes[] = { 64, 448, 2000, 36864, 200000 };
	uint64_t handles[5];

	for (int i = 0; i < 5; i++) {
		third_begin();
		handles[i] = shma_alloc(self, sizes[i], 0);
		third_end("allocating", handles[i] != 0);
	}
	for (int i = 0; i < 5; i++) {
		third_begin();
		third_end("freeing", shma_free(self, handles[i]) == 0);
	}
}

static void third_hands_over(void)
{
	uint64_t h = shma_alloc(self, 128, SHMA_SHARED);

	third_begin();
	third_end("taking", shma_take(self, h) == 0);
	third_begin();
	third_end("publishing", shma_publish(self, "third", h) == 0);
	third_begin();
	third_end("looking up", shma_lookup(self, "third") == h);
	third_begin();
	third_end("unpublishing", shma_unpublish(self, "third") == 0);
	shma_free(self, h);
}

/* Into a full ring what is written takes the place of something, now that its consumer has died. */
static void third_logs(void)
{
	if (board->account.full)
		return;
	third_begin();
	write_line(60);
	third_end("logging", true);
}

static void be_third(void)
{
	alarm(HANG_SECONDS);
	third_begin();
	attach_self();
	third_end("opening", true);
	third_allocates();
	third_hands_over();
	third_logs();
	third_begin();
	third_end("closing", shma_close(self) == 0);
	_exit(0);
}

/* ---- the oracle ---- */

/* The label, and what it was to name, unless that has the other's name. */
static void drop_label(uint32_t label, uint32_t winner)
{
	struct account *a = &board->account;
	uint32_t thing = a->label[label].thing;

	if (thing >= T_FIRST_OTHER && thing != a->label[winner].thing)
		thing_at(thing)->fate = FATE_GONE;
	a->label[label] = a->label[--a->labels];
}

static void settle_rivals(uint32_t x, uint32_t y)
{
	uint64_t h;
	bool first;

	attach_self();
	h = shma_lookup(self, board->account.label[x].name);
	shma_close(self);
	first = h == thing_at(board->account.label[x].thing)->handle;
	if (h)
		drop_label(first ? y : x, first ? x : y);
}

/* Of two that wanted one name: who has not got it has published nothing. */
static void settle_names(void)
{
	const struct account *a = &board->account;

	for (uint32_t i = 0; i < a->labels; i++)
		for (uint32_t k = i + 1; k < a->labels; k++)
			if (strcmp(a->label[i].name, a->label[k].name) == 0) {
				settle_rivals(i, k);
				return;
			}
}

/* ---- the harness's side ---- */

static bool stopped(pid_t pid, const char *who)
{
	int status = stage_wait(pid);

	if (WIFSTOPPED(status))
		return true;
	if (stage_ended_well(status, who))
		snprintf(board->failure, sizeof(board->failure), "%s: has ended", who);
	return false;
}

void actor_kill(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

pid_t actor_ready(const struct op *op)
{
	pid_t pid = stage_spawn();

	if (pid == 0)
		be_other(op);
	return stopped(pid, "the other, preparing") ? pid : 0;
}

pid_t actor_held(const struct op *op, enum stop_point_name at, uint32_t hit)
{
	pid_t pid;

	scene->held = false;
	pid = stage_spawn();
	if (pid == 0)
		be_held(op, at, hit);
	return stopped(pid, "the one to be held") ? pid : 0;
}

bool actor_finish(const struct op *op, pid_t pid, bool *living)
{
	scene->timing.over = false;
	*living = op->flags & OP_FORK;
	kill(pid, SIGCONT);
	return *living ? stopped(pid, "the other") : stage_ended_well(stage_wait(pid), "the other");
}

bool actor_continue(pid_t pid)
{
	kill(pid, SIGCONT);
	return stage_ended_well(stage_wait(pid), "the held one, continued");
}

bool actor_third(void)
{
	pid_t pid;

	scene->timing.over = false;
	pid = stage_spawn();
	if (pid == 0)
		be_third();
	return stage_ended_well(stage_wait(pid), "a third client");
}

bool actor_dead(const struct op *op, uint32_t hit)
{
	pid_t pid = stage_spawn();
	int status;

	if (pid == 0)
		be_dead(op, hit);
	status = stage_wait(pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool actor_judge(enum judging way, int whose_cell)
{
	pid_t pid = stage_spawn();

	if (pid == 0) {
		board->account.cell = 0;
		if (whose_cell >= 0)
			use_cell((enum role)whose_cell);
		settle_names();
		judge(way);
	}
	return stage_ended_well(stage_wait(pid), "judge");
}
