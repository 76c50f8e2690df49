/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the soak test kills and stops, and when. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>

#include "soak_killer.h"

/* ---- killing, stopping, hanging ---- */

static void send_signal(const struct process *p, int signal)
{
	if (pidfd_send_signal(p->fd, signal, NULL, 0) && errno != ESRCH)
		fail("kill: %s", strerror(errno));
}

static void go_on(struct process *p)
{
	send_signal(p, SIGCONT);
	p->state = PROCESS_RUNS;
	p->excused_ns = now_ns();
}

void go_on_all(bool now)
{
	for (uint32_t i = 0; i < option.processes; i++)
		if (workers[i].state == PROCESS_STOPPED && (now || workers[i].until_ns < now_ns()))
			go_on(&workers[i]);
	if (ledger_process.state == PROCESS_STOPPED && (now || ledger_process.until_ns < now_ns()))
		go_on(&ledger_process);
}

static void stop(struct process *p, uint32_t ms)
{
	if (p->state != PROCESS_RUNS)
		return;
	send_signal(p, SIGSTOP);
	p->state = PROCESS_STOPPED;
	p->until_ns = now_ns() + ms * MS;
	sum.stops++;
}

static void kill_process(struct process *p)
{
	send_signal(p, SIGKILL);
	p->state = PROCESS_KILLED;
	sum.kills++;
}

static bool ripe(uint32_t slot)
{
	const struct process *p = &workers[slot];

	if (p->state == PROCESS_STOPPED)
		return true;
	return p->state == PROCESS_RUNS &&
	       atomic_load(&account->slots[slot].actors[0].ops) - p->ops_at_start >= p->ready_ops;
}

/* A worker with a thread in a call of this kind. Most threads have no processor at any time, so it still is
 * when it dies. NOTHING: nobody. */
static uint32_t slot_in_call(enum op op, uint32_t from)
{
	for (uint32_t i = 0; i < option.processes; i++) {
		uint32_t slot = (from + i) % option.processes;

		for (uint32_t k = 0; k < option.threads; k++)
			if (workers[slot].state == PROCESS_RUNS &&
			    atomic_load(&account->slots[slot].actors[k].op) == op)
				return slot;
	}
	return NOTHING;
}

/* In a call of any kind, each as likely as the others, but for those that take most of the time anyway. */
static uint32_t slot_in_rare_call(uint32_t from)
{
	uint32_t first = draw(&seed, OPS), found = NOTHING;

	for (uint32_t i = 0; i < OPS && found == NOTHING; i++) {
		enum op op = (enum op)((first + i) % OPS);

		if (op != OP_NONE && op != OP_LOG && op != OP_READ_LOG)
			found = slot_in_call(op, from);
	}
	return found;
}

static void kill_one(uint32_t slot)
{
	/* Short calls would hardly ever be met by chance. */
	uint32_t rare = draw(&seed, 2) ? slot_in_rare_call(slot) : NOTHING;

	if (rare != NOTHING) {
		kill_process(&workers[rare]);
		return;
	}
	for (uint32_t i = 0; i < option.processes; i++, slot = (slot + 1) % option.processes) {
		if (!ripe(slot))
			continue;
		kill_process(&workers[slot]);
		return;
	}
}

void strike(void)
{
	uint32_t slot = draw(&seed, option.processes), what = draw(&seed, 400);

	if (what < 8 && daemon_process.state == PROCESS_RUNS) {
		kill_process(&daemon_process);
		sum.daemon_kills++;
	} else if (what < 10) {
		stop(&ledger_process, 1 + draw(&seed, 60));
	} else if (what < 28) {
		stop(&workers[slot], 1 + draw(&seed, draw(&seed, 8) ? 60 : 400));
	} else {
		kill_one(slot);
	}
}

#define HUNG_NS (UINT64_C(20000) * MS)

void look_for_hung(void)
{
	for (uint32_t i = 0; i < option.processes; i++)
		for (uint32_t k = 0; k < option.threads; k++) {
			struct actor *a = &account->slots[i].actors[k];
			uint64_t since = atomic_load(&a->since_ns);
			uint32_t op = atomic_load(&a->op);

			if (workers[i].state != PROCESS_RUNS || op == OP_NONE ||
			    atomic_load(&a->state) == ACTOR_NONE)
				continue;
			if (since < workers[i].excused_ns)
				since = workers[i].excused_ns;
			if (now_ns() > since + HUNG_NS)
				fail("worker %u, thread %u, process %d, hangs in %s", i, k,
				     (int)workers[i].pid, op_name(op));
		}
}
