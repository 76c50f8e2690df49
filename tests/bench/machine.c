/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - what the figures were measured on: no more than is needed to compare.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

static void print_line_of(FILE *out, const char *label, const char *path)
{
	char line[256] = "";
	FILE *f = fopen(path, "re");

	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	fprintf(out, "%-12s%s\n", label, line[0] ? line : "unknown");
}

static void print_cpu_model(FILE *out)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		fprintf(out, "%-12s%ld x%s", "CPU", sysconf(_SC_NPROCESSORS_ONLN), colon + 1);
		break;
	}
	if (f)
		fclose(f);
}

/* In the largest unit that leaves a whole number. */
static void print_size(FILE *out, const char *label, uint64_t bytes)
{
	static const char units[] = "BKMGT";
	int unit = 0;

	while (bytes >= 1024 && bytes % 1024 == 0 && unit < 4) {
		bytes /= 1024;
		unit++;
	}
	fprintf(out, "%s %llu%c", label, (unsigned long long)bytes, units[unit]);
}

static void print_sizes(FILE *out)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	struct statvfs shm;

	fprintf(out, "%-12s", "caches");
	print_size(out, "L1d", (uint64_t)sysconf(_SC_LEVEL1_DCACHE_SIZE));
	print_size(out, ", L2", (uint64_t)sysconf(_SC_LEVEL2_CACHE_SIZE));
	print_size(out, " a CPU, L3", (uint64_t)sysconf(_SC_LEVEL3_CACHE_SIZE));
	fprintf(out, "\n%-12s%.0f GiB", "memory",
		(double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 30));
	if (!statvfs("/dev/shm", &shm))
		fprintf(out, ", /dev/shm %.1f GiB",
			(double)shm.f_blocks * (double)shm.f_frsize / (1 << 30));
	fprintf(out, "\n");
}

void machine_print(FILE *out, const int *cpu, int ncpu)
{
	double load[1] = {0};
	struct utsname u;
	time_t now = time(NULL);
	char when[64];

	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", localtime(&now));
	uname(&u);
	fprintf(out, "%-12s%s\n", "date", when);
	print_cpu_model(out);
	print_sizes(out);
	fprintf(out, "%-12s%d", "pinned to", cpu[0]);
	for (int i = 1; i < ncpu; i++)
		fprintf(out, ", %d", cpu[i]);
	fprintf(out, "\n%-12s%s %s %s\n", "kernel", u.sysname, u.release, u.machine);
	fprintf(out, "%-12s", "compiler");
	machine_compiler(out);
	print_line_of(out, "THP", "/sys/kernel/mm/transparent_hugepage/enabled");
	print_line_of(out, "THP shmem", "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	getloadavg(load, 1);
	fprintf(out, "%-12s%.2f\n", "load", load[0]);
	if (load[0] > 0.7)
		fprintf(out, "WARNING     other work is running on this machine: expect spread\n");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
	fprintf(out,
		"WARNING     built with sanitizers or without optimisation: figures mean nothing\n");
#endif
}


void machine_compiler(FILE *out)
{
	const char *arch = "unknown";
	struct utsname u;

	if (!uname(&u))
		arch = u.machine;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	fprintf(out, "sanitized ");
#endif
#ifdef SHM_DEBUG
	fprintf(out, "debug ");
#endif
#ifdef __clang__
	fprintf(out, "clang ");
#else
	fprintf(out, "gcc ");
#endif
	fprintf(out, "%s, %s, %s\n", __VERSION__, BENCH_CFLAGS, arch);
}
