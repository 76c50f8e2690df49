/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The room's memory is wiped in a forked child, its lock with it: an empty room, for a client that has freed nothing
 * yet. Threads that meet the lock wait for another thread of their own process, and for a few instructions or one
 * system call.
 */
#include "debug_room.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

struct kept {
	uint64_t handle, bytes;
};

struct run {
	uint64_t page, pages;
};

struct debug_room {
	pthread_mutex_t lock; /* zeros: PTHREAD_MUTEX_INITIALIZER */
	uint64_t bytes;
	uint32_t first, count;
	uint32_t runs;
	struct run protected[DEBUG_GUARDS];
	struct kept kept[DEBUG_ROOM_ENTRIES];
};

/* Made by the first who needs it; NULL: no memory. */
static struct debug_room *room_of(struct arena *a)
{
	struct debug_room *room = atomic_load_explicit(&a->room, memory_order_acquire), *none = NULL;
	void *p;

	if (room)
		return room;
	p = mmap(NULL, sizeof(*room), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (madvise(p, sizeof(*room), MADV_WIPEONFORK) < 0 ||
	    !atomic_compare_exchange_strong_explicit(&a->room, &none, p, memory_order_acq_rel,
						     memory_order_acquire)) {
		munmap(p, sizeof(*room));
		return none;
	}
	return p;
}

void debug_room_end(struct arena *a)
{
	struct debug_room *room = atomic_load_explicit(&a->room, memory_order_relaxed);

	if (room)
		munmap(room, sizeof(*room));
	atomic_store_explicit(&a->room, NULL, memory_order_relaxed);
}

/* ---- quarantine ---- */

static uint64_t bytes_max(const struct arena *a)
{
	uint64_t part = a->g.capacity / 64, most = a->debug == DEBUG_FULL ? DEBUG_ROOM_MAX : DEBUG_ROOM_SAMPLED;

	return part < most ? part : most;
}

bool debug_room_keep(struct arena *a, uint64_t handle, uint64_t bytes)
{
	struct debug_room *room = room_of(a);
	bool fits;

	if (!room)
		return false;
	pthread_mutex_lock(&room->lock);
	fits = room->count < DEBUG_ROOM_ENTRIES;
	if (fits) {
		room->kept[(room->first + room->count) % DEBUG_ROOM_ENTRIES] = (struct kept){ handle, bytes };
		room->count++;
		room->bytes += bytes;
	}
	pthread_mutex_unlock(&room->lock);
	return fits;
}

uint64_t debug_room_leave(struct arena *a, bool all)
{
	struct debug_room *room = atomic_load_explicit(&a->room, memory_order_acquire);
	uint64_t handle = 0;

	if (!room)
		return 0;
	pthread_mutex_lock(&room->lock);
	if (room->count && (all || room->bytes > bytes_max(a) || room->count > DEBUG_ROOM_ENTRIES / 2)) {
		handle = room->kept[room->first].handle;
		room->bytes -= room->kept[room->first].bytes;
		room->first = (room->first + 1) % DEBUG_ROOM_ENTRIES;
		room->count--;
	}
	pthread_mutex_unlock(&room->lock);
	return handle;
}

/* ---- protected pages ---- */

static int set_rights(struct arena *a, uint64_t page, uint64_t pages, int rights)
{
	return mprotect(a->heap + (page << PAGE_SHIFT), pages << PAGE_SHIFT, rights);
}

/* Where memory comes by touching, a neighbour's pages are touched too; and large pages cannot be split here. */
void debug_room_protect(struct arena *a, uint64_t page, uint64_t pages)
{
	struct debug_room *room = a->commit_by_touch || a->files.heap_fd >= 0 ? NULL : room_of(a);

	if (!room)
		return;
	pthread_mutex_lock(&room->lock);
	if (room->runs < DEBUG_GUARDS && !set_rights(a, page, pages, PROT_NONE))
		room->protected[room->runs++] = (struct run){ page, pages };
	pthread_mutex_unlock(&room->lock);
}

bool debug_room_unprotect(struct arena *a, uint64_t page, uint64_t end)
{
	struct debug_room *room = atomic_load_explicit(&a->room, memory_order_acquire);
	bool done = true;

	if (!room)
		return true;
	pthread_mutex_lock(&room->lock);
	for (uint32_t i = 0; i < room->runs;) {
		struct run *run = &room->protected[i];

		if (run->page < page || run->page >= end) {
			i++;
			continue;
		}
		if (set_rights(a, run->page, run->pages, PROT_READ | PROT_WRITE)) {
			done = false;
			break;
		}
		*run = room->protected[--room->runs];
	}
	pthread_mutex_unlock(&room->lock);
	return done;
}

void debug_room_unprotect_all(struct arena *a)
{
	if (atomic_load_explicit(&a->room, memory_order_relaxed) && !a->readonly)
		set_rights(a, 0, a->g.capacity >> PAGE_SHIFT, PROT_READ | PROT_WRITE);
}
