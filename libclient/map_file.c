/* SPDX-License-Identifier: Apache-2.0 */
#include "map_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mapped.h"
#include "object.h"
#include "recovery.h"
#include "thread.h"

#define BUCKETS 256u

/* One file of one object. */
struct map_entry {
	shma_handle handle;
	int fd;
	uint32_t users; /* in the middle of a read */
	bool dropped;	/* in no table any more: the last user closes it */
	uint64_t size;
	void *map; /* NULL: no pointer was asked for yet */
	struct map_entry *next;
};

struct map_table {
	struct map_entry *buckets[BUCKETS];
	uint32_t count;
	struct map_table *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf: nothing else is locked under it */
static struct map_table *tables;

/* ---- forks ---- */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* The threads that were reading are not here. */
static void in_child(void)
{
	for (struct map_table *t = tables; t; t = t->next)
		for (uint32_t i = 0; i < BUCKETS; i++)
			for (struct map_entry *e = t->buckets[i]; e; e = e->next)
				e->users = 0;
	pthread_mutex_unlock(&lock);
}

void map_file_watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- the table; its lock is held ---- */

static struct map_entry **bucket(struct map_table *t, shma_handle h)
{
	/* Handles of one kind differ in the page and the generation. */
	return &t->buckets[(h >> 8 ^ h >> 16 ^ h >> HANDLE_GEN_SHIFT) % BUCKETS];
}

static struct map_entry *find(struct map_table *t, shma_handle h)
{
	struct map_entry *e = t ? *bucket(t, h) : NULL;

	while (e && e->handle != h)
		e = e->next;
	return e;
}

static void release_file(struct map_entry *e)
{
	if (e->map)
		munmap(e->map, e->size);
	close(e->fd);
	free(e);
}

static void unlink_entry(struct map_table *t, struct map_entry **link)
{
	struct map_entry *e = *link;

	*link = e->next;
	t->count--;
	e->dropped = true;
	if (e->users == 0)
		release_file(e);
}

static void drop(struct map_table *t, shma_handle h)
{
	struct map_entry **link = bucket(t, h);

	while (*link && (*link)->handle != h)
		link = &(*link)->next;
	if (*link)
		unlink_entry(t, link);
}

/* What others have freed since. */
static void sweep(struct shma *s)
{
	uint32_t owner;

	for (uint32_t i = 0; i < BUCKETS; i++)
		for (struct map_entry **link = &s->maps->buckets[i]; *link;) {
			if (object_kind_of(&s->arena, (*link)->handle, &owner) == OBJECT_FREE)
				unlink_entry(s->maps, link);
			else
				link = &(*link)->next;
		}
}

static int make_table(struct shma *s)
{
	struct map_table *t = s->maps ? NULL : calloc(1, sizeof(*t));

	if (s->maps)
		return 0;
	if (!t)
		return -ENOMEM;
	t->next = tables;
	tables = t;
	s->maps = t;
	return 0;
}

/* Into the table, or, if another thread was faster, its own instead. */
static int insert(struct shma *s, struct map_entry **e)
{
	struct map_entry *same, **link;
	int r = make_table(s);

	if (r)
		return r;
	same = find(s->maps, (*e)->handle);
	if (same) {
		release_file(*e);
		*e = same;
		return 0;
	}
	sweep(s);
	if (s->maps->count >= MAP_FILES_MAX)
		return -ENFILE;
	link = bucket(s->maps, (*e)->handle);
	(*e)->next = *link;
	*link = *e;
	s->maps->count++;
	return 0;
}

/* ---- opening ---- */

static int64_t ns_of(struct statx_timestamp t)
{
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Of a descriptor, or if that is AT_FDCWD of a path. */
static int look(int fd, const char *path, struct mapped_file *ret)
{
	struct statx sx;

	if (statx(fd, path, fd == AT_FDCWD ? 0 : AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx))
		return -errno;
	if (S_ISDIR(sx.stx_mode))
		return -EISDIR;
	if (!S_ISREG(sx.stx_mode))
		return -EINVAL;
	*ret = (struct mapped_file){
		.device = (uint64_t)sx.stx_dev_major << 32 | sx.stx_dev_minor,
		.inode = sx.stx_ino,
		.size = sx.stx_size,
		.birth_ns = sx.stx_mask & STATX_BTIME ? ns_of(sx.stx_btime) : 0,
		.mtime_ns = ns_of(sx.stx_mtime),
	};
	return 0;
}

/* Looked at first: to open a device or a FIFO may do something. */
static int open_path(const char *path, struct mapped_file *ret)
{
	int r = look(AT_FDCWD, path, ret), fd;

	if (r)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	r = look(fd, "", ret);
	if (r) {
		close(fd);
		return r;
	}
	return fd;
}

static bool is_same(const struct mapped_file *a, const struct mapped_file *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       (!a->birth_ns || !b->birth_ns || a->birth_ns == b->birth_ns);
}

/* What lies at the path now is another file, or none: the object's is gone. */
static int gone(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENOTDIR:
	case -ELOOP:
	case -EISDIR:
	case -EINVAL: return -ESTALE;
	default: return err;
	}
}

static struct map_entry *make_entry(shma_handle h, int fd, uint64_t size)
{
	struct map_entry *e = malloc(sizeof(*e));

