/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash.c - kills a client after 1, 2, … n instructions of each operation on each of its paths; after each
 * death another one recovers and asks the oracle. See README.md.
 *
 * crash [--list] [--only TEXT] [--at INSTRUCTION] [--way NUMBER] [--changes] [--first] [--seconds N]
 *       [--seed N] [--table FILE] [--part I/N]
 *
 * --only: operations whose row contains the text, or begins with it after a '='; --changes: only after
 * what others can see; --first: up to the first failure; --seconds: no longer, spread over all;
 * --table: rows for a README; --part: of what several processes share, this one's: of short paths a part of
 * their points, of long ones, whose trace takes the time, all points of a part of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"
#include "arena_file.h"
#include "service.h"
#include "stage.h"

#include "../seed.h"

#define ALL_UP_TO    8000u /* instructions; on longer paths, those that change what others see */
#define COPY_STRIDE  211
#define FAILURES_MAX 5u	 /* of one operation, then the next one's turn */
#define DRAIN_EVERY  40u /* deaths */
#define LEAST_KILLS  6u	 /* of each operation, however short the time */
#define OPS_MAX	     512u

#define NUMBER(n) (unsigned long long)(n)

static const struct op *const tables[] = { heap_ops, single_ops, file_ops, resize_ops, pack_ops, hand_ops, stack_ops, hold_ops, profile_ops, debug_ops,
					   log_ops,  life_ops,	 daemon_ops };

static struct {
	const char *only;
	int64_t at;
	int way;
	bool changes, first;
	double seconds; /* 0: all */
	uint64_t seed;
	const char *table;
	unsigned part, parts;
} options = { .at = -1, .way = -1, .parts = 1 };

struct trace *trace;
static uint64_t *points, points_count;
struct board *kept; /* the board as the survivor left it */
static struct {
	uint64_t kills, failures, drift;
	unsigned done;
} total;

/* One row of the table. */
struct row {
	uint64_t instructions, stores, calls, points, kills, failures, drift, pause_ns;
	bool every;
	unsigned number;
};

/* Of a string instruction that repeats itself, some rounds are as good as all. */
static bool amid_copy(uint64_t i)
{
	return trace->at[i] == trace->at[i - 1] && trace->at[i] == trace->at[i + 1] &&
	       i % COPY_STRIDE != 0;
}

/* After which instructions to kill. True: after each. */
static bool find_points(void)
{
	bool every = trace->count <= ALL_UP_TO && !options.changes;

	points = realloc(points, (trace->count + 2) * sizeof(*points));
	if (!points)
		exit(2);
	points_count = 0;
	for (uint64_t i = 0; i <= trace->count; i++)
		if (every || i == 0 || i == trace->count ||
		    (trace->at[i] & STEP_POINT && !amid_copy(i)))
			points[points_count++] = i;
	return every;
}

static void count_changes(struct row *row)
{
	for (uint64_t i = 0; i <= trace->count; i++) {
		row->calls += (trace->at[i] & STEP_CALL) != 0;
		row->stores += (trace->at[i] & STEP_POINT) == STEP_STORE;
	}
}

/* ---- deaths ---- */

static void name_op(const struct op *op, char *text, size_t size)
{
	if (op->victim)
		snprintf(text, size, "%s, %s, %s at %u/%u", op->name, op->victim, op->path,
			 op->part, op->parts);
	else
		snprintf(text, size, "%s, %s", op->name, op->path);
}

static bool ask(enum judging way)
{
	pid_t pid = stage_spawn();

	if (pid == 0)
		judge(way);
	return stage_ended_well(stage_wait(pid), "judge");
}

static void print_place(uint64_t at)
{
	extern char __executable_start[];
	char command[200], text[300] = "?";
	FILE *f;

	snprintf(command, sizeof(command),
		 "addr2line -sfpi -e /proc/%d/exe %#llx 2>&1 | tr '\\n' ' '", (int)getpid(),
		 (unsigned long long)(at - (uint64_t)(uintptr_t)__executable_start));
	f = popen(command, "r");
	if (f && !fgets(text, sizeof(text), f))
		strcpy(text, "?");
	if (f)
		pclose(f);
	printf("    before %s\n", text);
}

/* Kills, and asks while the victim's parent, if it has one, lives. */
static bool die_and_ask(const struct op *op, uint64_t target, enum judging way)
{
	pid_t parent = stage_kill(op, target);
	bool good = parent >= 0 && ask(way);

	if (parent > 0) {
		kill(parent, SIGKILL);
		waitpid(parent, NULL, 0);
	}
	return good;
}

