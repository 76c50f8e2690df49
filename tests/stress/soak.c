/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soak [--seconds N] [--seed S] [--kills LEAST] [--rounds N] [--processes N] [--threads N]
 *
 * Processes of several threads do everything that the public calls offer, in an arena of a shmallocd that
 * $SHMALLOCD names; one at random is killed every few milliseconds, shmallocd too, some are stopped for a
 * while. Now and then all rest, and the auditor compares the arena with the account (soak.h). Rounds
 * differ in the log's policy, the arena's size and quota, and the daemon's kind of input and output.
 *
 * Prints its seed first, a line a round, and in the end kills, operations and losses, which are 0 or the
 * test has failed.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connect.h"
#include "soak_killer.h"

#include "../seed.h"

struct options option = { .seconds = 12, .processes = 8, .threads = 3 };

/* ---- checkpoints ---- */

static void set_phase(uint32_t phase)
{
	atomic_store(&account->phase, phase);
	syscall(SYS_futex, &account->phase, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static bool rests(uint32_t slot)
{
	uint32_t phase = atomic_load(&account->phase);

	if (workers[slot].state == PROCESS_NONE)
		return true;
	if (workers[slot].state != PROCESS_RUNS)
		return false;
	for (uint32_t i = 0; i < option.threads; i++) {
		struct actor *a = &account->slots[slot].actors[i];
		uint32_t state = atomic_load(&a->state);

		if (state != ACTOR_NONE &&
		    (state != ACTOR_PARKED || atomic_load(&a->parked) != phase))
			return false;
	}
	return true;
}

static void wait_for_rest(void)
{
	bool all = false;

	while (!all) {
		look_after_all();
		look_for_hung();
		all = daemon_process.state == PROCESS_RUNS;
		for (uint32_t i = 0; i < option.processes; i++)
			all = all && rests(i);
		usleep(200);
	}
}

static void count_answer(const struct answer *a)
{
	sum.checks++;
	sum.unresolved += a->unresolved;
	sum.strays += a->strays;
	sum.by_daemon += a->reaped_by_daemon;
	sum.by_auditor += a->reaped_by_auditor;
	sum.wait_ns += a->wait_ns;
	if (a->wait_ns > sum.longest_wait_ns)
		sum.longest_wait_ns = a->wait_ns;
}

static void check(enum command what)
{
	uint64_t start = now_ns();
	struct answer a;

	go_on_all(true);
	set_phase(atomic_load(&account->phase) + 1);
	wait_for_rest();
	a = ask(&(struct order){ .what = what });
	count_answer(&a);
	set_phase(atomic_load(&account->phase) + 1);
	for (uint32_t i = 0; i < option.processes; i++)
		workers[i].excused_ns = now_ns();
	sum.rest_ns += now_ns() - start;
}

/* ---- rounds ---- */

#define CHECK_MS 1000u /* between two checkpoints */
#define LATE_MS	 50u

static void reset_account(uint32_t round)
{
	static const uint64_t capacity[] = { 64, 16, 256 };

	snprintf(account->arena, sizeof(account->arena), "soak-%d-%u", (int)getpid(), round);
	account->round = round;
	account->policy = (int)((round + account->seed) % 3);
	account->capacity = capacity[(round + account->seed / 3) % 3] << 20;
	account->log_capacity = (round + account->seed / 9) % 2 ? 1 << 20 : 4 << 20;
	account->quota = round % 4 == 3 ? account->capacity / 16 : 0;
	account->slots_used = option.processes;
	account->actors_used = option.threads;
	account->first_writer = atomic_load(&account->next_writer);
	atomic_store(&account->ending, 0);
	atomic_store(&account->ledger_end, 0);
	atomic_store(&account->drain, 1);
	atomic_store(&account->drained, 0);
	atomic_store(&account->ledger_got, 0);
	atomic_store(&account->ledger_lost, 0);
	atomic_store(&account->ledger_pending, 0);
	memset(account->cells, 0, sizeof(account->cells));
	memset(account->name_locks, 0, sizeof(account->name_locks));
	memset(account->board, 0, sizeof(account->board));
	account->dead_ops_count = 0;
}

/* -ENOENT: it is done, if it was asked before and the answer was late. */
static int ask_to_destroy(int fd, bool again)
{
	struct request request;
	struct reply reply;
	int r = protocol_request(&request, REQUEST_ARENA_DESTROY, account->arena);

	if (!r)
		r = connect_call(fd, &request, &reply, NULL);
	return r == -ENOENT && again ? 0 : r;
}

static void destroy_arena(void)
{
	int fd, r = -ECONNREFUSED;
	bool asked = false;

	for (int i = 0; r && i < 2000; i++) {
		usleep(5000);
		fd = connect_daemon(account->socket);
		if (fd < 0)
			continue;
		r = ask_to_destroy(fd, asked);
		asked = true;
		close(fd);
	}
	if (r)
		fail("the arena cannot be destroyed: %s", shma_strerror(r));
}

static void end_round(void)
{
	uint64_t start = now_ns();

	go_on_all(true);
	atomic_store(&account->ending, 1);
	for (bool any = true; any;) {
		look_after_all();
		look_for_hung();
		any = false;
		for (uint32_t i = 0; i < option.processes; i++)
			any |= workers[i].state != PROCESS_NONE;
		usleep(1000);
		if (now_ns() - start > 60000 * MS)
			fail("workers do not leave");
	}
	check(COMMAND_END);
	atomic_store(&account->ledger_end, 1);
	wait_for_end(&ledger_process, "the ledger");
	close(auditor_fd);
	auditor_fd = -1;
	wait_for_end(&auditor_process, "the auditor");
	destroy_arena();
}

/* Strikes have times of their own: what else the killer has to do takes nothing from them, unless it is far
 * behind. */
static void wait_for_strike(uint64_t *next)
{
	uint64_t now = now_ns();

	if (*next + LATE_MS * MS < now)
		*next = now;
	*next += (500 + draw(&seed, 5000)) * UINT64_C(1000);
	if (*next > now)
		usleep((unsigned)((*next - now) / 1000));
}

static void run_round(uint32_t round, uint64_t ms)
{
	uint64_t end, checked, strike_at, begun = sum.kills;

	reset_account(round);
	start_auditor();
	start_ledger();
	for (uint32_t i = 0; i < option.processes; i++)
		start_worker(i);
	checked = strike_at = now_ns();
	end = checked + ms * MS;
	while (now_ns() < end) {
		wait_for_strike(&strike_at);
		look_after_all();
		go_on_all(false);
		look_for_hung();
		strike();
		if (now_ns() - checked > CHECK_MS * MS) {
			check(COMMAND_CHECK);
			checked = now_ns();
		}
	}
	end_round();
	printf("round %u: log policy %d, %llu MiB%s: %llu kills; %llu records read, %llu lost as counted\n",
	       round, account->policy, (unsigned long long)account->capacity >> 20,
	       account->quota ? ", quota" : "", (unsigned long long)(sum.kills - begun),
	       (unsigned long long)atomic_load(&account->ledger_got),
	       (unsigned long long)atomic_load(&account->ledger_lost));
	fflush(stdout);
	sum.records += atomic_load(&account->ledger_got);
}

/* ---- the whole ---- */

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'S' },
		{ "kills", required_argument, NULL, 'k' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "processes", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 't' },
		{ "keep", no_argument, NULL, 'K' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	seed = (unsigned)test_seed_silent();
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long long value = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (c) {
		case 's': option.seconds = value; break;
		case 'S': seed = (unsigned)value; break;
		case 'k': option.least = value; break;
		case 'r': option.rounds = (uint32_t)value; break;
		case 'p': option.processes = (uint32_t)value; break;
		case 't': option.threads = (uint32_t)value; break;
		case 'K': option.keep = true; break;
		default: exit(2);
		}
	}
	if (option.processes < 1 || option.processes > SLOTS_MAX || option.threads < 1 ||
	    option.threads > ACTORS_MAX) {
		fprintf(stderr, "at most %d processes of %d threads\n", SLOTS_MAX, ACTORS_MAX);
		exit(2);
	}
	if (!option.rounds)
		option.rounds = option.seconds < 90 ? 3 : (uint32_t)(option.seconds / 30);
}

