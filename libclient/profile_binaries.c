/* SPDX-License-Identifier: Apache-2.0 */
#include "profile_binaries.h"

#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include "profile.h"

#define BINARIES_MAX 512u
#define OWN_FRAMES   16u /* of the library itself, above the call */

struct binary {
	uintptr_t from, to, bias;
	uint32_t id_bytes;
	uint8_t id[20];
	char path[PROFILE_PATH_BYTES];
	bool is_program;
};

/* Only ever appended to: what was unloaded stays, and what came to its place later is found first. */
static struct {
	struct binary *_Atomic list;
	_Atomic uint32_t count;
	_Atomic int32_t writer; /* process; 0: nobody. A child that was forked meanwhile takes it over */
} binaries;

/* ---- what the dynamic linker knows ---- */

static void find_id(struct binary *b, const struct dl_phdr_info *info, const ElfW(Phdr) *header)
{
	const char *at = (const char *)(info->dlpi_addr + header->p_vaddr), *end = at + header->p_memsz;

	while (end - at >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		const char *name = at + sizeof(*note), *data = name + (note->n_namesz + 3u) / 4 * 4;

		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(name, "GNU", 4) &&
		    note->n_descsz <= sizeof(b->id)) {
			b->id_bytes = note->n_descsz;
			memcpy(b->id, data, note->n_descsz);
			return;
		}
		at = data + (note->n_descsz + 3u) / 4 * 4;
	}
}

static void find_path(struct binary *b, const char *name)
{
	ssize_t n;

	b->is_program = !name[0];
	if (name[0]) {
		size_t len = strlen(name);

		strncpy(b->path, len < sizeof(b->path) ? name : name + len - sizeof(b->path) + 1,
			sizeof(b->path) - 1);
		return;
	}
	n = readlink("/proc/self/exe", b->path, sizeof(b->path) - 1);
	b->path[n > 0 ? n : 0] = '\0';
}

static int add_binary(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint32_t n = atomic_load_explicit(&binaries.count, memory_order_relaxed);
	struct binary *list = arg, *b = &list[n];

	(void)size;
	if (n == BINARIES_MAX)
		return 1;
	memset(b, 0, sizeof(*b));
	b->from = UINTPTR_MAX;
	b->bias = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + h->p_vaddr;

		if (h->p_type == PT_NOTE)
			find_id(b, info, h);
		if (h->p_type != PT_LOAD)
			continue;
		b->from = from < b->from ? from : b->from;
		b->to = from + h->p_memsz > b->to ? from + h->p_memsz : b->to;
	}
	for (uint32_t i = 0; i < n; i++)
		if (list[i].from == b->from && list[i].to == b->to && list[i].bias == b->bias &&
		    list[i].id_bytes == b->id_bytes && !memcmp(list[i].id, b->id, b->id_bytes))
			return 0;
	find_path(b, info->dlpi_name ? info->dlpi_name : "");
	/* PAIR(binaries): the entry, then how many there are. */
	atomic_store_explicit(&binaries.count, n + 1, memory_order_release);
	return 0;
}

/* Another thread is at it: what it finds is known the next time. */
static void look_again(void)
{
	int32_t before = atomic_load_explicit(&binaries.writer, memory_order_relaxed), own = getpid();
	struct binary *list = atomic_load_explicit(&binaries.list, memory_order_acquire);

	if (before == own || !atomic_compare_exchange_strong(&binaries.writer, &before, own))
		return;
	if (!list) {
		list = mmap(NULL, BINARIES_MAX * sizeof(*list), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		list = list == MAP_FAILED ? NULL : list;
		atomic_store_explicit(&binaries.list, list, memory_order_release);
	}
	if (list)
		dl_iterate_phdr(add_binary, list);
	atomic_store(&binaries.writer, 0);
}

/* ---- by address ---- */

static const struct binary *find_known(uintptr_t call)
{
	uint32_t n = atomic_load_explicit(&binaries.count, memory_order_acquire);
	const struct binary *list = atomic_load_explicit(&binaries.list, memory_order_acquire);

	while (n-- > 0)
		if (call >= list[n].from && call < list[n].to)
			return &list[n];
	return NULL;
}

static const struct binary *find(uintptr_t call)
{
	const struct binary *b = find_known(call);

	if (b)
		return b;
	look_again();
	return find_known(call);
}

uint64_t profile_binaries_frame(struct arena *a, uintptr_t call)
{
	const struct binary *b = find(call);

	if (!b)
		return profile_frame(PROFILE_NONE, call);
	return profile_frame(profile_module(a, b->id, b->id_bytes, b->path), call - b->bias);
}

bool profile_binaries_own(uintptr_t call)
{
	const struct binary *b = find((uintptr_t)profile_binaries_own);

	return b && !b->is_program && call >= b->from && call < b->to;
}

void profile_binaries_text(uintptr_t call, char *to, size_t size)
{
	const struct binary *b = find(call);
	const char *slash = b ? strrchr(b->path, '/') : NULL;

	snprintf(to, size, "%.24s+%#" PRIxPTR, slash ? slash + 1 : b ? b->path : "?", b ? call - b->bias : call);
}

/* ---- stacks ---- */

struct trace {
	uintptr_t calls[PROFILE_FRAMES + OWN_FRAMES];
	uint32_t count;
};

static _Unwind_Reason_Code add_call(struct _Unwind_Context *context, void *arg)
{
	struct trace *t = arg;
	int before = 0;
	uintptr_t pc = _Unwind_GetIPInfo(context, &before);

	if (t->count == PROFILE_FRAMES + OWN_FRAMES || !pc)
		return _URC_END_OF_STACK;
	/* A return address may be that of the next function already. */
	t->calls[t->count++] = pc - !before;
	return _URC_NO_REASON;
}

/* The library's own calls are of no interest, where they can be told from the program's. */
static uint32_t own_calls(const struct trace *t)
{
	uint32_t n = 0;

	while (n < t->count && n < OWN_FRAMES && profile_binaries_own(t->calls[n]))
		n++;
	return n < t->count ? n : 0;
}

uint32_t profile_binaries_stack(struct arena *a, uint64_t frames[PROFILE_FRAMES], uintptr_t *nearest)
{
	struct trace t = { .count = 0 };
	uint32_t n = 0, own;

	_Unwind_Backtrace(add_call, &t);
	own = own_calls(&t);
	*nearest = own ? t.calls[own] : 0;
	for (uint32_t i = own; i < t.count && n < PROFILE_FRAMES; i++)
		frames[n++] = profile_binaries_frame(a, t.calls[i]);
	return n;
}