	if (e)
		*e = (struct map_entry){ .handle = h, .fd = fd, .size = size };
	else
		close(fd);
	return e;
}

/* The file of a live object, opened by this process. */
static int open_object(struct shma *s, shma_handle h, struct map_entry **ret)
{
	struct mapped_description d;
	struct mapped_file now;
	int fd, r = mapped_describe(&s->arena, h, &d);

	if (r)
		return r;
	fd = open_path(d.path, &now);
	if (fd < 0)
		return gone(fd);
	if (!is_same(&d.file, &now)) {
		close(fd);
		return -ESTALE;
	}
	*ret = make_entry(h, fd, d.file.size);
	return *ret ? 0 : -ENOMEM;
}

/* ---- using ---- */

/* A thread that is cancelled takes neither the lock nor a use of a file with it. */
static int lock_tables(void)
{
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&lock);
	return cancel;
}

static void unlock_tables(int cancel)
{
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(cancel, NULL);
}

/* The object's entry, one more user; opened if need be. */
static int enter(struct shma *s, shma_handle h, struct map_entry **ret)
{
	int cancel = lock_tables(), r = 0;

	*ret = find(s->maps, h);
	if (!*ret) {
		pthread_mutex_unlock(&lock);
		r = open_object(s, h, ret);
		pthread_mutex_lock(&lock);
		if (!r) {
			r = insert(s, ret);
			if (r)
				release_file(*ret);
		}
	}
	if (!r)
		(*ret)->users++;
	unlock_tables(cancel);
	return r;
}

static void leave(struct map_entry *e)
{
	int cancel = lock_tables();

	if (e->users > 0 && --e->users == 0 && e->dropped)
		release_file(e);
	unlock_tables(cancel);
}

static int map_entry(struct map_entry *e)
{
	int cancel = lock_tables(), r = 0;

	if (!e->map) {
		void *p = mmap(NULL, e->size, PROT_READ, MAP_SHARED, e->fd, 0);

		if (p == MAP_FAILED)
			r = -errno;
		else
			e->map = p;
	}
	unlock_tables(cancel);
	return r;
}

static void *mapped_already(struct shma *s, shma_handle h)
{
	int cancel = lock_tables();
	const struct map_entry *e = find(s->maps, h);
	void *p = e ? e->map : NULL;

	unlock_tables(cancel);
	return p;
}

void *map_file_ptr(struct shma *s, shma_handle h, int *err)
{
	struct map_entry *e = NULL;
	void *p = NULL;

	p = mapped_already(s, h);
	if (p)
		return p;
	*err = enter(s, h, &e);
	if (*err)
		return NULL;
	*err = map_entry(e);
	if (!*err)
		p = e->map;
	leave(e);
	return p;
}

