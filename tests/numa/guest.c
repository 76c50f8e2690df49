/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - the first and only program of a guest of four NUMA nodes. Mounts what it needs, runs the checks,
 * says on the console how they went, and switches the machine off. The last line is for run.sh:
 * "numa: N passed, M failed".
 */
#include "guest.h"

#include <errno.h>
#include <numaif.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "object.h"
#include "placement.h"
#include "purge.h"
#include "thread.h"
#include "words.h"

static int passed, failed;

void check(bool ok, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("%s  ", ok ? "ok    " : "FAILED");
	vprintf(fmt, args);
	printf("\n");
	va_end(args);
	*(ok ? &passed : &failed) += 1;
}

__attribute__((noreturn)) static void switch_off(void)
{
	printf("numa: %d passed, %d failed\n", passed, failed);
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

__attribute__((noreturn)) static void give_up(const char *what, int err)
{
	check(false, "%s: %s", what, strerror(err < 0 ? -err : err));
	switch_off();
}

void run_on(int node)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)node, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		give_up("sched_setaffinity", errno);
}

/* ---- arenas ---- */

struct arena_config guest_config(const char *name, uint64_t capacity, enum arena_backing backing)
{
	return (struct arena_config){
		.name = name, .capacity = capacity, .log_capacity = 65536, .backing = backing
	};
}

void guest_open(struct arena *a, const struct arena_config *config)
{
	struct arena_files files;
	char path[256];
	int r = arena_create(config, &files);

	if (!r)
		r = arena_map(a, files, false);
	if (!r)
		r = thread_attach_arena(a);
	if (!r)
		r = thread_become_client(a);
	if (!r && config->backing == BACKING_POSIX)
		r = arena_path(path, sizeof(path), config->name);
	if (!r && config->backing == BACKING_POSIX)
		r = arena_unlink(path);
	if (r)
		give_up(config->name, r);
}

void guest_close(struct arena *a)
{
	thread_detach_arena(a);
	arena_unmap(a);
}

uint64_t guest_purge(struct arena *a)
{
	struct purge p = { 0 };

	purge_round(&p, a);
	return purge_round(&p, a);
}

/* ---- objects ---- */

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static uint64_t next_size(uint64_t *random, enum sizes sizes)
{
	uint64_t chance = next_random(random) % 100;

	if (sizes == SIZES_PAGES)
		return 16384;
	if (chance < 90)
		return 16 + next_random(random) % 1009;
	return chance < 98 ? 4096 : 65536 + next_random(random) % 65536;
}

static void hoard_add(struct hoard *h, uint64_t handle, uint64_t size)
{
	if (h->count == h->room) {
		h->room = h->room ? 2 * h->room : 4096;
		h->handles = realloc(h->handles, h->room * sizeof(*h->handles));
		h->sizes = realloc(h->sizes, h->room * sizeof(*h->sizes));
	}
	if (!h->handles || !h->sizes)
		give_up("hoard", ENOMEM);
	h->handles[h->count] = handle;
	h->sizes[h->count++] = size;
	h->bytes += size;
}

void hoard_fill(struct hoard *h, struct arena *a, uint64_t bytes, enum sizes sizes)
{
	uint64_t random = 1 + (uint64_t)gettid();

	while (h->bytes < bytes) {
		struct object_want want = { .size = next_size(&random, sizes),
					    .kind = OBJECT_PRIVATE };
		int err = 0;
		uint64_t handle = object_alloc(a, &want, &err);
		char *at = handle ? object_ptr(a, handle, &err) : NULL;

		if (!at) {
			h->error = err;
			return;
		}
		memset(at, 1, want.size);
		hoard_add(h, handle, want.size);
	}
}

void hoard_free(struct hoard *h, struct arena *a)
{
	for (size_t i = 0; i < h->count; i++)
		object_free(a, h->handles[i]);
	free(h->handles);
	free(h->sizes);
	memset(h, 0, sizeof(*h));
}

static void ask_pages(void **at, unsigned long count, uint64_t pages[NODES])
{
	int nodes[512];

	if (move_pages(0, count, at, NULL, nodes, 0) < 0)
		give_up("move_pages", errno);
	for (unsigned long i = 0; i < count; i++)
		if (nodes[i] >= 0 && nodes[i] < NODES)
			pages[nodes[i]]++;
}

void hoard_pages(const struct hoard *h, struct arena *a, uint64_t pages[NODES])
{
	void *at[512];
	unsigned long count = 0;

	memset(pages, 0, NODES * sizeof(*pages));
	for (size_t i = 0; i < h->count; i++) {
		uint64_t from = handle_offset(h->handles[i]) & ~(uint64_t)(PAGE_SIZE - 1);
		uint64_t end = handle_offset(h->handles[i]) + h->sizes[i];

		for (; from < end; from += PAGE_SIZE) {
			/* This process may have another mapping than whoever touched it. */
			(void)*(volatile char *)(a->heap + from);
			at[count++] = a->heap + from;
			if (count == 512) {
				ask_pages(at, count, pages);
				count = 0;
			}
		}
	}
	ask_pages(at, count, pages);
}

double share_on(const uint64_t pages[NODES], int node)
{
	uint64_t all = 0;

	for (int n = 0; n < NODES; n++)
		all += pages[n];
	return all ? 100.0 * (double)pages[node] / (double)all : 0;
}

int in_process(int node, int (*body)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		give_up("fork", errno);
	if (pid == 0) {
		run_on(node);
		status = body(arg);
		fflush(stdout);
		_exit(status);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- the machine ---- */

static void mount_on(const char *type, const char *at, const char *options)
{
	if (mkdir(at, 0755) < 0 && errno != EEXIST)
		give_up(at, errno);
	if (mount(type, at, type, 0, options) < 0)
		give_up(at, errno);
}

static void start_machine(void)
{
	mount_on("proc", "/proc", NULL);
	mount_on("sysfs", "/sys", NULL);
	mount_on("devtmpfs", "/dev", NULL);
	mount_on("tmpfs", "/dev/shm", "size=90%");
}

int main(int argc, char **argv)
{
	char *const again[] = { argv[0], "mounted", NULL };

	if (getpid() != 1) {
		fprintf(stderr, "this is the first program of a guest: see tests/numa/run.sh\n");
		return 2;
	}
	/* libnuma looks at the machine when it is loaded: it needs what is mounted here. */
	if (argc < 2) {
		start_machine();
		execv("/init", again);
		give_up("exec", errno);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("numa: begins\n");
	if (placement_nodes() != (UINT64_C(1) << NODES) - 1)
		give_up("not four nodes", ENODEV);
	check_local();
	check_far();
	switch_off();
}