static void prepare(void)
{
	const char *tmp = getenv("TMPDIR");

	account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (account == MAP_FAILED) {
		perror("account");
		exit(1);
	}
	account->seed = seed;
	snprintf(dir, sizeof(dir), "%.40s/soak.XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		exit(1);
	}
	snprintf(account->socket, sizeof(account->socket), "%s/socket", dir);
	atomic_store(&account->next_writer, 1);
}

static uint64_t done_of(enum op op)
{
	uint64_t done = 0;

	for (uint32_t i = 0; i < option.processes; i++)
		for (uint32_t k = 0; k < ACTORS_MAX; k++)
			done += account->slots[i].actors[k].done[op];
	return done;
}

static uint64_t longest_of(enum op op)
{
	uint64_t longest = 0;

	for (uint32_t i = 0; i < option.processes; i++)
		for (uint32_t k = 0; k < ACTORS_MAX; k++)
			if (account->slots[i].actors[k].longest_ns[op] > longest)
				longest = account->slots[i].actors[k].longest_ns[op];
	return longest;
}

#define NUMBER(n) ((unsigned long long)(n))

static void report_calls(void)
{
	printf("%-16s %10s %8s %12s\n", "call", "done", "cut", "longest, us, stops included");
	for (int op = 1; op < OPS; op++) {
		printf("%-16s %10llu %8llu %12llu\n", op_name((enum op)op),
		       NUMBER(done_of((enum op)op)), NUMBER(sum.ops_killed[op]),
		       NUMBER(longest_of((enum op)op) / 1000));
		sum.ops += done_of((enum op)op);
	}
}