static void one_death(const struct op *op, struct row *row, uint64_t target, enum judging way)
{
	bool good = die_and_ask(op, target, way);

	for (int i = 0; i < 3 && !good && board->by_chance; i++) {
		stage_restore();
		good = die_and_ask(op, target, way);
	}
	row->kills++;
	row->drift += board->died_at != step_address(trace->at[target]);
	if (board->pause_ns > row->pause_ns)
		row->pause_ns = board->pause_ns;
	if (!good) {
		char name[200];

		name_op(op, name, sizeof(name));
		row->failures++;
		printf("FAILED %s: killed after %llu instructions of %llu, judged by way %d: %s\n",
		       name, NUMBER(target), NUMBER(trace->count), (int)way, board->failure);
		print_place(board->died_at);
	}
	stage_restore();
}

static enum judging way_of(uint64_t kill)
{
	if (options.way >= 0)
		return (enum judging)options.way;
	return kill % DRAIN_EVERY == DRAIN_EVERY / 2
		       ? JUDGE_DRAIN
		       : (enum judging)(kill % 2 ? JUDGE_RECOVER : JUDGE_WORK);
}

/* A number that steps through all points, evenly spread at any time: a prime near the golden section. */
static uint64_t stride_of(uint64_t count)
{
	for (uint64_t p = count * 618 / 1000 + 1;; p++) {
		bool prime = p > 2;

		for (uint64_t d = 2; d * d <= p && prime; d++)
			prime = p % d != 0;
		if (prime && (count % p != 0 || count < 3))
			return p;
	}
}

/* Whether all parts have a share in it, if it is short. */
static bool shared_by_all(const struct op *op)
{
	return options.parts > 1 && !op->victim && !options.changes && options.seconds <= 0;
}

static void all_deaths(const struct op *op, struct row *row, double until)
{
	uint64_t stride = stride_of(points_count), at = options.seed % points_count;

	if (options.at >= 0) {
		one_death(op, row, (uint64_t)options.at, way_of((uint64_t)options.at));
		return;
	}
	for (uint64_t i = 0; i < points_count && row->failures < (options.first ? 1 : FAILURES_MAX);
	     i++, at = (at + stride) % points_count) {
		if (options.seconds > 0 && i >= LEAST_KILLS && stage_seconds() > until)
			return;
		if (!row->every || !shared_by_all(op) || i % options.parts == options.part)
			one_death(op, row, points[at], way_of(i));
	}
}

/* ---- recovery is an operation, too: somebody has died before ---- */

const struct op *op_by_name(const char *name, const char *path)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct op *op = tables[t]; op->name; op++)
			if (strcmp(op->name, name) == 0 && strcmp(op->path, path) == 0)
				return op;
	return NULL;
}

static bool kill_before(const struct op *op)
{
	const struct op *first = op_by_name(op->victim, op->path);

	if (!first || !stage_trace(first))
		return false;
	find_points();
	if (stage_kill(first, points[(points_count - 1) * op->part / op->parts]))
		return false;
	kept->size = 0;
	return stage_retake();
}

/* ---- the table ---- */

static FILE *table;

static void print_head(void)
{
	printf("%-16s %-40s %9s %8s %6s %8s  %6s %6s\n", "operation", "path", "instr.", "stores",
	       "calls", "points", "kills", "failed");
}

static void print_row(const struct op *op, const struct row *row)
{
	char path[80];

	if (op->victim)
		snprintf(path, sizeof(path), "%s, %s at %u/%u", op->victim, op->path, op->part,
			 op->parts);
	else
		snprintf(path, sizeof(path), "%s", op->path);
	printf("%-16s %-40s %9llu %8llu %6llu %8llu%s %6llu %6llu   %.1f ms", op->name, path,
	       NUMBER(row->instructions), NUMBER(row->stores), NUMBER(row->calls),
	       NUMBER(row->points), row->every ? " " : "*", NUMBER(row->kills),
	       NUMBER(row->failures), (double)row->pause_ns / 1e6);
	if (row->drift)
		printf("   (%llu elsewhere than traced)", (unsigned long long)row->drift);
	printf("\n");
	if (table)
		fprintf(table, "%u | %s | %s | %llu | %llu | %llu | %llu%s | %llu |\n", row->number,
			op->name, path, NUMBER(row->instructions), NUMBER(row->stores),
			NUMBER(row->calls), NUMBER(row->kills), row->every ? "" : " *",
			NUMBER(row->failures));
	fflush(NULL);
}

static void count_row(const struct op *op, const struct row *row)
{
	print_row(op, row);
	total.kills += row->kills;
	total.failures += row->failures;
	total.drift += row->drift;
	total.done++;
}

static bool make_ready(const struct op *op, bool mine)
{
	kept->base = kept->size = 0;
	trace->limit = 0;
	if (!stage_set_up(op) || (op->victim && !kill_before(op)))
		return false;
	trace->limit = mine ? 0 : ALL_UP_TO;
	return stage_trace(op);
}

