/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_arena_map.c - a picture of the heap in characters: each stands for a group of pages and says of
 * which kind most of its pages in use are, and by its case whether more than half of the group is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "reach.h"
#include "walk.h"

#define WIDTH_DEFAULT 80
#define WIDTH_MIN     20
#define WIDTH_MAX     400
#define ROWS_MAX      24
#define LABEL_WIDTH   12

/* What a page is used for, as the picture tells it. */
enum map_kind { MAP_SLAB, MAP_LARGE, MAP_RAW, MAP_STATE, MAP_LOG, MAP_STACK, MAP_FILE, MAP_BAD, MAP_KINDS };

static const struct {
	const char *name; /* for JSON */
	char light, full;
	const char *color;
	const char *meaning;
} kinds[MAP_KINDS] = {
	[MAP_SLAB] = { "slab", 's', 'S', "32", "small objects" },
	[MAP_LARGE] = { "large", 'l', 'L', "34", "large objects" },
	[MAP_RAW] = { "raw", 'r', 'R', "33", "caches, threads, work in progress" },
	[MAP_STATE] = { "state", 'b', 'B', "36", "bookkeeping of small objects" },
	[MAP_LOG] = { "log", 'g', 'G', "35", "large log records" },
	[MAP_STACK] = { "stack", 't', 'T', "37", "temporary memory of threads" },
	[MAP_FILE] = { "mapped", 'f', 'F', "34", "stand for files" },
	[MAP_BAD] = { "bad", 'x', 'X', "31", "makes no sense" },
};

struct group {
	uint64_t pages;	    /* that exist in it */
	uint64_t touched;   /* below the high marks */
	uint64_t committed; /* free ones, memory still taken */
	uint64_t by_kind[MAP_KINDS];
	uint64_t used_bytes;
};

struct map {
	const struct arena *a;
	uint64_t group_pages;
	uint64_t pages; /* shown */
	size_t count;
	struct group *groups;
};

/* ---- gathering ---- */

/* The most kinds come with used bytes that are their pages; slabs, with those of their objects. */
static void add(struct map *m, uint64_t page, uint64_t pages, enum map_kind kind,
		uint64_t used_bytes)
{
	uint64_t bytes_a_page = pages ? used_bytes / pages : 0;

	while (pages > 0 && page < m->pages) {
		struct group *g = &m->groups[page / m->group_pages];
		uint64_t left = m->group_pages - page % m->group_pages;
		uint64_t n = pages < left ? pages : left;

		g->by_kind[kind] += n;
		g->touched += n;
		g->used_bytes += n * bytes_a_page;
		page += n;
		pages -= n;
	}
}

static void add_free(struct map *m, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages < m->pages ? page + pages : m->pages;

	while (page < end) {
		uint64_t region_end = (page / REGION_PAGES + 1) * REGION_PAGES;
		uint64_t stop = region_end < end ? region_end : end;
		struct group *g = &m->groups[page / m->group_pages];
		uint64_t group_end = (page / m->group_pages + 1) * m->group_pages;

		if (group_end < stop)
			stop = group_end;
		g->committed += walk_resident(m->a, page, stop - page);
		g->touched += stop - page;
		page = stop;
	}
}

static uint64_t slab_used(const struct map *m, const struct walk_item *item)
{
	struct walk_slab slab;
	uint64_t taken = 0;

	if (!walk_slab(m->a, item, &slab))
		return 0;
	for (uint32_t i = 0; i < slab.objects; i++)
		taken += state_kind(walk_state(&slab, i)) != OBJECT_FREE;
	return taken * slab.bytes;
}

static enum map_kind kind_of(const struct walk_item *item)
{
	if (item->problem)
		return MAP_BAD;
	switch (item->kind) {
	case PAGE_SLAB: return MAP_SLAB;
	case PAGE_LARGE:
	case PAGE_SPAN: return MAP_LARGE;
	case PAGE_STATE: return MAP_STATE;
	case PAGE_LOG: return MAP_LOG;
	case PAGE_STACK: return MAP_STACK;
	case PAGE_MAPPED: return MAP_FILE;
	default: return MAP_RAW;
	}
}

static int visit(void *context, const struct walk_item *item)
{
	struct map *m = context;
	enum map_kind kind = kind_of(item);

	if (item->kind == PAGE_FREE && !item->problem)
		add_free(m, item->page, item->step);
	else
		add(m, item->page, item->step, kind,
		    kind == MAP_SLAB ? slab_used(m, item) : item->step << PAGE_SHIFT);
	return 0;
}

/* Up to the last page ever taken. */
static uint64_t pages_to_show(const struct arena *a)
{
	uint64_t zones = walk_zones(a);

	while (zones > 0 && walk_high(a, zones - 1) == 0)
		zones--;
	return zones ? (zones - 1) * a->g.zone_pages + walk_high(a, zones - 1) : 0;
}

static int gather(struct map *m, const struct arena *a, unsigned columns)
{
	uint64_t cells = (uint64_t)columns * ROWS_MAX;

	*m = (struct map){ .a = a, .group_pages = 1, .pages = pages_to_show(a) };
	while ((m->pages + m->group_pages - 1) / m->group_pages > cells)
		m->group_pages *= 2;
	m->count = (size_t)((m->pages + m->group_pages - 1) / m->group_pages);
	m->groups = calloc(m->count + 1, sizeof(*m->groups));
	if (!m->groups)
		return -ENOMEM;
	for (size_t i = 0; i < m->count; i++) {
		uint64_t left = m->pages - i * m->group_pages;

		m->groups[i].pages = left < m->group_pages ? left : m->group_pages;
	}
	/* Pages taken above the end since it was looked up are left out. */
	return walk_extents(a, visit, m);
}

/* ---- showing ---- */

