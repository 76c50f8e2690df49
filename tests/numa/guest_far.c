/* SPDX-License-Identifier: Apache-2.0 */
/* guest_far.c - --numa interleave and bind, what is refused, hugetlb, and the tool's own words. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "guest.h"
#include "huge.h"
#include "placement.h"
#include "thread.h"

#define UNEVEN 10.0 /* percent that a node's part may differ from the mean */

static double worst_unevenness(const uint64_t pages[NODES])
{
	double mean = 0, worst = 0;

	for (int n = 0; n < NODES; n++)
		mean += (double)pages[n] / NODES;
	for (int n = 0; n < NODES; n++) {
		double off = mean > 0 ? 100.0 * ((double)pages[n] - mean) / mean : 100.0;

		worst = off > worst ? off : -off > worst ? -off : worst;
	}
	return worst;
}

static void check_interleave(enum arena_backing backing, const char *name, uint64_t bytes)
{
	struct arena_config config = guest_config(name, MIB(256), backing);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES];
	struct arena a;

	config.numa_mode = PLACEMENT_INTERLEAVE;
	guest_open(&a, &config);
	run_on(1);
	hoard_fill(&hoard, &a, bytes, SIZES_PAGES);
	hoard_pages(&hoard, &a, pages);
	check(!hoard.error && placement_ask(&a, a.header) == PLACEMENT_KEPT &&
		      worst_unevenness(pages) <= UNEVEN,
	      "%s: a thread on node 1 has %llu, %llu, %llu, %llu pages: %.1f %% off the mean at most",
	      name, (unsigned long long)pages[0], (unsigned long long)pages[1],
	      (unsigned long long)pages[2], (unsigned long long)pages[3], worst_unevenness(pages));
	hoard_free(&hoard, &a);
	guest_close(&a);
}

static void check_bind(void)
{
	struct arena_config config = guest_config("bind", MIB(256), BACKING_POSIX);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES];
	struct arena a;

	config.numa_mode = PLACEMENT_BIND;
	config.numa_nodes = 1 << 1 | 1 << 2;
	guest_open(&a, &config);
	run_on(0);
	hoard_fill(&hoard, &a, MIB(32), SIZES_MIXED);
	hoard_pages(&hoard, &a, pages);
	check(pages[0] + pages[3] == 0 && pages[1] + pages[2] > 0,
	      "bind to 1 and 2: a thread on node 0 has %llu, %llu, %llu, %llu pages",
	      (unsigned long long)pages[0], (unsigned long long)pages[1],
	      (unsigned long long)pages[2], (unsigned long long)pages[3]);
	hoard_free(&hoard, &a);
	guest_close(&a);
}

static void check_refusal(void)
{
	struct arena_config config = guest_config("refused", MIB(64), BACKING_POSIX);
	struct arena_files files;
	int r;

	config.numa_mode = PLACEMENT_BIND;
	config.numa_nodes = 1 << 1 | UINT64_C(1) << 9;
	r = arena_create(&config, &files);
	check(r == -ENODEV, "bind to node 9: refused, %s", strerror(-r));
	config.numa_nodes = 0;
	r = arena_create(&config, &files);
	check(r == -EINVAL, "bind to no node: refused, %s", strerror(-r));
}

/* ---- hugetlb ---- */

static bool reserve_huge_pages(const char *count)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	bool ok = fd >= 0 && write(fd, count, strlen(count)) == (ssize_t)strlen(count);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void check_hugetlb_bind(void)
{
	struct arena_config config = guest_config("hugetlb", MIB(64), BACKING_HUGETLB);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES];
	struct arena a;

	config.numa_mode = PLACEMENT_BIND;
	config.numa_nodes = 1 << 3;
	guest_open(&a, &config);
	run_on(0);
	hoard_fill(&hoard, &a, MIB(16), SIZES_PAGES);
	hoard_pages(&hoard, &a, pages);
	check(!hoard.error && share_on(pages, 3) == 100.0,
	      "hugetlb, bound to node 3: %.1f %% of the pages of a thread on node 0 are there",
	      share_on(pages, 3));
	hoard_free(&hoard, &a);
	guest_close(&a);
}

static void check_hugetlb_local(void)
{
	struct arena_config config = guest_config("hugetlb", MIB(64), BACKING_HUGETLB);

	for (int node = 0; node < NODES; node++) {
		struct hoard hoard = { 0 };
		uint64_t pages[NODES];
		struct arena a;

		guest_open(&a, &config);
		run_on(node);
		hoard_fill(&hoard, &a, MIB(8), SIZES_PAGES);
		hoard_pages(&hoard, &a, pages);
		check(!hoard.error && share_on(pages, node) >= 95.0,
		      "hugetlb, local: %.1f %% of the pages of a thread on node %d are there",
		      share_on(pages, node), node);
		hoard_free(&hoard, &a);
		guest_close(&a);
	}
}

