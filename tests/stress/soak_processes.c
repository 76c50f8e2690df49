/* SPDX-License-Identifier: Apache-2.0 */
/* The soak test's processes: forked, watched, buried, replaced. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "soak_killer.h"

struct process workers[SLOTS_MAX], daemon_process, auditor_process, ledger_process;
int auditor_fd = -1;
unsigned seed;
char dir[64];
struct sum sum;

static uint32_t next_life = ARENA_LIFE + 1;
static bool epoll_daemon;

/* ---- failing ---- */

void kill_all(void)
{
	struct process *rest[] = { &daemon_process, &auditor_process, &ledger_process };

	for (uint32_t i = 0; i < option.processes; i++)
		if (workers[i].state != PROCESS_NONE)
			pidfd_send_signal(workers[i].fd, SIGKILL, NULL, 0);
	for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		if (rest[i]->state != PROCESS_NONE)
			pidfd_send_signal(rest[i]->fd, SIGKILL, NULL, 0);
}

void remove_files(void)
{
	char path[256];

	snprintf(path, sizeof(path), "rm -rf '%s' /dev/shm/shmalloc.soak-%d-*", dir, (int)getpid());
	if (dir[0] && system(path))
		fprintf(stderr, "%s stays\n", dir);
}

void give_up(void)
{
	uint64_t until = now_ns() + 2000 * MS;

	while (atomic_load(&account->failed) == 1 && now_ns() < until)
		usleep(1000);
	printf("FAILED, seed %u, round %u, after %llu kills: %s\n", account->seed, account->round,
	       (unsigned long long)sum.kills, account->failure);
	for (uint32_t i = 0; i < account->dead_ops_count && i < 400; i++) {
		const struct dead_op *d = &account->dead_ops[i];

		fprintf(stderr, "cut: %s by life %u, entry %u, handle %#llx, cell %d, name %d\n",
			op_name(d->op), d->life, d->entry, (unsigned long long)d->handle,
			(int)d->cell, (int)d->name);
	}
	kill_all();
	if (option.keep)
		printf("left: %s and /dev/shm/shmalloc.%s\n", dir, account->arena);
	else
		remove_files();
	exit(1);
}

void fail(const char *format, ...)
{
	va_list args;

	if (!atomic_load(&account->failed)) {
		va_start(args, format);
		vsnprintf(account->failure, sizeof(account->failure), format, args);
		va_end(args);
	}
	atomic_store(&account->failed, 2);
	give_up();
}

/* ---- processes ---- */

/* Nobody has waited for it yet, so the number is still its own. */
static void watch(struct process *p, pid_t pid, bool inherited)
{
	p->pid = pid;
	p->inherited = inherited;
	p->fd = pidfd_open(pid, 0);
	if (p->fd < 0)
		fail("process %d: %s", (int)pid, strerror(errno));
	p->state = PROCESS_RUNS;
	p->excused_ns = now_ns();
}

static void become_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (auditor_fd > 0)
		close(auditor_fd);
}

static pid_t fork_child(void)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork: %s", strerror(errno));
	if (child == 0)
		become_child();
	return child;
}

static __attribute__((noreturn)) void auditor_has_ended(void)
{
	if (!atomic_load(&account->failed))
		fail("the auditor has ended");
	give_up();
}

/* An order that has no answer. */
static void tell(const struct order *o)
{
	if (send(auditor_fd, o, sizeof(*o), MSG_NOSIGNAL) != sizeof(*o))
		auditor_has_ended();
}

/* The auditor's answer to one order. */
struct answer ask(const struct order *o)
{
	struct answer a;

	tell(o);
	if (recv(auditor_fd, &a, sizeof(a), 0) != sizeof(a))
		auditor_has_ended();
	return a;
}

static __attribute__((noreturn)) void ended_by_itself(uint32_t slot)
{
	if (atomic_load(&account->failed))
		give_up();
	fail("worker %u, process %d, has ended by itself in %s", slot, (int)workers[slot].pid,
	     op_name(atomic_load(&account->slots[slot].actors[0].op)));
}

void start_worker(uint32_t slot)
{
	struct slot *s = &account->slots[slot];
	bool inherit = draw(&seed, 3) == 0;
	uint32_t life = next_life++;
	pid_t child;

	if (life >= LIVES_MAX)
		fail("more than %d lives", LIVES_MAX);
	for (uint32_t i = 0; i < ACTORS_MAX; i++) {
		atomic_store(&s->actors[i].op, OP_NONE);
		atomic_store(&s->actors[i].state, i ? ACTOR_NONE : ACTOR_RUNS);
	}
	atomic_store(&s->life, life);
	atomic_store(&account->lives[life].client, 0);
	atomic_store(&account->lives[life].alive, 1);
	workers[slot].ops_at_start = atomic_load(&s->actors[0].ops);
	/* Most live for a while; some are killed at once. */
	workers[slot].ready_ops = draw(&seed, 4) ? draw(&seed, 300) : 0;
	if (inherit) {
		child = ask(&(struct order){ .what = COMMAND_FORK, .slot = slot, .life = life })
				.pid;
		sum.inherited++;
	} else {
		child = fork_child();
		if (child == 0)
			work(slot, life, NULL);
	}
	sum.starts++;
	watch(&workers[slot], child, inherit);
}

