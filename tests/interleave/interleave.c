/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interleave.c - one client held at each stop point on its way, while another does each operation to its
 * end. Then the held one is killed, or goes on, or stays stopped while a third works; then the oracle is
 * asked. See README.md.
 *
 * interleave [--points] [--point NAME] [--held TEXT] [--other TEXT] [--ending killed|continued|left] [--hit N]
 *            [--seconds N] [--seed N] [--part I/N] [--verbose]
 *
 * --points: lists the stop points, with how many operations come by; --held, --other: operations whose name
 * contains the text; --seconds: holds no longer, spread over all; --part: of what several processes share, this
 * one's; --verbose: says what is not to be had.
 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

#include "../seed.h"

#define TRIES_HELD   10u /* operations to find one that comes by the point */
#define TRIES_AGAIN  3u  /* of what chance can make fail: time that the machine took, 16 bits that repeat */
#define DRAIN_EVERY  40u /* holds */
#define FAILURES_MAX 40u
#define STAGE_LEAST  8u /* holds in a short run, of a stage of its own */

/* A sanitizer's instructions are many for one. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 20u
#else
#define SLOWER 1u
#endif

static struct {
	bool points, verbose;
	const char *point, *held, *other;
	int ending;
	uint32_t hit;
	double seconds;
	uint64_t seed;
	uint32_t part, parts;
} options = { .ending = -1, .parts = 1 };

struct trace *trace;
struct board *kept;

static const char *const ending_names[ENDINGS] = { "killed", "continued", "left" };

static struct {
	uint64_t holds, failures, missed, conflicts, slow_ns, sleepers;
	double start;
	uint64_t by_ending[ENDINGS];
	bool points[STOP_POINTS], others[KNOWN_MAX];
} total;

/* ---- one hold ---- */

enum outcome { GOOD, BAD, BY_CHANCE, MISSED };

__attribute__((format(printf, 1, 2))) static enum outcome fail(const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(board->failure, sizeof(board->failure), "%s", text);
	return BAD;
}

/* Nobody waits for a stopped one. */
static enum outcome look_at_time(const char *who)
{
	if (!scene->timing.over)
		return fail("%s: no time was taken", who);
	if (scene->timing.own_ns > total.slow_ns)
		total.slow_ns = scene->timing.own_ns;
	total.sleepers += scene->timing.sleeps != 0;
	if (scene->timing.own_ns <= MOST_NS * SLOWER && !scene->timing.sleeps)
		return GOOD;
	fail("%s took %.1f ms, and slept %llu times", who, (double)scene->timing.own_ns / 1e6,
	     (unsigned long long)scene->timing.sleeps);
	return BY_CHANCE;
}

/* It may find a zone held where it has something to bring back, and then leaves that for later. */
static bool may_fail(uint32_t k)
{
	const char *name = known[k].op->name;

	return strncmp(name, "recovery", 8) == 0 || strcmp(name, "purge") == 0;
}

static enum outcome look_at_success(const struct hold *h, uint32_t held, enum role role)
{
	uint32_t k = role == HELD ? held : h->other;

	if (scene->worked[role] || may_fail(k))
		return GOOD;
	if (plan_conflict(held, h->other)) {
		total.conflicts++;
		return GOOD;
	}
	return fail("%s did not get what it asked for", role == HELD ? "the held one" : "the other");
}

/* The other is done. What becomes of the held one; it is gone afterwards. */
static enum outcome end_held(const struct hold *h, uint32_t held, pid_t pid)
{
	enum outcome o = GOOD;

	switch ((enum ending)h->ending) {
	case CONTINUED:
		return actor_continue(pid) ? look_at_success(h, held, HELD) : BAD;
	case LEFT:
		o = actor_third() ? look_at_time("a third client") : BAD;
		break;
	default: break;
	}
	actor_kill(pid);
	return o;
}

static enum judging way_of(uint64_t n)
{
	return n % DRAIN_EVERY == DRAIN_EVERY / 2 ? JUDGE_DRAIN
						  : (enum judging)(n % 2 ? JUDGE_RECOVER : JUDGE_WORK);
}

/* Where both do something to one object, a cell may hold what has gone since. */
static int cell_to_ask(const struct hold *h, uint32_t held)
{
	if (plan_conflict(held, h->other))
		return -1;
	if (scene->cell[OTHER].at && (!scene->cell[HELD].at || total.holds % 2))
		return OTHER;
	return scene->cell[HELD].at ? HELD : DEAD;
}

static enum outcome judge_both(const struct hold *h, uint32_t held)
{
	/* Once its consumer is dead, a full ring is written over. */
	board->account.wrapped |= plan_full(held, h->other);
	if (actor_judge(way_of(total.holds), cell_to_ask(h, held)))
		return GOOD;
	return board->by_chance ? BY_CHANCE : BAD;
}

/* The death that an operation comes after. */
static bool die_before(uint32_t k)
{
	const struct op *first = plan_victim(k);

	return !first || actor_dead(first, known[k].dies);
}

