/* SPDX-License-Identifier: Apache-2.0 */
/* reach.c - opening arenas for reading: from the daemon, from /dev/shm, from a path. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena_file.h"
#include "connect.h"
#include "reach.h"
#include "words.h"

#define SHM_DIRECTORY "/dev/shm"
#define SHM_PREFIX    "shmalloc."
#define PATH_BYTES    512
#define LOST_TEXT     "%s: lost: its memory went with an earlier daemon"

/* ---- names of values ---- */

static const char *name_of(const char *const names[], size_t count, uint32_t value)
{
	return value < count ? names[value] : "unknown";
}

#define NAME_OF(names, value) name_of(names, sizeof(names) / sizeof((names)[0]), value)

const char *reach_backing_name(uint32_t backing)
{
	static const char *const names[] = { "posix", "memfd", "hugetlb", "file" };

	return NAME_OF(names, backing);
}

const char *reach_policy_name(uint32_t policy)
{
	static const char *const names[] = { "overwrite", "drop", "block" };

	return NAME_OF(names, policy);
}

const char *reach_clock_name(uint32_t kind)
{
	static const char *const names[] = { "exact", "coarse" };

	return NAME_OF(names, kind);
}

const char *reach_numa_name(uint32_t mode)
{
	static const char *const names[] = { "local", "interleave", "bind" };

	return NAME_OF(names, mode);
}

const char *reach_huge_name(uint32_t mode)
{
	static const char *const names[] = { "never", "advise", "always" };

	return NAME_OF(names, mode);
}

const char *reach_status_name(uint32_t status)
{
	static const char *const names[] = { "served", "lost", "refused" };

	return NAME_OF(names, status);
}

void reach_copy_text(char *to, size_t size, const char *from, size_t length)
{
	size_t n = strnlen(from, length);

	if (n > size - 1)
		n = size - 1;
	memcpy(to, from, n);
	to[n] = 0;
}

/* ---- the fixed part ---- */

static uint32_t mark(const _Atomic uint32_t *high, uint32_t max)
{
	uint32_t n = atomic_load_explicit(high, memory_order_relaxed);

	return n < max ? n : max;
}

uint32_t reach_client_count(const struct reach *r)
{
	return mark(&r->arena.header->clients_high, CLIENTS_MAX);
}

uint64_t reach_client_word(const struct reach *r, uint32_t number)
{
	const _Atomic uint64_t *words = arena_at(&r->arena, r->arena.g.client_words);

	return atomic_load_explicit(&words[number], memory_order_relaxed);
}

/* Parts whose memory may not be there yet are read by pread: a hole of a full tmpfs raises SIGBUS. */
static bool read_at(const struct reach *r, uint64_t offset, void *to, size_t length)
{
	return pread(r->arena.files.fd, to, length, (off_t)offset) == (ssize_t)length;
}

bool reach_client_record(const struct reach *r, uint32_t number, struct client_record *ret)
{
	const struct arena_geometry *g = &r->arena.g;
	enum client_state state = client_word_state(reach_client_word(r, number));

	if (state != CLIENT_LIVE && state != CLIENT_RECOVERING)
		return false;
	return read_at(r, g->client_areas + number * g->client_area_size, ret, sizeof(*ret));
}

bool reach_name(const struct reach *r, uint32_t i, uint64_t *word, struct name_entry *ret)
{
	const struct arena_geometry *g = &r->arena.g;
	const _Atomic uint64_t *words = arena_at(&r->arena, g->name_words);

	*word = atomic_load_explicit(&words[i], memory_order_acquire);
	if (name_word_state(*word) == NAME_FREE)
		return false;
	return read_at(r, g->name_entries + i * sizeof(*ret), ret, sizeof(*ret));
}

uint32_t reach_live_clients(const struct reach *r)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < reach_client_count(r); i++) {
		if (i != r->info.daemon_client)
			n += client_word_state(reach_client_word(r, i)) == CLIENT_LIVE;
	}
	return n;
}