static void report(void)
{
	uint64_t checks = sum.checks ? sum.checks : 1;

	report_calls();
	printf("%llu starts, %llu of them forks of an attached process; %llu left in order; %llu stops\n",
	       NUMBER(sum.starts), NUMBER(sum.inherited), NUMBER(sum.left), NUMBER(sum.stops));
	printf("%llu checkpoints, %llu ms each; the dead were waited for %llu us, at most %llu ms; found dead "
	       "there: %llu left to shmallocd, %llu to the auditor\n",
	       NUMBER(sum.checks), NUMBER(sum.rest_ns / MS / checks),
	       NUMBER(sum.wait_ns / 1000 / checks), NUMBER(sum.longest_wait_ns / MS),
	       NUMBER(sum.by_daemon), NUMBER(sum.by_auditor));
	printf("%llu objects went with who died taking or freeing them; %llu persistent ones only the dead "
	       "knew\n",
	       NUMBER(sum.unresolved), NUMBER(sum.strays));
	printf("seed %u: %llu kills (%llu of shmallocd, %llu in calls), %llu operations, %llu records read, "
	       "0 losses\n",
	       account->seed, NUMBER(sum.kills), NUMBER(sum.daemon_kills), NUMBER(sum.in_call),
	       NUMBER(sum.ops), NUMBER(sum.records));
}

int main(int argc, char **argv)
{
	if (!getenv("SHMALLOCD")) {
		fprintf(stderr, "SHMALLOCD is not set\n");
		return 77;
	}
	parse(argc, argv);
	prepare();
	printf("seed %u\n", seed);
	fflush(stdout);
	start_daemon();
	for (uint32_t i = 0; i < option.rounds; i++)
		run_round(i, option.seconds * 1000 / option.rounds);
	report();
	kill_all();
	remove_files();
	if (sum.kills < option.least) {
		printf("FAILED: fewer than %llu kills\n", (unsigned long long)option.least);
		return 1;
	}
	return 0;
}
