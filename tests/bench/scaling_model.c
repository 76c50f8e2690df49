/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scaling_model.c - from what was measured to what many cores and processes would do. README.md, "Many
 * cores", derives each formula; the names there are those used here.
 */
#include <stdio.h>

#include "scaling.h"

#define CORES	  64
#define PROCESSES 1000

/* t(P): each slow call moves its shared lines once, however many others there are. */
static double ns_of_many(const struct rates *solo, double extra)
{
	return solo->ns + extra;
}

/* What the presence of others adds to an operation: to its slow calls, and to its locks. */
static double extra_of(const struct machine *m, const struct rates *solo, const struct rates *duo)
{
	double slow = solo->slow * (duo->slow_ns - solo->slow_ns);
	double lock = solo->locks * m->transfer_ns;

	return (slow > 0 ? slow : 0) + lock;
}

/* Cores at which the locks of all zones are held half of the time. */
static double cores_by_zones(const struct machine *m, const struct rates *solo, double t,
			     uint32_t zones)
{
	double held = solo->locks * (solo->hold_ns + m->transfer_ns);

	return held > 0 ? 0.5 * zones * t / held : 0;
}

/* Cores at which one line, written by every slow call, is passed on without a pause. */
static double cores_by_line(const struct machine *m, const struct rates *solo, double t)
{
	return solo->slow > 0 ? t / (solo->slow * m->transfer_ns) : 0;
}

/* Zones whose holder has been switched out: part of its time that a process holds one, by those who wait. */
static double zones_stopped(const struct rates *solo)
{
	return solo->locks * solo->hold_ns / solo->ns * (PROCESSES - CORES);
}

static void print_machine(const struct machine *m)
{
	printf("\ncache line from CPU to CPU %.0f ns; atomic addition %.1f ns alone, %.0f ns where two share it\n",
	       m->transfer_ns, m->add_1, m->add_2);
	printf("fresh memory: one process %.2f GiB/s, two %.2f GiB/s together\n", m->commit_1,
	       m->commit_2);
}

void model_print(const struct machine *m, const struct rates *solo, const struct rates *duo, int n,
		 uint32_t zones)
{
	print_machine(m);
	printf("\n%-26s %9s %11s %13s %13s %15s\n", "model", "t(64) ns", "64: M ops/s",
	       "line full at", "zones half at", "zones stopped");
	for (int i = 0; i < n; i++) {
		double t = ns_of_many(&solo[i], extra_of(m, &solo[i], &duo[i]));

		printf("%-26s %9.1f %11.0f %13.0f %13.0f %15.2f\n", solo[i].name, t,
		       CORES / t * 1e3, cores_by_line(m, &solo[i], t),
		       cores_by_zones(m, &solo[i], t, zones), zones_stopped(&solo[i]));
	}
	printf("(%u zones; %d processes on %d cores; 0: never)\n", zones, PROCESSES, CORES);
}
