/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena comes into being whole: its files are made without a name (O_TMPFILE), formatted, and then
 * linked, the life file first. So nobody ever opens half an arena, and a creator's death leaves nothing
 * but, between the two links, an empty life file. The life file bears the arena's uuid in its name, so
 * that no leftover can be mistaken for the file of another arena of the same name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "boot.h"
#include "debug.h"
#include "huge.h"
#include "placement.h"
#include "stop_point.h"

#define SHM_DIR "/dev/shm/"
#define SHM_PREFIX "shmalloc."
#define LIFE_SUFFIX ".life"
#define UUID_TEXT_BYTES 33

int arena_name_check(const char *name)
{
	size_t len = strlen(name);

	if (len == 0)
		return -EINVAL;
	if (len >= ARENA_NAME_BYTES)
		return -ENAMETOOLONG;
	if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != len)
		return -EINVAL;
	return 0;
}

int arena_path(char *buf, size_t size, const char *name)
{
	int r = arena_name_check(name);

	if (r)
		return r;
	if ((size_t)snprintf(buf, size, SHM_DIR SHM_PREFIX "%s", name) >= size)
		return -ENAMETOOLONG;
	return 0;
}

static void uuid_text(char text[UUID_TEXT_BYTES], const uint8_t uuid[16])
{
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

int arena_life_path(char *buf, size_t size, const char *path, const uint8_t uuid[16])
{
	char text[UUID_TEXT_BYTES];

	uuid_text(text, uuid);
	if ((size_t)snprintf(buf, size, "%s.%s" LIFE_SUFFIX, path, text) >= size)
		return -ENAMETOOLONG;
	return 0;
}

/* ---- opening ---- */

static int read_header(int fd, struct arena_header *h)
{
	ssize_t n = pread(fd, h, sizeof(*h), 0);

	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(*h) || memcmp(h->magic, LAYOUT_MAGIC, sizeof(h->magic)) != 0)
		return -EUCLEAN;
	return 0;
}