static void run_op(const struct op *op, unsigned number, double until)
{
	bool mine = number % options.parts == options.part, ready = make_ready(op, mine);
	struct row row = { .number = number };

	if (ready) {
		row.every = find_points();
		row.instructions = trace->count;
		row.points = points_count;
		count_changes(&row);
		all_deaths(op, &row, until);
	} else if (mine || trace->count <= ALL_UP_TO) {
		row.failures++;
		printf("FAILED %s, %s: %s\n", op->name, op->path, board->failure);
	}
	if (ready || row.failures)
		count_row(op, &row);
	stage_remove();
}

static bool wanted(const struct op *op)
{
	char text[200];

	name_op(op, text, sizeof(text));
	if (options.only && options.only[0] == '=')
		return strncmp(text, options.only + 1, strlen(options.only + 1)) == 0;
	return !options.only || strstr(text, options.only);
}

/* This process's operations; in a short run begun at another one each time, until time is over. */
static void run_ops(double start)
{
	const struct op *ops[OPS_MAX];
	unsigned count = 0, number = 0, numbers[OPS_MAX];

	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct op *op = tables[t]; op->name; op++, number++) {
			if (!wanted(op) || count == OPS_MAX ||
			    (number % options.parts != options.part && !shared_by_all(op)))
				continue;
			ops[count] = op;
			numbers[count++] = number;
		}
	for (unsigned i = 0; i < count && !(options.first && total.failures); i++) {
		unsigned at = options.seconds > 0 ? (i + (unsigned)options.seed) % count : i;

		if (options.seconds > 0 && stage_seconds() > start + options.seconds)
			break;
		run_op(ops[at], numbers[at], start + options.seconds * (i + 1) / count);
	}
	printf("%u operations of %u", total.done, count);
}

static void list_ops(void)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct op *op = tables[t]; op->name; op++) {
			char text[200];

			name_op(op, text, sizeof(text));
			printf("%s\n", text);
		}
}

static pid_t harness;

static void on_signal(int signal)
{
	char path[128];

	(void)signal;
	/* The survivor dies with us. */
	if (getpid() == harness && arena_path(path, sizeof(path), arena_name) == 0) {
		arena_unlink(path);
		service_remove();
	}
	_exit(2);
}

static int read_options(int argc, char **argv)
{
	static const struct option names[] = { { "list", no_argument, NULL, 'l' },
					       { "only", required_argument, NULL, 'o' },
					       { "at", required_argument, NULL, 'a' },
					       { "way", required_argument, NULL, 'w' },
					       { "changes", no_argument, NULL, 'c' },
					       { "first", no_argument, NULL, 'f' },
					       { "seconds", required_argument, NULL, 's' },
					       { "seed", required_argument, NULL, 'r' },
					       { "table", required_argument, NULL, 't' },
					       { "part", required_argument, NULL, 'p' },
					       { NULL, 0, NULL, 0 } };
	int c, listing = 0;

	options.seed = test_seed_silent();
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'l': listing = 1; break;
		case 'o': options.only = optarg; break;
		case 'a': options.at = atoll(optarg); break;
		case 'w': options.way = atoi(optarg); break;
		case 'c': options.changes = true; break;
		case 'f': options.first = true; break;
		case 's': options.seconds = atof(optarg); break;
		case 'r': options.seed = strtoull(optarg, NULL, 0); break;
		case 't': options.table = optarg; break;
		case 'p':
			if (sscanf(optarg, "%u/%u", &options.part, &options.parts) != 2 ||
			    !options.parts)
				exit(2);
			break;
		default: exit(2);
		}
	}
	return listing;
}

int main(int argc, char **argv)
{
	double start = stage_seconds();

	if (read_options(argc, argv)) {
		list_ops();
		return 0;
	}
	/* What is large goes back when it is freed: each fork would copy its page tables. */
	mallopt(M_MMAP_THRESHOLD, 1 << 18);
	trace = stage_memory(sizeof(*trace));
	board = stage_memory(sizeof(*board));
	kept = calloc(1, sizeof(*kept));
	table = options.table ? fopen(options.table, "w") : NULL;
	if (!kept || (options.table && !table))
		return 2;
	snprintf(arena_name, sizeof(arena_name), "crash-%dx", (int)getpid());
	service_paths();
	harness = getpid();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	printf("seed %llu\n", (unsigned long long)options.seed);
	print_head();
	run_ops(start);
	printf(", %llu kills, %llu failed, in %.0f s\n", (unsigned long long)total.kills,
	       (unsigned long long)total.failures, stage_seconds() - start);
	if (table)
		fclose(table);
	return total.failures != 0 || total.kills == 0;
}