/* What the daemon would tell. */
static void fill_info(struct reach *r)
{
	const struct arena_header *h = &r->header;
	struct arena_info *info = &r->info;
	struct stat st;

	memset(info, 0, sizeof(*info));
	memcpy(info->name, r->name, sizeof(info->name));
	memcpy(info->uuid, h->uuid, sizeof(info->uuid));
	info->file_size = h->geometry.file_size;
	info->created_ns = h->created_ns;
	info->terms = (struct arena_terms){ .capacity = h->geometry.capacity,
					    .log_capacity = h->geometry.ring_size,
					    .client_quota = h->client_quota,
					    .numa_nodes = h->numa_nodes,
					    .backing = h->backing,
					    .log_policy = h->log_policy_at_creation,
					    .numa_mode = h->numa_mode,
					    .huge_mode = h->huge_mode };
	info->clients = reach_live_clients(r);
	if (fstat(r->arena.files.fd, &st) == 0) {
		info->terms.mode = st.st_mode & 0777;
		info->uid = st.st_uid;
		info->gid = st.st_gid;
	}
}

/* ---- the daemon ---- */

bool reach_is_path(const char *what)
{
	return strchr(what, '/') != NULL;
}

bool reach_needs_daemon(const struct call *call, const char *what)
{
	return !call->embedded && !reach_is_path(what);
}

int reach_daemon(const struct call *call, int *fd)
{
	char path[PATH_BYTES];
	int r = connect_socket_path(path, sizeof(path), call->socket);

	if (r) {
		tool_errno("path of the socket", r);
		return TOOL_FAILED;
	}
	*fd = connect_daemon(path);
	if (*fd >= 0)
		return TOOL_OK;
	if (*fd == -ENOENT || *fd == -ECONNREFUSED || *fd == -ENOTDIR) {
		tool_error("shmallocd is not running (nobody listens at %s); "
			   "--embedded reaches posix arenas without it",
			   path);
		return TOOL_NO_DAEMON;
	}
	tool_error("cannot reach shmallocd at %s: %s", path, shma_strerror(*fd));
	return TOOL_FAILED;
}

/* A daemon that ends hangs up; for a moment its socket may still take connections that nobody serves. */
static bool is_hang_up(int err)
{
	return err == -ECONNRESET || err == -ECONNREFUSED || err == -EPIPE;
}

static int hung_up(void)
{
	tool_error("shmallocd has hung up: it is not running any more");
	return TOOL_NO_DAEMON;
}

/* Why an arena that the daemon knows of is not to be had. */
static void explain(const char *what, int err, const struct reply *reply)
{
	if (reply->head.type && reply->arena.status == ARENA_LOST)
		tool_error(LOST_TEXT, what);
	else if (reply->head.type && reply->arena.status == ARENA_REFUSED)
		tool_error("%s: refused by the daemon: %s", what,
			   shma_strerror(reply->arena.why ? reply->arena.why : err));
	else if (err == -ENOENT)
		tool_error("%s: no such arena", what);
	else if (err == -EEXIST)
		tool_error("%s: there is such an arena already", what);
	else
		tool_errno(what, err);
}

