/* SPDX-License-Identifier: Apache-2.0 */
#include "registry_inside.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena_file.h"
#include "deaths.h"
#include "drainer.h"
#include "kept.h"
#include "msg.h"
#include "purger.h"
#include "reaper.h"
#include "ship.h"

#define FILES "files"

/* ---- the list ---- */

static struct served **find_link(struct registry *r, const char *name)
{
	struct served **link = &r->first;

	while (*link && strcmp((*link)->record.name, name) < 0)
		link = &(*link)->next;
	return link;
}

static struct served *add(struct registry *r, const struct state_record *record)
{
	struct served **link = find_link(r, record->name);
	struct served *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->record = *record;
	s->status = ARENA_REFUSED;
	s->arena.files = (struct arena_files){ -1, -1, -1 };
	s->read_fd = s->read_heap_fd = -1;
	s->next = *link;
	*link = s;
	r->count++;
	return s;
}

static void set_status(struct registry *r, struct served *s, enum arena_status status, int why)
{
	r->lost -= s->status == ARENA_LOST;
	s->status = status;
	s->why = why;
	r->lost += status == ARENA_LOST;
}

/* ---- serving ---- */

int registry_serve(struct registry *r, struct served *s, struct arena_files files)
{
	int err = served_map(s, files);

	if (err)
		return err;
	set_status(r, s, ARENA_SERVED, 0);
	reaper_adopt(s);
	purger_adopt(s);
	drainer_adopt(s);
	ship_adopt(s);
	return 0;
}

static void unserve(struct served *s)
{
	if (s->status != ARENA_SERVED)
		return;
	reaper_forget(s);
	purger_forget(s, true);
	drainer_forget(s, true);
	ship_forget(s);
	served_unmap(s);
}

void registry_refuse(struct registry *r, struct served *s, int why)
{
	reaper_forget(s);
	purger_forget(s, false);
	drainer_forget(s, false);
	ship_forget(s);
	served_abandon(s);
	set_status(r, s, ARENA_REFUSED, why);
	msg_error("arena %s: no longer served: %s", s->record.name, strerror(-why));
}

void registry_drop(struct registry *r, struct served *s)
{
	struct served **link = find_link(r, s->record.name);

	assert(*link == s);
	unserve(s);
	set_status(r, s, ARENA_REFUSED, 0);
	*link = s->next;
	r->count--;
	free(s);
}

int registry_file_path(const struct registry *r, const struct state_record *record, char *buf,
			   size_t size)
{
	if (record->terms.backing == BACKING_POSIX)
		return arena_path(buf, size, record->name);
	if ((size_t)snprintf(buf, size, "%s/" FILES "/%s", r->config->state_dir, record->name) >=
	    size)
		return -ENAMETOOLONG;
	return 0;
}

/* ---- adoption ---- */

static int open_named(const struct registry *r, const struct state_record *record,
		      struct arena_files *files)
{
	char path[PATH_MAX];
	int err = registry_file_path(r, record, path, sizeof path);

	return err ? err : arena_open(path, false, files);
}

static int adopt_files(struct registry *r, struct served *s)
{
	struct state_record *record = &s->record;
	struct arena_files files = { -1, -1, -1 };
	bool finish = record->phase == STATE_CREATING && record->terms.backing == BACKING_FILE;
	int err = served_is_named(s) ? open_named(r, record, &files) : kept_take(record, &files);

	if (!err && finish)
		err = served_give_to(&files, record);
	if (!err)
		err = registry_serve(r, s, files);
	if (err) {
		arena_files_close(&files);
		return err;
	}
	record->phase = STATE_LIVE;
	return finish ? state_write(r->state_dir, record) : 0;
}

/* -ENOENT: nothing is there, and the book no longer says so. */
static int adopt(struct registry *r, struct served *s)
{
	int err = adopt_files(r, s);

	if (err == -ESTALE && s->record.phase == STATE_CREATING)
		err = -ENOENT;
	if (err == -ESTALE) {
		err = -EOWNERDEAD;
		set_status(r, s, ARENA_LOST, err);
		msg_warning("arena %s: lost: its memory was held by the daemon that ended",
			    s->record.name);
	} else if (err && err != -ENOENT) {
		set_status(r, s, ARENA_REFUSED, err);
		msg_error("arena %s: not served: %s", s->record.name, strerror(-err));
	}
	return err;
}

