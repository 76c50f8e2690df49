/* SPDX-License-Identifier: Apache-2.0 */
#include "deaths.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "fields.h"
#include "held.h"
#include "msg.h"
#include "profile.h"
#include "ring.h"

#define FOLDER	      "deaths"
#define FILE_BYTES    ((off_t)1 << 20) /* beyond this the older half goes */
#define RECORDS	      50u
#define RECORD_BYTES  512u
#define REGIONS	      65536u /* looked at for one report: 4 GiB of heap, some 10 ms */
#define PLACES	      256u   /* stacks of calls that are told apart */
#define PLACES_TOLD   10u
#define FULL_A_SECOND 16u    /* reports; more at once tell neither objects nor records */

static struct {
	int folder; /* 0: none */
	uint64_t second;
	uint32_t in_second;
} deaths;

int deaths_open(int state_dir)
{
	if (mkdirat(state_dir, FOLDER, 0700) && errno != EEXIST)
		return -errno;
	deaths.folder = openat(state_dir, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return deaths.folder < 0 ? -errno : 0;
}

static void print_text(FILE *f, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < ' ' || c == 0x7f || c == '\\')
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
}

/* ---- how it ended ---- */

/* Linux 6.15: what wait() gave, asked of a pidfd once the process was waited for. */
struct pidfd_end {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_end) == 64, "struct pidfd_info of its first version");
#define PIDFD_END     _IOWR(0xff, 11, struct pidfd_end)
#define PIDFD_END_SET (UINT64_C(1) << 3)

static bool end_by_pidfd(int pidfd, int *status)
{
	struct pidfd_end end = { .mask = PIDFD_END_SET };

	if (pidfd < 0 || ioctl(pidfd, PIDFD_END, &end) || !(end.mask & PIDFD_END_SET))
		return false;
	*status = end.exit_code;
	return true;
}

/* Of one that was not waited for yet. */
static bool end_by_stat(const struct client_view *view, int *status)
{
	struct client_process process;

	if (client_process(view->pid, &process) || process.start_time != view->start_time ||
	    process.state != 'Z' || process.exit_code < 0)
		return false;
	*status = process.exit_code;
	return true;
}

static void print_end(FILE *f, const struct client_view *view, int pidfd)
{
	int status;

	if (!end_by_pidfd(pidfd, &status) && !end_by_stat(view, &status))
		fprintf(f, "ended=unknown\n");
	else if (WIFSIGNALED(status))
		fprintf(f, "ended=signal %d\n", WTERMSIG(status));
	else
		fprintf(f, "ended=exit %d\n", WEXITSTATUS(status));
}

/* ---- what it held ---- */

static void print_held(FILE *f, struct arena *a, uint32_t client)
{
	struct held *h = malloc(sizeof(*h));

	if (!h)
		return;
	arena_refresh(a); /* zones that were put into use since */
	held_count(a, client, REGIONS, h);
	fprintf(f, "threads=%" PRIu64 "\nregions=%" PRIu64 "\nwhole=%d\n", h->threads, h->regions, h->whole);
	fprintf(f, "kept=%" PRIu64 "\nholds=%" PRIu64 "\n", h->kept, h->holds);
	for (uint32_t i = 0; i < CLASSES; i++) {
		const struct held_size *s = &h->sizes[i];

		if (s->private_objects || s->shared_objects)
			fprintf(f, "held=%u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", sizeclass_table[i].bytes,
				s->private_objects, s->shared_objects, s->cached_objects);
	}
	if (h->large_bytes)
		fprintf(f, "large=%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", h->large_bytes,
			h->large.private_objects, h->large.shared_objects, h->large.cached_objects);
	free(h);
}

/* ---- by which calls, where the arena is profiled ---- */

struct place {
	uint32_t site;
	double bytes, objects;
};

static void add_object(struct place *places, uint32_t *count, const struct profile_object *o)
{
	double weight = profile_weight(o->size, o->rate);
	uint32_t i = 0;

	while (i < *count && places[i].site != o->site)
		i++;
	if (i == PLACES)
		return;
	if (i == *count)
		places[(*count)++] = (struct place){ .site = o->site };
	places[i].objects += weight;
	places[i].bytes += weight * (double)o->size;
}

static int more_bytes(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	return a->bytes < b->bytes ? 1 : a->bytes > b->bytes ? -1 : 0;
}

static void print_frames(FILE *f, const struct arena *a, uint32_t site)
{
	struct profile_stack stack;
	struct profile_binary b;

	if (!profile_stack(a, site, &stack))
		return;
	for (uint32_t i = 0; i < stack.count; i++) {
		if (stack.modules[i] == PROFILE_NONE || !profile_binary(a, stack.modules[i], &b))
			memset(&b, 0, sizeof(b));
		fprintf(f, "frame=%" PRIx64 " ", stack.offsets[i]);
		for (uint32_t k = 0; k < b.id_bytes; k++)
			fprintf(f, "%02x", b.id[k]);
		fprintf(f, "%s ", b.id_bytes ? "" : "-");
		print_text(f, b.path, strlen(b.path));
		fputc('\n', f);
	}
}

