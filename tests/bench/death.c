/* SPDX-License-Identifier: Apache-2.0 */
/*
 * death.c - a client with a share of five million objects is killed; how long until its memory is back,
 * and how long a call of a survivor takes meanwhile. A program of its own, started by work_recovery.c,
 * since it asks the library for what no public call does: to recover this client, now.
 *
 * Processes: the leader, which kills, recovers and takes the times; an owner, the one to die; a keeper,
 * which has the rest of the objects; a survivor, which replaces random objects of its own the whole time,
 * each call by the clock. In three scenes the heir is a process that calls recovery_run(), nobody but the
 * survivor itself, slice by slice, and shmallocd.
 *
 * The kernel's share is from kill() to the process descriptor's becoming readable: it tears the dead one's
 * mapping down. The time to "memory back" begins there, and ends when the client's number is free, which
 * is the last store of a recovery; live objects are counted afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "death.h"
#include "recovery.h"
#include "words.h"
#include "zone.h"

#define QUIET_NS 100000000u
#define SCENE_NS 20000000000u /* to wait for an end of anything */

struct options opt = {.objects = 5000000, .capacity = UINT64_C(1) << 30};
struct board *board;
static int board_fd = -1;

void death_fail(const char *what, int err)
{
	fprintf(stderr, "death: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

void death_pin(int which)
{
	cpu_set_t set;

	if (which >= opt.ncpu)
		return;
	CPU_ZERO(&set);
	CPU_SET(opt.cpu[which], &set);
	sched_setaffinity(0, sizeof(set), &set);
}

shma *death_open(unsigned flags)
{
	struct shma_options options = {.struct_size = sizeof(options), .capacity = opt.capacity,
				       .log_policy = SHMA_LOG_OVERWRITE};
	shma *s;
	int r = shma_open(&s, opt.arena, opt.flags | flags, &options);

	if (r)
		death_fail("shma_open", r);
	return s;
}

static void emit(const char *name, uint64_t ns)
{
	printf("%s %.3f\n", name, (double)ns / 1000);
	fflush(stdout);
}

/* ---- processes ---- */

static __attribute__((noreturn)) void exec_role(const char *role, uint32_t objects)
{
	char count[16], fd[16], cpus[32], embedded[16];

	snprintf(count, sizeof(count), "%u", objects);
	snprintf(fd, sizeof(fd), "%d", board_fd);
	snprintf(cpus, sizeof(cpus), "%d,%d", opt.cpu[0], opt.cpu[opt.ncpu > 1]);
	snprintf(embedded, sizeof(embedded), "%u", opt.flags);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(board_fd, F_SETFD, 0);
	execl("/proc/self/exe", "death", "--role", role, "--arena", opt.arena, "--flags", embedded,
	      "--objects", count, "--board", fd, "--cpus", cpus, NULL);
	_exit(127);
}

/* A process made anew, which the leader shares nothing with but the arena and the board. Returns when it
 * has what it should. */
static pid_t start(const char *role, uint32_t objects)
{
	uint32_t before = atomic_load(&board->ready);
	uint64_t end = now_ns() + SCENE_NS;
	pid_t pid = fork();

	if (pid < 0)
		death_fail("fork", errno);
	if (!pid)
		exec_role(role, objects);
	while (atomic_load(&board->ready) == before) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			death_fail("a process ended", ECHILD);
		if (now_ns() > end)
			death_fail("a process is not ready", ETIMEDOUT);
		usleep(200);
	}
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- the leader ---- */

static void open_window(enum window window)
{
	uint64_t until = now_ns() + SCENE_NS;

	atomic_store(&board->window, window);
	while (atomic_load(&board->seen) != (uint32_t)window) {
		if (now_ns() > until)
			death_fail("the survivor does not answer", ETIMEDOUT);
		usleep(100);
	}
}

static uint32_t client_of(const struct arena *a, pid_t pid)
{
	struct client_view view;

	for (uint32_t n = 1; n < client_high(a); n++)
		if (!client_view(a, n, &view) && view.pid == pid)
			return n;
	death_fail("not a client", ESRCH);
}

static bool is_gone(const struct arena *a, uint32_t client)
{
	return client_word_state(atomic_load(client_word_at(a, client))) == CLIENT_FREE;
}

enum heir { HEIR_LEADER, HEIR_SURVIVOR, HEIR_DAEMON };

struct times {
	uint64_t kernel, back, cpu; /* cpu: of back, the leader's own */
};

/* From the kernel's report on. A look at the client's word is nothing that anybody notices. */
static uint64_t wait_for_memory(struct arena *a, uint32_t client, enum heir heir)
{
	uint64_t from = now_ns();

	while (!is_gone(a, client)) {
		if (now_ns() - from > SCENE_NS)
			death_fail("the memory does not come back", ETIMEDOUT);
		if (heir == HEIR_LEADER)
			recovery_run(a, client, true);
		else
			usleep(20);
	}
	return now_ns() - from;
}

static struct times kill_owner(struct arena *a, pid_t owner, enum heir heir)
{
	struct pollfd p = {.fd = pidfd_open(owner, 0), .events = POLLIN};
	uint32_t client = client_of(a, owner);
	struct times t;
	uint64_t from;

	if (p.fd < 0)
		death_fail("pidfd_open", errno);
	open_window(WINDOW_RECOVERY);
	from = now_ns();
	kill(owner, SIGKILL);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	t.kernel = now_ns() - from;
	t.cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	t.back = wait_for_memory(a, client, heir);
	t.cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - t.cpu;
	open_window(WINDOW_HALT);
	close(p.fd);
	waitpid(owner, NULL, 0);
	return t;
}

/* EOWNERDEAD: the longest that a zone's next holder works on its index before it has the lock. */
static uint64_t measure_rebuild(struct arena *a)
{
	pid_t locker = start("locker", 0);
	uint32_t client = client_of(a, locker);
	uint64_t longest = 0;

	end(locker);
	for (uint32_t z = 0; z < arena_refresh(a); z++) {
		uint32_t before = atomic_load(&zone_of(a, z)->rebuilds);
		uint64_t from = clock_ns(CLOCK_THREAD_CPUTIME_ID), took;

		if (zone_trylock(a, z))
			death_fail("a zone is locked", EBUSY);
		took = clock_ns(CLOCK_THREAD_CPUTIME_ID) - from;
		zone_unlock(a, z);
		if (atomic_load(&zone_of(a, z)->rebuilds) == before)
			death_fail("nobody died with this zone", EINVAL);
		if (took > longest)
			longest = took;
	}
	while (!is_gone(a, client))
		recovery_run(a, client, true);
	return longest;
}

/* All of the dead one's, and nothing else. */
static void check_account(shma *s, uint32_t kept)
{
	struct shma_stats st;
	int r = shma_stats(s, &st);

	if (r)
		death_fail("shma_stats", r);
	if (st.live_objects == kept + SURVIVOR_SLOTS)
		return;
	fprintf(stderr, "death: %llu objects live, not %u\n", (unsigned long long)st.live_objects,
		kept + SURVIVOR_SLOTS);
	exit(1);
}

static void measure_quiet(void)
{
	open_window(WINDOW_QUIET);
	usleep(QUIET_NS / 1000);
	open_window(WINDOW_HALT);
}

static struct times play(shma *s, enum heir heir)
{
	uint32_t owned = (uint32_t)((uint64_t)opt.objects * opt.share / 100);
	pid_t owner = start("owner", owned);
	struct times t;

	if (heir == HEIR_LEADER)
		emit("rebuild", measure_rebuild(&s->arena));
	t = kill_owner(&s->arena, owner, heir);
	check_account(s, opt.objects - owned);
	return t;
}

/* And begins anew. */
static uint64_t take_longest(enum window window)
{
	return atomic_exchange(&board->longest[window], 0);
}

static pid_t keeper, survivor;

static shma *open_scene(const char *suffix, unsigned flags)
{
	static char name[128];
	static const char *base;
	uint32_t kept = opt.objects - (uint32_t)((uint64_t)opt.objects * opt.share / 100);
	shma *s;

	if (!base)
		base = opt.arena;
	snprintf(name, sizeof(name), "%s-%s", base, suffix);
	opt.arena = name;
	opt.flags = flags;
	s = death_open(SHMA_CREATE | SHMA_EXCL);
	/* The leader is a client: only one can recover another. */
	if (shma_free(s, shma_alloc(s, 16, 0)))
		death_fail("the leader is no client", errno);
	keeper = kept ? start("owner", kept) : 0;
	survivor = start("survivor", 0);
	return s;
}

static void close_scene(shma *s)
{
	char path[160];

	end(survivor);
	if (keeper)
		end(keeper);
	shma_close(s);
	if (arena_path(path, sizeof(path), opt.arena) == 0)
		arena_unlink(path);
}

/* ---- scenes ---- */

/* In an arena without a daemon: first with a process that asks for the client, then without one. */
static void scene_embedded(void)
{
	shma *s = open_scene("e", SHMA_EMBEDDED);
	struct times t;

	measure_quiet();
	t = play(s, HEIR_LEADER);
	emit("kernel", t.kernel);
	emit("library", t.back);
	emit("cpu", t.cpu);
	emit("pause", take_longest(WINDOW_RECOVERY));
	t = play(s, HEIR_SURVIVOR);
	emit("slices", t.back);
	emit("slices_pause", take_longest(WINDOW_RECOVERY));
	close_scene(s);
}

struct daemon {
	pid_t pid;
	char folder[64], socket[96];
};

static void remove_folder(const char *folder)
{
	pid_t pid = fork();

	if (!pid) {
		execlp("rm", "rm", "-rf", folder, NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void run_daemon(const struct daemon *d, int out)
{
	char state[96];

	snprintf(state, sizeof(state), "%s/state", d->folder);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, STDOUT_FILENO);
	execl(opt.shmallocd, "shmallocd", "--socket", d->socket, "--state-dir", state, "--log-dir",
	      d->folder, NULL);
	_exit(127);
}

static void start_daemon(struct daemon *d)
{
	const char *tmp = getenv("TMPDIR");
	char line[256];
	ssize_t n;
	int fds[2];

	snprintf(d->folder, sizeof(d->folder), "%.40s/shm-bench.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(d->folder) || pipe2(fds, O_CLOEXEC))
		death_fail("mkdtemp, pipe", errno);
	snprintf(d->socket, sizeof(d->socket), "%s/socket", d->folder);
	setenv("SHMALLOC_SOCKET", d->socket, 1);
	d->pid = fork();
	if (!d->pid)
		run_daemon(d, fds[1]);
	close(fds[1]);
	n = read(fds[0], line, sizeof(line) - 1);
	close(fds[0]);
	if (n <= 0 || strncmp(line, "ready", 5))
		death_fail(opt.shmallocd, ECHILD);
}

static void stop_daemon(struct daemon *d)
{
	kill(d->pid, SIGTERM);
	waitpid(d->pid, NULL, 0);
	remove_folder(d->folder);
}

static void scene_daemon(void)
{
	struct daemon d;
	shma *s;
	struct times t;

	start_daemon(&d);
	s = open_scene("d", 0);
	measure_quiet();
	t = play(s, HEIR_DAEMON);
	emit("daemon", t.back);
	emit("daemon_pause", take_longest(WINDOW_RECOVERY));
	emit("quiet", take_longest(WINDOW_QUIET));
	close_scene(s);
	stop_daemon(&d);
}

static bool take_option(int c)
{
	switch (c) {
	case 'a': opt.arena = optarg; return true;
	case 's': opt.share = (uint32_t)atoi(optarg); return opt.share <= 100;
	case 'd': opt.shmallocd = optarg; return true;
	case 'c':
		opt.ncpu = sscanf(optarg, "%d,%d", &opt.cpu[0], &opt.cpu[1]);
		return opt.ncpu >= 1;
	case 'r': opt.role = optarg; return true;
	case 'f': opt.flags = (unsigned)atoi(optarg); return true;
	case 'o': opt.objects = (uint32_t)atoi(optarg); return true;
	case 'b': board_fd = atoi(optarg); return true;
	case 't': /* only show that it runs */
		opt.objects = 20000;
		opt.capacity = UINT64_C(64) << 20;
		return true;
	default: return false;
	}
}

static void map_board(void)
{
	if (board_fd < 0)
		board_fd = memfd_create("board", MFD_CLOEXEC);
	if (board_fd < 0 || ftruncate(board_fd, sizeof(*board)))
		death_fail("board", errno);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, board_fd, 0);
	if (board == MAP_FAILED)
		death_fail("board", errno);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"arena", 1, 0, 'a'}, {"share", 1, 0, 's'}, {"shmallocd", 1, 0, 'd'},
		{"cpus", 1, 0, 'c'},  {"tiny", 0, 0, 't'},  {"role", 1, 0, 'r'},
		{"flags", 1, 0, 'f'}, {"objects", 1, 0, 'o'}, {"board", 1, 0, 'b'},
		{0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!take_option(c))
			return 2;
	if (!opt.arena || (!opt.role && !opt.shmallocd))
		return 2;
	map_board();
	if (opt.role)
		death_role();
	death_pin(0);
	scene_embedded();
	scene_daemon();
	return 0;
}