/* The kind that most pages in use have, MAP_KINDS: none is. */
static enum map_kind main_kind(const struct group *g)
{
	enum map_kind best = MAP_KINDS;

	if (g->by_kind[MAP_BAD])
		return MAP_BAD;
	for (unsigned k = 0; k < MAP_KINDS; k++) {
		if (g->by_kind[k] && (best == MAP_KINDS || g->by_kind[k] > g->by_kind[best]))
			best = (enum map_kind)k;
	}
	return best;
}

static double fullness(const struct group *g)
{
	return 100.0 * (double)g->used_bytes / (double)(g->pages << PAGE_SHIFT);
}

static char character(const struct group *g)
{
	enum map_kind kind = main_kind(g);

	if (kind == MAP_KINDS)
		return g->committed ? '.' : ' ';
	return fullness(g) >= 50 ? kinds[kind].full : kinds[kind].light;
}

static unsigned terminal_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	long n = columns ? strtol(columns, NULL, 10) : 0;

	if (n <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		n = size.ws_col;
	if (n <= 0)
		n = WIDTH_DEFAULT;
	return (unsigned)(n < WIDTH_MIN ? WIDTH_MIN : n > WIDTH_MAX ? WIDTH_MAX : n);
}

static bool colored(void)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb");
}

/* One row: where it starts, then its characters, the color changed where the kind does. */
static void print_row(struct emit *e, const struct map *m, size_t first, size_t count, bool color)
{
	char line[LABEL_WIDTH + 16 + WIDTH_MAX * 16], *to = line;
	char *label = emit_human_bytes(first * m->group_pages << PAGE_SHIFT);
	enum map_kind last = MAP_KINDS;

	to += sprintf(to, "%*.*s |", LABEL_WIDTH - 2, LABEL_WIDTH - 2, label);
	free(label);
	for (size_t i = first; i < first + count; i++) {
		enum map_kind kind = main_kind(&m->groups[i]);

		if (color && kind != last)
			to += sprintf(to, "\033[%sm", kind == MAP_KINDS ? "0" : kinds[kind].color);
		last = kind;
		*to++ = character(&m->groups[i]);
	}
	if (color)
		to = stpcpy(to, "\033[0m");
	*to = 0;
	emit_line(e, line);
}

static bool row_is_empty(const struct map *m, size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++) {
		if (character(&m->groups[i]) != ' ')
			return false;
	}
	return true;
}

static void print_picture(struct emit *e, const struct map *m, unsigned columns, bool color)
{
	bool skipped = false;

	emit_line(e, "");
	for (size_t first = 0; first < m->count; first += columns) {
		size_t count = m->count - first < columns ? m->count - first : columns;
		bool empty = row_is_empty(m, first, count);

		if (!empty)
			print_row(e, m, first, count, color);
		else if (!skipped)
			emit_line(e, "       ... |");
		skipped = empty;
	}
	emit_line(e, "");
}

static void print_legend(struct emit *e, bool color)
{
	char line[128];

	for (unsigned k = 0; k < MAP_KINDS; k++) {
		snprintf(line, sizeof(line), "  %s%s%s%c %c%s  %s", color ? "\033[" : "",
			 color ? kinds[k].color : "", color ? "m" : "", kinds[k].light,
			 kinds[k].full, color ? "\033[0m" : "", kinds[k].meaning);
		emit_line(e, line);
	}
	emit_line(e, "  .    free, memory taken      (blank) free, none taken");
	emit_line(e,
		  "  small letter: less than half of the group is in use; capital: half or more");
}

static void print_groups(struct emit *e, const struct map *m)
{
	static const char *const columns[] = {
		"page",	     "pages", "kind", "fullness_percent", "committed_free_pages",
		"character", NULL
	};

	emit_table(e, "groups", columns);
	for (size_t i = 0; i < m->count; i++) {
		const struct group *g = &m->groups[i];
		enum map_kind kind = main_kind(g);

		emit_row(e);
		emit_u64(e, "page", i * m->group_pages);
		emit_u64(e, "pages", g->pages);
		emit_string(e, "kind", kind == MAP_KINDS ? "free" : kinds[kind].name);
		emit_percent(e, "fullness_percent", fullness(g));
		emit_u64(e, "committed_free_pages", g->committed);
		emit_string(e, "character", (char[]){ character(g), 0 });
		emit_row_end(e);
	}
	emit_table_end(e);
}

static int print(const struct call *call, const struct reach *r, const struct map *m,
		 unsigned columns)
{
	struct emit e;
	uint64_t all = r->arena.g.capacity >> PAGE_SHIFT;
	bool color = colored();

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", r->name);
	emit_bytes(&e, "capacity_bytes", r->arena.g.capacity);
	emit_bytes(&e, "group_bytes", m->group_pages << PAGE_SHIFT);
	emit_u64(&e, "group_pages", m->group_pages);
	emit_bytes(&e, "shown_bytes", m->pages << PAGE_SHIFT);
	emit_bytes(&e, "never_taken_bytes", (all - m->pages) << PAGE_SHIFT);
	if (call->json) {
		print_groups(&e, m);
	} else {
		print_picture(&e, m, columns, color);
		print_legend(&e, color);
	}
	return tool_finish(&e, TOOL_OK);
}

int verb_arena_map(const struct call *call)
{
	unsigned columns = terminal_width() - LABEL_WIDTH;
	struct reach r;
	struct map m;
	int code = reach_open(call, call->argv[0], &r);

	if (code)
		return code;
	if (gather(&m, &r.arena, columns)) {
		tool_errno(call->argv[0], ENOMEM);
		code = TOOL_FAILED;
	} else {
		code = print(call, &r, &m, columns);
	}
	free(m.groups);
	reach_close(&r);
	return code;
}