/* ---- pages that are made large ---- */

/* Mapped by large pages, of all this process has mapped. */
static uint64_t large_bytes(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long kb;
	uint64_t bytes = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "ShmemPmdMapped: %lu kB", &kb) == 1)
			bytes += (uint64_t)kb << 10;
	if (f)
		fclose(f);
	return bytes;
}

static void check_large(void)
{
	struct arena_config config = guest_config("large", MIB(256), BACKING_POSIX);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES];
	struct arena a;

	config.huge_mode = HUGE_PAGES_ALWAYS;
	guest_open(&a, &config);
	run_on(3);
	hoard_fill(&hoard, &a, MIB(16), SIZES_MIXED);
	hoard_pages(&hoard, &a, pages);
	check(!hoard.error && large_bytes() >= MIB(12) && share_on(pages, 3) >= 95.0,
	      "huge always, local: %.1f %% of the pages of a thread on node 3 are there, %llu MiB of it large",
	      share_on(pages, 3), (unsigned long long)(large_bytes() >> 20));
	hoard_free(&hoard, &a);
	guest_close(&a);
}

/* ---- the tool ---- */

/* What it says, and its exit status. */
static int run_tool(char *const argv[], char *to, size_t size)
{
	int ends[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	if (pipe(ends) < 0 || (pid = fork()) < 0)
		return -1;
	if (pid == 0) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		close(ends[0]);
		execv("/shmctl-tool", argv);
		_exit(127);
	}
	close(ends[1]);
	while (used + 1 < size && (n = read(ends[0], to + used, size - 1 - used)) > 0)
		used += (size_t)n;
	to[used] = '\0';
	close(ends[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

#define TOOL(...) \
	run_tool((char *[]){ "shmctl-tool", "--embedded", __VA_ARGS__, NULL }, said, sizeof(said))

/* Of a node's row in what stats --json printed. */
static unsigned long long row_value(const char *said, int node, const char *key)
{
	char row[32], name[64];
	const char *at;

	snprintf(row, sizeof(row), "{\"node\": %d, ", node);
	snprintf(name, sizeof(name), "\"%s\": ", key);
	at = strstr(said, row);
	at = at ? strstr(at, name) : NULL;
	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Has 32 MiB of the tool's arena, and asks the tool. */
static int fill_and_ask(void *unused)
{
	static char said[65536];
	struct arena_files files;
	struct hoard hoard = { 0 };
	struct arena a;
	char path[256];
	bool ok = !arena_path(path, sizeof(path), "t") && !arena_open(path, false, &files) &&
		  !arena_map(&a, files, false) && !thread_attach_arena(&a);

	(void)unused;
	if (!ok)
		return 1;
	hoard_fill(&hoard, &a, MIB(32), SIZES_MIXED);
	if (TOOL("stats", "t") == 0)
		printf("%s", strstr(said, "NODE "));
	if (TOOL("stats", "t", "--json"))
		return 1;
	for (int node = 0; node < NODES; node++) {
		unsigned long long resident = row_value(said, node, "resident_bytes");

		ok &= row_value(said, node, "zones") == 4 &&
		      row_value(said, node, "capacity_bytes") == MIB(256) &&
		      (node == 2 ? resident >= MIB(32) : resident < MIB(1)) &&
		      (node == 2 ? row_value(said, node, "used_bytes") >= MIB(32) : 1);
	}
	return ok ? 0 : 1;
}

static void check_tool(void)
{
	static char said[65536];
	int r = TOOL("arena", "create", "t", "--size", "1G", "--numa", "bind:2,9");

	printf("%s", said);
	check(r == 1 && strstr(said, "no such NUMA node") && strstr(said, "0-3"),
	      "tool: a node that does not exist is refused, and those that do are named");
	r = TOOL("arena", "create", "t", "--size", "1G");
	check(r == 0 && !said[0], "tool: local is the default");
	r = TOOL("arena", "show", "t");
	printf("%s", said);
	check(r == 0 && strstr(said, "numa state:   kept") && strstr(said, "numa nodes:   0-3"),
	      "tool: arena show says that zones have their nodes");
	r = in_process(2, fill_and_ask, NULL);
	check(r == 0,
	      "tool: stats has a row a node, and the memory of a process on node 2 in that node's row");
	r = TOOL("arena", "destroy", "t");
	check(r == 0, "tool: destroyed");
}

void check_far(void)
{
	check_interleave(BACKING_POSIX, "interleave", MIB(32));
	check_interleave(BACKING_MEMFD, "interleave-memfd", MIB(32));
	check_bind();
	check_refusal();
	check_large();
	check_tool();
	check(reserve_huge_pages("64"), "64 huge pages are asked for, %d a node", 64 / NODES);
	check_interleave(BACKING_HUGETLB, "interleave-hugetlb", MIB(96));
	check_hugetlb_bind();
	check_hugetlb_local();
}
