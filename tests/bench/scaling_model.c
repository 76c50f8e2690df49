/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scaling_model.c - from what was measured to what many cores and processes would do. README.md, "Many
 * cores", derives each formula.
 */
#include <stdio.h>

#include "scaling.h"

#define CORES	  64
#define PROCESSES 1000

/* A line that P clients write at random was written last by another with probability (P - 1) / P: half of what
 * any number of others can cost is seen with two. */
static double extra(const struct rates *solo, const struct rates *duo, int p)
{
	double of_two = duo->ns - solo->ns;

	return of_two > 0 ? of_two * 2 * (p - 1) / p : 0;
}

/* Cores at which the locks of all zones are held half of the time. */
static double cores_by_zones(const struct machine *m, const struct rates *solo, double t,
			     uint32_t zones)
{
	double held = solo->locks * (solo->hold_ns + m->transfer_ns);

	return held > 0 ? 0.5 * zones * t / held : 0;
}

/* Zones whose holder has been switched out: of those who wait for a CPU, the part that holds one. */
static double zones_stopped(const struct rates *solo)
{
	double part = solo->ns > 0 ? solo->locks * solo->hold_ns / solo->ns : 0;

	return (part < 1 ? part : 1) * (PROCESSES - CORES);
}

/* GiB/s that no number of processes exceeds: what two take together is a part that waits for the other, and a
 * part that does not. 0: two were as fast as twice one. */
static double commit_limit(const struct machine *m)
{
	double serial = 2 / m->commit_2 - 1 / m->commit_1;

	return serial > 0 ? 1 / serial : 0;
}

static void print_machine(const struct machine *m)
{
	printf("\ncache line from CPU to CPU %.0f ns; atomic addition %.1f ns alone, %.0f ns where two share it\n",
	       m->transfer_ns, m->add_1, m->add_2);
	printf("fresh memory: one process %.2f GiB/s, two %.2f GiB/s together; any number %.1f\n",
	       m->commit_1, m->commit_2, commit_limit(m));
	if (m->add_2 < 2 * m->add_1)
		printf("WARNING: two processes hardly ever ran at once: what they cost each other is more\n");
}

void model_print(const struct machine *m, const struct rates *solo, const struct rates *duo, int n,
		 uint32_t zones)
{
	print_machine(m);
	printf("\n%-26s %9s %10s %10s %10s %14s %14s\n", "model", "lines/op", "t(64) ns", "M ops/s",
	       "of ideal", "zones half at", "zones stopped");
	for (int i = 0; i < n; i++) {
		double t = solo[i].ns + extra(&solo[i], &duo[i], CORES);

		printf("%-26s %9.2f %10.1f %10.0f %8.0f %% %14.0f %14.2f\n", solo[i].name,
		       extra(&solo[i], &duo[i], 2) / m->transfer_ns, t, CORES / t * 1e3,
		       100 * solo[i].ns / t, cores_by_zones(m, &solo[i], t, zones),
		       zones_stopped(&solo[i]));
	}
	printf("(%u zones; %d processes on %d cores; 0: never)\n", zones, PROCESSES, CORES);
}