/* All of it, which the object has, or an error: what the file has not any more was cut off. */
static int64_t read_fully(int fd, uint64_t offset, char *to, uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, to + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (uint64_t)n;
	}
	return (int64_t)done;
}

int64_t map_file_read(struct shma *s, shma_handle h, uint64_t offset, void *to, uint64_t len)
{
	struct map_entry *e = NULL;
	uint32_t owner;
	int64_t n = 0;
	int cancel, r = enter(s, h, &e);

	if (r)
		return r;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (offset < e->size)
		n = read_fully(e->fd, offset, to, len < e->size - offset ? len : e->size - offset);
	leave(e);
	pthread_setcancelstate(cancel, NULL);
	if (object_kind_of(&s->arena, h, &owner) != OBJECT_FREE)
		return n;
	map_file_forget(s, h);
	return -ESTALE;
}

uint64_t map_file_size(struct shma *s, shma_handle h, int *err)
{
	struct mapped_description d;

	*err = mapped_describe(&s->arena, h, &d);
	return *err ? 0 : d.file.size;
}

/* ---- going ---- */

void map_file_forget(struct shma *s, shma_handle h)
{
	int cancel;

	if (!atomic_load_explicit(&s->maps, memory_order_relaxed))
		return; /* as mostly: nobody waits for the lock then */
	cancel = lock_tables();
	if (s->maps)
		drop(s->maps, h);
	unlock_tables(cancel);
}

static void unlink_table(struct map_table *t)
{
	struct map_table **link = &tables;

	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
}

void map_file_close(struct shma *s)
{
	int cancel = lock_tables();

	if (s->maps) {
		for (uint32_t i = 0; i < BUCKETS; i++)
			while (s->maps->buckets[i])
				unlink_entry(s->maps, &s->maps->buckets[i]);
		unlink_table(s->maps);
		free(s->maps);
		s->maps = NULL;
	}
	unlock_tables(cancel);
}

/* ---- making ---- */

static shma_handle make_object(struct shma *s, const struct mapped_file *file, const char *path, int *err)
{
	struct object_want want = {
		.size = PAGE_SIZE, .large = true, .kind = OBJECT_PRIVATE, .file = file, .path = path
	};

	uint64_t handle = object_alloc(&s->arena, &want, err);

	if (!handle && *err == -ENOMEM && thread_is_client(&s->arena)) {
		recovery_reap_all(&s->arena); /* memory of the dead is memory */
		handle = object_alloc(&s->arena, &want, err);
	}
	return handle;
}

/* The object, and its file among this process's. */
static int make(struct shma *s, int fd, struct mapped_file *file, const char *path, shma_handle *ret)
{
	struct map_entry *e = NULL;
	int err = 0, r, cancel;

	file->path_bytes = (uint32_t)strlen(path) + 1;
	*ret = make_object(s, file, path, &err);
	if (!*ret) {
		close(fd);
		return err;
	}
	e = make_entry(*ret, fd, file->size);
	if (e) {
		cancel = lock_tables();
		r = insert(s, &e);
		if (r)
			release_file(e);
		unlock_tables(cancel);
	}
	return 0; /* where there was no room it is opened when it is used */
}

int shma_map_file(struct shma *s, const char *path, shma_handle *ret, size_t *ret_len)
{
	struct mapped_file file;
	char *whole;
	int fd, r;

	if (!path || !ret)
		return -EINVAL;
	*ret = SHMA_NULL;
	whole = realpath(path, NULL);
	if (!whole)
		return -errno;
	if (strlen(whole) >= MAPPED_PATH_MAX) {
		free(whole);
		return -ENAMETOOLONG;
	}
	fd = open_path(whole, &file);
	r = fd < 0 ? fd : 0;
	if (fd >= 0 && file.size == 0) {
		close(fd);
		r = -EINVAL;
	} else if (fd >= 0) {
		r = make(s, fd, &file, whole, ret);
	}
	free(whole);
	if (!r && ret_len)
		*ret_len = (size_t)file.size;
	return r;
}
