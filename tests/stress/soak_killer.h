/* SPDX-License-Identifier: Apache-2.0 */
/* soak_killer.h - the killer's own: who there is, and what has been done to them. */
#ifndef SOAK_KILLER_H
#define SOAK_KILLER_H

#include "soak.h"

#define MS UINT64_C(1000000)

enum process_state { PROCESS_NONE, PROCESS_RUNS, PROCESS_STOPPED, PROCESS_KILLED };
struct process {
	enum process_state state;
	pid_t pid;
	int fd;		     /* of it */
	bool inherited;	     /* the auditor's child, not ours */
	uint64_t until_ns;   /* stopped */
	uint64_t excused_ns; /* whether it hangs is counted from here: it was stopped until then */
	uint64_t ops_at_start;
	uint64_t ready_ops; /* not killed before it has done so many */
};

struct options {
	uint64_t seconds, least;
	uint32_t rounds, processes, threads;
	bool keep;
};

struct sum {
	uint64_t kills, daemon_kills, stops, starts, inherited, left, in_call, checks;
	uint64_t ops, unresolved, strays, records, by_daemon, by_auditor, wait_ns, longest_wait_ns,
		rest_ns;
	uint64_t ops_killed[OPS];
};

extern struct options option;
extern struct process workers[SLOTS_MAX], daemon_process, auditor_process, ledger_process;
extern int auditor_fd;
extern unsigned seed;
extern char dir[64];
extern struct sum sum;

/* The test is over: says why, or what a process has said before. */
__attribute__((noreturn)) void give_up(void);
__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...);
void kill_all(void);
void remove_files(void);

struct answer ask(const struct order *o);
void start_worker(uint32_t slot);
void start_daemon(void);
void start_auditor(void);
void start_ledger(void);
/* Who has died is noted, buried and replaced; who has ended unasked fails the test. */
void look_after_all(void);
/* The ledger and the auditor end by themselves when told. */
void wait_for_end(struct process *p, const char *who);

/* One kill, or a stop. */
void strike(void);
/* Continues who has been stopped for long enough, or all. */
void go_on_all(bool now);
void look_for_hung(void);

#endif