static void print_calls(FILE *f, struct arena *a, uint32_t client, uint32_t incarnation)
{
	struct place *places = calloc(PLACES, sizeof(*places));
	struct profile_object o;
	uint32_t at = 0, count = 0;

	fprintf(f, "profiled=%d\n", profile_rate(a) != 0);
	while (places && profile_next(a, &at, &o))
		if (o.client == client && o.incarnation_low == (incarnation & 0xffff))
			add_object(places, &count, &o);
	if (count)
		qsort(places, count, sizeof(*places), more_bytes);
	for (uint32_t i = 0; i < count && i < PLACES_TOLD; i++) {
		fprintf(f, "call=%.0f %.0f\n", places[i].bytes, places[i].objects);
		print_frames(f, a, places[i].site);
	}
	free(places);
}

/* ---- what it logged ---- */

static void print_record(FILE *f, const struct ring_entry *e)
{
	size_t len = e->len < RECORD_BYTES ? e->len : RECORD_BYTES, text_len;
	const char *text = e->data;

	fprintf(f, "record=%" PRIu64 " %d %d %" PRIu64 " ", e->time_ns, e->level, (int)e->tid, e->seq);
	if (e->fields && !fields_text(e->data, len, &text, &text_len))
		len = text_len;
	print_text(f, text, len);
	fputc('\n', f);
}

static void print_records(FILE *f, const struct arena *a, uint32_t client, pid_t pid)
{
	struct ring_entry entries[RECORDS] = { { 0 } };
	char *text = malloc((size_t)RECORDS * RECORD_BYTES);
	int n;

	if (!text)
		return;
	for (uint32_t i = 0; i < RECORDS; i++)
		entries[i].data = text + (size_t)i * RECORD_BYTES;
	n = ring_last(a, client, pid, entries, RECORDS, RECORD_BYTES);
	for (int i = 0; i < n; i++)
		print_record(f, &entries[i]);
	free(text);
}

/* ---- the report ---- */

/* When very many die at once, they have to be recovered first of all. */
static bool in_full(uint64_t now)
{
	if (now / 1000000000u != deaths.second) {
		deaths.second = now / 1000000000u;
		deaths.in_second = 0;
	}
	return deaths.in_second++ < FULL_A_SECOND;
}

static void print_report(FILE *f, struct served *s, uint32_t client, const struct client_view *view,
			 int pidfd)
{
	uint64_t now = clock_real();

	fprintf(f, "death %u %u\narena=%s\nuuid=", client, view->incarnation, s->record.name);
	for (size_t i = 0; i < sizeof(s->record.uuid); i++)
		fprintf(f, "%02x", s->record.uuid[i]);
	fprintf(f, "\npid=%d\nuid=%u\ncommand=", (int)view->pid, view->uid);
	print_text(f, view->command, strnlen(view->command, sizeof(view->command)));
	fprintf(f, "\nattached=%" PRIu64 "\ndied=%" PRIu64 "\n", view->opened_ns, now);
	print_end(f, view, pidfd);
	if (in_full(now)) {
		print_held(f, &s->arena, client);
		print_calls(f, &s->arena, client, view->incarnation);
		print_records(f, &s->arena, client, view->pid);
	}
	fprintf(f, "end\n");
}

/* The younger half of a file that has become long, from the first whole report on. */
static void cut(const char *arena, int fd, off_t size)
{
	char part[NAME_MAX], *text = malloc((size_t)(size - size / 2) + 1), *from;
	ssize_t n = text ? pread(fd, text, (size_t)(size - size / 2), size / 2) : -1;
	int to;

	snprintf(part, sizeof(part), "%s.part", arena);
	if (n > 0) {
		text[n] = '\0';
		from = strstr(text, "\nend\n");
		from = from ? from + 5 : text + n;
		to = openat(deaths.folder, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		n = to < 0 ? -1 : write(to, from, strlen(from));
		if (to >= 0)
			close(to);
		if (n < 0 || renameat(deaths.folder, part, deaths.folder, arena))
			unlinkat(deaths.folder, part, 0);
	}
	free(text);
}

static int append(const char *arena, const char *text, size_t len)
{
	int fd = openat(deaths.folder, arena, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && st.st_size > FILE_BYTES) {
		cut(arena, fd, st.st_size);
		close(fd);
		fd = openat(deaths.folder, arena, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
	}
	if (write(fd, text, len) != (ssize_t)len)
		err = errno ? -errno : -ENOSPC;
	close(fd);
	return err;
}

void deaths_report(struct served *s, uint32_t client, const struct client_view *view, int pidfd)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f;
	int err;

	if (deaths.folder <= 0 || s->reported[client] == view->incarnation + UINT64_C(1))
		return;
	s->reported[client] = view->incarnation + UINT64_C(1);
	f = open_memstream(&text, &len);
	if (!f)
		return;
	print_report(f, s, client, view, pidfd);
	err = fclose(f) ? -errno : append(s->record.name, text, len);
	free(text);
	if (err)
		msg_warning("arena %s: no report of client %u's death: %s", s->record.name, client,
			    strerror(-err));
}

int deaths_file(const char *arena)
{
	int fd = openat(deaths.folder, arena, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void deaths_forget(const char *arena)
{
	unlinkat(deaths.folder, arena, 0);
}
