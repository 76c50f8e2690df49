/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "connect.h"
#include "guard.h"
#include "listener.h"
#include "lock.h"
#include "msg.h"
#include "purger.h"
#include "reaper.h"
#include "registry.h"
#include "session.h"

#define SHM_DIR "/dev/shm"
#define TURNS	100u /* more than anything here takes */

char service_socket[100];

static char directory[80];
static struct config config;
static struct service service;
static struct registry registry;
static struct lock state_lock, socket_lock;
static int listening = -1, asking = -1;

/* ---- what is left on disk ---- */

void service_paths(void)
{
	snprintf(directory, sizeof(directory), SHM_DIR "/%s.d", arena_name);
	snprintf(service_socket, sizeof(service_socket), "%s/socket", directory);
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *place)
{
	(void)st;
	(void)what;
	(void)place;
	return remove(path);
}

/* Files of arenas whose names begin as the harness's own, and a '-'. With their life files. */
uint32_t service_files(void (*call)(const char *path))
{
	char prefix[100], path[400];
	struct dirent *e;
	uint32_t count = 0;
	DIR *d = opendir(SHM_DIR);

	snprintf(prefix, sizeof(prefix), "shmalloc.%s-", arena_name);
	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		count++;
		snprintf(path, sizeof(path), SHM_DIR "/%s", e->d_name);
		if (call)
			call(path);
	}
	if (d)
		closedir(d);
	return count;
}

const char *service_book(void)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/state", directory);
	return path;
}

uint32_t service_files_of_book(void)
{
	char path[120];
	struct dirent *e;
	uint32_t count = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/files", service_book());
	d = opendir(path);
	while (d && (e = readdir(d)))
		count += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return count;
}

static void remove_file(const char *path)
{
	unlink(path);
}

void service_remove(void)
{
	if (access(directory, F_OK) == 0)
		nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	service_files(remove_file);
}

/* ---- from start to end ---- */

static void configure(void)
{
	msg_level(-1); /* what it says is not the question here */
	memset(&config, 0, sizeof(config));
	snprintf(config.socket, sizeof(config.socket), "%s", service_socket);
	snprintf(config.state_dir, sizeof(config.state_dir), "%s/state", directory);
	config.io = LOOP_EPOLL;
	config.socket_mode = 0600;
	config.max_connections = config.max_arenas = 64;
	config.decay = 1;
	config.arena.capacity = CRASH_CAPACITY;
	config.arena.log_capacity = CRASH_LOG;
	config.arena.mode = 0600;
	config.log_level = -1;
}

static int take_locks(void)
{
	char path[400];
	pid_t holder;
	int r = listener_make_directory(config.state_dir, 0700);

	snprintf(path, sizeof(path), "%s/state/lock", directory);
	if (!r)
		r = lock_take(&state_lock, path, &holder);
	snprintf(path, sizeof(path), "%s.lock", config.socket);
	return r ? r : lock_take(&socket_lock, path, &holder);
}

int service_start(void)
{
	struct loop *loop;
	int why, r;

	configure();
	r = guard_install();
	if (!r)
		r = take_locks();
	if (!r)
		r = loop_open(&loop, config.io, &why);
	if (r)
		return r;
	reaper_start(loop, &registry);
	purger_start(loop, &registry);
	purger_decay(config.decay);
	r = registry_open(&registry, &config);
	if (r)
		return r;
	listening = listener_open(config.socket, config.socket_mode);
	if (listening < 0)
		return listening;
	service = (struct service){ .loop = loop,
				    .registry = &registry,
				    .config = &config,
				    .max_connections = config.max_connections };
	session_listen(&service, listening);
	return 0;
}

void service_stop(void)
{
	unlink(config.socket);
	close(listening);
	registry_close(&registry);
	loop_close(service.loop);
	lock_drop(&socket_lock);
	lock_drop(&state_lock);
}

void service_turn(void)
{
	if (service.loop->backend->turn(service.loop))
		broken("the daemon's loop fails");
}

static uint64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool sweep_is_due(void)
{
	uint64_t now = monotonic_ns();

	for (const struct served *s = registry.first; s; s = s->next)
		if (s->status == ARENA_SERVED && s->sweep_at <= now)
			return true;
	return false;
}

void service_sweep(void)
{
	for (uint32_t i = 0; i < TURNS && sweep_is_due(); i++)
		service_turn();
}

bool service_knows(const char *name)
{
	const struct served *s = registry.first;

	while (s && strcmp(s->record.name, name) != 0)
		s = s->next;
	return s;
}

struct arena *service_arena(const char *name)
{
	for (struct served *s = registry.first; s; s = s->next)
		if (strcmp(s->record.name, name) == 0 && s->status == ARENA_SERVED)
			return &s->arena;
	return NULL;
}

uint64_t service_deaths(void)
{
	return reaper_counts().deaths;
}

uint32_t service_watched(void)
{
	return reaper_counts().watched;
}

/* ---- requests ---- */

void service_ask(enum request_type type, const char *name, uint32_t backing)
{
	struct request request;

	if (asking < 0) {
		asking = connect_daemon(service_socket);
		service_turn();
	}
	if (asking < 0 || protocol_request(&request, type, name))
		broken("no connection to the daemon");
	if (type == REQUEST_ARENA_CREATE)
		request.terms = (struct arena_terms){ .backing = backing };
	if (send(asking, &request, sizeof(request), 0) != sizeof(request))
		broken("the daemon takes no request");
}

int service_answer(struct reply *reply)
{
	unsigned char bytes[sizeof(*reply) + 1];
	ssize_t n = recv(asking, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	if (protocol_reply_check(bytes, (size_t)n, reply))
		broken("the daemon's answer makes no sense");
	return reply->head.error;
}

int service_call(enum request_type type, const char *name, uint32_t backing, struct reply *reply)
{
	int r = -EAGAIN;

	service_ask(type, name, backing);
	for (uint32_t i = 0; i < TURNS && r == -EAGAIN; i++) {
		service_turn();
		r = service_answer(reply);
	}
	return r;
}

const char *service_name(uint32_t backing)
{
	static const char *const kinds[] = { "posix", "memfd", "hugetlb", "file" };
	static char names[4][80];

	snprintf(names[backing], sizeof(names[0]), "%s-%s", arena_name, kinds[backing]);
	return names[backing];
}

void note_arena(uint32_t backing, enum fate fate)
{
	struct account *a = &board->account;

	a->service = true;
	for (uint32_t i = 0; i < a->arenas; i++)
		if (a->arena[i].backing == backing) {
			a->arena[i].fate = fate;
			return;
		}
	a->arena[a->arenas++] = (struct served_arena){ .backing = backing, .fate = fate };
}

void service_write_phase(uint32_t backing, enum state_phase phase)
{
	struct served *s = registry.first;

	while (s && strcmp(s->record.name, service_name(backing)) != 0)
		s = s->next;
	if (!s)
		broken("there is no such arena");
	s->record.phase = phase;
	if (state_write(registry.state_dir, &s->record))
		broken("cannot write to the book");
}
