/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOUCHES_MORE 10
#define RECOVERIES_BESIDE 7 /* one in so many of the operations after a death is done beside others */

static const struct {
	const struct op *ops;
	bool (*worked)(void);
} tables[] = {
	{ heap_ops, heap_op_worked }, { single_ops, single_op_worked }, { file_ops, file_op_worked },
	{ resize_ops, resize_op_worked }, { pack_ops, pack_op_worked },
	{ hand_ops, hand_op_worked }, { stack_ops, stack_op_worked }, { hold_ops, hold_op_worked },
	{ log_ops, log_op_worked },
	{ life_ops, life_op_worked }, { more_ops, more_op_worked },
};

struct known known[KNOWN_MAX];
uint32_t known_count;
uint32_t others[OTHERS_MAX], others_count;
struct hold *holds;
uint32_t holds_count;

void plan_name(const struct op *op, char *text, size_t size)
{
	if (op->victim)
		snprintf(text, size, "%s, %s, %s at %u/%u", op->name, op->victim, op->path,
			 op->part, op->parts);
	else
		snprintf(text, size, "%s, %s", op->name, op->path);
}

const struct op *op_by_name(const char *name, const char *path)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct op *op = tables[t].ops; op->name; op++)
			if (strcmp(op->name, name) == 0 && strcmp(op->path, path) == 0)
				return op;
	return NULL;
}

bool plan_worked(const struct op *op)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct op *x = tables[t].ops; x->name; x++)
			if (x == op)
				return tables[t].worked();
	return false;
}

/* ---- what operations have to do with each other ---- */

/* Who recovers an operation has to do with what that has to do with. */
static const char *doing(const struct op *op)
{
	return op->victim ? op->victim : op->name;
}

/* What they look at without changing it, and so does not stand in the account. */
static uint32_t looks_at(const struct op *op)
{
	static const struct {
		const char *name, *path;
		uint32_t touches;
	} more[TOUCHES_MORE] = {
		{ "read", "another's", TOUCH_THING(T_SHARED) },
		{ "publish", "persistent", TOUCH_THING(T_PERSISTENT) },
		{ "publish", "taken", TOUCH_THING(T_SHARED) },
		{ "publish", "object has a name", TOUCH_THING(T_NAMED) },
		{ "publish", "name is taken", TOUCH_LABEL(0) },
		{ "look up", "name", TOUCH_LABEL(1) },
		{ "persist", "small", TOUCH_THING(T_PERSISTENT) },
		{ "persist", "large", TOUCH_THING(T_NAMED_LARGE) },
		{ "persist", "taken", TOUCH_THING(T_PERSISTENT_LARGE) },
		{ "persist", "in a single object", TOUCH_THING(T_PERSISTENT_SINGLE) },
	};

	for (int i = 0; i < TOUCHES_MORE; i++)
		if (strcmp(doing(op), more[i].name) == 0 && strcmp(op->path, more[i].path) == 0)
			return more[i].touches;
	return strcmp(op->name, "log reader") == 0 || strcmp(op->name, "log drain") == 0 ?
		       TOUCH_CONSUMER :
		       0;
}

static bool logs(uint32_t k)
{
	const struct op *op = known[k].op;

	return strncmp(op->name, "log", 3) == 0 || strstr(op->path, "log") || strstr(op->path, "record");
}

bool plan_full(uint32_t held, uint32_t other)
{
	return (known[held].op->flags | known[other].op->flags) & OP_DROP && logs(held) && logs(other);
}

bool plan_conflict(uint32_t held, uint32_t other)
{
	/* What only its survivor has made, and there is but one of. */
	if (held == other && known[held].op->survive)
		return true;
	if (plan_full(held, other))
		return true;
	return known[held].touches & known[other].touches;
}

static bool spoils(const struct known *x, const struct known *y)
{
	uint32_t looked = looks_at(y->op);

	/* A cell's container, and a name that is to be taken, must stay. */
	if (strcmp(doing(y->op), "persist") == 0 || strcmp(y->op->path, "name is taken") == 0)
		return x->changes & looked;
	return false;
}

static bool is_named(const struct op *op)
{
	return strstr(op->path, "under a name") != NULL;
}

/* Who reads on under a name has to miss nothing, and here it is taken away. */
static bool overwrites_kept(const struct op *x, const struct op *y)
{
	return strstr(x->path, "overwriting") && is_named(y);
}