void start_daemon(void)
{
	const char *program = getenv("SHMALLOCD");
	char state[80], log[80];
	pid_t child = fork_child();

	epoll_daemon = !epoll_daemon;
	if (child == 0) {
		int out;

		snprintf(state, sizeof(state), "%s/state", dir);
		snprintf(log, sizeof(log), "%s/log", dir);
		out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		execl(program, program, "--socket", account->socket, "--state-dir", state,
		      "--config", "/dev/null", "--io", epoll_daemon ? "epoll" : "auto",
		      (char *)NULL);
		_exit(127);
	}
	watch(&daemon_process, child, false);
}

static bool ended(const struct process *p)
{
	struct pollfd fd = { .fd = p->fd, .events = POLLIN };

	return p->state != PROCESS_NONE && poll(&fd, 1, 0) == 1;
}

static void bury(struct process *p)
{
	if (p->inherited)
		tell(&(struct order){ .what = COMMAND_BURY, .pid = p->pid });
	else
		waitpid(p->pid, NULL, 0);
	close(p->fd);
	p->state = PROCESS_NONE;
}

/* The calls that a death has cut, for the auditor. */
static void note_dead_ops(uint32_t slot)
{
	struct slot *s = &account->slots[slot];
	bool any = false;

	for (uint32_t i = 0; i < ACTORS_MAX; i++) {
		struct actor *a = &s->actors[i];
		uint32_t op = atomic_load(&a->op);

		if (op == OP_NONE || atomic_load(&a->state) == ACTOR_NONE)
			continue;
		if (account->dead_ops_count == DEAD_OPS_MAX)
			fail("too many calls cut between two checkpoints");
		account->dead_ops[account->dead_ops_count++] = (struct dead_op){
			.op = op,
			.life = atomic_load(&s->life),
			.entry = atomic_load(&a->entry),
			.cell = atomic_load(&a->cell),
			.name = atomic_load(&a->name),
			.handle = atomic_load(&a->handle),
		};
		sum.ops_killed[op < OPS ? op : 0]++;
		any = true;
	}
	sum.in_call += any;
}

/* Who has died is noted and replaced. */
static void replace_worker(uint32_t slot)
{
	uint32_t life = atomic_load(&account->slots[slot].life);

	if (workers[slot].state != PROCESS_KILLED) {
		if (atomic_load(&account->slots[slot].left) != life)
			ended_by_itself(slot);
		sum.left++;
	}
	note_dead_ops(slot);
	atomic_store(&account->lives[life].alive, 0);
	bury(&workers[slot]);
	if (!atomic_load(&account->ending))
		start_worker(slot);
}

void look_after_all(void)
{
	if (atomic_load(&account->failed))
		give_up();
	for (uint32_t i = 0; i < option.processes; i++)
		if (ended(&workers[i]))
			replace_worker(i);
	if (ended(&daemon_process)) {
		if (daemon_process.state != PROCESS_KILLED)
			fail("shmallocd has ended by itself");
		bury(&daemon_process);
		start_daemon();
	}
	if (ended(&auditor_process) || ended(&ledger_process))
		fail("auditor or ledger has ended by itself");
}

void start_auditor(void)
{
	struct answer a;
	int fds[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		fail("socketpair: %s", strerror(errno));
	child = fork_child();
	if (child == 0) {
		close(fds[0]);
		audit(fds[1]);
	}
	close(fds[1]);
	auditor_fd = fds[0];
	watch(&auditor_process, child, false);
	if (recv(auditor_fd, &a, sizeof(a), 0) != sizeof(a))
		give_up();
}

void start_ledger(void)
{
	pid_t child = fork_child();

	if (child == 0)
		ledger();
	watch(&ledger_process, child, false);
	while (!atomic_load(&account->drained)) {
		if (atomic_load(&account->failed))
			give_up();
		usleep(1000);
	}
}

void wait_for_end(struct process *p, const char *who)
{
	int status;

	if (waitpid(p->pid, &status, 0) != p->pid || status) {
		if (atomic_load(&account->failed))
			give_up();
		fail("%s ends with %#x", who, status);
	}
	close(p->fd);
	p->state = PROCESS_NONE;
}
