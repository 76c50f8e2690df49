/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "geometry.h"
#include "sizeclass.h"

#define ALIGNMENT (UINT64_C(2) << 20) /* of the mapping: large objects keep their alignment */
#define PTR_PAGES (UINT64_C(1) << (32 + 4 - PAGE_SHIFT))
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* since Linux 6.1 */
#endif
#define REGION_BYTES (UINT64_C(1) << REGION_SHIFT)
#define COMMIT_STEP (UINT64_C(2) << 20)

void arena_files_close(struct arena_files *files)
{
	int *fds[] = {&files->fd, &files->life_fd, &files->heap_fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static int check_address_space_limit(uint64_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
		return -EFBIG;
	return 0;
}

static int map_at(char *at, uint64_t size, int fd, bool readonly, uint64_t offset)
{
	void *p = mmap(at, size, readonly ? PROT_READ : PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset);

	return p == MAP_FAILED ? -errno : 0;
}

/* The power of two that is not below an arena's capacity. */
static uint64_t reach_of(const struct arena_geometry *g)
{
	uint64_t reach = CAPACITY_MIN;

	while (reach < g->capacity)
		reach *= 2;
	return reach;
}

/*
 * Reserves a stretch of addresses and maps the files into it, so that the heap is 2 MiB aligned. Behind the
 * heap come zeros up to the next power of two and a little more: where a damaged page map entry, masked,
 * leads to at the furthest, so that looking there needs no comparison.
 */
static int map_files(struct arena *a)
{
	uint64_t size = a->g.file_size, behind = reach_of(&a->g) - a->g.capacity + ALIGNMENT, low;
	int r = check_address_space_limit(size + behind + ALIGNMENT);

	if (r)
		return r;
	a->record_mask = PW1_RECORD_MASK & (reach_of(&a->g) - 1);
	a->reservation_size = size + behind + ALIGNMENT;
	a->reservation = mmap(NULL, a->reservation_size, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->reservation == MAP_FAILED) {
		a->reservation = NULL;
		return -ENOMEM;
	}
	low = ((uint64_t)a->reservation + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	a->base = (char *)low;
	a->heap = a->user = a->base + a->g.heap;
	a->header = (struct arena_header *)a->base;
	a->pages = (struct page_entry *)(a->base + a->g.page_map);
	a->words = a->heap + offsetof(struct slab_record, words);
	a->entries = (uintptr_t)a->pages - ((uintptr_t)a->heap >> PAGE_SHIFT) * sizeof(struct page_entry);
	if (a->files.heap_fd < 0)
		return map_at(a->base, size, a->files.fd, a->readonly, 0);
	r = map_at(a->base, a->g.heap, a->files.fd, a->readonly, 0);
	if (!r)
		r = map_at(a->heap, a->g.capacity, a->files.heap_fd, a->readonly, 0);
	return r;
}

static void note_parts(struct zone_parts *p, const struct arena_geometry *g)
{
	for (uint32_t order = 0; order < ZONE_ORDERS; order++) {
		p->free_bits[order] = geometry_free_bits(g, order);
		p->free_summary[order] = geometry_free_summary(g, order);
	}
	p->idle_bits = geometry_idle_bits(g);
	p->commit_bits = geometry_commit_bits(g);
	p->purged_bits = geometry_purged_bits(g);
	p->hint_bits = geometry_hint_bits(g, 0);
	p->hint_summary = geometry_hint_summary(g, 0);
	p->region_words = geometry_words(g->zone_pages / REGION_PAGES);
}

static int note_file(struct arena *a)
{
	struct stat st;

	if (fstat(a->files.heap_fd >= 0 ? a->files.heap_fd : a->files.fd, &st) < 0)
		return -errno;
	a->file_dev = st.st_dev;
	a->file_ino = st.st_ino;
	return 0;
}

void arena_allow_fast(struct arena *a, bool allowed)
{
	uint64_t steps = allowed ? SIZECLASS_TABLE_BYTES / 16 : 0;

	atomic_store_explicit(&a->alloc_steps, steps, memory_order_relaxed);
	atomic_store_explicit(&a->ptr_steps, geometry_heap_pages(&a->g) > PTR_PAGES ? 0 : steps,
			      memory_order_relaxed);
}

int arena_map_files(struct arena *a, struct arena_files files, const struct arena_geometry *g, bool readonly)
{
	int r;

	memset(a, 0, sizeof(*a));
	a->files = files;
	a->readonly = readonly;
	a->g = *g;
	a->ptr_end = (geometry_heap_pages(g) < PTR_PAGES ? geometry_heap_pages(g) : PTR_PAGES)
		     << (PAGE_SHIFT - 4);
	arena_allow_fast(a, true);
	sizeclass_copy(&a->tables);
	a->zone_shift = (uint32_t)__builtin_ctzll(g->zone_pages);
	a->homes = a->kept_zones = 1;
	a->home_zones[0] = UINT64_MAX;
	note_parts(&a->parts, g);
	a->zones_marked = calloc(geometry_words(g->zone_count), sizeof(uint64_t));
	if (!a->zones_marked)
		return -ENOMEM;
	r = note_file(a);
	if (!r)
		r = map_files(a);
	if (r) {
		arena_unmap_keep_files(a);
		return r;
	}
	madvise(a->base, g->file_size, MADV_DONTDUMP); /* a core file of the arena helps nobody */
	return 0;
}

void arena_unmap_keep_files(struct arena *a)
{
	if (a->reservation)
		munmap(a->reservation, a->reservation_size);
	free(a->zones_marked);
	a->reservation = NULL;
	a->zones_marked = NULL;
	a->base = a->heap = NULL;
	a->header = NULL;
	a->pages = NULL;
}

void arena_unmap(struct arena *a)
{
	arena_unmap_keep_files(a);
	arena_files_close(&a->files);
}

/* A signal makes tmpfs undo all of a call's work, so pieces shrink until one fits between two signals. */
static int allocate_range(int fd, uint64_t offset, uint64_t length)
{
	uint64_t step = COMMIT_STEP;
	int r = 0, cancel;

	/* The caller holds what a cancelled thread would leave to nobody. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	while (length > 0 && !r) {
		uint64_t piece = length < step ? length : step;

		if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)piece) == 0) {
			offset += piece;
			length -= piece;
		} else if (errno == EINTR) {
			step = step > PAGE_SIZE ? step / 2 : PAGE_SIZE;
		} else {
			r = errno == ENOSPC || errno == ENOMEM || errno == EDQUOT ? -ENOMEM : -errno;
		}
	}
	pthread_setcancelstate(cancel, NULL);
	return r;
}

int arena_file_of(const struct arena *a, uint64_t file_offset)
{
	bool heap = a->files.heap_fd >= 0;
	struct stat st;

	if (heap && file_offset < a->g.heap)
		return a->files.fd;
	if (fstat(heap ? a->files.heap_fd : a->files.fd, &st) < 0 || st.st_dev != a->file_dev ||
	    st.st_ino != a->file_ino)
		return -EBADF;
	return heap ? a->files.heap_fd : a->files.fd;
}

/*
 * Takes pages of the heap by faults, which heed this mapping's NUMA policy and its wish for large pages, as
 * fallocate() does not. What it does not get fallocate() takes, or says that there is nothing.
 */
static void touch(const struct arena *a, uint64_t start, uint64_t end)
{
	int cancel;

	if (!a->commit_by_touch || start < a->g.heap)
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	madvise(a->base + start, end - start, MADV_POPULATE_WRITE);
	/* Large pages reach beyond what was asked for, as they do when a fault brings one. For a few pages that
	 * were purged one is not made again: all of it would be copied each time. */
	if (a->commit_huge && end - start >= REGION_BYTES)
		madvise(a->base + (start & ~(ALIGNMENT - 1)),
			((end + ALIGNMENT - 1) & ~(ALIGNMENT - 1)) - (start & ~(ALIGNMENT - 1)),
			MADV_COLLAPSE);
	pthread_setcancelstate(cancel, NULL);
}

int arena_commit(struct arena *a, uint64_t file_offset, uint64_t length)
{
	uint64_t start = file_offset & ~(uint64_t)(PAGE_SIZE - 1);
	uint64_t end = (file_offset + length + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
	int fd = arena_file_of(a, start);

	if (fd < 0)
		return fd;
	touch(a, start, end);
	if (a->files.heap_fd >= 0 && start >= a->g.heap) {
		start = (start - a->g.heap) & ~(ALIGNMENT - 1);
		end = (end - a->g.heap + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
		if (end > a->g.capacity)
			end = a->g.capacity;
	}
	return allocate_range(fd, start, end - start);
}

bool arena_readable(const struct arena *a, uint64_t file_offset, uint64_t length)
{
	uint64_t start = file_offset & ~(uint64_t)(PAGE_SIZE - 1);
	int r;

	do
		r = madvise(a->base + start, file_offset - start + length, MADV_POPULATE_READ);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	return r == 0 || errno == EINVAL;
}

int arena_punch(struct arena *a, uint64_t file_offset, uint64_t length)
{
	/* Huge pages are kept: a region is smaller than one. */
	int fd = arena_file_of(a, file_offset);

	if (a->files.heap_fd >= 0)
		return 0;
	if (fd < 0)
		return fd;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)file_offset,
		      (off_t)length) < 0)
		return -errno;
	return 0;
}

int64_t arena_read(const struct arena *a, uint64_t file_offset, void *to, uint64_t len)
{
	int fd = arena_file_of(a, file_offset);
	bool own_file = a->files.heap_fd >= 0 && file_offset >= a->g.heap;
	uint64_t at = file_offset - (own_file ? a->g.heap : 0), done = 0;

	if (fd < 0)
		return fd;
	while (done < len) {
		ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (uint64_t)n;
	}
	return (int64_t)done;
}

uint32_t arena_refresh(struct arena *a)
{
	/* PAIR(zone-activate): the count, then what it covers. */
	uint32_t zones = atomic_load_explicit(&a->header->active_zones, memory_order_acquire);
	uint64_t pages;

	if (zones > a->g.zone_count)
		zones = (uint32_t)a->g.zone_count;
	pages = zones * a->g.zone_pages;
	if (pages > geometry_heap_pages(&a->g))
		pages = geometry_heap_pages(&a->g);
	atomic_store_explicit(&a->pages_known, pages, memory_order_release);
	return zones;
}
