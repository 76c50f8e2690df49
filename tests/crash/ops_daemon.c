/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: shmallocd. The victim is one (service.h): somebody has asked it for something, or has died,
 * and it dies while it acts on that, from the event to the answer.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service.h"
#include "stage.h"

static int result;

static bool done(void)
{
	return result == 0;
}

static void must(int r, const char *what)
{
	if (r)
		broken("%s: %s", what, shma_strerror(r));
}

/* Whose bytes others see changing. Known from a first run. */
static void watch_arena(const struct arena *a)
{
	/* Where no arena is, only calls of the kernel are points. */
	board->base = a ? (uint64_t)(uintptr_t)a->base : PAGE_SIZE;
	board->size = a ? a->g.file_size : PAGE_SIZE;
}

/* ---- requests ---- */

static void begin(void)
{
	board->account.service = true;
	must(service_start(), "starting the daemon");
}

static uint32_t asked;

static void ask(enum request_type type, uint32_t backing)
{
	asked = backing;
	service_ask(type, service_name(backing), backing);
}

/* Connected, and the request is there: the next turn is all about it. */
static void act(void)
{
	struct reply reply;

	service_turn();
	result = service_answer(&reply);
	if (service_arena(service_name(asked)))
		watch_arena(service_arena(service_name(asked)));
}

static void to_create(uint32_t backing)
{
	begin();
	note_arena(backing, FATE_EITHER);
	ask(REQUEST_ARENA_CREATE, backing);
}

static void to_create_posix(void)
{
	to_create(BACKING_POSIX);
}
static void to_create_file(void)
{
	to_create(BACKING_FILE);
}
static void to_create_memfd(void)
{
	to_create(BACKING_MEMFD);
}

static void make(uint32_t backing, enum fate fate)
{
	struct reply reply;

	must(service_call(REQUEST_ARENA_CREATE, service_name(backing), backing, &reply),
	     "creating an arena");
	service_sweep();
	note_arena(backing, fate);
}

static void to_destroy(uint32_t backing)
{
	begin();
	make(backing, FATE_EITHER);
	board->account.arena[0].unmade = true;
	watch_arena(service_arena(service_name(backing)));
	ask(REQUEST_ARENA_DESTROY, backing);
}

static void to_destroy_posix(void)
{
	to_destroy(BACKING_POSIX);
}
static void to_destroy_file(void)
{
	to_destroy(BACKING_FILE);
}
static void to_destroy_memfd(void)
{
	to_destroy(BACKING_MEMFD);
}

static bool unmade_it(void)
{
	return result == 0 && !service_arena(service_name(asked));
}

/* An arena that clients have made by themselves. */
static void to_find(void)
{
	begin();
	service_ask(REQUEST_ARENA_SHOW, arena_name, 0);
}

static void find(void)
{
	struct reply reply;

	service_turn();
	result = service_answer(&reply);
	watch_arena(service_arena(arena_name));
}

static bool found(void)
{
	return result == 0 && service_arena(arena_name);
}

/* ---- the book of an earlier one ---- */

/* In a daemon before this one, which is killed at its best. */
static void earlier(void (*body)(void))
{
	pid_t pid = stage_spawn();

	board->account.service = true;
	if (pid == 0) {
		must(service_start(), "starting the daemon");
		body();
		kill(getpid(), SIGKILL);
	}
	if (!WIFSIGNALED(stage_wait(pid)))
		broken("the earlier daemon has ended by itself: %s", board->failure);
}

static void serve_main(void)
{
	struct reply reply;

	must(service_call(REQUEST_ARENA_SHOW, arena_name, 0, &reply), "adopting the arena");
	service_sweep();
	board->account.in_book = true;
}

static void serve_several(void)
{
	serve_main();
	make(BACKING_POSIX, FATE_KEPT);
	make(BACKING_FILE, FATE_KEPT);
}

static void book_of_several(void)
{
	earlier(serve_several);
}

static void serve_one_in_the_making(void)
{
	make(BACKING_FILE, FATE_EITHER);
	service_write_phase(BACKING_FILE, STATE_CREATING);
}

static void book_of_a_creation(void)
{
	earlier(serve_one_in_the_making);
}

static void serve_those_in_the_unmaking(void)
{
	make(BACKING_POSIX, FATE_GONE);
	make(BACKING_FILE, FATE_GONE);
	service_write_phase(BACKING_POSIX, STATE_DESTROYING);
	service_write_phase(BACKING_FILE, STATE_DESTROYING);
}

static void book_of_destructions(void)
{
	earlier(serve_those_in_the_unmaking);
}

static void serve_memory(void)
{
	make(BACKING_MEMFD, FATE_KEPT);
}

static void book_of_the_lost(void)
{
	earlier(serve_memory);
}

static void start(void)
{
	result = service_start();
	watch_arena(service_arena(arena_name));
}

static bool adopted(void)
{
	return result == 0 && service_arena(arena_name) &&
	       service_arena(service_name(BACKING_POSIX)) &&
	       service_arena(service_name(BACKING_FILE));
}

static void start_with_file(void)
{
	result = service_start();
	watch_arena(service_arena(service_name(BACKING_FILE)));
}

static bool completed(void)
{
	return result == 0 && service_arena(service_name(BACKING_FILE));
}

static bool cleared(void)
{
	return result == 0 && !service_files(NULL);
}