/* Who works beside the held one is ready before that one is, so that it is in nobody's way by preparing. */
static enum outcome meet(const struct hold *h, uint32_t held, uint32_t hit)
{
	const struct op *op = known[h->other].op;
	pid_t other, pid = 0;
	bool living = false;
	enum outcome o;

	memset(scene->cell, 0, sizeof(scene->cell));
	other = die_before(h->other) ? actor_ready(op) : 0;
	if (other && die_before(held))
		pid = actor_held(known[held].op, h->point, hit);
	if (!pid) {
		actor_kill(other);
		return MISSED;
	}
	o = actor_finish(op, other, &living) ? look_at_time("the other") : BAD;
	if (o == GOOD)
		o = look_at_success(h, held, OTHER);
	if (o == GOOD)
		o = end_held(h, held, pid);
	else
		actor_kill(pid);
	if (o == GOOD)
		o = judge_both(h, held);
	if (living)
		actor_kill(other);
	return o;
}

static void print_failure(const struct hold *h, uint32_t held, uint32_t hit)
{
	char held_name[200], other_name[200];

	plan_name(known[held].op, held_name, sizeof(held_name));
	plan_name(known[h->other].op, other_name, sizeof(other_name));
	printf("FAILED --point %s --held '%s' --hit %u --other '%s' --ending %s: %s\n",
	       stop_point_text(h->point), held_name, hit, other_name, ending_names[h->ending],
	       board->failure);
	printf("    held where %s\n", stop_point_what(h->point));
	fflush(stdout);
}

static void note(const struct hold *h)
{
	total.holds++;
	total.by_ending[h->ending]++;
	total.points[h->point] = true;
	total.others[h->other] = true;
}

/* Beside this other nobody comes by, or the two cannot both prepare. */
static void note_missed(const struct hold *h)
{
	char name[200];

	total.missed++;
	if (!options.verbose)
		return;
	plan_name(known[h->other].op, name, sizeof(name));
	printf("missed --point %s --other '%s': %s\n", stop_point_text(h->point), name, board->failure);
}

/* Which time it comes by: the first, the last, and those between by turns. */
static uint32_t choose_hit(uint32_t held, uint32_t point)
{
	uint32_t hits = known[held].hits[point];

	if (options.hit)
		return options.hit;
	switch (total.holds % 3) {
	case 0: return 1;
	case 1: return hits;
	default: return 1 + (uint32_t)(total.holds / 3 % hits);
	}
}

static enum outcome meet_again(const struct hold *h, uint32_t held, uint32_t hit)
{
	enum outcome o = meet(h, held, hit);

	for (uint32_t i = 1; o == BY_CHANCE && i < TRIES_AGAIN; i++) {
		stage_restore();
		o = meet(h, held, hit);
	}
	return o;
}

/* Tries others to be held where one does not come by beside this other. */
static void do_hold(const struct hold *h)
{
	enum outcome o = MISSED;

	for (uint32_t i = 0; o == MISSED && i < TRIES_HELD; i++) {
		uint32_t held = i == 0 ? h->held : plan_held(h, i), hit;

		if (held == KNOWN_MAX || (i && options.held))
			break;
		hit = i < 2 ? choose_hit(held, h->point) : 1;
		o = meet_again(h, held, hit);
		if (o == BAD || o == BY_CHANCE) {
			total.failures++;
			print_failure(h, held, hit);
		}
		stage_restore();
	}
	if (o == MISSED)
		note_missed(h);
	else
		note(h);
}

/* ---- all ---- */

static bool over(double until)
{
	return total.failures >= FAILURES_MAX || (options.seconds > 0 && stage_seconds() > until);
}

/* A number that steps through all, evenly spread at any time. */
static uint64_t stride_of(uint64_t count)
{
	uint64_t stride = count * 618 / 1000 + 1;
	bool shares = true;

	while (shares) {
		uint64_t x = count, y = ++stride;

		while (y) {
			uint64_t rest = x % y;

			x = y;
			y = rest;
		}
		shares = x != 1;
	}
	return stride;
}

/* Holds first to end - 1 are of one stage; this process does its part of them. */
static void run_stage(uint32_t first, uint32_t end, double until)
{
	uint64_t count = end - first, stride = stride_of(count), at = options.seed % count;
	uint32_t done = 0;

	if (!plan_stage(holds[first].held, holds[first].other)) {
		printf("FAILED stage of %s, %s: %s\n", known[holds[first].held].op->name,
		       known[holds[first].other].op->name, board->failure);
		total.failures++;
		stage_remove();
		return;
	}
	for (uint64_t i = 0; i < count; i++, at = (at + stride) % count) {
		if (holds[first].stage == 0 && i % options.parts != options.part)
			continue;
		if (over(until) && (done++ >= STAGE_LEAST || holds[first].stage == 0))
			break;
		do_hold(&holds[first + at]);
	}
	stage_remove();
}

static uint32_t stage_end(uint32_t first)
{
	uint32_t end = first;

	while (end < holds_count && holds[end].stage == holds[first].stage)
		end++;
	return end;
}

/* The usual stage first, for half the time; then, begun at another one each time, those of which a process
 * does one whole. */
