/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's attachments. Two traps shape this file. Closing any descriptor of an arena's life file
 * drops the process's life lock, so a second descriptor of one is kept until the last use of the arena.
 * And a process that still owns objects stays their owner after shma_close(), so its attachment is then
 * only put aside, lock and mapping included, and taken up again by the next shma_open().
 */
#include "attach.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "connect.h"
#include "debug_object.h"
#include "debug_room.h"
#include "map_file.h"
#include "profile_calls.h"
#include "recovery.h"
#include "ring.h"
#include "thread.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* orders opening and closing */
static struct shma *attachments;

#define FLAGS (SHMA_CREATE | SHMA_EXCL | SHMA_RDONLY | SHMA_EMBEDDED)

/* ---- forks ---- */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* A child forked while another thread opens or closes must find the lock free. To be called after
 * thread_attach_arena(), which watches forks for a lock below this one: the last to ask locks first. */
static void watch_forks(void)
{
	map_file_watch_forks(); /* its lock is taken under this one */
	pthread_atfork(before_fork, after_fork, after_fork);
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* ---- options ---- */

/* Callers built against an older, shorter struct get zeros for what they do not know. */
static int read_options(struct shma_options *to, const struct shma_options *from)
{
	memset(to, 0, sizeof(*to));
	if (!from)
		return 0;
	if (from->struct_size < sizeof(size_t) || from->struct_size > 4096)
		return -EINVAL;
	memcpy(to, from, from->struct_size < sizeof(*to) ? from->struct_size : sizeof(*to));
	if (to->debug < SHMA_DEBUG_OFF || to->debug > SHMA_DEBUG_SAMPLED ||
	    (to->debug_every && to->debug != SHMA_DEBUG_SAMPLED))
		return -EINVAL;
	if (to->log_policy < SHMA_LOG_OVERWRITE || to->log_policy > SHMA_LOG_BLOCK)
		return -EINVAL;
	return to->log_clock < SHMA_LOG_EXACT || to->log_clock > SHMA_LOG_COARSE ? -EINVAL : 0;
}

/* ---- getting at an arena's files ---- */

static int create_embedded(const char *name, bool is_path, const struct shma_options *opt,
			   struct arena_files *files)
{
	const char *base = strrchr(name, '/');
	struct arena_config config = {
		.name = is_path ? base + 1 : name,
		.path = is_path ? name : NULL,
		.backing = is_path ? BACKING_FILE : BACKING_POSIX,
		.capacity = opt->capacity,
		.log_capacity = opt->log_capacity,
		.client_quota = opt->client_quota,
		.log_policy = (uint32_t)opt->log_policy,
		.log_clock = (uint32_t)opt->log_clock,
		.mode = opt->mode,
		.debug_mode = (uint32_t)opt->debug,
		.debug_every = opt->debug_every,
	};

	return arena_create(&config, files);
}

/* Of an embedded arena: its name has a '/', or it lies in shared memory. */
static int embedded_path(char *path, size_t size, const char *name)
{
	if (!strchr(name, '/'))
		return arena_path(path, size, name);
	return (size_t)snprintf(path, size, "%s", name) < size ? 0 : -ENAMETOOLONG;
}

static int open_embedded(const char *name, unsigned flags, const struct shma_options *opt,
			 struct arena_files *files)
{
	bool is_path = strchr(name, '/') != NULL;
	char path[512];
	int r = embedded_path(path, sizeof(path), name);

	/* Again if others create or remove it between our two looks. */
	for (int i = 0; !r && i < 8; i++) {
		if (!(flags & SHMA_EXCL)) {
			r = arena_open(path, flags & SHMA_RDONLY, files);
			if (r != -ENOENT || !(flags & SHMA_CREATE))
				return r;
		}
		r = create_embedded(name, is_path, opt, files);
		if (r != -EEXIST || flags & SHMA_EXCL)
			return r;
		r = 0;
	}
	return r ? r : -EAGAIN;
}

static int open_through_daemon(const char *name, unsigned flags, const struct shma_options *opt,
			       struct arena_files *files, int *daemon_fd)
{
	struct request request;
	struct reply reply;
	int fd, r = arena_name_check(name);

	if (!r)
		r = protocol_request(&request, REQUEST_ARENA_OPEN, name);
	if (r)
		return r;
	request.flags = flags;
	if (flags & SHMA_CREATE) {
		request.terms.capacity = opt->capacity;
		request.terms.log_capacity = opt->log_capacity;
		request.terms.client_quota = opt->client_quota;
		request.terms.log_policy = (uint32_t)opt->log_policy;
		request.terms.log_clock = (uint32_t)opt->log_clock;
		request.terms.mode = opt->mode;
		request.terms.debug_mode = (uint32_t)opt->debug;
		request.terms.debug_every = opt->debug_every;
	}
	fd = connect_daemon(opt->socket);
	if (fd < 0)
		return fd;
	r = connect_call(fd, &request, &reply, files);
	if (r) {
		close(fd);
		return r;
	}
	*daemon_fd = fd;
	return 0;
}

/* ---- attachments ---- */

/* Closes an attachment's descriptors, but those of the life file of an arena attached otherwise too. */
static void keep_fd(struct shma *s, int fd)
{
	int *fds = realloc(s->kept_fds, (s->kept_count + 1) * sizeof(*fds));

	if (!fds)
		return; /* left open for ever: harmless, where closing it is not */
	s->kept_fds = fds;
	fds[s->kept_count++] = fd;
}

static struct shma *find_attachment(const uint8_t uuid[16], const struct shma *but)
{
	for (struct shma *s = attachments; s; s = s->next)
		if (s != but && memcmp(s->arena.header->uuid, uuid, 16) == 0)
			return s;
	return NULL;
}

/* One that serves another shma_open(). A process may have one for reading beside one for writing. */
static struct shma *find_same(const uint8_t uuid[16], bool readonly)
{
	for (struct shma *s = attachments; s; s = s->next)
		if (s->arena.readonly == readonly && memcmp(s->arena.header->uuid, uuid, 16) == 0)
			return s;
	return NULL;
}

static void drop_files(struct arena_files *files, struct shma *other)
{
	if (other && files->life_fd >= 0) {
		keep_fd(other, files->life_fd);
		files->life_fd = -1;
	}
	arena_files_close(files);
}

static void detach(struct shma *s)
{
	struct shma **link = &attachments, *other = find_attachment(s->arena.header->uuid, s);

	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	if (s->daemon_fd >= 0)
		close(s->daemon_fd);
	for (uint32_t i = 0; i < s->kept_count; i++) {
		if (other)
			keep_fd(other, s->kept_fds[i]);
		else
			close(s->kept_fds[i]);
	}
	free(s->kept_fds);
	debug_room_end(&s->arena);
	arena_unmap_keep_files(&s->arena);
	drop_files(&s->arena.files, other);
	free(s);
}

/* So that the daemon watches this process. It may be silent or gone: it looks by itself, too. */
static void tell_daemon(struct shma *s, const char *name)
{
	struct request request;
	struct reply reply;

	if (s->daemon_fd < 0 || !s->arena.client ||
	    protocol_request(&request, REQUEST_CLIENT_ATTACHED, name))
		return;
	request.client = s->arena.client;
	connect_call(s->daemon_fd, &request, &reply, NULL);
}

static int attach(struct shma **ret, struct arena_files *files, int daemon_fd, bool readonly)
{
	struct shma *s = calloc(1, sizeof(*s)), *same;
	int r;

	if (!s)
		return -ENOMEM;
	s->daemon_fd = daemon_fd;
	r = arena_map(&s->arena, *files, readonly);
	if (r) {
		free(s);
		return r;
	}
	same = find_same(s->arena.header->uuid, readonly);
	if (same) {
		arena_unmap_keep_files(&s->arena);
		free(s);
		same->references++;
		*ret = same;
		return 1;
	}
	r = thread_attach_arena(&s->arena);
	pthread_once(&fork_once, watch_forks);
	if (!r && !readonly) {
		r = thread_become_client(&s->arena);
		if (r == -ENOMEM)
			r = -ENOSPC; /* for the client's own record */
		if (r)
			thread_detach_arena(&s->arena);
	}
	if (r) {
		arena_unmap_keep_files(&s->arena);
		free(s);
		return r;
	}
	profile_heed(s); /* else the first allocation, however large, would not be asked about */
	s->references = 1;
	s->next = attachments;
	attachments = s;
	*ret = s;
	return 0;
}

/* The life file that these descriptors include may be one that this process holds a lock on. */
static void drop_unused_files(struct arena_files *files)
{
	struct arena_header h;
	struct shma *other = NULL;

	if (pread(files->fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h))
		other = find_attachment(h.uuid, NULL);
	drop_files(files, other);
}

/* The attachment that an embedded arena has already. Asked before its files are opened: a descriptor of its
 * life file could not be closed again while the lock is held, so each opening would cost one for good. */
static struct shma *find_embedded(const char *name, unsigned flags)
{
	uint8_t uuid[16];
	char path[512];

	if (!attachments || flags & SHMA_EXCL || embedded_path(path, sizeof(path), name) ||
	    arena_uuid(path, flags & SHMA_RDONLY, uuid))
		return NULL;
	return find_same(uuid, flags & SHMA_RDONLY);
}

static int open_locked(shma **ret, const char *name, unsigned flags, const struct shma_options *opt)
{
	struct arena_files files = {-1, -1, -1};
	struct shma *same = flags & SHMA_EMBEDDED ? find_embedded(name, flags) : NULL;
	int daemon_fd = -1, r;

	if (same) {
		same->references++;
		*ret = same;
		return 0;
	}
	r = flags & SHMA_EMBEDDED ? open_embedded(name, flags, opt, &files)
				  : open_through_daemon(name, flags, opt, &files, &daemon_fd);
	if (r)
		return r;
	r = attach(ret, &files, daemon_fd, flags & SHMA_RDONLY);
	if (r == 0) {
		tell_daemon(*ret, name);
		return 0;
	}
	drop_unused_files(&files);
	if (daemon_fd >= 0)
		close(daemon_fd);
	return r < 0 ? r : 0;
}

/* Not left to nobody by a thread that is cancelled. */
static void lock_attachments(int *cancel)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, cancel);
	pthread_mutex_lock(&lock);
}