static bool lost_it(void)
{
	struct reply reply;

	return service_call(REQUEST_ARENA_SHOW, service_name(BACKING_MEMFD), 0, &reply) == 0 &&
	       reply.arena.status == ARENA_LOST;
}

/* ---- deaths that it sees ---- */

/* A client in the middle of its life, until it is killed. */
static void live(const struct shma_options *opt)
{
	int r;

	/* The daemon, which is this process's parent, may be without a processor for long. */
	do
		r = shma_open(&self, arena_name, opt ? 0 : SHMA_EMBEDDED, opt);
	while (r == -ETIMEDOUT);
	must(r, "opening the arena");
	for (uint32_t i = 0; i < 20; i++)
		make_thing(i % 3 ? 100 : 3000, i % 5 ? 0 : SHMA_SHARED, FATE_GONE);
	make_thing(40960, 0, FATE_GONE);
	make_thing(40960, SHMA_LARGE, FATE_GONE);
	make_thing(UINT64_C(3) << 20, 0, FATE_GONE);
	note_label("left", make_thing(200, 0, FATE_KEPT), FATE_KEPT, true);
	must(shma_publish(self, "left", thing_at(board->account.things - 1)->handle), "publishing");
	write_line(100);
	write_line(1000);
	board->number[2] = 1;
	for (;;)
		pause();
}

static void wait_for_client(void)
{
	while (!board->number[2] && !board->failure[0])
		usleep(200);
	if (board->failure[0])
		_exit(1);
}

static void bury(pid_t pid)
{
	kill(pid, SIGKILL);
	stage_wait(pid);
}

static pid_t client_of_the_daemon(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .socket = service_socket };
	uint32_t watched = service_watched();
	pid_t pid = stage_spawn();

	if (pid == 0)
		live(&opt);
	while (service_watched() == watched && !board->failure[0])
		service_turn();
	wait_for_client();
	return pid;
}

/* A client that the daemon watches has just died. */
static void with_dead_client(void)
{
	begin();
	serve_main();
	bury(client_of_the_daemon());
}

static void reap(void)
{
	for (int i = 0; i < 3 && !service_deaths(); i++)
		service_turn();
	watch_arena(service_arena(arena_name));
}

static bool reaped(void)
{
	return service_deaths() == 1;
}

/* One that has never told the daemon, which comes only afterwards. */
static void book_and_dead_client(void)
{
	pid_t pid;

	earlier(serve_main);
	pid = stage_spawn();
	if (pid == 0)
		live(NULL);
	wait_for_client();
	bury(pid);
}

static void start_and_sweep(void)
{
	result = service_start();
	if (!result)
		service_sweep();
	watch_arena(service_arena(arena_name));
}

/* The dead daemon itself is the other one. */
static bool swept(void)
{
	return result == 0 && service_deaths() == 2;
}

/* ---- its clients ---- */

static void serve(void)
{
	must(service_start(), "starting the daemon");
	serve_main();
	board->number[2] = 1;
	for (;;)
		service_turn();
}

/* A daemon in a process of its own, which dies with the victim. */
static void beside_daemon(void)
{
	pid_t pid = stage_spawn();

	if (pid == 0)
		serve();
	board->account.service = true;
	board->account.daemon = pid;
	wait_for_client();
}

static void open_through_it(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .socket = service_socket };

	do
		result = shma_open(&self, arena_name, 0, &opt);
	while (result == -ETIMEDOUT);
}

static void opened_through_it(void)
{
	beside_daemon();
	open_through_it();
	must(result, "opening the arena");
	make_thing(100, 0, FATE_GONE);
	drop_thing(make_thing(1000, 0, FATE_GONE));
	watch_arena(&self->arena);
}

static void close_it(void)
{
	result = shma_close(self);
	self = NULL;
}

/* ---- its end in order ---- */

static void with_several(void)
{
	begin();
	serve_several();
	watch_arena(service_arena(arena_name));
}

static void stop(void)
{
	service_stop();
}

#define DAEMON(name, path, prepare, run, took) \
	OP_SO(OP_UNATTACHED, name, path, prepare, run, took)

const struct op daemon_ops[] = {
	DAEMON("daemon creates", "arena in shared memory", to_create_posix, act, done),
	DAEMON("daemon creates", "arena in a file", to_create_file, act, done),
	DAEMON("daemon creates", "arena without a name", to_create_memfd, act, done),
	DAEMON("daemon destroys", "arena in shared memory", to_destroy_posix, act, unmade_it),
	DAEMON("daemon destroys", "arena in a file", to_destroy_file, act, unmade_it),
	DAEMON("daemon destroys", "arena without a name", to_destroy_memfd, act, unmade_it),
	DAEMON("daemon adopts", "arena of clients", to_find, find, found),
	DAEMON("daemon adopts", "at its start, three", book_of_several, start, adopted),
	DAEMON("daemon adopts", "completing a creation", book_of_a_creation, start_with_file, completed),
	DAEMON("daemon adopts", "completing destructions", book_of_destructions, start, cleared),
	DAEMON("daemon adopts", "arena that is lost", book_of_the_lost, start, lost_it),
	DAEMON("daemon reaps", "client that it watches", with_dead_client, reap, reaped),
	DAEMON("daemon reaps", "at its start", book_and_dead_client, start_and_sweep, swept),
	DAEMON("open", "through the daemon", beside_daemon, open_through_it, done),
	DAEMON("close", "through the daemon", opened_through_it, close_it, done),
	DAEMON("daemon stops", "with three arenas", with_several, stop, NULL),
	{ .name = NULL }
};
