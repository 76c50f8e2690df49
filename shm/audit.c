/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run looks at everything once and gathers findings. On an arena in use a run also meets what
 * operations in progress make look wrong, so runs are made until none of the first one's findings
 * is left, or a second has passed. A finding carries what was read as evidence: where other
 * operations come and go at the same place, it is not the same finding.
 */
#include "audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit_run.h"
#include "format.h"
#include "hold.h"
#include "ring.h"

#define LIVE_RUNS     10
#define LIVE_PAUSE_NS 100000000L /* between runs */

static const struct {
	enum audit_severity severity;
	const char *key, *meaning;
} table[] = {
#define AUDIT_ROW(name, severity_, key_, text_) \
	[AUDIT_##name] = { .severity = AUDIT_##severity_, .key = (key_), .meaning = (text_) },
	AUDIT_TABLE(AUDIT_ROW)
#undef AUDIT_ROW
};

const char *audit_key(enum audit_what what)
{
	return what < AUDIT_WHATS ? table[what].key : "unknown";
}

const char *audit_meaning(enum audit_what what)
{
	return what < AUDIT_WHATS ? table[what].meaning : "unknown";
}

static void fill(struct audit_finding *f, enum audit_what what, struct audit_spot spot)
{
	memset(f, 0, sizeof(*f));
	f->what = what;
	f->severity = table[what].severity;
	f->page = spot.page;
	f->handle = spot.handle;
	f->client = spot.client;
	f->evidence = spot.evidence;
}

void audit_note(struct audit_run *run, enum audit_what what, struct audit_spot spot,
		const char *fmt, ...)
{
	struct audit_finding *f;
	va_list ap;

	run->found++;
	if (run->kept == AUDIT_KEPT_MAX)
		return;
	f = &run->findings[run->kept++];
	fill(f, what, spot);
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

bool audit_client_exists(const struct audit_run *run, uint32_t client)
{
	return client > 0 && client < CLIENTS_MAX &&
	       client_word_state(audit_word(run, run->a->g.client_words, client)) != CLIENT_FREE;
}

/* ---- header ---- */

void audit_header(struct audit_run *run)
{
	const struct arena_header *h = run->a->header;
	uint32_t zones = atomic_load_explicit(&h->active_zones, memory_order_relaxed);
	struct audit_spot nowhere = AUDIT_PAGE(AUDIT_NOWHERE, 0);
	struct arena_header copy;
	struct stat st;

	memset(&copy, 0, sizeof(copy));
	if (!walk_copy(run->a, 0, &copy, sizeof(copy)) || format_check(&copy))
		audit_note(run, AUDIT_HEADER, nowhere,
			   "magic, version, checksum or geometry is wrong");
	else if (memcmp(&copy.geometry, &run->a->g, sizeof(copy.geometry)) != 0)
		audit_note(run, AUDIT_HEADER, nowhere,
			   "the geometry has changed since it was mapped");
	if (fstat(run->a->files.fd, &st) == 0 &&
	    (uint64_t)st.st_size <
		    (run->a->files.heap_fd < 0 ? run->a->g.file_size : run->a->g.heap))
		audit_note(run, AUDIT_HEADER, nowhere, "the file is cut off at %lld bytes",
			   (long long)st.st_size);
	if (zones > run->a->g.zone_count)
		audit_note(run, AUDIT_HEADER, nowhere, "%u zones in use of %llu", zones,
			   (unsigned long long)run->a->g.zone_count);
	if (atomic_load_explicit(&h->damaged, memory_order_relaxed))
		audit_note(run, AUDIT_FLAGGED, nowhere, "the arena bears the mark of damage");
}

/* ---- memory ---- */

static bool part_there(struct audit_run *run, uint64_t offset, uint64_t length, const char *what)
{
	if (!length || arena_readable(run->a, offset, length))
		return true;
	audit_note(run, AUDIT_HOLE, AUDIT_PAGE(AUDIT_NOWHERE, offset), "%s: not all of it is there",
		   what);
	return false;
}

/* What is read through the mapping, of extents: state blocks, and where log records begin. */
static int extent_there(void *context, const struct walk_item *item)
{
	struct audit_run *run = context;
	uint64_t at = run->a->g.heap + (item->page << PAGE_SHIFT);

	if ((item->kind != PAGE_STATE && item->kind != PAGE_LOG) || item->problem ||
	    !walk_committed(run->a, item->page, item->length))
		return 0;
	return part_there(run, at, item->length << PAGE_SHIFT, "a state block or log record") ? 0 : 1;
}

/* What their bits promise. */
static bool hold_pages_there(struct audit_run *run)
{
	uint64_t at = 0;

	while ((at = hold_scan(run->a, at)) != HOLD_NONE) {
		if (!part_there(run, run->a->g.holds + at / HOLD_PAGE_RECORDS * PAGE_SIZE, PAGE_SIZE,
				"a page of hold records"))
			return false;
		at += HOLD_PAGE_RECORDS;
	}
	return true;
}

/* Nothing else is looked at where this is not so: it would fault. */
static bool check_memory(struct audit_run *run)
{
	const struct arena_geometry *g = &run->a->g;
	uint64_t zones, pages;

	if (!part_there(run, 0, g->name_entries, "the fixed part"))
		return false;
	zones = walk_zones(run->a);
	pages = zones * g->zone_pages;
	if (pages > geometry_heap_pages(g))
		pages = geometry_heap_pages(g);
	return part_there(run, g->zone_indexes, zones * g->zone_index_size, "the zones' indexes") &&
	       part_there(run, g->page_map, pages * sizeof(struct page_entry), "the page map") &&
	       hold_pages_there(run) && part_there(run, g->ring, 2 * PAGE_SIZE, "the ring's header") &&
	       part_there(run, g->ring, ring_fixed_bytes(run->a), "the ring's words") &&
	       walk_extents(run->a, extent_there, run) == 0;
}

/* One finding, the ring's first: what it says is its evidence. */
static void check_ring(struct audit_run *run)
{
	char why[96] = "";
	uint64_t evidence = 0;

	if (ring_valid(run->a, why, sizeof(why)))
		return;
	for (const char *p = why; *p; p++)
		evidence = evidence * 31 + (unsigned char)*p;
	audit_note(run, AUDIT_RING, AUDIT_PAGE(AUDIT_NOWHERE, evidence), "%s", why);
}

/* ---- runs ---- */

static void run_end(struct audit_run *run)
{
	free(run->findings);
	free(run->taken);
	free(run->ready);
	free(run->names);
}

static int run_begin(struct audit_run *run, const struct arena *a, bool live)
{
	uint64_t words = geometry_words(a->g.zone_pages);

	memset(run, 0, sizeof(*run));
	run->a = a;
	run->live = live;
	run->findings = calloc(AUDIT_KEPT_MAX, sizeof(*run->findings));
	run->names = calloc(NAMES_MAX, sizeof(*run->names));
	run->taken = calloc(4 * words, sizeof(uint64_t));
	if (!run->findings || !run->names || !run->taken) {
		run_end(run);
		return -ENOMEM;
	}
	run->stacked = run->taken + words;
	run->free_now = run->stacked + words;
	run->free_next = run->free_now + words;
	return 0;
}

static int run_all(struct audit_run *run)
{
	run->kept = run->found = run->ready_count = 0;
	run->mark_client = 0;
	if (!check_memory(run))
		return run->error;
	audit_header(run);
	check_ring(run);
	audit_clients(run);
	audit_names_read(run);
	audit_zones(run);
	audit_threads(run);
	audit_names(run);
	audit_holds(run);
	return run->error;
}

static int compare(const void *pa, const void *pb)
{
	const struct audit_finding *a = pa, *b = pb;

	if (a->what != b->what)
		return a->what < b->what ? -1 : 1;
	if (a->page != b->page)
		return a->page < b->page ? -1 : 1;
	if (a->handle != b->handle)
		return a->handle < b->handle ? -1 : 1;
	if (a->client != b->client)
		return a->client < b->client ? -1 : 1;
	if (a->evidence != b->evidence)
		return a->evidence < b->evidence ? -1 : 1;
	return 0;
}

static void sort(struct audit_run *run)
{
	qsort(run->findings, run->kept, sizeof(*run->findings), compare);
}

/* Keeps of the first run's findings those that the second has too. Both are sorted. */
static void intersect(struct audit_run *first, const struct audit_run *again)
{
	uint64_t kept = 0, lost = again->found > again->kept ? first->found - first->kept : 0;

	for (uint64_t i = 0; i < first->kept; i++)
		if (bsearch(&first->findings[i], again->findings, again->kept,
			    sizeof(*again->findings), compare))
			first->findings[kept++] = first->findings[i];
	first->kept = kept;
	first->found = kept + lost;
}

static int run_until_stable(struct audit_run *first)
{
	struct timespec pause = { .tv_nsec = LIVE_PAUSE_NS };
	struct audit_run again;
	int r = run_begin(&again, first->a, true);

	for (int i = 0; !r && first->kept && i < LIVE_RUNS; i++) {
		nanosleep(&pause, NULL);
		r = run_all(&again);
		sort(&again);
		intersect(first, &again);
	}
	if (again.findings)
		run_end(&again);
	return r;
}

static void report_all(const struct audit_run *run, audit_report_fn report, void *context)
{
	struct audit_finding more;

	for (uint64_t i = 0; i < run->kept; i++)
		report(context, &run->findings[i]);
	if (run->found == run->kept)
		return;
	fill(&more, AUDIT_TOO_MANY, AUDIT_PAGE(AUDIT_NOWHERE, run->found));
	snprintf(more.text, sizeof(more.text), "and %llu more findings",
		 (unsigned long long)(run->found - run->kept));
	report(context, &more);
}

int audit_arena(const struct arena *a, bool live, audit_report_fn report, void *context)
{
	struct audit_run run;
	int r = run_begin(&run, a, live);

	if (r)
		return r;
	r = run_all(&run);
	sort(&run);
	if (!r && live)
		r = run_until_stable(&run);
	if (!r) {
		report_all(&run, report, context);
		r = run.found > INT32_MAX ? INT32_MAX : (int)run.found;
	}
	run_end(&run);
	return r;
}

static int report_unmapped(int r, audit_report_fn report, void *context)
{
	struct audit_finding f;

	if (r != -EUCLEAN)
		return r;
	fill(&f, AUDIT_HEADER, AUDIT_PAGE(AUDIT_NOWHERE, 0));
	snprintf(f.text, sizeof(f.text), "not an arena, or its file is cut off");
	report(context, &f);
	return 1;
}

int audit_file(const char *path, bool live, audit_report_fn report, void *context)
{
	struct arena_files files;
	struct arena a;
	int r = arena_open(path, true, &files);

	if (r)
		return report_unmapped(r, report, context);
	r = arena_map(&a, files, true);
	if (r) {
		arena_files_close(&files);
		return report_unmapped(r, report, context);
	}
	r = audit_arena(&a, live, report, context);
	arena_unmap(&a);
	return r;
}
