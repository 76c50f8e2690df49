/* SPDX-License-Identifier: Apache-2.0 */
#include "step.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG  0x100
#define BREAKPOINT 0xcc
#define PAGE	   4096u
#define WINDOW	   64  /* bytes that one instruction can change */
#define NEAR_STEPS 400 /* stepped after a breakpoint, at most, if there is a choice */

/* The handler must not call what may hold the breakpoint: everything it needs is in this file. */
static struct {
	enum { OFF, TRACING, KILLING, RUNNING, PASSING } mode;
	volatile bool over;
	bool first;
	uint64_t steps;
	/* tracing */
	struct trace *trace;
	uintptr_t shared, shared_end;
	bool watching, syscall, mapped;
	struct robust_list_head *robust; /* by which the kernel finds a dead thread's locks */
	struct robust_list *locks, *locking;
	uintptr_t watched;
	uint64_t before[WINDOW / 8];
	/* killing */
	struct plan plan;
	uint32_t met;
	unsigned char original;
	uint64_t *died_at;
} step;

/* ---- what an instruction may write to ---- */

/* Registers in the processor's numbering. */
static const int registers[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				   REG_R12, REG_R13, REG_R14, REG_R15 };

struct prefix {
	int rex; /* R, X, B as in a REX prefix */
	bool fs;
	int map;	/* 1: one byte, 2: 0f, 3: 0f 38, 4: 0f 3a */
	uint32_t scale; /* of an 8-bit displacement */
};

static const unsigned char *vex(const unsigned char *p, struct prefix *x)
{
	x->map = p[0] == 0xc5 ? 2 : (p[1] & 0x7) + 1;
	x->rex = p[0] == 0xc5 ? (p[1] & 0x80 ? 0 : 4) : (~p[1] >> 5 & 7);
	if (p[0] != 0x62)
		return p + (p[0] == 0xc5 ? 2 : 3);
	x->scale = 16u << (p[3] >> 5 & 3); /* of moves of whole registers */
	return p + 4;
}

static const unsigned char *prefixes(const unsigned char *p, struct prefix *x)
{
	*x = (struct prefix){ .map = 1, .scale = 1 };
	for (;; p++) {
		if (*p == 0x64 || *p == 0x65)
			x->fs = true;
		else if (*p != 0x66 && *p != 0x67 && *p != 0xf2 && *p != 0xf3 && *p != 0xf0 &&
			 *p != 0x2e && *p != 0x3e && *p != 0x36 && *p != 0x26)
			break;
	}
	if ((*p & 0xf0) == 0x40)
		x->rex = *p++ & 7;
	if (*p == 0xc4 || *p == 0xc5 || *p == 0x62)
		return vex(p, x);
	if (*p != 0x0f)
		return p;
	x->map = p[1] == 0x38 ? 3 : p[1] == 0x3a ? 4 : 2;
	return p + (x->map == 2 ? 1 : 2);
}

static bool has_operand(int map, unsigned char op)
{
	if (map == 2)
		return !(op == 0x05 || op == 0x0b || op == 0x77 || (op & 0xf0) == 0x80 ||
			 op == 0xa2 || (op & 0xf8) == 0xc8 || (op >= 0x30 && op <= 0x37));
	if (map > 2)
		return true;
	return (op < 0x40 && (op & 7) < 4) || op == 0x63 || op == 0x69 || op == 0x6b ||
	       (op & 0xf0) == 0x80 || (op & 0xfe) == 0xc0 || (op & 0xfe) == 0xc6 ||
	       (op & 0xfc) == 0xd0 || (op & 0xf8) == 0xd8 || (op & 0xfe) == 0xf6 ||
	       (op & 0xfe) == 0xfe;
}

static uint64_t displacement(const unsigned char *p, int mod, uint32_t scale)
{
	int32_t wide;

	if (mod == 1)
		return (uint64_t)((int64_t)(signed char)*p * scale);
	if (mod == 0)
		return 0;
	__builtin_memcpy(&wide, p, sizeof(wide));
	return (uint64_t)(int64_t)wide;
}