bool plan_senseless(uint32_t held, uint32_t other)
{
	const struct known *x = &known[held], *y = &known[other];

	/* All of them use one name, which has one place and one reader. */
	if (is_named(x->op) && is_named(y->op))
		return true;
	if (overwrites_kept(x->op, y->op) || overwrites_kept(y->op, x->op))
		return true;

	/* Of two makers of one arena that die, the first's leavings go with the next that is made. */
	if (x->changes & y->changes & TOUCH_CREATED)
		return true;
	return spoils(x, y) || spoils(y, x);
}

/* ---- stages ---- */

static void (*survivals[2])(void);

static void survive_both(void)
{
	for (int i = 0; i < 2; i++)
		if (survivals[i] && (i == 0 || survivals[1] != survivals[0]))
			survivals[i]();
}

const struct op *plan_victim(uint32_t k)
{
	const struct op *op = known[k].op;

	return op->victim ? op_by_name(op->victim, op->path) : NULL;
}

/* What one survivor leaves may be in the way of the other's: then the other way round. */
static bool stage_of(const struct op *x, const struct op *y)
{
	struct op both = { .name = "both", .path = "", .survive = survive_both };

	both.flags = (x->flags | y->flags) & OP_DROP;
	if (x == y)
		both.flags |= x->flags & OP_ALONE;
	for (int turn = 0; turn < 2; turn++) {
		survivals[turn] = x->survive;
		survivals[!turn] = y->survive;
		if (stage_set_up(&both))
			return true;
		stage_remove();
	}
	return false;
}

bool plan_stage(uint32_t held, uint32_t other)
{
	return stage_of(known[held].op, known[other].op);
}

/* Operations that need the same; 0: nothing but the usual. */
static uint32_t stage_number(uint32_t k)
{
	const struct op *op = known[k].op;

	return op->survive || op->flags & (OP_ALONE | OP_DROP) ? k + 1 : 0;
}

/* ---- the stop points on each way ---- */

/* At a part of the stop points on its way. */
static bool die_first(struct known *k)
{
	const struct op *first = plan_victim((uint32_t)(k - known));

	if (!first)
		return !k->op->victim;
	if (!stage_trace(first) || !scene->total)
		return false;
	k->dies = 1 + (scene->total - 1) * k->op->part / k->op->parts;
	return actor_dead(first, k->dies) && stage_retake();
}

static bool count_one(const struct op *op)
{
	struct known *k = &known[known_count++];

	k->op = op;
	if (!die_first(k) || !stage_trace(op)) {
		char name[200];

		plan_name(op, name, sizeof(name));
		printf("FAILED %s: %s\n", name, board->failure);
		return false;
	}
	memcpy(k->hits, scene->hits, sizeof(k->hits));
	k->changes = scene->touched;
	k->touches = scene->touched | looks_at(op);
	return true;
}

static bool is_usual(const struct op *op)
{
	return !op->survive && !op->victim && !(op->flags & (OP_ALONE | OP_DROP));
}

/* Those of one stage first, then each in its own. */
static bool count_all(bool usual)
{
	bool good = !usual || stage_of(&heap_ops[0], &heap_ops[0]);

	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]) && good; t++)
		for (const struct op *op = tables[t].ops; op->name && good; op++) {
			if (is_usual(op) != usual || known_count == KNOWN_MAX)
				continue;
			good = (usual || stage_of(op, op)) && count_one(op);
			if (!usual)
				stage_remove();
		}
	if (usual)
		stage_remove();
	return good;
}

static void choose_others(void)
{
	uint32_t recoveries = 0;

	for (uint32_t k = 0; k < known_count; k++) {
		const struct op *op = known[k].op;

		if (op->flags & OP_ALONE || (op->victim && recoveries++ % RECOVERIES_BESIDE))
			continue;
		if (others_count < OTHERS_MAX)
			others[others_count++] = k;
	}
}

bool plan_count(void)
{
	if (!count_all(true) || !count_all(false))
		return false;
	choose_others();
	return true;
}

uint32_t plan_unreached(uint32_t from)
{
	for (uint32_t point = from; point < STOP_POINTS; point++) {
		bool any = false;

		for (uint32_t k = 0; k < known_count; k++)
			any |= known[k].hits[point] != 0;
		if (!any)
			return point;
	}
	return STOP_POINTS;
}