static int answered(int r, const struct reply *reply, const char *what)
{
	if (!r)
		return TOOL_OK;
	if (is_hang_up(r))
		return hung_up();
	explain(what, r, reply);
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

int reach_request(int fd, const struct request *request, struct reply *reply,
		  struct arena_files *files, const char *what)
{
	memset(reply, 0, sizeof(*reply));
	return answered(connect_call(fd, request, reply, files), reply, what);
}

/* A request with a name in it, checked here. */
static int named_request(struct request *request, enum request_type type, const char *name)
{
	int r = protocol_request(request, type, name);

	if (!r)
		return TOOL_OK;
	tool_error("%s: not a name of an arena", name);
	return TOOL_FAILED;
}

/* ---- opening ---- */

static int open_files(const struct call *call, const char *what, struct reach *r,
		      struct arena_files *files)
{
	struct request request;
	struct reply reply;
	int fd, code;

	code = named_request(&request, REQUEST_ARENA_OPEN, what);
	if (!code)
		code = reach_daemon(call, &fd);
	if (code)
		return code;
	request.flags = SHMA_RDONLY;
	code = reach_request(fd, &request, &reply, files, what);
	close(fd);
	r->info = reply.arena;
	return code;
}

static int open_path(const char *what, bool is_path, struct arena_files *files)
{
	char path[PATH_BYTES];
	int r = 0;

	if (!is_path)
		r = arena_path(path, sizeof(path), what);
	if (!r)
		r = arena_open(is_path ? what : path, true, files);
	if (!r)
		return TOOL_OK;
	if (r == -ENOENT)
		tool_error("%s: no such %s", what, is_path ? "file" : "arena");
	else if (r == -EINVAL)
		tool_error("%s: not a name of an arena", what);
	else if (r == -EUCLEAN)
		tool_error("%s: not an arena, or its first bytes are damaged", what);
	else
		tool_errno(what, r);
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

/* Maps files that were got; they are closed if that fails. */
static int map(struct reach *r, struct arena_files files, const char *what)
{
	int err = arena_map(&r->arena, files, true);

	if (!err && !read_at(r, 0, &r->header, sizeof(r->header))) {
		arena_unmap(&r->arena);
		tool_error("%s: cannot be read", what);
		return TOOL_FAILED;
	}
	if (err) {
		arena_files_close(&files);
		tool_errno(what, err);
		return err == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
	}
	reach_copy_text(r->name, sizeof(r->name), r->header.name, sizeof(r->header.name));
	return TOOL_OK;
}

int reach_open(const struct call *call, const char *what, struct reach *ret)
{
	struct arena_files files = { -1, -1, -1 };
	bool by_daemon = reach_needs_daemon(call, what);
	int code;

	memset(ret, 0, sizeof(*ret));
	code = by_daemon ? open_files(call, what, ret, &files)
			 : open_path(what, reach_is_path(what), &files);
	if (!code)
		code = map(ret, files, what);
	if (!code && !by_daemon)
		fill_info(ret);
	return code;
}

void reach_close(struct reach *r)
{
	arena_unmap(&r->arena);
}

int reach_attach(const struct call *call, const char *what, unsigned flags, shma **ret)
{
	bool by_daemon = reach_needs_daemon(call, what);
	struct shma_options options = { .struct_size = sizeof(options), .socket = call->socket };
	int fd, r;

	if (by_daemon) {
		/* Asked for first: from the attachment's error it could not be told that nobody listens. */
		int code = reach_daemon(call, &fd);

		if (code)
			return code;
		close(fd);
	}
	r = shma_open(ret, what, flags | (by_daemon ? 0 : SHMA_EMBEDDED), &options);
	if (!r)
		return TOOL_OK;
	if (by_daemon && is_hang_up(r))
		return hung_up();
	if (r == -ENOENT)
		tool_error("%s: no such %s", what, reach_is_path(what) ? "file" : "arena");
	else if (r == -EOWNERDEAD)
		tool_error(LOST_TEXT, what);
	else
		tool_errno(what, r);
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

int reach_log(const struct call *call, const char *name, char path[REACH_LOG_BYTES], struct log_trouble *ret)
{
	struct request request;
	struct reply reply;
	int fd, code, r;

	code = named_request(&request, REQUEST_ARENA_LOG, name);
	if (!code)
		code = reach_daemon(call, &fd);
	if (code)
		return code;
	memset(&reply, 0, sizeof(reply));
	r = connect_call(fd, &request, &reply, NULL);
	close(fd);
	if (r == -ENAMETOOLONG) {
		tool_error("%s: the path of the directory of its segments is longer than the %u bytes that the daemon can tell: "
			   "they are left out; they can be read by that path",
			   name, REACH_LOG_BYTES - 1);
		path[0] = 0;
		return TOOL_OK;
	}
	code = answered(r, &reply, name);
	if (!code) {
		memcpy(path, reply.log_dir, REACH_LOG_BYTES);
		*ret = reply.log;
	}
	return code;
}

int reach_log_directory(const struct call *call, const char *name, char path[REACH_LOG_BYTES])
{
	struct log_trouble trouble;

	return reach_log(call, name, path, &trouble);
}

/* ---- all of them ---- */

static int list_from_daemon(const struct call *call, reach_visit visit, void *context)
{
	struct request request;
	struct reply reply;
	int fd, code, r;

	code = reach_daemon(call, &fd);
	if (code)
		return code;
	r = protocol_request(&request, REQUEST_ARENA_LIST, NULL);
	while (!r && !code) {
		memset(&reply, 0, sizeof(reply));
		r = connect_call(fd, &request, &reply, NULL);
		if (r)
			break;
		/* It must get on, or a broken daemon would keep us here. */
		if (memcmp(reply.arena.name, request.name, sizeof(request.name)) <= 0) {
			r = -EBADMSG;
			break;
		}
		code = visit(context, &reply.arena);
		memcpy(request.name, reply.arena.name, sizeof(request.name));
	}
	close(fd);
	if (is_hang_up(r))
		return hung_up();
	if (r && r != -ENOENT) {
		tool_errno("list of arenas", r);
		return TOOL_FAILED;
	}
	return code;
}

/* NAME of shmalloc.NAME; life files, which are empty and whose names no arena may be told from, are no
 * arenas. */
static int is_arena_file(const struct dirent *entry)
{
	char path[PATH_BYTES];
	struct stat st;

	if (strncmp(entry->d_name, SHM_PREFIX, strlen(SHM_PREFIX)) ||
	    arena_name_check(entry->d_name + strlen(SHM_PREFIX)))
		return 0;
	return snprintf(path, sizeof(path), SHM_DIRECTORY "/%s", entry->d_name) <
		       (int)sizeof(path) &&
	       lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

static int visit_file(const char *name, reach_visit visit, void *context)
{
	struct arena_files files = { -1, -1, -1 };
	struct reach r;
	char path[PATH_BYTES];
	int err, code;

	memset(&r, 0, sizeof(r));
	err = arena_path(path, sizeof(path), name);
	if (!err)
		err = arena_open(path, true, &files);
	if (err == -ENOENT)
		return TOOL_OK; /* gone meanwhile */
	if (!err) {
		err = arena_map(&r.arena, files, true);
		if (err)
			arena_files_close(&files);
	}
	if (err) {
		reach_copy_text(r.info.name, sizeof(r.info.name), name, strlen(name));
		r.info.status = ARENA_REFUSED;
		r.info.why = err;
		return visit(context, &r.info);
	}
	reach_copy_text(r.name, sizeof(r.name), name, strlen(name));
	if (read_at(&r, 0, &r.header, sizeof(r.header)))
		fill_info(&r);
	code = visit(context, &r.info);
	arena_unmap(&r.arena);
	return code;
}

static int list_from_directory(reach_visit visit, void *context)
{
	struct dirent **entries = NULL;
	int n = scandir(SHM_DIRECTORY, &entries, is_arena_file, alphasort), code = TOOL_OK;

	if (n < 0) {
		tool_errno(SHM_DIRECTORY, errno);
		return TOOL_FAILED;
	}
	for (int i = 0; i < n; i++) {
		if (!code)
			code = visit_file(entries[i]->d_name + strlen(SHM_PREFIX), visit, context);
		free(entries[i]);
	}
	free(entries);
	return code;
}

int reach_list(const struct call *call, reach_visit visit, void *context)
{
	return call->embedded ? list_from_directory(visit, context)
			      : list_from_daemon(call, visit, context);
}
