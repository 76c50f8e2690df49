/* SPDX-License-Identifier: Apache-2.0 */
/* How an arena is made: its files first, under its owner's name, then its record, in an order that a daemon's death
 * leaves whole or undone. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "arena_file.h"
#include "kept.h"
#include "msg.h"
#include "registry_inside.h"

static void use_defaults(struct arena_terms *t, const struct arena_terms *defaults)
{
	if (!t->capacity)
		t->capacity = defaults->capacity;
	if (!t->log_capacity)
		t->log_capacity = defaults->log_capacity;
	if (!t->client_quota)
		t->client_quota = defaults->client_quota;
	if (!t->mode)
		t->mode = defaults->mode;
}

static int create_files(const struct registry *r, const struct state_record *record,
			struct arena_files *files)
{
	const struct arena_terms *t = &record->terms;
	char path[PATH_MAX];
	struct arena_config config = {
		.name = record->name,
		.path = t->backing == BACKING_FILE ? path : NULL,
		.capacity = t->capacity,
		.log_capacity = t->log_capacity,
		.client_quota = t->client_quota,
		.backing = (enum arena_backing)t->backing,
		.log_policy = t->log_policy,
		.log_clock = t->log_clock,
		.mode = t->mode,
		.numa_mode = t->numa_mode,
		.huge_mode = t->huge_mode,
		.numa_nodes = t->numa_nodes,
		.debug_mode = t->debug_mode,
		.debug_every = t->debug_every,
	};

	if (t->backing == BACKING_FILE) {
		int err = registry_file_path(r, record, path, sizeof path);

		if (err)
			return err;
	}
	return arena_create(&config, files);
}

/*
 * In /dev/shm anybody may make files, so a file there belongs to its owner from the first instant:
 * there is no moment at which the daemon's death would leave it with the wrong one, and no quota or
 * right that the peer would not have had by itself.
 */
static int create_as(const struct registry *r, const struct state_record *record,
		     struct arena_files *files)
{
	bool switch_user =
		geteuid() == 0 && record->terms.backing == BACKING_POSIX && record->uid != 0;
	int err;

	if (switch_user) {
		setfsgid(record->gid);
		setfsuid(record->uid);
	}
	err = create_files(r, record, files);
	if (switch_user) {
		setfsuid(geteuid());
		setfsgid(getegid());
	}
	return err;
}

/* Crash: before the first record there is nothing; from it on the next daemon finds the arena whole, or
 * not at all, and sets owner and mode as the record says. A memfd goes with its daemon. */
static int create_owned(struct registry *r, const struct state_record *record,
			struct arena_files *files)
{
	bool file = record->terms.backing == BACKING_FILE;
	int err = file ? state_write(r->state_dir, record) : 0;

	if (!err)
		err = create_as(r, record, files);
	if (!err && record->terms.backing != BACKING_POSIX)
		err = served_give_to(files, record);
	if (err && file)
		state_remove(r->state_dir, record->name);
	return err;
}

static void undo_creation(const struct registry *r, const struct state_record *record)
{
	char path[PATH_MAX];
	bool named =
		record->terms.backing == BACKING_POSIX || record->terms.backing == BACKING_FILE;

	if (named && !registry_file_path(r, record, path, sizeof path))
		arena_unlink(path);
	state_remove(r->state_dir, record->name);
}

static int create_new(struct registry *r, const struct state_record *record,
		      const struct peer *peer, struct served **ret)
{
	struct arena_files files = { -1, -1, -1 };
	struct served *s = NULL;
	int err = registry_room_for_one(r, peer->uid);

	if (!err)
		err = create_owned(r, record, &files);
	if (err) {
		arena_files_close(&files);
		return err;
	}
	s = registry_add_checked(r, record, peer->uid, &err);
	if (!err)
		err = registry_serve(r, s, files);
	if (err)
		arena_files_close(&files);
	if (!err) {
		s->record.phase = STATE_LIVE;
		err = state_write(r->state_dir, &s->record);
	}
	if (err) {
		if (s)
			registry_drop(r, s);
		undo_creation(r, record);
		return err;
	}
	*ret = s;
	return 0;
}

int registry_create(struct registry *r, const char *name, const struct arena_terms *terms,
		    const struct peer *peer, struct served **ret)
{
	struct state_record record = {
		.phase = STATE_CREATING, .uid = peer->uid, .gid = peer->gid, .terms = *terms
	};
	int err = registry_find(r, name, peer, ret);

	if (err != -ENOENT)
		return err == 0 || *ret ? -EEXIST : err;
	strcpy(record.name, name);
	use_defaults(&record.terms, &r->config->arena);
	err = create_new(r, &record, peer, ret);
	if (err)
		return err;
	if (!served_is_named(*ret))
		kept_store(*ret);
	msg_info("arena %s: created for user %u, process %d", name, (unsigned)peer->uid,
		 (int)peer->pid);
	return 0;
}
