/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of the arena's file, kept and put back: pages that were holes become holes again. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"

struct image {
	uint64_t pages; /* of the file */
	uint32_t *slot; /* a page: its number among those kept, + 1; 0: a hole */
	char *data;
	uint64_t kept, next;
	char *map; /* the file */
};

static char *map_file(int fd, uint64_t size)
{
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		broken("cannot map the arena's file");
	madvise(map, size, MADV_DONTFORK); /* victims map it by themselves, or not */
	return map;
}

/* Calls for each run of pages with data. */
static void for_data(const struct image *m, int fd,
		     void (*call)(const struct image *, int, uint64_t first, uint64_t end))
{
	off_t at = 0, end;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		call(m, fd, (uint64_t)at / PAGE_SIZE, ((uint64_t)end + PAGE_SIZE - 1) / PAGE_SIZE);
		at = end;
	}
}

static void count(const struct image *m, int fd, uint64_t first, uint64_t end)
{
	(void)fd;
	((struct image *)(uintptr_t)m)->kept += end - first;
}

static void keep(const struct image *m, int fd, uint64_t first, uint64_t end)
{
	struct image *image = (struct image *)(uintptr_t)m;

	(void)fd;
	for (uint64_t page = first; page < end && image->next < image->kept; page++) {
		memcpy(image->data + image->next * PAGE_SIZE, image->map + page * PAGE_SIZE,
		       PAGE_SIZE);
		image->slot[page] = (uint32_t)++image->next;
	}
}

struct image *image_take(int fd)
{
	struct image *m = calloc(1, sizeof(*m));
	struct stat st;

	if (!m || fstat(fd, &st))
		broken("no memory for an image");
	m->pages = ((uint64_t)st.st_size + PAGE_SIZE - 1) / PAGE_SIZE;
	m->slot = calloc(m->pages, sizeof(*m->slot));
	if (!m->slot)
		broken("no memory for an image");
	m->map = map_file(fd, m->pages * PAGE_SIZE);
	for_data(m, fd, count);
	m->data = mmap(NULL, m->kept * PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->data == MAP_FAILED)
		broken("no memory for an image");
	/* Each fork would copy its page tables. */
	madvise(m->data, m->kept * PAGE_SIZE, MADV_DONTFORK);
	for_data(m, fd, keep);
	return m;
}

static void punch_new(const struct image *m, int fd, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page++) {
		uint64_t from = page;

		while (page < end && !m->slot[page])
			page++;
		if (page > from)
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)(from * PAGE_SIZE), (off_t)((page - from) * PAGE_SIZE));
	}
}

void image_restore(const struct image *m, int fd)
{
	for_data(m, fd, punch_new);
	for (uint64_t page = 0; page < m->pages; page++) {
		const char *was;

		if (!m->slot[page])
			continue;
		was = m->data + (m->slot[page] - 1) * (uint64_t)PAGE_SIZE;
		if (memcmp(m->map + page * PAGE_SIZE, was, PAGE_SIZE) != 0)
			memcpy(m->map + page * PAGE_SIZE, was, PAGE_SIZE);
	}
}

void image_free(struct image *m)
{
	munmap(m->map, m->pages * PAGE_SIZE);
	free(m->slot);
	munmap(m->data, m->kept * PAGE_SIZE);
	free(m);
}