static void unlock_attachments(int cancel)
{
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(cancel, NULL);
}

int shma_open(shma **ret, const char *arena, unsigned flags, const struct shma_options *opt)
{
	struct shma_options options;
	int r, cancel;

	if (!ret || !arena || flags & ~FLAGS || (flags & SHMA_EXCL && !(flags & SHMA_CREATE)) ||
	    (flags & SHMA_CREATE && flags & SHMA_RDONLY))
		return -EINVAL;
	*ret = NULL;
	r = read_options(&options, opt);
	if (r)
		return r;
	lock_attachments(&cancel);
	r = open_locked(ret, arena, flags, &options);
	unlock_attachments(cancel);
	return r;
}

/* So that the process owns no more than the program knows of. */
static void leave_quarantine(struct shma *s)
{
	struct thread_block *t = thread_peek(&s->arena);

	if (s->arena.debug && t)
		debug_object_release_all(&s->arena, t);
}

int shma_close(shma *s)
{
	int cancel;

	if (!s)
		return -EINVAL;
	lock_attachments(&cancel);
	if (s->references == 0 || --s->references > 0) {
		unlock_attachments(cancel);
		return 0;
	}
	map_file_close(s);
	/* A forked child's slot is its parent's until its first call. */
	if (s->arena.readonly || !thread_is_client(&s->arena)) {
		thread_detach_arena(&s->arena);
		detach(s);
	} else {
		leave_quarantine(s);
		thread_detach_arena(&s->arena);
		/* An open reserve in a shared block, a consumer's place: they bear our number. */
		ring_recover_client(&s->arena, s->arena.client);
		if (recovery_drop_own_marks(&s->arena) && client_release(&s->arena) == 0)
			detach(s);
		else
			thread_attach_again(&s->arena);
	}
	unlock_attachments(cancel);
	return 0;
}