static void finish_destruction(struct registry *r, const struct state_record *record)
{
	char path[PATH_MAX];

	if (record->terms.backing == BACKING_FILE && !registry_file_path(r, record, path, sizeof path))
		arena_unlink(path);
	/* A posix name may be another arena's by now: the uuid tells. */
	if (record->terms.backing == BACKING_POSIX &&
	    !arena_path(path, sizeof path, record->name)) {
		struct arena_files files = { -1, -1, -1 };
		struct arena_header h;

		if (arena_open(path, true, &files) == 0 &&
		    pread(files.fd, &h, sizeof h, 0) == (ssize_t)sizeof h &&
		    memcmp(h.uuid, record->uuid, sizeof h.uuid) == 0)
			arena_unlink(path);
		arena_files_close(&files);
	}
	/* The daemon before may have died between the two files of one arena. */
	if (!registry_file_path(r, record, path, sizeof path))
		arena_unlink_life(path, record->uuid);
	state_remove(r->state_dir, record->name);
	msg_info("arena %s: its destruction was completed", record->name);
}

static void take_record(void *user, const struct state_record *record)
{
	struct registry *r = user;
	struct served *s;
	int err;

	if (record->phase == STATE_DESTROYING) {
		finish_destruction(r, record);
		return;
	}
	s = add(r, record);
	if (!s)
		return;
	err = adopt(r, s);
	if (err == -ENOENT) {
		if (record->phase == STATE_LIVE)
			msg_notice("arena %s: its file is gone", record->name);
		state_remove(r->state_dir, record->name);
		registry_drop(r, s);
	} else if (!err) {
		msg_info("arena %s: adopted", record->name);
	}
}

static void complain(void *user, const char *file, int err)
{
	(void)user;
	msg_error("%s in the state directory is left alone: %s", file, strerror(-err));
}

int registry_open(struct registry *r, const struct config *config)
{
	int err;

	memset(r, 0, sizeof *r);
	r->config = config;
	r->state_dir = open(config->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->state_dir < 0)
		return -errno;
	if (mkdirat(r->state_dir, FILES, 0700) < 0 && errno != EEXIST)
		return -errno;
	err = deaths_open(r->state_dir);
	if (err)
		return err;
	return state_scan(r->state_dir, take_record, complain, r);
}

void registry_close(struct registry *r)
{
	while (r->first)
		registry_drop(r, r->first);
	close(r->state_dir);
}

/* ---- finding ---- */

