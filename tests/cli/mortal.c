/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mortal SOCKET VERB [ARGUMENT…] : clients of every kind of mortality, for the scripts mortal_*.sh. Prints one
 * line of key=value for each answer; exits with 1 and a line on stderr where something is not as it must be.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "attach.h"
#include "mortal.h"

shma *self;
const char *socket_path, *program;

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "mortal: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	_exit(1);
}

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

void attach(const char *name, unsigned flags, const struct shma_options *more)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = UINT64_C(64) << 20 };
	int r;

	if (more)
		opt = *more;
	opt.socket = socket_path;
	r = shma_open(&self, name, flags, &opt);
	if (r)
		die("open %s: %s", name, shma_strerror(r));
}

/* ---- things ---- */

static void fill(void *p, size_t bytes, unsigned salt)
{
	for (size_t i = 0; i < bytes; i += i < 512 || bytes - i <= 64 ? 1 : 64)
		((unsigned char *)p)[i] = (unsigned char)(salt + i * 7);
}

static bool whole(const void *p, size_t bytes, unsigned salt)
{
	for (size_t i = 0; i < bytes; i += i < 512 || bytes - i <= 64 ? 1 : 64)
		if (((const unsigned char *)p)[i] != (unsigned char)(salt + i * 7))
			return false;
	return true;
}

void things_make(struct things *t, unsigned salt)
{
	unsigned seed = salt;

	t->salt = salt;
	for (t->count = 0; t->count < THINGS; t->count++) {
		unsigned i = t->count, flags = i % 5 == 0 ? SHMA_SHARED : 0;
		size_t bytes = 1 + (unsigned)rand_r(&seed) % (i % 10 ? 3000 : 40000);

		/* A large one, and one of more than a zone. */
		if (i == 7 || i == 11)
			bytes = i == 7 ? 1 << 20 : 9 << 20;
		t->handle[i] = shma_alloc(self, bytes, flags);
		t->bytes[i] = bytes;
		if (!t->handle[i])
			die("object %u of %zu bytes: %s", i, bytes, strerror(errno));
		fill(shma_ptr(self, t->handle[i]), bytes, salt + i);
	}
}

void things_check(const struct things *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		const void *p = shma_ptr(self, t->handle[i]);

		if (!p)
			die("object %u of %zu bytes is lost: %s", i, t->bytes[i], strerror(errno));
		if (!whole(p, t->bytes[i], t->salt + i))
			die("object %u of %zu bytes is not as written", i, t->bytes[i]);
	}
}

void things_free(struct things *t)
{
	while (t->count) {
		int r = shma_free(self, t->handle[--t->count]);

		if (r)
			die("object %u cannot be freed: %s", t->count, shma_strerror(r));
	}
}

/* ---- hold ---- */

static const char *hold_name;
static struct things things;
static struct shma_record open_record;
static bool closed;

static void hold_loop(void);

static void *hold_on(void *unused)
{
	(void)unused;
	usleep(20000); /* the first thread has ended by then */
	hold_loop();
	exit(0);
}

/* The first thread ends; another one goes on. */
static void become_zombie(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, hold_on, NULL))
		die("no thread");
	syscall(SYS_exit, 0);
}

static void exec_again(void)
{
	/* What was read from stdin ahead would be gone: there is one command a line, and each is awaited. */
	execl(program, program, socket_path, "hold", hold_name, (char *)NULL);
	die("exec: %s", strerror(errno));
}

static void *exec_in_thread(void *unused)
{
	(void)unused;
	exec_again();
	return NULL;
}

static void exec_by_other_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, exec_in_thread, NULL))
		die("no thread");
	for (;;)
		pause();
}