/* The address that an instruction's memory operand has; 0: it has none, or none in the arena. */
static uintptr_t operand(const unsigned char *p, const greg_t *r)
{
	struct prefix x;
	int mod, rm;
	uint64_t base;

	p = prefixes(p, &x);
	if (x.map == 1 && (*p == 0xa4 || *p == 0xa5 || *p == 0xaa || *p == 0xab))
		return (uintptr_t)r[REG_RDI];
	if (x.fs || !has_operand(x.map, *p))
		return 0;
	mod = p[1] >> 6;
	rm = p[1] & 7;
	p += 2;
	if (mod == 3 || (mod == 0 && rm == 5))
		return 0;
	if (rm == 4) {
		int index = (*p >> 3 & 7) | (x.rex & 2) << 2, scale = *p >> 6, b = *p & 7;

		base = index == 4 ? 0 : (uint64_t)r[registers[index]] << scale;
		if (mod == 0 && b == 5)
			return base + displacement(p + 1, 2, 1);
		base += (uint64_t)r[registers[b | (x.rex & 1) << 3]];
		p++;
	} else {
		base = (uint64_t)r[registers[rm | (x.rex & 1) << 3]];
	}
	return base + displacement(p, mod, x.scale);
}

static bool is_syscall(const unsigned char *p)
{
	return p[0] == 0x0f && p[1] == 0x05;
}

/* ---- the handler ---- */

static long call_kernel(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static __attribute__((noreturn)) void die(const greg_t *at)
{
	*step.died_at = (uint64_t)at[REG_RIP];
	for (;;)
		call_kernel(SYS_kill, call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0,
			    0);
}

/* Not by a load before it is mapped. */
static bool look(uint64_t *to)
{
	struct iovec local = { to, WINDOW }, remote = { (void *)step.watched, WINDOW };

	if (step.mapped) {
		__builtin_memcpy(to, (const void *)step.watched, WINDOW);
		return true;
	}
	return call_kernel(SYS_process_vm_readv, call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0),
			   (long)&local, 1, (long)&remote, 1, 0) == WINDOW;
}

static bool window_changed(void)
{
	uint64_t now[WINDOW / 8];

	if (!look(now))
		return true;
	for (int i = 0; i < WINDOW / 8; i++)
		if (now[i] != step.before[i])
			return true;
	return false;
}

/* The thread's own notes of its locks matter as shared memory does. */
static bool locks_changed(void)
{
	struct robust_list *locks = step.robust->list.next, *locking = step.robust->list_op_pending;
	bool changed = locks != step.locks || locking != step.locking;

	step.locks = locks;
	step.locking = locking;
	return changed;
}

static void trace_one(const greg_t *r)
{
	struct trace *t = step.trace;
	uint64_t at = (uint64_t)r[REG_RIP], i = step.steps;
	uintptr_t address;

	if (step.syscall)
		at |= STEP_CALL;
	if (locks_changed() || (step.watching && window_changed()))
		at |= STEP_STORE;
	if (i < STEPS_MAX)
		t->at[i] = at;
	t->count = i;
	if (t->limit && i > t->limit)
		call_kernel(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	step.syscall = is_syscall((const unsigned char *)r[REG_RIP]);
	address = operand((const unsigned char *)r[REG_RIP], r);
	step.watching = address >= step.shared && address < step.shared_end;
	if (!step.watching)
		return;
	if (address > step.shared_end - WINDOW)
		address = step.shared_end - WINDOW;
	step.watched = address;
	step.watching = look(step.before);
}

/* One instruction has been made. */
static void stepped(greg_t *r)
{
	if (step.first)
		step.first = false;
	else
		step.steps++;
	if (step.over) {
		r[REG_EFL] &= ~TRAP_FLAG;
		if (step.mode == TRACING)
			step.trace->over = true;
		return;
	}
	if (step.mode == TRACING)
		trace_one(r);
	else if (step.steps == step.plan.target)
		die(r);
}

/* The breakpoint was met; it is put back after its instruction. */
static void met(greg_t *r)
{
	*(volatile unsigned char *)step.plan.at = step.original;
	r[REG_RIP]--;
	r[REG_EFL] |= TRAP_FLAG;
	step.mode = PASSING;
	if (++step.met < step.plan.times)
		return;
	step.mode = KILLING;
	step.first = false;
	step.steps = step.plan.near;
	if (step.steps == step.plan.target)
		die(r);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal;
	(void)info;
	if (step.mode == RUNNING) {
		met(r);
	} else if (step.mode == PASSING) {
		*(volatile unsigned char *)step.plan.at = BREAKPOINT;
		r[REG_EFL] &= ~TRAP_FLAG;
		step.mode = RUNNING;
	} else {
		stepped(r);
	}
}

/* ---- beginning and end ---- */

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGTRAP, &action, NULL);
}