/* ---- holds ---- */

/* A forked child is stopped out of its harness's sight; in an arena for itself nobody is beside; in a full ring
 * few can prepare. Those that need a death before are many, and hold where no others can. */
static bool can_be_held(uint32_t k, uint32_t point, bool after_death)
{
	const struct op *op = known[k].op;

	return known[k].hits[point] && !(op->flags & (OP_FORK | OP_ALONE | OP_DROP)) &&
	       (op->victim != NULL) == after_death;
}

static uint32_t count_held(uint32_t point, bool after_death)
{
	uint32_t count = 0;

	for (uint32_t k = 0; k < known_count; k++)
		count += can_be_held(k, point, after_death);
	return count;
}

/* The n-th that can be held at a point. */
static uint32_t nth_held(uint32_t point, uint32_t n)
{
	uint32_t plain = count_held(point, false), count = plain ? plain : count_held(point, true);

	if (!count)
		return KNOWN_MAX;
	n %= count;
	for (uint32_t k = 0; k < known_count; k++)
		if (can_be_held(k, point, !plain) && n-- == 0)
			return k;
	return KNOWN_MAX;
}

uint32_t plan_held(const struct hold *h, uint32_t n)
{
	uint32_t stage = stage_number(h->held), k = h->held;

	/* In the same stage, which is there, or in any. */
	for (uint32_t i = 0; i < known_count; i++, k = (k + 1) % known_count) {
		if ((stage_number(k) && stage_number(k) != stage) || plan_senseless(k, h->other) ||
		    !can_be_held(k, h->point, known[h->held].op->victim != NULL))
			continue;
		if (n-- == 0)
			return k;
	}
	return KNOWN_MAX;
}

static int by_stage(const void *x, const void *y)
{
	const struct hold *a = x, *b = y;

	if (a->stage != b->stage)
		return a->stage > b->stage ? 1 : -1;
	if (a->point != b->point)
		return (int)a->point - b->point;
	return a->other != b->other ? (int)a->other - b->other : (int)a->ending - b->ending;
}

static bool matches(uint32_t k, const char *text)
{
	char name[200];

	plan_name(known[k].op, name, sizeof(name));
	return !text || strstr(name, text);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= UINT64_C(0x7fb5d329728ea185); /* an odd multiplier between two foldings */
	return x ^ x >> 27;
}

/* The one to be held, by the seed: another at each run, and beside each other one, but where that would
 * mean a stage for each. */
static uint32_t choose_held(uint32_t point, uint32_t other, int ending, const char *text, uint64_t seed)
{
	uint64_t beside = stage_number(other) ? 0 : other * 7u + (uint32_t)ending;
	uint32_t start = (uint32_t)(mix(seed + mix(point * 1000u + beside)) >> 8);

	for (uint32_t i = 0; i < known_count; i++) {
		uint32_t k = nth_held(point, start + i);

		if (k == KNOWN_MAX)
			return k;
		if (matches(k, text) && !plan_senseless(k, other))
			return k;
	}
	return KNOWN_MAX;
}

static void add(uint32_t point, uint32_t held, uint32_t other, int ending)
{
	holds[holds_count++] = (struct hold){
		.point = (uint16_t)point,
		.other = (uint16_t)other,
		.held = (uint16_t)held,
		.ending = (uint8_t)ending,
		.stage = stage_number(held) * KNOWN_MAX + stage_number(other),
	};
}

void plan_make(const char *point, const char *held, const char *other, int ending, uint64_t seed)
{
	holds = calloc((size_t)STOP_POINTS * others_count * ENDINGS, sizeof(*holds));
	if (!holds)
		exit(2);
	for (uint32_t p = 0; p < STOP_POINTS; p++)
		for (uint32_t i = 0; i < others_count; i++)
			for (int e = 0; e < ENDINGS; e++) {
				uint32_t k;

				if ((point && strcmp(point, stop_point_text(p)) != 0) ||
				    !matches(others[i], other) || (ending >= 0 && e != ending))
					continue;
				k = choose_held(p, others[i], e, held, seed);
				if (k != KNOWN_MAX)
					add(p, k, others[i], e);
			}
	qsort(holds, holds_count, sizeof(*holds), by_stage);
}
