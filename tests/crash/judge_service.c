/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle, of what a dead daemon has left: asked by the next one. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "judge.h"
#include "service.h"
#include "stage.h"

#define HANG_SECONDS 300

static void look_at_arena(const char *name)
{
	const struct arena *a = service_arena(name);
	char text[REPORT_BYTES] = "";
	uint32_t dead;

	if (!a)
		broken("arena %s is there and not served", name);
	census_clients(a, &dead);
	if (dead)
		broken("%u dead clients are left in %s after a sweep", dead, name);
	audit_arena(a, false, judge_report, text);
	if (text[0])
		broken("arena %s:%s", name, text);
}

/* In the book are whole records, each of an arena; beside it only what belongs to the living daemon. */
static uint32_t look_at_book(void)
{
	struct dirent *e;
	uint32_t records = 0;
	DIR *d = opendir(service_book());

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > 6 && strcmp(e->d_name + n - 6, ".arena") == 0)
			records++;
		else if (e->d_name[0] != '.' && strcmp(e->d_name, "lock") != 0 &&
			 strcmp(e->d_name, "files") != 0 && strcmp(e->d_name, "deaths") != 0)
			broken("%s is left in the daemon's book", e->d_name);
	}
	if (d)
		closedir(d);
	return records;
}

static void call(enum request_type type, uint32_t backing, const char *what)
{
	struct reply reply;
	int r;

	watch_start();
	r = service_call(type, service_name(backing), backing, &reply);
	watch_stop(what);
	if (r)
		broken("%s an arena: %s", what, strerror(-r));
}

/* What has no name in the file system has gone with the daemon, and is known all the same. */
static bool is_there(const struct served_arena *s)
{
	bool named = s->backing == BACKING_POSIX || s->backing == BACKING_FILE;
	const char *name = service_name(s->backing);
	struct reply reply;
	int r = service_call(REQUEST_ARENA_SHOW, name, 0, &reply);

	if (r && r != -ENOENT)
		broken("arena %s: %s", name, strerror(-r));
	if (r ? s->fate == FATE_KEPT : s->fate == FATE_GONE)
		broken("arena %s is %s", name, r ? "gone" : "there");
	if (r)
		return false;
	if (reply.arena.status != (named ? ARENA_SERVED : ARENA_LOST))
		broken("arena %s has status %u: %s", name, reply.arena.status,
		       strerror(-reply.arena.why));
	if (named)
		look_at_arena(name);
	return true;
}

/* Of one that was destroyed; a creation's death leaves an empty file, until the next one. */
static void look_for_rest(const struct served_arena *s)
{
	if (s->unmade && (service_files(NULL) || service_files_of_book()))
		broken("arena %s is destroyed, and a file of it is there",
		       service_name(s->backing));
}

static void look_at_arenas(void)
{
	const struct account *acc = &board->account;

	for (uint32_t i = 0; i < acc->arenas; i++) {
		uint32_t backing = acc->arena[i].backing;

		if (is_there(&acc->arena[i]))
			call(REQUEST_ARENA_DESTROY, backing, "destroying");
		else
			look_for_rest(&acc->arena[i]);
		call(REQUEST_ARENA_CREATE, backing, "creating");
		service_sweep();
		call(REQUEST_ARENA_DESTROY, backing, "destroying");
	}
	if (service_files(NULL))
		broken("%u files of arenas are left in shared memory", service_files(NULL));
	if (service_files_of_book())
		broken("%u files of arenas are left beside the book", service_files_of_book());
}

static void next_daemon(void)
{
	bool served;
	int r;

	alarm(HANG_SECONDS);
	watch_start();
	r = service_start();
	watch_stop("starting the daemon");
	if (r)
		broken("no daemon can be started: %s", strerror(-r));
	watch_start();
	service_sweep();
	watch_stop("sweeping");
	served = service_knows(arena_name);
	if (board->account.in_book && !served)
		broken("the arena is no longer in the daemon's book");
	if (served)
		look_at_arena(arena_name);
	look_at_arenas();
	if (look_at_book() != served)
		broken("%u records in the daemon's book", look_at_book());
	service_stop();
	_exit(0);
}

void look_at_service(void)
{
	pid_t pid = stage_spawn();

	if (pid == 0)
		next_daemon();
	if (!stage_ended_well(stage_wait(pid), "the next daemon"))
		_exit(1);
}