void step_trace(struct trace *t, const void *shared, size_t size, bool mapped)
{
	install();
	step.mapped = mapped;
	t->count = 0;
	t->over = false;
	step.mode = TRACING;
	step.trace = t;
	step.shared = (uintptr_t)shared;
	step.shared_end = (uintptr_t)shared + size;
}

static void plant(void)
{
	unsigned char *p = (unsigned char *)step.plan.at;
	void *page = (void *)((uintptr_t)p & ~(uintptr_t)(PAGE - 1));

	if (mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		step.mode = KILLING; /* the long way */
		return;
	}
	step.original = *p;
	*p = BREAKPOINT;
}

void step_kill(const struct plan *plan, uint64_t *died_at)
{
	install();
	step.died_at = died_at;
	step.plan = *plan;
	step.mode = plan->near ? RUNNING : KILLING;
}

void step_shorten(const struct trace *t, struct plan *plan)
{
	uint64_t best = plan->target, i = plan->target;

	plan->near = 0;
	while (i > 1 && (plan->target - i < NEAR_STEPS || best > 8 * NEAR_STEPS)) {
		uint64_t cost = plan->target - i + 3 * (uint64_t)t->times[i];

		/* Not where it all begins: that is met on the way there. */
		if (cost < best && step_address(t->at[i]) != step_address(t->at[0])) {
			best = cost;
			plan->near = i;
			plan->at = step_address(t->at[i]);
			plan->times = t->times[i];
		}
		i--;
	}
}

/* How often each instruction was met, through a table of addresses. */
void step_count(struct trace *t)
{
	const uint64_t slots = 1 << 20;
	struct slot {
		uint64_t at;
		uint32_t times;
	} *table = calloc(slots, sizeof(*table));

	for (uint64_t i = 0; table && i <= t->count; i++) {
		uint64_t at = step_address(t->at[i]), h = at * UINT64_C(0x9e3779b97f4a7c15) >> 44;

		while (table[h].at && table[h].at != at)
			h = (h + 1) % slots;
		table[h].at = at;
		t->times[i] = ++table[h].times;
	}
	free(table);
}

__attribute__((noinline)) void step_begin(void)
{
	size_t size;

	syscall(SYS_get_robust_list, 0, &step.robust, &size);
	step.over = false;
	step.first = true;
	step.steps = 0;
	if (step.mode == OFF)
		return;
	if (step.mode == RUNNING) {
		plant();
		if (step.mode == RUNNING)
			return;
	}
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq %0, (%%rsp)\n\tpopfq\n\t"
			 "lea 128(%%rsp), %%rsp"
			 :
			 : "i"(TRAP_FLAG)
			 : "memory", "cc");
}

__attribute__((noinline)) void step_end(void)
{
	step.over = true;
}

void step_die(void)
{
	if (step.mode == KILLING || step.mode == RUNNING || step.mode == PASSING)
		kill(getpid(), SIGKILL);
}