/* Somebody may have removed the file, or put another arena in its place, without asking. */
static bool name_still_means(const struct registry *r, const struct served *s)
{
	char path[PATH_MAX];
	struct stat st;

	if (s->status != ARENA_SERVED || !served_is_named(s))
		return true;
	if (registry_file_path(r, &s->record, path, sizeof path))
		return true;
	return lstat(path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino;
}

static uint32_t rights_of(uint32_t mode, uid_t uid, gid_t gid, const struct peer *peer)
{
	if (peer_is_privileged(peer))
		return ARENA_RIGHT_READ | ARENA_RIGHT_WRITE;
	return peer_rights(mode, peer->uid == uid, peer_in_group(peer, gid));
}

uint32_t registry_rights(const struct served *s, const struct peer *peer)
{
	return rights_of(s->record.terms.mode, s->record.uid, s->record.gid, peer);
}

int registry_room_for_one(const struct registry *r, uid_t uid)
{
	unsigned own = 0, limit = r->config->max_arenas;

	if (r->count >= limit)
		return -EMFILE;
	if (uid == 0 || uid == geteuid())
		return 0;
	for (const struct served *s = r->first; s; s = s->next)
		own += s->record.uid == uid;
	return own < (limit + 1) / 2 ? 0 : -EMFILE;
}

struct served *registry_add_checked(struct registry *r, const struct state_record *record, uid_t uid,
				  int *err)
{
	struct served *s = NULL;

	*err = registry_room_for_one(r, uid);
	if (!*err) {
		s = add(r, record);
		*err = s ? 0 : -ENOMEM;
	}
	return s;
}

/* An arena that embedded processes made. */
static int adopt_unknown(struct registry *r, const char *name, const struct peer *peer,
			 struct served **ret)
{
	struct state_record record = { .phase = STATE_LIVE, .terms.backing = BACKING_POSIX };
	struct arena_files files = { -1, -1, -1 };
	struct served *s;
	struct stat st;
	int err;

	strcpy(record.name, name);
	err = open_named(r, &record, &files);
	if (!err && fstat(files.fd, &st) < 0)
		err = -errno;
	if (!err && !rights_of(st.st_mode, st.st_uid, st.st_gid, peer))
		err = -EACCES;
	if (err) {
		arena_files_close(&files);
		return err;
	}
	s = registry_add_checked(r, &record, st.st_uid, &err);
	if (!err)
		err = registry_serve(r, s, files);
	if (!err)
		err = state_write(r->state_dir, &s->record);
	else
		arena_files_close(&files);
	if (err && s)
		registry_drop(r, s);
	if (!err)
		msg_info("arena %s: adopted, it was made without the daemon", name);
	*ret = err ? NULL : s;
	return err;
}

/* A refused one may have been repaired meanwhile. */
static int try_again(struct registry *r, struct served *s)
{
	int err = s->status == ARENA_REFUSED && served_is_named(s) ? adopt_files(r, s) : s->why;

	if (err && s->status == ARENA_REFUSED)
		s->why = err;
	return err;
}

int registry_find(struct registry *r, const char *name, const struct peer *peer,
		  struct served **ret)
{
	struct served *s = *find_link(r, name);
	int err;

	*ret = NULL;
	if (s && strcmp(s->record.name, name) == 0) {
		if (name_still_means(r, s)) {
			*ret = s;
			if (s->status == ARENA_SERVED)
				return 0;
			err = try_again(r, s);
			if (err != -ENOENT)
				return err;
			*ret = NULL;
		}
		msg_notice("arena %s: its file was removed", name);
		state_remove(r->state_dir, name);
		registry_drop(r, s);
	}
	return adopt_unknown(r, name, peer, ret);
}

struct served *registry_after(const struct registry *r, const char *name)
{
	struct served *s = r->first;

	while (s && strcmp(s->record.name, name) <= 0)
		s = s->next;
	return s;
}

/* ---- unmaking ---- */

static bool may_manage(const struct served *s, const struct peer *peer)
{
	return peer_is_privileged(peer) || peer->uid == s->record.uid;
}

/* Crash: once the record says destroying, the next daemon completes it. */
int registry_destroy(struct registry *r, struct served *s, const struct peer *peer)
{
	char path[PATH_MAX], name[ARENA_NAME_BYTES];
	int err = 0;

	if (!may_manage(s, peer))
		return -EPERM;
	s->record.phase = STATE_DESTROYING;
	err = state_write(r->state_dir, &s->record);
	if (err) {
		s->record.phase = STATE_LIVE;
		return err;
	}
	if (served_is_named(s)) {
		err = registry_file_path(r, &s->record, path, sizeof path);
		if (!err)
			err = arena_unlink(path);
		/* What is no arena any more still has a name to be freed. */
		if (err == -EUCLEAN && unlink(path) == 0)
			err = 0;
	} else {
		kept_forget(s);
	}
	if (err && err != -ENOENT)
		msg_warning("arena %s: its file stays: %s", s->record.name, strerror(-err));
	strcpy(name, s->record.name);
	state_remove(r->state_dir, name);
	deaths_forget(name);
	registry_drop(r, s);
	msg_info("arena %s: destroyed by user %u, process %d", name, (unsigned)peer->uid,
		 (int)peer->pid);
	return err == -ENOENT ? 0 : err;
}

/* ---- lost and found ---- */

int registry_may_present(const struct served *s, const struct peer *peer)
{
	if (s->status != ARENA_LOST)
		return -EEXIST;
	return may_manage(s, peer) ? 0 : -EPERM;
}

static bool is_known_life(const struct registry *r, int fd)
{
	for (const struct served *s = r->first; s; s = s->next)
		if (s->arena.files.life_fd >= 0 && kept_same_file(s->arena.files.life_fd, fd))
			return true;
	return false;
}

static int check_presented(const struct registry *r, const struct served *s,
			   const struct arena_files *files)
{
	if (is_known_life(r, files->fd) || is_known_life(r, files->life_fd))
		return -EINVAL;
	return kept_is_arena(files, s->record.uuid);
}

int registry_present(struct registry *r, struct served *s, struct arena_files files)
{
	int err = check_presented(r, s, &files);

	if (!err)
		err = registry_serve(r, s, files);
	if (err)
		return err;
	kept_store(s);
	msg_notice("arena %s: found again, a client has handed it back", s->record.name);
	return 0;
}

void registry_close_foreign(struct registry *r, const int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		bool known = fds[i] >= 0 && is_known_life(r, fds[i]);

		if (fds[i] < 0)
			continue;
		/* Until the lock is taken again below, a client that asks goes on to look for the process
		 * and its mapping, and finds both. */
		close(fds[i]);
		for (struct served *s = r->first; known && s; s = s->next)
			if (s->status == ARENA_SERVED && s->arena.client)
				served_lock_again(s);
	}
}

/* ---- answers ---- */

void registry_info(struct registry *r, struct served *s, const struct peer *peer,
		   struct arena_info *ret)
{
	uint32_t clients = 0;

	if (s->status == ARENA_SERVED && served_clients(s, &clients))
		registry_refuse(r, s, -EUCLEAN);
	memset(ret, 0, sizeof *ret);
	memcpy(ret->name, s->record.name, sizeof ret->name);
	memcpy(ret->uuid, s->record.uuid, sizeof ret->uuid);
	ret->created_ns = s->record.created_ns;
	ret->terms = s->record.terms;
	ret->uid = s->record.uid;
	ret->gid = s->record.gid;
	ret->status = s->status;
	ret->why = s->status == ARENA_SERVED ? 0 : s->why;
	ret->rights = registry_rights(s, peer);
	if (s->status == ARENA_SERVED) {
		ret->file_size = s->arena.g.file_size;
		ret->clients = clients;
		ret->daemon_client = s->arena.client;
	}
}