static int open_file(const char *path, bool readonly)
{
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Of the arena that has the path now. */
static int read_header_at(const char *path, struct arena_header *h)
{
	int fd = open_file(path, true), r;

	if (fd < 0)
		return fd;
	r = read_header(fd, h);
	close(fd);
	return r;
}

int arena_open(const char *path, bool readonly, struct arena_files *ret)
{
	struct arena_files files = {-1, -1, -1};
	struct arena_header h;
	char life[512];
	int r;

	files.fd = open_file(path, readonly);
	if (files.fd < 0)
		return files.fd;
	r = read_header(files.fd, &h);
	if (!r)
		r = arena_life_path(life, sizeof(life), path, h.uuid);
	if (!r) {
		files.life_fd = open(life, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
		/* A reader needs no life locks, may not have any, and a copied file has none. */
		if (files.life_fd < 0 && !(readonly && (errno == ENOENT || errno == EACCES)))
			r = -errno;
	}
	if (r) {
		arena_files_close(&files);
		return r;
	}
	*ret = files;
	return 0;
}

int arena_unlink(const char *path)
{
	struct arena_header h;
	int r = read_header_at(path, &h);

	if (r)
		return r;
	/* Crash: between the two, an empty life file of a uuid that nobody has. It goes when the next arena
	 * of the name is made; a daemon's book knows the uuid, and its next daemon removes it. */
	if (unlink(path) < 0)
		return -errno;
	arena_unlink_life(path, h.uuid);
	return 0;
}

void arena_unlink_life(const char *path, const uint8_t uuid[16])
{
	char life[512];

	if (!arena_life_path(life, sizeof(life), path, uuid))
		unlink(life);
}

/* ---- mapping ---- */

static int check_files(const struct arena_header *h, struct arena_files files)
{
	uint64_t expected = files.heap_fd >= 0 ? h->geometry.heap : h->geometry.file_size;
	struct stat st;

	if (fstat(files.fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < expected)
		return -EUCLEAN;
	if (files.heap_fd < 0)
		return h->backing == BACKING_HUGETLB ? -EUCLEAN : 0;
	if (fstat(files.heap_fd, &st) < 0)
		return -errno;
	return st.st_size >= 0 && (uint64_t)st.st_size >= h->geometry.capacity ? 0 : -EUCLEAN;
}

/* Robust mutexes hold bare thread ids: of two namespaces, equal ids would be taken for one. */
static int check_namespace(const struct arena_header *h)
{
	uint64_t dev, ino;
	int r = format_pid_namespace(&dev, &ino);

	if (r)
		return r;
	return dev == h->pidns_dev && ino == h->pidns_ino ? 0 : -EXDEV;
}

static int check_header(struct arena_header *h, struct arena_files files, bool readonly)
{
	int r = read_header(files.fd, h);

	if (!r)
		r = format_check(h);
	if (!r)
		r = check_files(h, files);
	if (!r && !readonly)
		r = check_namespace(h);
	return r;
}

int arena_uuid(const char *path, bool readonly, uint8_t uuid[16])
{
	struct arena_files files = {-1, -1, -1};
	struct arena_header h;
	int r;

	files.fd = open_file(path, readonly);
	if (files.fd < 0)
		return files.fd;
	r = check_header(&h, files, readonly);
	close(files.fd);
	if (!r)
		memcpy(uuid, h.uuid, sizeof(h.uuid));
	return r;
}

int arena_map(struct arena *a, struct arena_files files, bool readonly)
{
	struct arena_header h;
	int r = check_header(&h, files, readonly);

	if (!r)
		r = arena_map_files(a, files, &h.geometry, readonly);
	if (r)
		return r;
	a->tag = h.tag;
	a->tag_bits = (uint64_t)h.tag << HANDLE_TAG_SHIFT;
	debug_apply(a, &h);
	if (!readonly) {
		r = boot_renew(a);
		if (r) {
			arena_unmap_keep_files(a);
			return r;
		}
	}
	placement_apply(a, &h);
	huge_apply(a, &h);
	arena_refresh(a);
	return 0;
}

/* ---- creating ---- */

/* Whether a life file is that of the arena which has the path now. */
static bool is_current_life(const char *path, const char *life)
{
	char current[512];
	struct arena_header h;

	if (read_header_at(path, &h) || arena_life_path(current, sizeof(current), path, h.uuid))
		return false;
	return strcmp(current, life) == 0;
}

/* Life files of this name whose creator died between the links: nobody holds byte 0 of them, which a
 * creator holds until its arena is linked, and the arena of the name, read after that, is another. */
static void remove_leftover(const char *path, const char *life)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	int fd;

	/* Not even opened if it is in use: this process may hold its life lock on it. */
	if (is_current_life(path, life))
		return;
	fd = open(life, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK && !is_current_life(path, life))
		unlink(life);
	close(fd);
}

static void remove_leftovers(const char *path, const char *own_life)
{
	char dir[512], life[1024];
	const char *base = strrchr(path, '/');
	size_t prefix;
	struct dirent *e;
	DIR *d;

	if (!base || (size_t)snprintf(dir, sizeof(dir), "%.*s", (int)(base - path + 1), path) >= sizeof(dir))
		return;
	base++;
	prefix = strlen(base);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len != prefix + UUID_TEXT_BYTES + strlen(LIFE_SUFFIX) ||
		    strncmp(e->d_name, base, prefix) != 0 || e->d_name[prefix] != '.' ||
		    strcmp(e->d_name + len - strlen(LIFE_SUFFIX), LIFE_SUFFIX) != 0)
			continue;
		snprintf(life, sizeof(life), "%s%s", dir, e->d_name);
		if (strcmp(life, own_life) != 0)
			remove_leftover(path, life);
	}
	if (d)
		closedir(d);
}

static int link_file(int fd, const char *path)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return 0;
}