/* All kinds of calls, with what the process is left with. */
static void work_a_little(void)
{
	int r;

	for (int i = 0; i < 3000; i++) {
		shma_handle h = shma_alloc(self, 16 + (size_t)i % 500, 0);

		if (!h || shma_free(self, h))
			die("alloc and free: %s", strerror(errno));
	}
	/* Without its files a process can take no new memory, and this may want a new block. */
	r = shma_log(self, 6, "still here");
	if (r && !(closed && (r == -ENOMEM || r == -EBADF || r == -EAGAIN)))
		die("log: %s", shma_strerror(r));
}

static void obey(const char *line)
{
	if (strcmp(line, "make") == 0) {
		things_make(&things, (unsigned)getpid());
		say("made=%u", things.count);
	} else if (strcmp(line, "check") == 0) {
		things_check(&things);
		say("whole=%u", things.count);
	} else if (strcmp(line, "work") == 0) {
		work_a_little();
		say("worked");
	} else if (strcmp(line, "free") == 0) {
		things_free(&things);
		say("freed");
	} else if (strcmp(line, "reserve") == 0) {
		int r = shma_log_reserve(self, &open_record, 6, 12);

		say("reserved=%d", r);
	} else if (strcmp(line, "commit") == 0) {
		memcpy(open_record.data, "after a rest", 12);
		say("committed=%d", shma_log_commit(self, &open_record));
	} else if (strcmp(line, "closefrom") == 0) {
		closefrom(3);
		closed = true;
		say("closed");
	} else if (strcmp(line, "zombie") == 0) {
		become_zombie();
	} else if (strcmp(line, "exec") == 0) {
		exec_again();
	} else if (strcmp(line, "exec-by-thread") == 0) {
		exec_by_other_thread();
	}
}

static void hold_loop(void)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
}

/* hold NAME [create|embedded]: a client that does what lines of stdin say. */
static int verb_hold(char **argv)
{
	setvbuf(stdin, NULL, _IONBF, 0);
	hold_name = argv[0];
	attach(argv[0],
	       !argv[1]				? 0
	       : strcmp(argv[1], "create") == 0 ? SHMA_CREATE
						: SHMA_EMBEDDED,
	       NULL);
	say("client=%u pid=%d", self->arena.client, (int)getpid());
	hold_loop();
	return 0;
}

/* ---- a process of a wanted number ---- */

/* reuse PID sleep | reuse PID hold NAME: waits until the number is free, then makes a process of it that
 * sleeps, or that is a client. */
static int verb_reuse(char **argv)
{
	pid_t wanted = (pid_t)strtol(argv[0], NULL, 10);
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&wanted,
		.set_tid_size = 1,
	};
	pid_t child = -1;
	int status;

	fflush(stdout);
	for (int i = 0; child < 0 && i < 8000; i++) {
		child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (child < 0 && errno != EEXIST) {
			say("reuse=%s", strerrorname_np(errno));
			return 77;
		}
		if (child < 0)
			usleep(5000);
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (strcmp(argv[1], "hold") == 0)
			execl(program, program, socket_path, "hold", argv[2], "embedded",
			      (char *)NULL);
		say("reused=%d", (int)getpid());
		execlp("sleep", "sleep", "1000", (char *)NULL);
		_exit(1);
	}
	if (child < 0)
		die("number %d does not become free", (int)wanted);
	/* Not a reader of stdin beside the child. */
	waitpid(child, &status, 0);
	return 0;
}

/* ---- */

static const struct {
	const char *name;
	int arguments; /* at least */
	int (*run)(char **argv);
} verbs[] = {
	{ "hold", 1, verb_hold },	{ "reuse", 2, verb_reuse },
	{ "measure", 1, verb_measure }, { "follow", 1, verb_follow },
	{ "stopped", 2, verb_stopped }, { "halfway", 2, verb_halfway },
	{ "press", 1, verb_press },
};

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	program = argv[0];
	socket_path = argv[1];
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, argv[2]) == 0 && argc - 3 >= verbs[i].arguments)
			return verbs[i].run(argv + 3);
	return 2;
}