static void run_all(void)
{
	uint32_t firsts[KNOWN_MAX * 16], stages = 0;
	double start = stage_seconds(), end = start + options.seconds;

	for (uint32_t i = 0; i < holds_count && stages < KNOWN_MAX * 16; i = stage_end(i))
		firsts[stages++] = i;
	for (uint32_t i = 0; i < stages; i++) {
		uint32_t s = i == 0 ? 0 : 1 + (i - 1 + (uint32_t)options.seed) % (stages - 1);
		uint32_t first = firsts[s];
		bool usual = holds[first].stage == 0;

		if (!usual && (over(end) || s % options.parts != options.part))
			continue;
		run_stage(first, stage_end(first),
			  usual ? start + options.seconds / 2 : stage_seconds() + options.seconds / 40);
	}
}

/* ---- the account ---- */

static void list_points(void)
{
	for (uint32_t p = 0; p < STOP_POINTS; p++) {
		uint32_t count = 0;

		for (uint32_t k = 0; k < known_count; k++)
			count += known[k].hits[p] != 0;
		printf("%-24s %3u  %s\n", stop_point_text(p), count, stop_point_what(p));
	}
}

static void look_at_points(void)
{
	for (uint32_t p = plan_unreached(0); p < STOP_POINTS; p = plan_unreached(p + 1)) {
		printf("FAILED no operation comes by %s\n", stop_point_text(p));
		total.failures++;
	}
}

static uint32_t count_true(const bool *set, uint32_t size)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < size; i++)
		count += set[i];
	return count;
}

static void print_sum(void)
{
	printf("%u stop points of %u, %u operations beside them of %u: %llu holds (%llu killed, %llu continued, %llu left), "
		"%llu not to be had, %llu conflicts, longest %.2f ms, %llu slept, %llu failed, in %.0f s\n",
		count_true(total.points, STOP_POINTS), (unsigned)STOP_POINTS,
		count_true(total.others, KNOWN_MAX), others_count, (unsigned long long)total.holds,
		(unsigned long long)total.by_ending[KILLED],
		(unsigned long long)total.by_ending[CONTINUED],
		(unsigned long long)total.by_ending[LEFT], (unsigned long long)total.missed,
		(unsigned long long)total.conflicts, (double)total.slow_ns / 1e6,
		(unsigned long long)total.sleepers, (unsigned long long)total.failures,
		stage_seconds() - total.start);
}

/* ---- the program ---- */

static pid_t harness;

/* Survivors die with us; of an arena in the making a file may be left. */
static void remove_files(void)
{
	char pattern[128];
	glob_t g;

	snprintf(pattern, sizeof(pattern), "/dev/shm/shmalloc.%s*", arena_name);
	if (glob(pattern, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			unlink(g.gl_pathv[i]);
	globfree(&g);
}

static void on_signal(int signal)
{
	(void)signal;
	if (getpid() == harness)
		remove_files();
	_exit(2);
}

static int ending_of(const char *name)
{
	for (int e = 0; e < ENDINGS; e++)
		if (strcmp(name, ending_names[e]) == 0)
			return e;
	exit(2);
}

static void read_options(int argc, char **argv)
{
	static const struct option names[] = { { "points", no_argument, NULL, 'l' },
					       { "point", required_argument, NULL, 'p' },
					       { "held", required_argument, NULL, 'h' },
					       { "other", required_argument, NULL, 'o' },
					       { "ending", required_argument, NULL, 'e' },
					       { "hit", required_argument, NULL, 'n' },
					       { "seconds", required_argument, NULL, 's' },
					       { "seed", required_argument, NULL, 'r' },
					       { "part", required_argument, NULL, 'a' },
					       { "verbose", no_argument, NULL, 'v' },
					       { NULL, 0, NULL, 0 } };
	int c;

	options.seed = test_seed_silent();
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'l': options.points = true; break;
		case 'v': options.verbose = true; break;
		case 'p': options.point = optarg; break;
		case 'h': options.held = optarg; break;
		case 'o': options.other = optarg; break;
		case 'e': options.ending = ending_of(optarg); break;
		case 'n': options.hit = (uint32_t)atoi(optarg); break;
		case 's': options.seconds = atof(optarg); break;
		case 'r': options.seed = strtoull(optarg, NULL, 0); break;
		case 'a':
			if (sscanf(optarg, "%u/%u", &options.part, &options.parts) != 2 ||
			    !options.parts)
				exit(2);
			break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	total.start = stage_seconds();
	read_options(argc, argv);
	trace = stage_memory(sizeof(*trace));
	board = stage_memory(sizeof(*board));
	scene = stage_memory(sizeof(*scene));
	kept = calloc(1, sizeof(*kept));
	if (!kept)
		return 2;
	snprintf(arena_name, sizeof(arena_name), "interleave-%dx", (int)getpid());
	harness = getpid();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	printf("seed %llu\n", (unsigned long long)options.seed);
	if (!plan_count()) {
		remove_files();
		return 1;
	}
	look_at_points();
	if (options.points) {
		list_points();
		return total.failures != 0;
	}
	plan_make(options.point, options.held, options.other, options.ending, options.seed);
	run_all();
	remove_files();
	print_sum();
	return total.failures != 0 || total.holds == 0;
}