static int link_files(const struct arena_files *files, const char *path, const uint8_t uuid[16])
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	char life[512];
	int r = arena_life_path(life, sizeof(life), path, uuid);

	if (r)
		return r;
	/* Byte 0 is no client's. Held as an open file description's lock: the process may hold others. */
	if (fcntl(files->life_fd, F_OFD_SETLK, &lock) < 0)
		return -errno;
	r = link_file(files->life_fd, life);
	if (!r) {
		STOP_POINT(arena_life_linked);
		r = link_file(files->fd, path);
		if (r)
			unlink(life);
	}
	STOP_POINT(arena_linked);
	lock.l_type = F_UNLCK;
	fcntl(files->life_fd, F_OFD_SETLK, &lock);
	if (!r || r == -EEXIST)
		remove_leftovers(path, life);
	return r;
}

static int make_unnamed(const char *path, uint32_t mode, int *ret)
{
	char dir[512];
	const char *base = strrchr(path, '/');
	int fd;

	if (!base || (size_t)snprintf(dir, sizeof(dir), "%.*s", (int)(base - path + 1), path) >= sizeof(dir))
		return -ENAMETOOLONG;
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, mode) < 0) { /* the umask is not asked: the mode is the arena's */
		int err = errno;

		close(fd);
		return -err;
	}
	*ret = fd;
	return 0;
}

static int make_memfd(const char *name, unsigned flags, int *ret)
{
	int fd = memfd_create(name, MFD_CLOEXEC | flags);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* Of the life file: for those who may write the arena alone. A mere reader could lock bytes of the dead,
 * who would then seem alive. */
static uint32_t life_mode(uint32_t mode)
{
	uint32_t writers = mode & 0222;

	return writers | writers << 1;
}

static int make_files(const struct arena_config *c, const char *path, uint32_t mode,
		      struct arena_files *files)
{
	int r;

	if (c->backing == BACKING_MEMFD || c->backing == BACKING_HUGETLB) {
		r = make_memfd(c->name, 0, &files->fd);
		if (!r)
			r = make_memfd("shmalloc-life", 0, &files->life_fd);
		if (!r && c->backing == BACKING_HUGETLB)
			r = make_memfd(c->name, MFD_HUGETLB, &files->heap_fd);
		return r;
	}
	r = make_unnamed(path, mode, &files->fd);
	if (!r)
		r = make_unnamed(path, life_mode(mode), &files->life_fd);
	return r;
}

/* SIGXFSZ would come before the error. */
static int check_file_size_limit(uint64_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
		return -EFBIG;
	return 0;
}

static int size_files(const struct arena_files *files, const struct arena_geometry *g)
{
	if (ftruncate(files->fd, (off_t)(files->heap_fd >= 0 ? g->heap : g->file_size)) < 0)
		return -errno;
	if (files->heap_fd >= 0 && ftruncate(files->heap_fd, (off_t)g->capacity) < 0)
		return -errno;
	return 0;
}

int arena_create(const struct arena_config *config, struct arena_files *ret)
{
	struct arena_files files = {-1, -1, -1};
	struct arena_header h;
	char path[512] = "";
	bool named = config->backing == BACKING_POSIX || config->backing == BACKING_FILE;
	int r = arena_name_check(config->name);

	if (!r && config->backing == BACKING_POSIX)
		r = arena_path(path, sizeof(path), config->name);
	if (!r && config->backing == BACKING_FILE &&
	    (!config->path || (size_t)snprintf(path, sizeof(path), "%s", config->path) >= sizeof(path)))
		r = -EINVAL;
	if (!r && named && access(path, F_OK) == 0)
		r = -EEXIST;
	if (!r)
		r = format_header(&h, config);
	if (!r)
		r = check_file_size_limit(h.geometry.file_size);
	if (!r)
		r = make_files(config, path, config->mode ? config->mode & 0666 : 0600, &files);
	if (!r)
		r = size_files(&files, &h.geometry);
	STOP_POINT(arena_sized);
	if (!r)
		r = format_arena(&h, files);
	if (r == -ENOMEM)
		r = -ENOSPC; /* of files, to whom it was asked for a new one */
	STOP_POINT(arena_formatted);
	if (!r && named)
		r = link_files(&files, path, h.uuid);
	if (r)
		arena_files_close(&files);
	else
		*ret = files;
	return r;
}
